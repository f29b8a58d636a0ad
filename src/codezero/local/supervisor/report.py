"""What the Supervisor leaves for people and `czctl`: its state in the run folder, and the report of the last crash in the state folder."""

import os
from pathlib import Path

import msgspec

from codezero.local.host.files import Disk, FileKind, FileState

STATE_FILE = "supervisor.json"
CRASH_FILE = "last-crash.json"


class SupervisorState(msgspec.Struct, frozen=True):
    """How the Supervisor is; readable by all, so nothing secret. `phase` is `starting`, `running`, `stopping` or `failed`."""

    pid: int
    release: str
    started: float
    phase: str
    capture: str = ""
    names: str = ""
    remarks: tuple[str, ...] = ()
    daemon: int | None = None  # pid
    guard: int | None = None  # pid
    restarts: int = 0
    last_end: str | None = None


class CrashReport(msgspec.Struct, frozen=True):
    """How the Daemon ended, and the last lines it printed. `at` is UNIX seconds."""

    at: float
    how: str
    failures: int
    release: str
    output: tuple[str, ...]


def write_state(run_folder: Path, state: SupervisorState) -> None:
    """Replace the state file."""
    _write(run_folder / STATE_FILE, msgspec.json.encode(state), mode=0o644)


def read_state(run_folder: Path) -> SupervisorState | None:
    """The last written state, or None where there is none that can be read. Whether it is current only its pid tells."""
    try:
        return msgspec.json.decode((run_folder / STATE_FILE).read_bytes(), type=SupervisorState)
    except (OSError, msgspec.DecodeError):
        return None


def forget_state(run_folder: Path) -> None:
    """Remove the state file: nothing runs."""
    (run_folder / STATE_FILE).unlink(missing_ok=True)


def write_crash(state_folder: Path, report: CrashReport) -> None:
    """Replace the report of the last crash; for root only, as logs are."""
    _write(state_folder / CRASH_FILE, msgspec.json.encode(report), mode=0o600)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    Disk().replace(path, FileState(FileKind.FILE, content, mode=mode, uid=os.geteuid(), gid=os.getegid()))
