"""What processes have used, asked of the kernel: of a process and all that descend from it."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


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
    ticks = 0
    for process in processes:
        fields = _stat(process)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def megabytes(processes: Iterable[int]) -> float:
    """Resident memory of these processes together, in MB (10^6 bytes)."""
    return sum(_resident(process) for process in processes) / 1e6


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


def _resident(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
