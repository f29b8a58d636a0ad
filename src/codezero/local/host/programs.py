"""How the programs of ours are started: from the root-owned installation where we run from one, else by the interpreter that runs us.

Always isolated (`-I`): no environment variable and no user folder adds code to a root process (T05).
"""

import sys
from pathlib import Path

import codezero

MANIFEST = "installation.json"

_MODULES = {
    "czdaemon": "codezero.local.daemon.main",
    "czsupervisor": "codezero.local.supervisor.main",
}


def installation() -> Path | None:
    """The folder of the installation we run from, or None: then this is a virtual environment or a source tree."""
    library = Path(codezero.__file__).parent.parent
    return library if (library.parent / MANIFEST).is_file() else None


def command(program: str) -> list[str]:
    """The first arguments that start `program`."""
    library = installation()
    if library is not None:
        return [sys.executable, "-IBS", str(library / "bin" / program)]
    return [sys.executable, "-I", "-m", _MODULES[program]]
