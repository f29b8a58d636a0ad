"""What is confirmed on the machine before it is done for a page: what touches the requests of others, and nothing that is one's own."""

import time
from typing import Any

import msgspec
import pytest

from codezero.cli.paired import confirming
from codezero.cli.paired.state import MOST_QUESTIONS, QUESTION_SECONDS, REFUSAL_SECONDS, State
from codezero.model.problems import CodezeroError

SERVE = confirming.SERVE
MACHINE = "01JZ0000000000000000000001"


def serve(*condition: tuple[str, str | None, str | None], **fields: Any) -> bytes:
    parts = [{"kind": kind, "key": key, "value": value} for kind, key, value in condition]
    wanted = {"service": "shop/orders", "ports": [{"remote": 80, "local": 3000}], "condition": parts, **fields}
    return msgspec.json.encode(wanted)


USER = ("user", None, None)
DEFAULT = ("default", None, None)
OWN_HEADER = ("header", "x-alice", "yes")

OWN = {
    "no condition, which is one's own requests": serve(),
    "one's own requests": serve(USER),
    "a header that somebody adds": serve(OWN_HEADER),
    "baggage that somebody adds": serve(("baggage", "variant", "alice")),
    "one's own of a path": serve(USER, ("path", None, "/api")),
    "a usual header of one's own": serve(USER, ("header", "accept", "*/*")),
    "a look first": serve(DEFAULT, preview=True),
    "a look at a mirror": serve(DEFAULT, preview=True, mirror="all"),
}
OTHERS = {
    "everybody's": serve(DEFAULT),
    "everybody's of a path": serve(("path", None, "/")),
    "everybody's of a method": serve(("method", None, "GET")),
    "a part of everybody's": serve(("percent", None, "100")),
    "a part of everybody's by a header": serve(("percent", "x-alice", "50")),
    "a header that browsers send": serve(("header", "accept", "*/*")),
    "such a header in capitals": serve(("header", "User-Agent", "x")),
    "a header that proxies add": serve(("header", "x-forwarded-for", "10.0.0.1")),
    "a header of tracing": serve(("header", "traceparent", "x")),
    "a header of gRPC": serve(("header", "grpc-accept-encoding", "gzip")),
    "a header of a mesh": serve(("header", "L5d-Client-Id", "x")),
    "a cookie, which all may have": serve(("cookie", "lang", "en")),
    "a query, which all may have": serve(("query", "page", "1")),
    "several of what all have": serve(("path", None, "/"), ("method", None, "GET"), ("cookie", "lang", "en")),
    "copies": serve(USER, mirror="safe"),
    "a variant of somebody else": serve(OWN_HEADER, takeover=True),
    "a restart": serve(USER, restart=True),
    "another host": serve(USER, ports=[{"remote": 80, "local": 22, "host": "192.0.2.1"}]),
}


@pytest.mark.parametrize("body", OWN.values(), ids=OWN)
def test_what_is_ones_own_is_done(body: bytes) -> None:
    assert confirming.lines_of(*SERVE, body) == ()


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_what_touches_others_is_said_in_words(body: bytes) -> None:
    first, second = confirming.lines_of(*SERVE, body)

    assert first.startswith(("answer requests to shop/orders: ", "copy requests to shop/orders: "))
    assert second.startswith("ports ")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"service":1}',
        serve(DEFAULT)[:-1],
        serve(unknown=1),
        serve(("no kind", None, None)),
        b"\xff",
    ],
)
def test_what_cannot_be_read_is_not_passed_on(body: bytes) -> None:
    with pytest.raises(CodezeroError) as refused:
        confirming.lines_of(*SERVE, body)

    assert refused.value.problem.status in (400, 422)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/agent/v1/serve"),
        ("PUT", "/agent/v1/consume"),
        ("POST", "/agent/v1/reset"),
    ],
)
def test_all_else_is_done(method: str, target: str) -> None:
    assert confirming.lines_of(method, target, serve(DEFAULT)) == ()


def test_to_move_is_asked_for() -> None:
    body = msgspec.json.encode({"organization": MACHINE, "space": MACHINE})

    assert confirming.lines_of(*confirming.SELECT, body)[0] == "move this machine to another Teamspace"
    with pytest.raises(CodezeroError):
        confirming.lines_of(*confirming.SELECT, b'{"organization":"../..","space":""}')


def test_to_end_what_others_serve_is_asked_for_as_it_is_to_take_it_over() -> None:
    body = msgspec.json.encode({"service": "shop/orders", "variants": ["MINE", "THEIRS"], "reason": "because"})
    all_own = msgspec.json.encode({"service": "shop/orders", "variants": ["MINE"]})
    unnamed = msgspec.json.encode({"service": "shop/orders"})

    own = frozenset({"MINE"})
    assert confirming.lines_of(*confirming.END, body, own=own) == (
        "end what another machine or user serves of shop/orders",
        "variants THEIRS, reason: because",
    )
    assert confirming.lines_of(*confirming.END, all_own, own=own) == ()
    assert confirming.lines_of(*confirming.END, all_own) != ()
    assert confirming.lines_of(*confirming.END, unnamed) == ()


@pytest.mark.parametrize(
    "body",
    [
        serve(*(("query", f"key{number}" + "x" * 100, "y" * 512) for number in range(8))),
        serve(USER, ports=[{"remote": 80, "local": 22, "host": "h" * 100_000}]),
    ],
)
def test_what_is_too_much_to_be_read_is_refused_and_never_kept(body: bytes) -> None:
    with pytest.raises(CodezeroError) as refused:
        confirming.lines_of(*SERVE, body)

    assert refused.value.problem.status == 413


def asked(present: State, body: bytes = OTHERS["everybody's"], pairing: str = "page") -> tuple[State, str]:
    """The state after a page has asked, and the code of the refusal, if it was one."""
    after, refusal = confirming.check(present, pairing, *SERVE, body, lines=confirming.lines_of(*SERVE, body))
    return after, "" if refusal is None else refusal.problem.code


def test_a_question_is_asked_once_and_its_answer_is_used_once() -> None:
    before = State(MACHINE)
    first, waits = asked(before)
    second, still = asked(first)
    (question,) = confirming.waiting(second)
    confirmed = confirming.answered(second, question.id, is_confirmed=True)
    after, done = asked(confirmed)
    _, again = asked(after)

    assert (waits, still, done, again) == ("CZ-PAIR-004", "CZ-PAIR-004", "", "CZ-PAIR-004")
    assert second == first
    assert not confirming.waiting(confirmed)
    assert not after.questions


def test_an_answer_is_for_that_page_and_that_request() -> None:
    present, _ = asked(State(MACHINE))
    (question,) = confirming.waiting(present)
    present = confirming.answered(present, question.id, is_confirmed=True)

    assert asked(present, pairing="another")[1] == "CZ-PAIR-004"
    assert asked(present, serve(DEFAULT, expires_in=60))[1] == "CZ-PAIR-004"
    assert asked(present, OTHERS["everybody's"] + b" ")[1] == "CZ-PAIR-004"
    assert asked(present)[1] == ""


def test_a_refusal_is_told_once_and_forgotten() -> None:
    present, _ = asked(State(MACHINE))
    (question,) = confirming.waiting(present)
    refused = confirming.answered(present, question.id, is_confirmed=False)
    after, told = asked(refused)

    assert told == "CZ-PAIR-002"
    assert not after.questions
    now = time.time()
    assert refused.at(now + REFUSAL_SECONDS - 5).questions
    assert not refused.at(now + REFUSAL_SECONDS + 5).questions


def test_neither_question_nor_confirmation_lasts() -> None:
    present, _ = asked(State(MACHINE))
    (question,) = confirming.waiting(present)
    confirmed = confirming.answered(present, question.id, is_confirmed=True)
    later = time.time() + QUESTION_SECONDS + 5

    assert not present.at(later).questions
    assert not confirmed.at(later).questions
    with pytest.raises(CodezeroError):
        confirming.answered(present.at(later), question.id, is_confirmed=True)


def test_only_so_many_wait() -> None:
    present = State(MACHINE)
    for number in range(MOST_QUESTIONS):
        present, code = asked(present, pairing=f"page {number}")
        assert code == "CZ-PAIR-004"

    after, code = asked(present, pairing="one more")

    assert code == "CZ-HUB-008"
    assert after == present
    assert len({one.id for one in present.questions}) == MOST_QUESTIONS
