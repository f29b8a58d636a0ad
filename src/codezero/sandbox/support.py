"""Whether this machine can hold a sandbox, and by which name the thing is called that forbids it."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout

_PACKAGES = {"unshare": "util-linux", "ip": "iproute2", "nft": "nftables"}
_NAMESPACES = ("--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc")
_AS_USER = ("--user", "--map-root-user")

# What the sandbox does first of all, done once by itself to see whether the kernel lets us.
_TRIAL = "mount -t tmpfs trial /run && ip link set lo up && ip link add trial0 type veth peer name trial1 && nft add table ip trial"

SWITCHES_FOLDER = Path("/proc/sys")
# Each switch with the value that forbids, and the one that allows.
_SWITCHES = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "15000"),
    ("user.max_net_namespaces", "0", "15000"),
    ("user.max_mnt_namespaces", "0", "15000"),
    ("user.max_pid_namespaces", "0", "15000"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)


def environment() -> dict[str, str]:
    """The environment of programs of the sandbox: nothing of the caller's but the language and the terminal."""
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TERM", "TZ") if name in os.environ}
    return {"LANG": "C.UTF-8", "PATH": program_path(), **kept}


def program_path() -> str:
    """Folders of programs: those ordinary users often miss come too."""
    folders = [folder for folder in os.environ.get("PATH", "").split(":") if folder.startswith("/")]
    return ":".join(dict.fromkeys([*folders, *layout.PROGRAM_FOLDERS]))


def isolating_command() -> list[str]:
    """The command that runs what follows it in namespaces of its own; raises `CodezeroError` naming what is missing or forbidden."""
    missing = [name for name in _PACKAGES if shutil.which(name, path=program_path()) is None]
    if missing:
        packages = " ".join(_PACKAGES[name] for name in missing)
        raise CodezeroError(
            problems.SANDBOX_UNSUPPORTED, f"not installed: {', '.join(missing)}", fix=f"sudo apt-get install {packages}"
        )
    ways = [_NAMESPACES, (*_AS_USER, *_NAMESPACES)] if os.geteuid() == 0 else [(*_AS_USER, *_NAMESPACES)]
    refusals: list[str] = []
    for way in ways:
        refusal = _try(way)
        if refusal is None:
            return ["unshare", *way, "--propagation", "private", "--"]
        refusals.append(refusal)
    raise unsupported(refusals[-1])


def _try(way: Sequence[str]) -> str | None:
    try:
        trial = subprocess.run(
            ["unshare", *way, "sh", "-c", _TRIAL],
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "no answer within 20 s"
    return None if trial.returncode == 0 else trial.stderr.strip().replace("\n", "; ") or f"exit {trial.returncode}"


def unsupported(refusal: str) -> CodezeroError:
    """Why the kernel refused, by the name of the switch where there is one."""
    for switch, forbidding, allowing in _SWITCHES:
        try:
            value = (SWITCHES_FOLDER / switch.replace(".", "/")).read_text().strip()
        except OSError:
            continue
        if value == forbidding:
            return CodezeroError(
                problems.SANDBOX_UNSUPPORTED,
                f"the kernel forbids it: {switch} is {value} ({refusal})",
                fix=f"sudo sysctl {switch}={allowing}",
            )
    return CodezeroError(
        problems.SANDBOX_UNSUPPORTED,
        f"namespaces, veth links and nftables cannot be made here: {refusal}",
        fix="where this is a container, start it with CAP_SYS_ADMIN and CAP_NET_ADMIN and seccomp=unconfined",
    )
