"""What processes have used, asked of the kernel: of a process and all that descend from it.

Who has ended is an error where something is counted: a sum without it would be a smaller number, and nobody would see why.
"""

import os
import re
import resource
from collections.abc import Collection, Iterable, Iterator
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
    """Resident memory of these processes together, in MB (10^6 bytes); what they share counts for each of them."""
    return sum(map(_resident, _somebody(processes))) / 1e6


def megabytes_alone(processes: Collection[int]) -> float:
    """What these processes would take on a machine of their own: what they share with each other counts once, and what they share with anybody else in full.

    A page of a mapping that several of them have counts for the one that has most of it. Where the kernel does not show mappings, it is `megabytes`.
    """
    shared: dict[str, int] = {}
    private = 0
    try:
        for process in _somebody(processes):
            for mapping, own, common in _mappings(process):
                private += own
                shared[mapping] = max(shared.get(mapping, 0), common)
    except PermissionError:
        return megabytes(processes)
    return (private + sum(shared.values())) / 1e6


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


def _somebody(processes: Collection[int]) -> Collection[int]:
    if not processes:
        raise GoneError("no process runs whose memory could be told")
    return processes


def _resident(process: int) -> int:
    for line in _lines(process, "status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise GoneError(f"process {process} has ended")


def _mappings(process: int) -> Iterator[tuple[str, int, int]]:
    """Each mapping of a process, as its file and place in it or its address, with the bytes that it has alone and that others have too."""
    mapping = ""
    own = common = 0
    for line in _lines(process, "smaps"):
        name, *values = line.split()
        if not name.endswith(":"):
            yield mapping, own, common
            own = common = 0
            _, offset, device, inode, *_ = values
            mapping = name if inode == "0" else f"{device} {inode} {offset}"
        elif name.startswith("Private_"):
            own += int(values[0]) * 1024
        elif name.startswith("Shared_"):
            common += int(values[0]) * 1024
    yield mapping, own, common


def _lines(process: int, file: str) -> list[str]:
    """Of a file of /proc. A process that has ended has none, or one without lines until it was waited for."""
    try:
        lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        lines = []
    if not lines:
        raise GoneError(f"process {process} has ended")
    return lines
