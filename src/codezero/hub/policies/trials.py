"""Tests inside a policy document: comments that say what has to be allowed or denied, tried whenever the document is saved.

    // @test allow developer consume shop/orders
    // @test deny  developer:anna@example.com serve-default shop/orders
    // @test allow ci serve-header shop/orders by header x-team=blue port 80
    // @test allow user:01J...:developer terminate shop/orders

A test is `allow` or `deny`, who (a role, with an e-mail address or ULID where a policy asks for one), an operation and a service; for serving, mirroring
and taking over also `by` a kind of condition with its key and value, and `port`s of the service. It asks what a Teamspace asks: nobody serves what
he may not consume.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from codezero.hub.policies.words import Text, Word
from codezero.model import access, problems
from codezero.model.access import Act, Bundle, Decision, Member, Operation
from codezero.model.cedar import PolicySet
from codezero.model.ids import Device, is_ulid
from codezero.model.problems import CodezeroError, Problem
from codezero.model.roles import Role
from codezero.model.serve import ConditionKind
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart

MAX_TRIALS: Final = 500
FORM: Final = (
    "// @test allow|deny ROLE[:EMAIL|:ULID] OPERATION NAMESPACE/SERVICE [by KIND [KEY=VALUE]] [port PORT[,PORT]]"
)

_MARK: Final = re.compile(r"//\s*@test\b", re.IGNORECASE)
# Nobody's: the one who tries.
_SOMEBODY: Final = "00000000000000000000000000"
_FOREVER: Final = 4_000_000_000.0

Note = Callable[[Problem, Word, str, str], None]


@dataclass(frozen=True, slots=True)
class Trial:
    """One test, and the word with which it begins."""

    word: Word
    allows: bool
    member: Member
    user: str
    act: Act
    service: ServiceRef

    def outcome(self, policies: PolicySet) -> Decision:
        """What the policies say."""
        device = Device("hub", _SOMEBODY, self.user, _SOMEBODY)
        bundle = Bundle(_SOMEBODY, _SOMEBODY, 0, 0.0, _FOREVER, {self.user: self.member}, policies)
        return access.decide_where_seen(bundle, device, self.act, self.service)


def read(source: Text, note: Note) -> tuple[Trial, ...]:
    """All tests of a document; `note` hears of those that cannot be understood."""
    found: list[Trial] = []
    for comment in source.comments():
        mark = _MARK.match(comment.text)
        if mark is None:
            continue
        words = [
            Word("name", match[0], comment.start + match.start())
            for match in re.finditer(r"\S+", comment.text)
            if match.start() >= mark.end()
        ]
        if len(found) >= MAX_TRIALS:
            note(problems.POLICY_TOO_LARGE, comment, f"more than {MAX_TRIALS} tests", "leave some out")
            break
        try:
            found.append(_trial(comment, words))
        except _TrialError as error:
            note(problems.BAD_POLICY_TEST, error.word, error.args[0], FORM)
    return tuple(found)


class _TrialError(Exception):
    def __init__(self, word: Word, message: str) -> None:
        super().__init__(message)
        self.word = word


def _trial(comment: Word, words: list[Word]) -> Trial:
    rest = iter(words)

    def take(what: str) -> Word:
        word = next(rest, None)
        if word is None:
            raise _TrialError(comment, f"the test has no {what}")
        return word

    expected = take("allow or deny")
    if expected.text not in ("allow", "deny"):
        raise _TrialError(expected, f"{expected.text[:50]!r} is neither allow nor deny")
    member, user = _who(take("role"))
    operation = _operation(take("operation"))
    target = take("service")
    try:
        service = ServiceRef.parse(target.text)
    except CodezeroError as error:
        raise _TrialError(target, error.detail) from None
    return Trial(comment, expected.text == "allow", member, user, _act(operation, list(rest)), service)


def _who(word: Word) -> tuple[Member, str]:
    role, _, who = word.text.partition(":")
    if role not in set(Role):
        raise _TrialError(word, f"{role[:50]!r} is no role: {', '.join(Role)}")
    kind = "service" if role == Role.CI else "person"
    if is_ulid(who):
        return Member("", "", kind, role), who
    if who and "@" not in who:
        raise _TrialError(word, f"{who[:50]!r} is neither an e-mail address nor a ULID")
    return Member(who.partition("@")[0], who, kind, role), _SOMEBODY


def _operation(word: Word) -> Operation:
    if word.text in set(Operation) - {Operation.SERVE}:
        return Operation(word.text)
    known = ", ".join(one for one in Operation if one is not Operation.SERVE)
    raise _TrialError(word, f"{word.text[:50]!r} is no operation: {known}")


_USUAL: Final = {
    Operation.SERVE_USER: ConditionPart(ConditionKind.USER),
    Operation.SERVE_HEADER: ConditionPart(ConditionKind.HEADER),
    Operation.SERVE_DEFAULT: ConditionPart(ConditionKind.DEFAULT),
    Operation.MIRROR: ConditionPart(ConditionKind.DEFAULT),
    Operation.TAKEOVER: ConditionPart(ConditionKind.DEFAULT),
}


def _act(operation: Operation, words: list[Word]) -> Act:
    condition, ports = _USUAL.get(operation), ()
    while words:
        word = words.pop(0)
        if condition is None:
            raise _TrialError(word, f"{operation} has neither condition nor ports")
        if word.text == "by" and words:
            condition = _condition(words)
        elif word.text == "port" and words:
            ports = _ports(words.pop(0))
        else:
            raise _TrialError(word, f"{word.text[:50]!r} is not understood here")
    return Act(operation, condition, ports)


def _condition(words: list[Word]) -> ConditionPart:
    kind = words.pop(0)
    if kind.text not in set(ConditionKind):
        raise _TrialError(kind, f"{kind.text[:50]!r} is no kind of condition: {', '.join(ConditionKind)}")
    if not words or words[0].text == "port":
        return ConditionPart(kind.text)
    key, given, value = words.pop(0).text.partition("=")
    if given:
        return ConditionPart(kind.text, key, value)
    return ConditionPart(kind.text, None, key)


def _ports(word: Word) -> tuple[int, ...]:
    parts = word.text.split(",")
    if not all(re.fullmatch(r"[1-9][0-9]{0,4}", part) and int(part) <= 65535 for part in parts):
        raise _TrialError(word, f"{word.text[:50]!r} are no ports")
    return tuple(map(int, parts))
