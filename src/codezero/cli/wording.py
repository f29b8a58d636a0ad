"""How times, durations, conditions and ports are written and read, the same in every command."""

import re
import time
from collections.abc import Sequence

from codezero.model import problems
from codezero.model.problems import CodezeroError, Problem
from codezero.model.services import ServiceRef, is_label
from codezero.model.variants import ConditionPart, PortPair, ServingState, VariantView
from codezero.wire.local_api import ServedVariant

_DURATION = re.compile(r"(?:([0-9]{1,4})h)?(?:([0-9]{1,5})m)?(?:([0-9]{1,6})s)?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\]")
# No more: leading zeros would hide a number that is too large.
_DIGITS = re.compile(r"[0-9]{1,5}")


def ago(moment: float) -> str:
    """How long ago `moment`, in UNIX seconds, was."""
    return f"since {span(time.time() - moment)}"


def span(seconds: float) -> str:
    """A duration in its largest whole unit."""
    seconds = max(0, int(seconds))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def until(moment: float) -> str:
    """How long it is until a moment, to the minute."""
    minutes = max(0, round((moment - time.time()) / 60))
    parts = zip(divmod(minutes, 60), ("h", "min"), strict=True)
    return f"in {' '.join(f'{count} {unit}' for count, unit in parts if count) or '0 min'}"


def clock(moment: float) -> str:
    """A moment of today as people read it, to the millisecond, in local time."""
    return f"{time.strftime('%H:%M:%S', time.localtime(moment))}.{int(moment * 1000) % 1000:03}"


def size(count: int) -> str:
    """A number of bytes, short."""
    for unit, least in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= least:
            return f"{count / least:.1f} {unit}"
    return f"{count} B"


def duration(text: str, *, option: str = "--expires", problem: Problem = problems.BAD_SERVE) -> float:
    """The seconds that `90s`, `30m`, `2h` or `1h30m` spell; raises `CodezeroError` for anything else, and for nothing at all."""
    match = _DURATION.fullmatch(text.strip())
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if seconds <= 0:
        raise CodezeroError(problem, f"{text[:50]!r} is no duration", fix=f"write {option} 90s, 30m, 2h or 1h30m")
    return float(seconds)


def condition(parts: Sequence[ConditionPart]) -> str:
    """A condition as people read it; parts of a release that knows more kinds are shown as they are."""
    from codezero.model.serve import condition_from_parts  # here, because only those who serve wait for it

    try:
        return str(condition_from_parts(parts))
    except CodezeroError:
        return " and ".join(" ".join(filter(None, (one.kind, one.key, one.value))) for one in parts)


def variant_condition(variant: VariantView) -> str:
    """What a variant answers, or copies."""
    text = condition(variant.condition)
    return text if variant.mirror is None else f"{text} (mirror {variant.mirror})"


def variant_state(one: ServedVariant) -> str:
    """How a variant fares: its own state where its service is well, else the service's, with the reason."""
    state = one.state.value if one.serving is ServingState.ACTIVE else one.serving.value
    return f"{state} ({one.detail})" if one.detail else state


def ports(pairs: Sequence[PortPair]) -> str:
    """Port pairs as they are given to `czctl serve`."""
    return ",".join(
        f"{pair.local}:{pair.remote}" if pair.host is None else f"{_bracketed(pair.host)}:{pair.local}:{pair.remote}"
        for pair in pairs
    )


def service(text: str) -> ServiceRef:
    """The service that `namespace/name` or `name.namespace` names; raises `CodezeroError` for anything else."""
    separator = "/" if "/" in text else "."
    first, found, second = text.partition(separator)
    namespace, name = (first, second) if separator == "/" else (second, first)
    if not found or not is_label(namespace) or not is_label(name):
        raise CodezeroError(
            problems.BAD_SERVE,
            f"{text[:200]!r} is no service",
            fix="write namespace/name or name.namespace, as in: czctl services list -o name",
        )
    return ServiceRef(namespace, name)


def port_pair(text: str) -> tuple[PortPair, bool]:
    """The pair that `[HOST:]LOCAL:REMOTE` or a port alone spells, and whether it was alone, so that the other end may be another one."""
    head, _, last = text.rpartition(":")
    host, _, middle = head.rpartition(":")
    if not head:
        return PortPair(_port(text, text), _port(text, text)), True
    pair = PortPair(_port(last, text), _port(middle, text))
    if not host and head == middle:
        return pair, False
    if _HOST.fullmatch(host) is None:
        raise _bad_port(text, f"{host[:100]!r} is no host")
    # The laptop itself, where both 127.0.0.1 and ::1 are tried.
    own = None if host.lower() == "localhost" else host.strip("[]")
    return PortPair(pair.remote, pair.local, own), False


def _port(digits: str, text: str) -> int:
    if _DIGITS.fullmatch(digits) is None or not 1 <= int(digits) <= 65535:
        raise _bad_port(text, f"{digits[:50]!r} is no port from 1 to 65535")
    return int(digits)


def _bad_port(text: str, reason: str) -> CodezeroError:
    return CodezeroError(
        problems.BAD_SERVE,
        f"{text[:100]!r}: {reason}",
        fix="write 3000, 3000:80 (yours first, then the service's) or host:3000:80",
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
