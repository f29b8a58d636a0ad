"""Which ways of capture and of names are possible on this machine: facts gathered once, decided by a pure function.

Names: systemd-resolved as glibc's resolver, musl, and a missing `dns` in nsswitch.conf all bypass or misread resolv.conf; there the hosts file is
the way. Source for the order: DESIGN 7.
"""

import array
import fcntl
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from codezero.model import problems
from codezero.model.problems import CodezeroError

AUTO = "auto"

# FS_IOC_GETFLAGS and FS_IMMUTABLE_FL of linux/fs.h.
_GET_FLAGS = 0x80086601
_IMMUTABLE = 0x10


class Capture(StrEnum):
    """How packets to virtual addresses reach the Daemon."""

    NFTABLES = "nftables"
    LISTENERS = "listeners"


class Names(StrEnum):
    """How the machine learns the names of consumed services."""

    RESOLV_CONF = "resolv.conf"
    HOSTS = "hosts"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Facts:
    """What was found. Each `..._obstacle` says in words why a way is closed, or is None where it is open."""

    nftables_obstacle: str | None = None
    resolv_conf_obstacle: str | None = None
    hosts_obstacle: str | None = None
    hosts_sources: tuple[str, ...] = ("files", "dns")  # of nsswitch.conf
    resolved_runs: bool = False
    is_musl: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """The ways chosen, and a line for people for each one that was passed over."""

    capture: Capture
    names: Names
    remarks: tuple[str, ...] = ()


def choose(facts: Facts, *, capture: str = AUTO, names: str = AUTO) -> Setup:
    """The best possible ways, or those wished for; raises `CodezeroError` HOST_CHANGE_FAILED when a wish is impossible."""
    remarks: list[str] = []
    return Setup(_capture(facts, capture, remarks), _names(facts, names, remarks), tuple(remarks))


def _capture(facts: Facts, wish: str, remarks: list[str]) -> Capture:
    if wish == Capture.LISTENERS:
        return Capture.LISTENERS
    if facts.nftables_obstacle is None:
        return Capture.NFTABLES
    if wish == Capture.NFTABLES:
        raise _impossible(
            "nftables", facts.nftables_obstacle, "install nftables 1.0.1 or newer, or use --capture listeners"
        )
    remarks.append(f"packets are not captured by nftables: {facts.nftables_obstacle}")
    return Capture.LISTENERS


def _names(facts: Facts, wish: str, remarks: list[str]) -> Names:
    if wish == Names.NONE:
        return Names.NONE
    obstacles = {
        Names.RESOLV_CONF: facts.resolv_conf_obstacle,
        Names.HOSTS: facts.hosts_obstacle,
    }
    if wish != AUTO:
        way = Names(wish)
        if (obstacle := obstacles[way]) is not None:
            raise _impossible(way, obstacle, "choose another way with --names")
        return way
    # What bypasses resolv.conf matters only to the automatic choice: a person who asks for it may know better.
    obstacles[Names.RESOLV_CONF] = facts.resolv_conf_obstacle or _bypass(facts)
    for way, obstacle in obstacles.items():
        if obstacle is None:
            return way
        remarks.append(f"names are not published by {way}: {obstacle}")
    return Names.NONE


def _bypass(facts: Facts) -> str | None:
    if facts.is_musl:
        return "musl asks all name servers at once, so ours would not come first"
    if "dns" not in facts.hosts_sources and "resolve" not in facts.hosts_sources:
        return "nsswitch.conf does not ask DNS for hosts"
    sources = facts.hosts_sources
    if facts.resolved_runs and "resolve" in sources[: sources.index("dns") if "dns" in sources else None]:
        return "nsswitch.conf asks systemd-resolved, which does not read it"
    return None


def _impossible(way: str, obstacle: str, fix: str) -> CodezeroError:
    return CodezeroError(problems.HOST_CHANGE_FAILED, f"{way} is not possible on this machine: {obstacle}", fix=fix)


def gather(*, resolv_conf: Path, hosts: Path, nftables_obstacle: str | None, root: Path = Path("/")) -> Facts:
    """The facts of this machine. `nftables_obstacle` comes from `capture.obstacle()`, which tries it. `root` is another tree, for tests."""
    return Facts(
        nftables_obstacle=nftables_obstacle,
        resolv_conf_obstacle=_write_obstacle(resolv_conf),
        hosts_obstacle=_write_obstacle(hosts),
        hosts_sources=hosts_sources(_text(root / "etc/nsswitch.conf")),
        resolved_runs=(root / "run/systemd/resolve/stub-resolv.conf").exists(),
        is_musl=any((root / "lib").glob("ld-musl-*.so.1")),
    )


def hosts_sources(nsswitch: str) -> tuple[str, ...]:
    """The sources of the `hosts` line of nsswitch.conf in order, without actions; glibc's default where there is none."""
    for line in nsswitch.splitlines():
        database, colon, rest = line.partition("#")[0].partition(":")
        if colon and database.strip() == "hosts":
            words = rest.replace("[", " [").replace("]", "] ").split()
            return tuple(_without_actions(words))
    return ("files", "dns")


def _without_actions(words: list[str]) -> list[str]:
    kept: list[str] = []
    inside = False
    for word in words:
        inside = inside or word.startswith("[")
        if not inside:
            kept.append(word)
        inside = inside and not word.endswith("]")
    return kept


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _write_obstacle(path: Path) -> str | None:
    """Why neither the file nor its folder can be written, found without writing."""
    folder_writable = not os.statvfs(path.parent).f_flag & os.ST_RDONLY and os.access(path.parent, os.W_OK)
    is_link = path.is_symlink()
    if not path.exists() or is_link:
        return None if folder_writable else f"{path.parent} is read-only"
    if os.statvfs(path).f_flag & os.ST_RDONLY or not os.access(path, os.W_OK):
        return f"{path} is read-only"
    if _is_immutable(path):
        return f"{path} is marked immutable (chattr -i {path})"
    return None


def _is_immutable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            flags = array.array("L", [0])
            fcntl.ioctl(file, _GET_FLAGS, flags)
            return bool(flags[0] & _IMMUTABLE)
    except OSError:
        return False
