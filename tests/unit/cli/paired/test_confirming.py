"""What is confirmed on the machine before it is done for a page: what touches the requests of others, and each port of the machine the first time."""

import time
from typing import Any

import msgspec
import pytest

from codezero.cli.paired import confirming, state
from codezero.cli.paired.confirming import Known
from codezero.cli.paired.state import (
    MOST_PAIRINGS,
    MOST_QUESTIONS,
    MOST_SERVED,
    QUESTION_SECONDS,
    REFUSAL_SECONDS,
    Pairing,
    Question,
    Served,
    State,
)
from codezero.model.problems import CodezeroError
from codezero.wire.paired import PageKey

SERVE = confirming.SERVE
MACHINE = "01JZ0000000000000000000001"
OTHER = "01JZ0000000000000000000002"


def serve(*condition: tuple[str, str | None, str | None], **fields: Any) -> bytes:
    parts = [{"kind": kind, "key": key, "value": value} for kind, key, value in condition]
    wanted = {"service": "shop/orders", "ports": [{"remote": 80, "local": 3000}], "condition": parts, **fields}
    return msgspec.json.encode(wanted)


def lines_of(method: str, target: str, body: bytes, known: Known | None = None) -> tuple[str, ...]:
    return confirming.need_of(method, target, body, known=known or Known()).lines


# Of a page that has served the service from that port before.
SERVED = Known(served=(Served("shop/orders", 3000, ""),))

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
def test_what_is_ones_own_is_done_from_a_port_that_was_confirmed_before(body: bytes) -> None:
    assert lines_of(*SERVE, body, SERVED) == ()


@pytest.mark.parametrize("body", OTHERS.values(), ids=OTHERS)
def test_what_touches_others_is_said_in_words_also_from_such_a_port(body: bytes) -> None:
    first, second = lines_of(*SERVE, body, SERVED)

    assert first.startswith(("answer requests to shop/orders: ", "copy requests to shop/orders: "))
    assert second.startswith("ports ")


@pytest.mark.parametrize(
    "body", [serve(), serve(OWN_HEADER), serve(USER, ports=[{"remote": 443, "local": 3000}])], ids=str
)
def test_a_port_of_the_machine_is_asked_for_the_first_time(body: bytes) -> None:
    need = confirming.need_of(*SERVE, body, known=Known())

    assert need.lines[0] == "answer requests to shop/orders from port 3000 of this machine"
    assert need.lines[1].startswith("ports 3000:")
    assert need.lines[2] == "a yes to that port is remembered until the pairing ends"
    assert need.serves == (Served("shop/orders", 3000, ""),)


def test_what_was_confirmed_is_that_service_from_that_port_and_no_other() -> None:
    other_port = serve(OWN_HEADER, ports=[{"remote": 80, "local": 5432}])
    other_service = serve(OWN_HEADER, service="shop/cart")

    assert lines_of(*SERVE, other_port, SERVED)[0] == "answer requests to shop/orders from port 5432 of this machine"
    assert lines_of(*SERVE, other_service, SERVED)[0] == "answer requests to shop/cart from port 3000 of this machine"


def test_what_was_confirmed_in_one_teamspace_is_asked_again_in_another() -> None:
    here = Known(served=(Served("shop/orders", 3000, "HERE"),), teamspace="HERE")
    there = Known(served=here.served, teamspace="THERE")

    assert lines_of(*SERVE, serve(OWN_HEADER), here) == ()
    assert lines_of(*SERVE, serve(OWN_HEADER), there)[0] == (
        "answer requests to shop/orders from port 3000 of this machine"
    )


def test_several_ports_are_one_question_for_those_that_are_new() -> None:
    ports = [{"remote": remote, "local": local} for remote, local in ((80, 5432), (81, 3000), (82, 5432), (83, 22))]
    need = confirming.need_of(*SERVE, serve(ports=ports), known=SERVED)

    assert need.lines[0] == "answer requests to shop/orders from ports 22, 5432 of this machine"
    assert need.lines[2] == "a yes to those ports is remembered until the pairing ends"
    assert need.serves == (Served("shop/orders", 22, ""), Served("shop/orders", 5432, ""))


def test_a_new_port_is_said_with_what_touches_others() -> None:
    need = confirming.need_of(*SERVE, serve(DEFAULT), known=Known())

    assert need.lines[0] == "answer requests to shop/orders from port 3000 of this machine: whoever sent them"
    assert need.serves == (Served("shop/orders", 3000, ""),)


@pytest.mark.parametrize(
    "body", [OTHERS["copies"], OTHERS["another host"], serve(preview=True)], ids=["copies", "another host", "a look"]
)
def test_what_answers_from_no_port_of_the_machine_lets_nothing_answer_later(body: bytes) -> None:
    assert confirming.need_of(*SERVE, body, known=Known()).serves == ()


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
        serve(service="orders"),
        serve(ports=[{"remote": 80, "local": 0}]),
        serve(ports=[{"remote": 80, "local": 10**30}]),
        b"\xff",
    ],
)
def test_what_cannot_be_read_is_not_passed_on(body: bytes) -> None:
    with pytest.raises(CodezeroError) as refused:
        lines_of(*SERVE, body)

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
    assert lines_of(method, target, serve(DEFAULT)) == ()


def test_to_move_is_asked_for() -> None:
    body = msgspec.json.encode({"organization": MACHINE, "space": OTHER})

    assert lines_of(*confirming.SELECT, body) == (
        "move this machine to another Teamspace",
        f"Teamspace {OTHER}, organization {MACHINE}",
    )
    with pytest.raises(CodezeroError):
        lines_of(*confirming.SELECT, b'{"organization":"../..","space":""}')


def test_a_move_is_said_by_the_names_that_are_known() -> None:
    body = msgspec.json.encode({"organization": MACHINE, "space": OTHER})
    both = {MACHINE: "acme", OTHER: "staging"}

    assert lines_of(*confirming.SELECT, body, Known(names=both)) == (
        "move this machine to Teamspace staging of acme",
        f"Teamspace {OTHER}, organization {MACHINE}",
    )
    assert lines_of(*confirming.SELECT, body, Known(names={MACHINE: "acme"}))[0] == (
        "move this machine to another Teamspace"
    )


def test_to_end_what_others_serve_is_asked_for_as_it_is_to_take_it_over() -> None:
    body = msgspec.json.encode({"service": "shop/orders", "variants": ["MINE", "THEIRS"], "reason": "because"})
    all_own = msgspec.json.encode({"service": "shop/orders", "variants": ["MINE"]})
    unnamed = msgspec.json.encode({"service": "shop/orders"})

    own = Known(own=frozenset({"MINE"}))
    assert lines_of(*confirming.END, body, own) == (
        "end what another machine or user serves of shop/orders",
        "variants THEIRS, reason: because",
    )
    assert lines_of(*confirming.END, all_own, own) == ()
    assert lines_of(*confirming.END, all_own) != ()
    assert lines_of(*confirming.END, unnamed) == ()


@pytest.mark.parametrize(
    "body",
    [
        serve(*(("query", f"key{number}" + "x" * 100, "y" * 512) for number in range(8))),
        serve(USER, ports=[{"remote": 80, "local": 22, "host": "h" * 100_000}]),
    ],
)
def test_what_is_too_much_to_be_read_is_refused_and_never_kept(body: bytes) -> None:
    with pytest.raises(CodezeroError) as refused:
        lines_of(*SERVE, body)

    assert refused.value.problem.status == 413


def asked(present: State, body: bytes = OTHERS["everybody's"], pairing: str = "page") -> tuple[State, str]:
    """The state after a page has asked, and the code of the refusal, if it was one."""
    page = present.pairing(pairing)
    need = confirming.need_of(*SERVE, body, known=Known(served=page.served if page is not None else ()))
    after, refusal = confirming.check(present, pairing, *SERVE, body, need=need)
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


def page(name: str) -> Pairing:
    key = PageKey("EC", "P-256", "x" * 43, "y" * 43)
    return Pairing(
        name, key, "Browser", "https://hub.example.org", acts=True, created_at=0, expires_at=time.time() + 60
    )


def test_what_was_done_once_confirmed_is_remembered_for_that_page_alone() -> None:
    body = serve(OWN_HEADER)
    present, first = asked(State(MACHINE, pairings=(page("page"), page("another"))), body)
    (question,) = confirming.waiting(present)
    confirmed = confirming.answered(present, question.id, is_confirmed=True)
    done, code = asked(confirmed, body)

    assert (first, code) == ("CZ-PAIR-004", "")
    assert [one.served for one in done.pairings] == [(Served("shop/orders", 3000, ""),), ()]
    need = confirming.need_of(*SERVE, serve(USER), known=Known(served=done.pairings[0].served))
    assert need == confirming.Need()
    assert confirmed.pairings == present.pairings, "what the page does not do is not remembered"


def test_what_is_refused_is_not_remembered() -> None:
    present, _ = asked(State(MACHINE, pairings=(page("page"),)), serve())
    (question,) = confirming.waiting(present)
    after, told = asked(confirming.answered(present, question.id, is_confirmed=False), serve())

    assert told == "CZ-PAIR-002"
    assert after.pairings[0].served == ()


def test_what_is_remembered_goes_with_the_pairing() -> None:
    served = page("page").with_served((Served("shop/orders", 3000, ""),))
    present = State(MACHINE, pairings=(served,))

    assert present.without(frozenset({"page"})).pairings == ()
    assert state.pair(present, page("page")).pairings[0].served == (), "nor does a page that is paired anew have it"


def test_a_page_that_is_paired_anew_has_no_yes_to_an_earlier_question() -> None:
    present = State(MACHINE, pairings=(page("page"), page("another")))
    for name in ("page", "another"):
        present, _ = asked(present, pairing=name)
    (first, _) = confirming.waiting(present)
    confirmed = confirming.answered(present, first.id, is_confirmed=True)

    anew = state.pair(confirmed, page("page"))

    assert [one.pairing for one in anew.questions] == ["another"]
    assert asked(anew)[1] == "CZ-PAIR-004"


def test_only_so_much_is_remembered_and_the_latest_of_it() -> None:
    kept = page("page")
    for port in range(1, MOST_SERVED + 2):
        kept = kept.with_served((Served("shop/orders", port, ""),))
    again = kept.with_served((Served("shop/orders", 2, ""), Served("shop/orders", 1, "")))

    assert [one.port for one in kept.served] == list(range(2, MOST_SERVED + 2))
    assert [one.port for one in again.served][-2:] == [2, 1]
    assert len(again.served) == len(set(again.served)) == MOST_SERVED


def test_only_so_many_wait_of_one_page_and_another_still_asks() -> None:
    present = State(MACHINE)
    for number in range(MOST_QUESTIONS):
        present, code = asked(present, serve(DEFAULT, expires_in=number + 1))
        assert code == "CZ-PAIR-004"

    after, code = asked(present)
    _, of_another = asked(present, pairing="another")

    assert (code, of_another) == ("CZ-HUB-008", "CZ-PAIR-004")
    assert after == present
    assert len({one.id for one in present.questions}) == MOST_QUESTIONS


def test_answers_that_a_page_has_not_come_for_keep_no_question_of_it_from_being_asked() -> None:
    """The page may be closed; nothing waits in the terminal then, so that there would be nothing to do but to wait."""
    present = State(MACHINE)
    bodies = [serve(DEFAULT, expires_in=number + 1) for number in range(MOST_QUESTIONS)]
    for number, body in enumerate(bodies):
        present, _ = asked(present, body)
        if number in (1, 2):
            present = confirming.answered(present, present.questions[-1].id, is_confirmed=number == 1)
    before = present.questions

    present, code = asked(present)

    assert code == "CZ-PAIR-004"
    assert present.questions[:-1] == (before[0], *before[2:]), "the oldest answer makes room"
    assert len(present.questions) == MOST_QUESTIONS
    assert asked(asked(present, serve(DEFAULT, expires_in=99))[0], serve(DEFAULT, expires_in=98))[1] == "CZ-HUB-008"


def test_the_most_of_everything_can_be_read_again() -> None:
    name = "n" * 63
    served = tuple(Served(f"{name}/{name}", 65535 - number, MACHINE) for number in range(MOST_SERVED))
    line = msgspec.json.decode(b'"' + b"\\u0001" * ((confirming.MOST_IN_LINE - 2) // 6) + b'"', type=str)
    question = Question("q" * 8, "p" * 43, *SERVE, "h" * 43, (line,) * 3, 1e9, 1e9, serves=served[:64])
    pages = tuple(
        msgspec.structs.replace(page("p" * 43), name="\x01" * 100, served=served) for _ in range(MOST_PAIRINGS)
    )
    full = State(MACHINE, pairings=pages, questions=(question,) * MOST_QUESTIONS * MOST_PAIRINGS)

    assert len(msgspec.json.encode(full)) < state.MAX_SIZE
