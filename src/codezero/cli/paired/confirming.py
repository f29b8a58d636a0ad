"""What a page does not get without a word in a terminal of the machine: what touches the requests of others, and what moves the machine (T02, T37)."""

import time
from typing import Final, TypeVar

import msgspec

from codezero.cli import wording
from codezero.cli.loopback.selecting import Selection
from codezero.cli.paired import state
from codezero.cli.paired.state import Answer, Question, State
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import Baggage, Condition, Header, User, condition_from_parts
from codezero.wire.local_api import ServeChange, ServeEnd
from codezero.wire.paired import body_hash

T = TypeVar("T", bound=msgspec.Struct)

SERVE: Final = ("POST", "/agent/v1/serve")
END: Final = ("POST", "/agent/v1/serve/end")
SELECT: Final = ("POST", "/console/teamspace")

# Of one line of a question: people are to read all of it, and the file of them is bounded.
MOST_IN_LINE: Final = 1000

# Headers that requests carry without anybody having added them for a variant: a condition on one of them is met by everybody's requests.
_USUAL: Final = frozenset(
    {
        "age",
        "b3",
        "cache-control",
        "cdn-loop",
        "client-ip",
        "connect-protocol-version",
        "date",
        "dnt",
        "forwarded",
        "from",
        "origin",
        "pragma",
        "priority",
        "range",
        "referer",
        "save-data",
        "sentry-trace",
        "traceparent",
        "tracestate",
        "true-client-ip",
        "uber-trace-id",
        "user-agent",
        "via",
        "x-client-ip",
        "x-cloud-trace-context",
        "x-request-id",
        "x-requested-with",
        "x-real-ip",
    }
)
_USUAL_PREFIXES: Final = (
    *("accept", "access-control-", "cf-", "content-", "grpc-", "if-", "l5d-", "sec-", "upgrade-"),
    *("x-amzn-", "x-b3-", "x-datadog-", "x-forwarded-"),
)


def lines_of(method: str, target: str, body: bytes, *, own: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """What is to be confirmed of a request, in words for people; nothing where it is done without. `own` are the variants of this machine.

    Raises `CodezeroError` for a body that cannot be read, and for more than can be asked of people.
    """
    lines = _lines_of(method, target, body, own)
    if any(len(line) > MOST_IN_LINE for line in lines):
        raise CodezeroError(
            problems.TOO_LARGE,
            f"it is more than can be confirmed for a page: over {MOST_IN_LINE} characters",
            fix="do it with czctl on the machine",
        )
    return lines


def _lines_of(method: str, target: str, body: bytes, own: frozenset[str]) -> tuple[str, ...]:
    if (method, target) == SERVE:
        return _serve(_read(body, ServeChange))
    if (method, target) == END:
        return _end(_read(body, ServeEnd), own)
    if (method, target) == SELECT:
        wanted = _read(body, Selection)
        return (
            "move this machine to another Teamspace",
            f"Teamspace {wanted.space} of organization {wanted.organization}",
        )
    return ()


def check(
    present: State, pairing: str, method: str, target: str, body: bytes, *, lines: tuple[str, ...]
) -> tuple[State, CodezeroError | None]:
    """For `state.change`: what is left when the request is done now, or why it is not done (yet). `lines` are those of `lines_of`."""
    hashed, now = body_hash(body), time.time()
    asked = next((one for one in present.questions if one.is_about(pairing, method, target, hashed)), None)
    if asked is None:
        if len(present.questions) >= state.MOST_QUESTIONS:
            return present, CodezeroError(
                problems.TOO_MANY_REQUESTS,
                f"{state.MOST_QUESTIONS} questions wait on the machine already",
                fix="answer them there: czctl confirm",
            )
        # The end of a ULID is by chance, and short enough to be typed.
        name = new_ulid()[-8:].lower()
        question = Question(name, pairing, method, target, hashed, lines, now, now + state.QUESTION_SECONDS)
        return msgspec.structs.replace(present, questions=(*present.questions, question)), _waits(question)
    match asked.answer:
        case Answer.WAITING:
            return present, _waits(asked)
        case Answer.CONFIRMED:
            return _without(present, asked), None
        case Answer.REFUSED:
            return _without(present, asked), CodezeroError(
                problems.PAGE_MAY_NOT, f"it was refused on the machine: {asked.lines[0]}"
            )


def answered(present: State, name: str, *, is_confirmed: bool) -> State:
    """With an answer to that question: a confirmation is good for ten minutes, and once. Raises `CodezeroError` where there is none."""
    asked = next((one for one in waiting(present) if one.id == name), None)
    if asked is None:
        raise CodezeroError(problems.NOT_FOUND, f"no question {name[:50]!r} waits", fix="czctl confirm")
    seconds = state.QUESTION_SECONDS if is_confirmed else state.REFUSAL_SECONDS
    said = msgspec.structs.replace(
        asked, answer=Answer.CONFIRMED if is_confirmed else Answer.REFUSED, expires_at=time.time() + seconds
    )
    questions = tuple(said if one is asked else one for one in present.questions)
    return msgspec.structs.replace(present, questions=questions)


def waiting(present: State) -> tuple[Question, ...]:
    """The questions without an answer, the oldest first."""
    return tuple(one for one in present.questions if one.answer is Answer.WAITING)


def _serve(wanted: ServeChange) -> tuple[str, ...]:
    if wanted.preview:
        return ()
    condition = condition_from_parts(wanted.condition)
    reasons = [
        *(["whoever sent them"] if not _is_own(condition) else []),
        *(["copies of them leave the cluster"] if wanted.mirror is not None else []),
        *(["in place of a variant of somebody else"] if wanted.takeover else []),
        *(["its pods are restarted"] if wanted.restart else []),
        *(["another host than this machine answers"] if any(pair.host is not None for pair in wanted.ports) else []),
    ]
    if not reasons:
        return ()
    what = "copy" if wanted.mirror is not None else "answer"
    return (
        f"{what} requests to {wanted.service}: {'; '.join(reasons)}",
        f"ports {wording.ports(wanted.ports)}, condition {condition}",
    )


def _end(wanted: ServeEnd, own: frozenset[str]) -> tuple[str, ...]:
    """To end a variant of somebody else and then to serve comes to the same as to take over."""
    others = [one for one in wanted.variants if one not in own]
    if not others:
        return ()
    return (
        f"end what another machine or user serves of {wanted.service}",
        f"variants {', '.join(others)}" + (f", reason: {wanted.reason}" if wanted.reason else ""),
    )


def _is_own(condition: Condition) -> bool:
    """Whether only such requests meet it as carry its owner's id, or a header or baggage that somebody has to add to them."""
    return any(
        isinstance(one, User | Baggage) or (isinstance(one, Header) and not _is_usual(one.key))
        for one in condition.predicates
    )


def _is_usual(header: str) -> bool:
    return header in _USUAL or header.startswith(_USUAL_PREFIXES)


def _waits(question: Question) -> CodezeroError:
    return CodezeroError(
        problems.CONFIRM_ON_MACHINE,
        f"to be confirmed on the machine: {question.lines[0]}",
        fix=f"czctl confirm {question.id}",
    )


def _without(present: State, question: Question) -> State:
    return msgspec.structs.replace(present, questions=tuple(one for one in present.questions if one is not question))


def _read(body: bytes, kind: type[T]) -> T:
    """As the one does whose answer it is: what cannot be read is not passed on."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodezeroError(problems.BAD_REQUEST, f"the body cannot be read: {error}") from None
