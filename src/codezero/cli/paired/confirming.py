"""What a page does not get without a word in a terminal of the machine (T02, T37): what touches the requests of others, what moves the machine, and each
port of the machine's loopback for each service the first time.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from codezero.cli import wording
from codezero.cli.loopback.selecting import Selection
from codezero.cli.paired import state
from codezero.cli.paired.state import Answer, Question, Served, State
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import Baggage, Condition, Header, User, condition_from_parts
from codezero.model.services import ServiceRef
from codezero.wire.local_api import ServeChange, ServeEnd
from codezero.wire.paired import body_hash

T = TypeVar("T", bound=msgspec.Struct)

SERVE: Final = ("POST", "/agent/v1/serve")
END: Final = ("POST", "/agent/v1/serve/end")
SELECT: Final = ("POST", "/console/teamspace")

# Of one line of a question, as it is kept: people are to read all of it, and the file of them is bounded.
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


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a request is looked at: what its page has `served` and was confirmed, the id of the `teamspace` of this machine, its `own`
    variants, `names` by id.
    """

    served: tuple[Served, ...] = ()
    teamspace: str = ""
    own: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Need:
    """What is to be confirmed of a request: `lines` for people, none where it is done without; and what it `serves` that is then not asked again."""

    lines: tuple[str, ...] = ()
    serves: tuple[Served, ...] = ()


def need_of(method: str, target: str, body: bytes, *, known: Known) -> Need:
    """What is to be confirmed of a request. Raises `CodezeroError` for a body that cannot be read, and for more than can be asked of people."""
    need = _need_of(method, target, body, known)
    if any(len(msgspec.json.encode(line)) > MOST_IN_LINE for line in need.lines):
        raise CodezeroError(
            problems.TOO_LARGE,
            f"it is more than can be confirmed for a page: over {MOST_IN_LINE} bytes in a line",
            fix="do it with czctl on the machine",
        )
    return need


def _need_of(method: str, target: str, body: bytes, known: Known) -> Need:
    if (method, target) == SERVE:
        return _serve(_read(body, ServeChange), known)
    if (method, target) == END:
        return Need(_end(_read(body, ServeEnd), known.own))
    if (method, target) == SELECT:
        return Need(_select(_read(body, Selection), known.names))
    return Need()


def check(
    present: State, pairing: str, method: str, target: str, body: bytes, *, need: Need
) -> tuple[State, CodezeroError | None]:
    """For `state.change`: what is left when the request is done now, or why it is not done (yet). `need` is that of `need_of`.

    A confirmation is used up by that, also where the agent then refuses or does not answer: whether something was done is not known here.
    """
    asked = question_of(present, pairing, method, target, body)
    if asked is None:
        own = [one for one in present.questions if one.pairing == pairing]
        if len(own) >= state.MOST_QUESTIONS:
            # An answer that the page has not come for makes room: there is nothing that people could do about it.
            idle = next((one for one in own if one.answer is not Answer.WAITING), None)
            if idle is None:
                return present, CodezeroError(
                    problems.TOO_MANY_REQUESTS,
                    f"{state.MOST_QUESTIONS} questions of this page wait on the machine already",
                    fix="answer them there: czctl confirm",
                )
            present = _without(present, idle)
        # The end of a ULID is by chance, and short enough to be typed.
        name, now = new_ulid()[-8:].lower(), time.time()
        question = Question(
            name,
            pairing,
            method,
            target,
            body_hash(body),
            need.lines,
            now,
            now + state.QUESTION_SECONDS,
            serves=need.serves,
        )
        return msgspec.structs.replace(present, questions=(*present.questions, question)), _waits(question)
    match asked.answer:
        case Answer.WAITING:
            return present, _waits(asked)
        case Answer.CONFIRMED:
            return _without(present, asked).with_served(pairing, asked.serves), None
        case Answer.REFUSED:
            return _without(present, asked), CodezeroError(
                problems.PAGE_MAY_NOT, f"it was refused on the machine: {asked.lines[0]}"
            )


def question_of(present: State, pairing: str, method: str, target: str, body: bytes) -> Question | None:
    """The question that was asked of that very request, if it was."""
    hashed = body_hash(body)
    return next((one for one in present.questions if one.is_about(pairing, method, target, hashed)), None)


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


def _serve(wanted: ServeChange, known: Known) -> Need:
    if wanted.preview:
        return Need()
    condition = condition_from_parts(wanted.condition)
    reasons = [
        *(["whoever sent them"] if not _is_own(condition) else []),
        *(["copies of them leave the cluster"] if wanted.mirror is not None else []),
        *(["in place of a variant of somebody else"] if wanted.takeover else []),
        *(["its pods are restarted"] if wanted.restart else []),
        *(["another host than this machine answers"] if any(pair.host is not None for pair in wanted.ports) else []),
    ]
    serves = tuple(one for one in _answered_here(wanted, known.teamspace) if one not in known.served)
    if not reasons and not serves:
        return Need()
    what = "copy" if wanted.mirror is not None else "answer"
    first = f"{what} requests to {wanted.service}"
    lines = [f"ports {wording.ports(wanted.ports)}, condition {condition}"]
    if serves:
        first += f" from {_ports(serves)} of this machine"
        lines.append(
            f"a yes to {'that port' if len(serves) == 1 else 'those ports'} is remembered until the pairing ends"
        )
    return Need((f"{first}: {'; '.join(reasons)}" if reasons else first, *lines), serves)


def _answered_here(wanted: ServeChange, teamspace: str) -> Sequence[Served]:
    """The ports of this machine that are to answer, each once. To copies nobody gets an answer: a yes to them is none to this, and is asked each time."""
    service = ServiceRef.parse(wanted.service)
    ports = sorted({pair.local for pair in wanted.ports if pair.host is None})
    if ports and not 0 < ports[0] <= ports[-1] < 65536:
        raise CodezeroError(problems.BAD_REQUEST, "ports are from 1 to 65535")
    return [] if wanted.mirror is not None else [Served(str(service), port, teamspace) for port in ports]


def _ports(serves: Sequence[Served]) -> str:
    return f"port{'s' if len(serves) > 1 else ''} {', '.join(str(one.port) for one in serves)}"


def _select(wanted: Selection, names: Mapping[str, str]) -> tuple[str, ...]:
    """The names are what the Hub says, the ids what the machine goes to."""
    space, organization = names.get(wanted.space), names.get(wanted.organization)
    is_named = space is not None and organization is not None
    return (
        f"move this machine to {f'Teamspace {space} of {organization}' if is_named else 'another Teamspace'}",
        f"Teamspace {wanted.space}, organization {wanted.organization}",
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
