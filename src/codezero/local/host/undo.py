"""Puts the machine back from the journal and from the markers in the files, with everything of ours dead and no network.

Packet capture needs no undo: its table goes with the process that owns it.
"""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

from codezero.local.host import hosts_file, resolv_conf
from codezero.local.host.journal import Journal
from codezero.local.host.managed_file import ManagedFile, Strip
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import DEFAULT_STATE_FOLDER

# A Supervisor gives its Daemon 5 seconds, then undoes everything itself. One that has not by then hangs, and is killed: everything is undone here.
ASK_SECONDS = 10.0
STOP_SECONDS = 15.0


def undo(
    *,
    state_folder: Path = Path(DEFAULT_STATE_FOLDER),
    resolv_conf_path: Path = Path(resolv_conf.DEFAULT_PATH),
    hosts_path: Path = Path(hosts_file.DEFAULT_PATH),
) -> tuple[str, ...]:
    """Undo all changes; gives the files that were put back. For `czctl cleanup`, as root.

    A process of ours that is in charge is stopped first, and killed when it hangs. Raises `CodezeroError`: ALREADY_RUNNING when it does not stop, else the first failure
    after having tried everything.
    """
    journal = Journal(state_folder)
    with ExitStack() as stack:
        _take_charge(journal, stack)
        return undo_locked(journal, resolv_conf_path=resolv_conf_path, hosts_path=hosts_path)


def _take_charge(journal: Journal, stack: ExitStack) -> None:
    began = time.monotonic()
    asked: dict[int, float] = {}
    while True:
        try:
            stack.enter_context(journal.locked())
        except CodezeroError as error:
            now = time.monotonic()
            if error.problem is not problems.ALREADY_RUNNING or now - began > STOP_SECONDS:
                raise
        else:
            return
        holder = journal.holder()
        if holder is not None:
            if holder not in asked:
                asked[holder] = now
                # One that was suspended (SIGSTOP) has to go on before it can end.
                _tell(holder, signal.SIGTERM, signal.SIGCONT)
            elif now - asked[holder] > ASK_SECONDS:
                _tell(holder, signal.SIGKILL)
        time.sleep(0.05)


def _tell(process: int, *signals: signal.Signals) -> None:
    try:
        for number in signals:
            os.kill(process, number)
    except ProcessLookupError:
        return  # it has just ended; the lock will tell


def undo_locked(journal: Journal, *, resolv_conf_path: Path, hosts_path: Path) -> tuple[str, ...]:
    """`undo` for whoever holds the journal's lock already. Files are known from the journal, these two also without it."""
    files = managed_files(journal, resolv_conf_path=resolv_conf_path, hosts_path=hosts_path)
    changed: list[str] = []
    failures: list[CodezeroError] = []
    for file in files:
        try:
            if file.undo():
                changed.append(str(file.path))
        except CodezeroError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return tuple(changed)


def managed_files(journal: Journal, *, resolv_conf_path: Path, hosts_path: Path) -> list[ManagedFile]:
    """The files that may hold a part of ours: those two, and journaled ones of an earlier configuration."""
    strips: dict[Path, Strip] = {resolv_conf_path: resolv_conf.strip, hosts_path: hosts_file.strip}
    for entry in journal.entries():
        path = Path(entry.path)
        strips.setdefault(path, hosts_file.strip if path.name == "hosts" else resolv_conf.strip)
    return [ManagedFile(path, strip=strip, journal=journal) for path, strip in strips.items()]
