"""Consume rules: which services, and which of their ports, a laptop reaches by name.

One rule a line. `namespace/service` and `service.namespace` (also with `.svc` or `.svc.cluster.local`) mean the same; `*` stands for any run of
characters within one part; `:port` narrows a rule to one port; `!` excludes; `#` begins a comment. A name alone means the primary namespace, and
`*` alone means everything. Rules are tried in order and the last that matches decides, so exceptions follow what they except from.

A namespace written as `*` alone leaves out the namespaces of the cluster itself and the API server's service: those want to be named.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef, is_label

MAX_RULES = 10_000
MAX_LENGTH = 300
SYSTEM_NAMESPACES = frozenset({"codezero", "kube-system", "kube-public", "kube-node-lease"})
API_SERVER = ServiceRef("default", "kubernetes")

_PART = re.compile(r"[a-z0-9*](?:[a-z0-9*-]{0,61}[a-z0-9*])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_SUFFIXES = (".svc.cluster.local", ".svc")


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))


@dataclass(frozen=True, slots=True)
class ConsumeRule:
    """One rule. `namespace` None means the primary namespace; `port` None means every port."""

    service: str
    namespace: str | None
    port: int | None = None
    excludes: bool = False

    def matches(self, ref: ServiceRef, *, primary_namespace: str | None) -> bool:
        """Whether the rule speaks about `ref`, whatever the port."""
        namespace = self.namespace if self.namespace is not None else primary_namespace
        if namespace is None or not _matches_part(self.service, ref.name):
            return False
        if namespace == "*":
            named = ref == API_SERVER and self.service == ref.name
            return self.excludes or (ref.namespace not in SYSTEM_NAMESPACES and (ref != API_SERVER or named))
        return _matches_part(namespace, ref.namespace)


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules in order, with the lines they were read from."""

    lines: tuple[str, ...] = ()
    rules: tuple[ConsumeRule, ...] = ()

    def admits(self, ref: ServiceRef, ports: Sequence[int], *, primary_namespace: str | None = None) -> tuple[int, ...]:
        """Those of `ports`, in their order, that the rules let in for service `ref`."""
        speaking = [rule for rule in self.rules if rule.matches(ref, primary_namespace=primary_namespace)]
        if not speaking:
            return ()
        return tuple(port for port in ports if _lets_in(speaking, port))


def parse_rules(lines: Iterable[str], *, primary_namespace: str | None = None) -> Rules:
    """The rules that `lines` spell, comments and blanks kept in `Rules.lines`.

    Raises `CodezeroError` that names line and reason; a name alone is refused where there is no primary namespace.
    """
    kept = tuple(line.rstrip() for line in lines)
    rules: list[ConsumeRule] = []
    for number, rule in _numbered(kept):
        if rule.namespace is None and primary_namespace is None:
            raise CodezeroError(
                problems.RULE_NEEDS_NAMESPACE,
                f"line {number}: {kept[number - 1].strip()!r} names no namespace and there is no primary namespace",
                fix=f"write {rule.service}.NAMESPACE, or run `czctl primary-namespace select NAMESPACE` first",
            )
        rules.append(rule)
    if len(rules) > MAX_RULES:
        raise CodezeroError(problems.TOO_LARGE, f"{len(rules)} consume rules; at most {MAX_RULES} are possible")
    return Rules(kept, tuple(rules))


def parse_namespace(text: str) -> str:
    """The namespace `text` names, lower-cased; raises `CodezeroError` when it cannot be one."""
    namespace = text.strip().lower()
    if not is_label(namespace):
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{text[:100]!r} is not the name of a namespace",
            fix="czctl services list shows the namespaces there are",
        )
    return namespace


def _numbered(lines: Sequence[str]) -> Iterator[tuple[int, ConsumeRule]]:
    for number, line in enumerate(lines, 1):
        if len(line) > MAX_LENGTH:
            raise _bad(number, line[:40] + "…", f"is longer than {MAX_LENGTH} characters")
        text = line.partition("#")[0].strip()
        if text:
            yield number, _parse_rule(number, text)


def _parse_rule(number: int, text: str) -> ConsumeRule:
    rest = text.lower()
    excludes = rest.startswith("!")
    rest = rest.removeprefix("!").strip()
    target, colon, port_text = rest.partition(":")
    port = None
    if colon:
        if not _PORT.fullmatch(port_text) or int(port_text) > 65535:
            raise _bad(number, text, f"{port_text!r} is not a port from 1 to 65535")
        port = int(port_text)
    service, namespace = _parse_target(number, text, target)
    return ConsumeRule(service, namespace, port, excludes)


def _parse_target(number: int, text: str, target: str) -> tuple[str, str | None]:
    if target == "*":
        return "*", "*"
    for suffix in _SUFFIXES:
        if target.endswith(suffix) and target.count(".") > suffix.count("."):
            target = target.removesuffix(suffix)
            break
    parts = target.split("/") if "/" in target else target.split(".")
    if len(parts) > 2:
        raise _bad(number, text, "has too many parts; write namespace/service or service.namespace")
    for part in parts:
        if not _PART.fullmatch(part):
            raise _bad(number, text, f"{part!r} is not a name; letters, digits, '-' and '*' make one")
    if len(parts) == 1:
        return parts[0], None
    return (parts[1], parts[0]) if "/" in target else (parts[0], parts[1])


def _bad(number: int, text: str, reason: str) -> CodezeroError:
    return CodezeroError(
        problems.BAD_RULE,
        f"line {number}: {text!r}: {reason}",
        fix="see `czctl consume apply --help` for the forms a rule can have",
    )


def _matches_part(pattern: str, value: str) -> bool:
    return pattern == value if "*" not in pattern else _glob(pattern).match(value) is not None


def _lets_in(speaking: Sequence[ConsumeRule], port: int) -> bool:
    for rule in reversed(speaking):
        if rule.port is None or rule.port == port:
            return not rule.excludes
    return False
