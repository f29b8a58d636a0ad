"""Serves: which requests of a service a laptop's variant answers, and who wins where several would.

A condition is a set of predicates, and a request meets it when it meets all of them; the empty set is `default`. Whether a request meets a
condition depends on the request and the variant's owner alone, never on the connection, so every request of a kept-alive connection is
decided anew. What a percentage without a header draws is drawn once for each request, and all variants look at the same lot.

Where a request meets the conditions of several variants, the one answers that comes first by `precedence`:

1. conditions that name something the request carries (header, baggage, cookie, query) before
   `user`, before conditions that only narrow (path, method, percent), before `default`; the strongest predicate of a condition counts;
2. the one with more predicates;
3. the one with the longer path;
4. the older variant, so that a newcomer takes nothing away; variants of the same instant by id.

No variant: the service's own pods, called the origin. Of the requests that they answer a mirror gets copies, one mirror for each request,
chosen by the same order.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair

USER_HEADER = "x-c6o-userid"
MAX_PREDICATES = 8
MAX_KEY = 128
MAX_VALUE = 512

# RFC 9110, 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE = re.compile(r"[!-~](?:[ \t!-~]*[!-~])?")
# RFC 6265, 4.1.1: what a cookie's value may be made of; quotes around it are part of it.
_COOKIE_VALUE = re.compile(r'[!#-+\--:<-\[\]-~]+|"[!#-+\--:<-\[\]-~]*"')
# RFC 3986, 2.3.
_QUERY_KEY = re.compile(r"[A-Za-z0-9._~-]+")
_PATH = re.compile(r"/[!$&-;=@-\[\]_a-z~%]*")
# W3C Baggage 3.2.1.1: a value is made of baggage-octets, everything else percent-encoded.
_BAGGAGE_VALUE = re.compile(r"(?:[!#$&-+\--:<-\[\]-~]|%[0-9A-Fa-f]{2})*")
_QUERY_VALUE = re.compile(r"(?:[!-$&-~]|%[0-9A-Fa-f]{2})*")
_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_PERCENT = re.compile(r"([0-9]{1,3})%?")
# RFC 9110, 9.2.1.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
LOTS = 100

_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "http2-settings"}
)
_CREDENTIALS = frozenset(
    {"authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "set-cookie", "x-api-key"}
)
# Proxies set x-forwarded-proto where it is missing, before anything is compared.
_FRAMING = frozenset({"host", "content-length", "expect", "x-forwarded-proto"})
_OTHER_KIND = {"cookie": "cookie", "baggage": "baggage", USER_HEADER: "user"}


class ConditionKind(StrEnum):
    """What a predicate looks at, spelled as in flags and in the Serve resource."""

    DEFAULT = "default"
    USER = "user"
    HEADER = "header"
    BAGGAGE = "baggage"
    PATH = "path"
    QUERY = "query"
    METHOD = "method"
    COOKIE = "cookie"
    PERCENT = "percent"


class _Strength(IntEnum):
    DEFAULT = 0
    NARROWS = 1
    USER = 2
    NAMES = 3


@dataclass(frozen=True, slots=True)
class Request:
    """What conditions look at: the method, the target in origin form as sent, the header lines in order.

    Text holds one character for each byte (ISO 8859-1), as HTTP does. `lot` is what chance drew for the request, from 0 to 99.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    lot: int = 0

    def lines(self, name: str) -> list[str]:
        """The values of all lines of header `name` (lower case), white space around them removed."""
        return [value.strip(" \t") for key, value in self.headers if key.lower() == name]


@dataclass(frozen=True, slots=True, order=True)
class User:
    """The request carries the id of the variant's owner in header `x-c6o-userid`."""

    def met_by(self, request: Request, user: str) -> bool:
        """Whether `request` is one of `user`'s."""
        return Header(USER_HEADER, user).met_by(request, user)

    def __str__(self) -> str:
        return "user"


@dataclass(frozen=True, slots=True, order=True)
class Header:
    """A line of header `key` (kept in lower case) has exactly this value; commas in a line divide nothing."""

    key: str
    value: str

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether `request` carries the header with this value."""
        return self.value in request.lines(self.key)

    def __str__(self) -> str:
        return f"header {self.key}:{self.value}"


@dataclass(frozen=True, slots=True, order=True)
class Baggage:
    """A member of the request's W3C baggage has this key (case counts) and, decoded, this value.

    Every member counts, however many there are: 64 members and 8,192 bytes are the least that must be carried, not the most.
    """

    key: str
    value: str

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether `request` carries the member."""
        return any(pair == (self.key, self.value) for pair in baggage_members(request.lines("baggage")))

    def __str__(self) -> str:
        return f"baggage {self.key}:{self.value}"


@dataclass(frozen=True, slots=True, order=True)
class Path:
    """The path as sent, without its query, is this one or one below it; `/` is every path.

    Nothing is decoded or normalised, so `//api` and `/%61pi` are not `/api`.
    """

    prefix: str

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether the path of `request` is the prefix or lies below it."""
        path = re.split(r"[?#]", request.target, maxsplit=1)[0]
        return path == self.prefix or path.startswith(self.prefix.rstrip("/") + "/")

    def __str__(self) -> str:
        return f"path {self.prefix}"


@dataclass(frozen=True, slots=True, order=True)
class Query:
    """The first query parameter named `key` has, decoded, this value; a `+` is a space."""

    key: str
    value: str

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether the query of `request` carries the parameter with this value."""
        query = request.target.partition("#")[0].partition("?")[2]
        for part in query.split("&"):
            key, _, value = part.partition("=")
            if key == self.key:
                return _QUERY_VALUE.fullmatch(value) is not None and _decoded(value.replace("+", " ")) == self.value
        return False

    def __str__(self) -> str:
        return f"query {self.key}:{self.value}"


@dataclass(frozen=True, slots=True, order=True)
class Method:
    """The request's method is this one."""

    name: str

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether `request` uses the method."""
        return request.method == self.name

    def __str__(self) -> str:
        return f"method {self.name}"


@dataclass(frozen=True, slots=True, order=True)
class Cookie:
    """The request carries a cookie of this name and value, both as sent. Pairs end at `;` or `,` (several lines)."""

    key: str
    value: str

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether `request` carries the cookie."""
        pairs = (pair.strip(" \t") for line in request.lines("cookie") for pair in re.split("[;,]", line))
        return f"{self.key}={self.value}" in pairs

    def __str__(self) -> str:
        return f"cookie {self.key}:{self.value}"


@dataclass(frozen=True, slots=True)
class Percent:
    """So many of a hundred requests, by chance; with `key`, those whose value of that header (kept in lower case) has a lot below `percent`.

    A value's lot is the same for every variant and does not change, so a client that keeps its value stays on its side, and a larger percentage
    keeps all whom a smaller one had. A request without the header does not meet it.
    """

    percent: int
    key: str | None = None

    def met_by(self, request: Request, _user: str) -> bool:
        """Whether `request` is among so many of a hundred."""
        lots = (request.lot,) if self.key is None else map(lot_of, request.lines(self.key))
        return any(lot < self.percent for lot in lots)

    def __lt__(self, other: "Percent") -> bool:
        return (self.key or "", self.percent) < (other.key or "", other.percent)

    def __str__(self) -> str:
        return f"percent {'' if self.key is None else f'{self.key}:'}{self.percent}%"


Predicate = User | Header | Baggage | Path | Query | Method | Cookie | Percent


@dataclass(frozen=True, slots=True)
class Condition:
    """All of some predicates, in one canonical order, so that equal conditions compare equal; none of them is `default`."""

    predicates: tuple[Predicate, ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether every request meets it, also those of protocols other than HTTP."""
        return not self.predicates

    def __str__(self) -> str:
        return " and ".join(map(str, self.predicates)) or "default"


DEFAULT = Condition()


@dataclass(frozen=True, slots=True)
class Variant:
    """One user's stand-in for a service: what it answers and where it listens.

    `variant_id` is a ULID, `user` the owner's ULID and `user_name` what others are told; `since` is in milliseconds of Unix time. A `mirror`
    answers nothing: it gets copies of requests that no other variant answers.
    """

    variant_id: str
    service: ServiceRef
    user: str
    user_name: str
    condition: Condition
    ports: tuple[PortPair, ...]
    since: int
    mirror: Mirror | None = None

    def serves(self, port: int) -> bool:
        """Whether the variant answers on `port` of the service."""
        return any(pair.remote == port for pair in self.ports)


@dataclass(frozen=True, slots=True)
class Serve:
    """All variants of one service."""

    service: ServiceRef
    variants: tuple[Variant, ...] = ()

    def chosen(self, request: Request, port: int) -> Variant | None:
        """The variant that answers `request` to `port` of the service; None is the origin."""
        fitting = (one for one in self._met(request, port) if one.mirror is None)
        return min(fitting, key=precedence, default=None)

    def mirrored(self, request: Request, port: int) -> Variant | None:
        """The mirror that gets a copy of `request` to `port`, whether or not its laptop is there; only what the origin answers is copied."""
        if self.chosen(request, port) is not None:
            return None
        fitting = (one for one in self._met(request, port) if one.mirror is not None and copies(one.mirror, request))
        return min(fitting, key=precedence, default=None)

    def _met(self, request: Request, port: int) -> Iterator[Variant]:
        return (one for one in self.variants if one.serves(port) and matches(one.condition, request, user=one.user))


def lot_of(value: str) -> int:
    """The lot, from 0 to 99, of a header's value: FNV-1a of 32 bits over its bytes, modulo 100. Every data plane counts the same way."""
    lot = 2166136261
    for octet in value.encode("latin-1", "replace"):
        lot = (lot ^ octet) * 16777619 % 2**32
    return lot % LOTS


def copies(mirror: Mirror, request: Request) -> bool:
    """Whether a mirror of that kind copies requests of such a method; an upgrade is no request that could be asked again."""
    return not request.lines("upgrade") and (mirror is Mirror.ALL or request.method in SAFE_METHODS)


def matches(condition: Condition, request: Request, *, user: str) -> bool:
    """Whether `request` meets `condition` of a variant that `user` owns."""
    return all(predicate.met_by(request, user) for predicate in condition.predicates)


def precedence(variant: Variant) -> tuple[int, int, int, int, str]:
    """A sort key without ties: of the variants whose conditions a request meets, the least one answers. See the module's text."""
    predicates = variant.condition.predicates
    strength = max(map(_strength, predicates), default=_Strength.DEFAULT)
    path = max((len(predicate.prefix) for predicate in predicates if isinstance(predicate, Path)), default=0)
    return (-strength, -len(predicates), -path, variant.since, variant.variant_id)


def conflicts(existing: Iterable[Variant], wanted: Variant) -> tuple[Variant, ...]:
    """Those of `existing` that other users own and that claim the very requests `wanted` would, on a port of its service, in precedence.

    A user's own variant with the same condition is replaced, not in conflict.
    """
    ports = {pair.remote for pair in wanted.ports}
    found = (
        one
        for one in existing
        if one.service == wanted.service
        and one.user != wanted.user
        and one.condition == wanted.condition
        and one.mirror is None
        and wanted.mirror is None
        and User() not in one.condition.predicates
        and any(one.serves(port) for port in ports)
    )
    return tuple(sorted(found, key=precedence))


def refuse_conflicts(existing: Iterable[Variant], wanted: Variant) -> None:
    """Raises `CodezeroError` that names who already serves what `wanted` asks for."""
    for owner in conflicts(existing, wanted)[:1]:
        raise CodezeroError(
            problems.CONDITION_TAKEN,
            f"{owner.user_name} already serves {wanted.service} for {wanted.condition}",
            fix="choose another condition, or add --takeover",
        )


def parse_condition(parts: Sequence[tuple[str, str | None]]) -> Condition:
    """The condition that all of `parts`, pairs of a kind and its text, spell; no part at all is `user`, as without any flag.

    Raises `CodezeroError` for what cannot be a condition, and for one that no request could meet.
    """
    if len(parts) > MAX_PREDICATES:
        raise _bad(f"{len(parts)} parts; a condition has at most {MAX_PREDICATES}")
    predicates = [parse_predicate(kind, text) for kind, text in parts or (("user", None),)]
    if None in predicates and len(predicates) > 1:
        raise _bad("default takes every request, so it cannot be combined with another condition")
    return condition_of(predicate for predicate in predicates if predicate is not None)


def condition_of(predicates: Iterable[Predicate]) -> Condition:
    """The condition of all `predicates`; raises `CodezeroError` where two of them exclude each other or there are too many."""
    unique = sorted(set(predicates), key=lambda one: (type(one).__name__, one))
    if len(unique) > MAX_PREDICATES:
        raise _bad(f"{len(unique)} parts; a condition has at most {MAX_PREDICATES}")
    seen: dict[tuple[type, str], Predicate] = {}
    for predicate in unique:
        other = seen.setdefault((type(predicate), _subject(predicate)), predicate)
        if other is not predicate and isinstance(predicate, Percent):
            raise _bad(f"{other} and {predicate} are parts of one hundred; name one of them")
        if other is not predicate:
            raise _bad(f"no request meets both {other} and {predicate}")
    return Condition(tuple(unique))


def parse_predicate(kind: str, text: str | None) -> Predicate | None:
    """The predicate that flag text `text` spells for `kind`; None for `default`.

    Keys and values are split at the first colon and trimmed. Values of baggage and query are written decoded, as programs read them.
    Raises `CodezeroError` naming what is wrong.
    """
    text = text or ""
    match kind:
        case ConditionKind.DEFAULT | ConditionKind.USER:
            if text.strip():
                raise _bad(f"{kind} takes no key and no value, got {text[:100]!r}")
            return User() if kind == ConditionKind.USER else None
        case ConditionKind.PATH:
            return Path(_path(text.strip()))
        case ConditionKind.METHOD:
            return Method(_method(text.strip()))
        case ConditionKind.HEADER:
            key, value = _pair(text, kind)
            return Header(_header_key(key), _fitting(value, _FIELD_VALUE, "a header's value is visible ASCII"))
        case ConditionKind.BAGGAGE:
            key, value = _pair(text, kind)
            return Baggage(_fitting(key, _TOKEN, "a baggage key is an RFC 9110 token"), _plain(value))
        case ConditionKind.QUERY:
            key, value = _pair(text, kind)
            return Query(_fitting(key, _QUERY_KEY, "a query key is made of letters, digits and . _ ~ -"), _plain(value))
        case ConditionKind.COOKIE:
            key, value = _pair(text, kind)
            cookie = _fitting(value, _COOKIE_VALUE, "a cookie's value has no space, comma, semicolon or backslash")
            return Cookie(_fitting(key, _TOKEN, "a cookie's name is an RFC 9110 token"), cookie)
        case ConditionKind.PERCENT:
            return _percent(text)
        case _:
            raise _bad(f"{kind[:50]!r} is no kind of condition; there are {', '.join(ConditionKind)}")


def condition_parts(condition: Condition) -> tuple[ConditionPart, ...]:
    """The parts that spell `condition`, as values that travel; `condition_from_parts` reads them."""
    return tuple(map(_part, condition.predicates)) or (ConditionPart(ConditionKind.DEFAULT),)


def condition_from_parts(parts: Sequence[ConditionPart]) -> Condition:
    """The condition that `parts` spell; no part at all is `user`. Raises `CodezeroError` as `parse_condition`."""
    return parse_condition(
        [
            (one.kind, one.value if one.key is None else f"{one.key}:{'' if one.value is None else one.value}")
            for one in parts
        ]
    )


def _part(predicate: Predicate) -> ConditionPart:
    match predicate:
        case User():
            return ConditionPart(ConditionKind.USER)
        case Path(prefix):
            return ConditionPart(ConditionKind.PATH, None, prefix)
        case Method(name):
            return ConditionPart(ConditionKind.METHOD, None, name)
        case Header(key, value):
            return ConditionPart(ConditionKind.HEADER, key, value)
        case Baggage(key, value):
            return ConditionPart(ConditionKind.BAGGAGE, key, value)
        case Query(key, value):
            return ConditionPart(ConditionKind.QUERY, key, value)
        case Cookie(key, value):
            return ConditionPart(ConditionKind.COOKIE, key, value)
        case Percent(percent, key):
            return ConditionPart(ConditionKind.PERCENT, key, str(percent))


def baggage_members(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Key and decoded value of each well-formed member in the `baggage` header lines `lines`; properties are left out (W3C Baggage 3.3).

    A member that breaks the grammar, or does not decode to UTF-8, is skipped and spoils no other.
    """
    for member in ",".join(lines).split(","):
        key, equals, value = member.partition(";")[0].partition("=")
        key, value = key.strip(" \t"), value.strip(" \t")
        if equals and _TOKEN.fullmatch(key) and _BAGGAGE_VALUE.fullmatch(value):
            decoded = _decoded(value)
            if decoded is not None:
                yield key, decoded


def _decoded(text: str) -> str | None:
    octets = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("latin-1", "replace"))
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None


def _strength(predicate: Predicate) -> _Strength:
    match predicate:
        case Path() | Method() | Percent():
            return _Strength.NARROWS
        case User():
            return _Strength.USER
        case Header() | Baggage() | Query() | Cookie():
            return _Strength.NAMES


def _subject(predicate: Predicate) -> str:
    match predicate:
        case Header(key, _) | Query(key, _):
            return key
        case Baggage() | Cookie():
            return str(predicate)  # a request may carry several members or cookies of one name
        case Percent(_, key):
            return key or ""
        case User() | Path() | Method():
            return ""


def _bad(reason: str) -> CodezeroError:
    return CodezeroError(
        problems.BAD_CONDITION,
        reason,
        fix="write --condition-type header --condition key:value, or see czctl serve --help",
    )


def _pair(text: str, kind: str) -> tuple[str, str]:
    key, colon, value = (part.strip() for part in text.partition(":"))
    if not key or not colon or not value:
        raise _bad(f"{kind} needs key:value, got {text[:100]!r}")
    if len(key) > MAX_KEY or len(value.encode(errors="replace")) > MAX_VALUE:
        raise _bad(
            f"{kind} {key[:50]!r} is too long: a key has at most {MAX_KEY} characters, a value {MAX_VALUE} bytes"
        )
    return key, value


def _fitting(text: str, pattern: re.Pattern[str], rule: str) -> str:
    if pattern.fullmatch(text) is None:
        raise _bad(f"{rule}, got {text[:100]!r}")
    return text


def _plain(value: str) -> str:
    if _CONTROL.search(value) or _SURROGATE.search(value):
        raise _bad(f"a value has no control characters, got {value[:100]!r}")
    return value


def _header_key(key: str) -> str:
    key = _fitting(key, _TOKEN, "a header's name is an RFC 9110 token").lower()
    if key in _OTHER_KIND:
        raise CodezeroError(
            problems.HEADER_REFUSED,
            f"header {key} has a kind of condition of its own",
            fix=f"use --condition-type {_OTHER_KIND[key]}",
        )
    if key in _CREDENTIALS:
        raise CodezeroError(problems.HEADER_REFUSED, f"header {key} carries credentials", fix="choose another header")
    if key in _HOP_BY_HOP or key in _FRAMING or key.startswith(("x-envoy-", "x-codezero-")):
        raise CodezeroError(
            problems.HEADER_REFUSED,
            f"header {key} belongs to the connection or to the Router, not to the request",
            fix="choose another header",
        )
    return key


def _path(text: str) -> str:
    if len(text) > MAX_VALUE or _PATH.fullmatch(text) is None:
        raise _bad(f"a path begins with / and has no query, fragment or space, got {text[:100]!r}")
    return text.rstrip("/") or "/"


def _method(text: str) -> str:
    name = text.upper()
    if len(name) > 32 or _TOKEN.fullmatch(name) is None or name == "CONNECT":
        raise _bad(f"{text[:50]!r} is no method a variant can be asked by")
    return name


def _percent(text: str) -> Percent:
    key, colon, number = (part.strip() for part in text.rpartition(":"))
    found = _PERCENT.fullmatch(number)
    if found is None or not 1 <= int(found[1]) <= LOTS:
        raise _bad(f"percent needs a whole number from 1 to 100, or header:number, got {text[:100]!r}")
    if not colon:
        return Percent(int(found[1]))
    if len(key) > MAX_KEY:
        raise _bad(f"header {key[:50]!r} is too long: a key has at most {MAX_KEY} characters")
    # Whoever decides by a part of all users takes none of them away by name.
    return Percent(int(found[1]), USER_HEADER if key.lower() == USER_HEADER else _header_key(key))
