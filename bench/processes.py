"""What processes have used, asked of the kernel: of a process and all that descend from it.

Who has ended is an error where something is counted: a sum without it would be a smaller number, and nobody would see why.
"""

import os
import re
import resource
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


class GoneError(Exception):
    """There is no process to count, or one of them has ended."""


def allow_many_files() -> None:
    """For this process and all that it starts: 2,000 tunnels are 2,000 sockets at one end, and twice as many at the System."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def trees(roots: Iterable[int]) -> set[int]:
    """The processes and their descendants, those that still run."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: set[int] = set()
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        if process not in found and _stat(process):
            found.add(process)
            waiting += children.get(process, [])
    return found


def seconds(processes: Iterable[int]) -> float:
    """Seconds of CPU that these processes have used so far, in their own code and in the kernel for them."""
    return sum(_ticks(process) for process in processes) / _TICKS


def megabytes(processes: Collection[int]) -> float:
    """Resident memory of these processes together, in MB (10^6 bytes); what they share with others counts in full, and for each of them."""
    return _together(_resident, processes)


def megabytes_shared(processes: Collection[int]) -> float:
    """The same, but a page that several map counts for each of them by its share; in full where the kernel does not tell."""
    return _together(_proportional, processes)


def named(root: int, pattern: str) -> set[int]:
    """The processes below `root` in whose command line the pattern is."""
    return {one for one in trees([root]) if re.search(pattern, command(one))}


def command(process: int) -> str:
    """Its command line; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_text().replace("\0", " ").strip()
    except OSError:
        return ""


def network(process: int) -> str:
    """The network namespace it is in, as its link in /proc reads; empty where it has ended."""
    try:
        return os.readlink(f"/proc/{process}/ns/net")  # noqa: PTH115 - not a path
    except OSError:
        return ""


def _stat(process: int) -> list[str]:
    """The fields of /proc/PID/stat behind the program's name: state, parent and so on."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _ticks(process: int) -> int:
    fields = _stat(process)
    if not fields:
        raise GoneError(f"process {process} has ended")
    return int(fields[11]) + int(fields[12])


def _together(size: Callable[[int], int], processes: Collection[int]) -> float:
    if not processes:
        raise GoneError("no process runs whose memory could be told")
    return sum(size(process) for process in processes) / 1e6


def _resident(process: int) -> int:
    return _field(process, "status", "VmRSS:")


def _proportional(process: int) -> int:
    try:
        return _field(process, "smaps_rollup", "Pss:")
    except PermissionError:
        return _resident(process)


def _field(process: int, file: str, name: str) -> int:
    """Bytes of a line that the kernel writes in KB; a process that has ended has no such line."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        lines = []
    found = next((line for line in lines if line.startswith(name)), None)
    if found is None:
        raise GoneError(f"process {process} has ended")
    return int(found.split()[1]) * 1024
