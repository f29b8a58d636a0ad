"""How the programs of ours are started: from the root-owned installation where we run from one, else by the interpreter that runs us.

Always isolated (`-I`): no environment variable and no user folder adds code to a root process (T05).
"""

import sys
from pathlib import Path

import codezero

# Below a prefix such as /usr/local: one folder per release with our packages, and the programs that start them.
LIBRARIES = Path("lib/codezero")
PROGRAMS = Path("bin/codezero")
MANIFEST = "installation.json"
# Isolated, without writing bytecode, without site-packages and their .pth files.
INTERPRETER_FLAGS = "-IBS"

_MODULES = {
    "czdaemon": "codezero.local.daemon.main",
    "czsupervisor": "codezero.local.supervisor.main",
}


def installation() -> Path | None:
    """The prefix of the installation we run from, or None: then this is a virtual environment or a source tree."""
    library = Path(codezero.__file__).parent.parent
    return library.parents[2] if (library.parent / MANIFEST).is_file() else None


def command(program: str) -> list[str]:
    """The first arguments that start `program`."""
    prefix = installation()
    if prefix is not None:
        return [sys.executable, INTERPRETER_FLAGS, str(prefix / PROGRAMS / program)]
    return [sys.executable, "-I", "-m", _MODULES[program]]
