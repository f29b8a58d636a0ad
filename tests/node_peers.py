"""Programs in Node.js that tests speak with, installed from their lock files once per version of them, outside of the work tree."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

FILES = ("package.json", "package-lock.json", "peer.mjs")


def installed(source: Path) -> Path:
    """A folder with the files of `source` and the packages they need."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not installed")
    version = hashlib.sha256(b"".join((source / name).read_bytes() for name in FILES)).hexdigest()[:16]
    folder = Path.home() / ".cache" / "codezero" / "node" / version
    if not folder.exists():
        making = folder.with_name(f"{version}.{os.getpid()}")
        making.mkdir(parents=True)
        for name in FILES:
            shutil.copy(source / name, making)
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        done = subprocess.run(command, cwd=making, capture_output=True, text=True, timeout=150, check=False)
        assert done.returncode == 0, done.stderr
        try:
            making.rename(folder)
        except OSError:  # another run was faster
            shutil.rmtree(making)
    return folder
