"""What is kept of pages: whole or not at all, by one at a time, and without what has expired."""

import multiprocessing
import time
from pathlib import Path

import msgspec
import pytest

from codezero.cli.paired import state
from codezero.cli.paired.state import MOST_PAIRINGS, Live, Offer, Pairing, Question, State
from codezero.model.problems import CodezeroError
from codezero.testing.paired_page import PairedPage

PAGE = PairedPage("https://hub.example.org", "01JZ0000000000000000000001", 4711)


def pairing(name: str, *, expires_at: float = 9e9, origin: str = PAGE.origin) -> Pairing:
    return Pairing(name, PAGE.public, name, origin, acts=True, created_at=0.0, expires_at=expires_at)


def added(name: str) -> None:
    state.change(lambda present: (msgspec.structs.replace(present, pairings=(*present.pairings, pairing(name))), None))


def test_the_first_change_makes_it_with_a_name_of_its_own() -> None:
    assert state.load() is None

    machine = state.change(lambda present: (msgspec.structs.replace(present, port=4711), present.machine))
    kept = state.load()

    assert kept == State(machine, 4711)
    assert state.path().stat().st_mode & 0o777 == 0o600


def test_changes_of_many_processes_are_all_kept() -> None:
    added("first")
    workers = [multiprocessing.get_context("fork").Process(target=added, args=(f"{number}",)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)

    kept = state.load()

    assert kept is not None
    assert {one.id for one in kept.pairings} == {"first", *map(str, range(8))}


def test_a_change_that_fails_changes_nothing() -> None:
    added("first")
    before = state.path().read_bytes()

    def fail(present: State) -> tuple[State, None]:
        raise CodezeroError(state.problems.NOT_FOUND, "no")

    with pytest.raises(CodezeroError):
        state.change(fail)

    assert state.path().read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"machine":1}',
        b'{"machine":"x","port":70000}',
        b"\xff",
        b"[" * 100_000,
        b" " * 600_000,
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_stays_as_it_is(content: bytes) -> None:
    added("first")
    state.path().write_bytes(content)

    for work in (state.load, lambda: added("second"), lambda: Live().now):
        with pytest.raises(CodezeroError) as refused:
            work()
        assert str(state.path()) in refused.value.detail
        assert refused.value.fix is not None

    assert state.path().read_bytes() == content


def test_what_has_expired_is_not_there() -> None:
    now = time.time()
    question = Question("q", "gone", "POST", "/x", "h", (), now, now + 1000)
    present = State(
        "m",
        pairings=(pairing("gone", expires_at=now - 1), pairing("here", expires_at=now + 1000)),
        offer=Offer("c", PAGE.origin, acts=True, expires_at=now + 10),
        questions=(question, msgspec.structs.replace(question, pairing="here", expires_at=now - 1)),
    )

    at_once, later = present.at(now), present.at(now + 11)

    assert [one.id for one in at_once.pairings] == ["here"]
    assert at_once.questions == ()
    assert (at_once.offer is None, later.offer is None) == (False, True)
    assert later.origins == {PAGE.origin}
    assert not present.at(now + 2000).is_needed


def test_there_are_only_so_many_and_a_page_that_is_paired_anew_is_no_further_one() -> None:
    present = State("m")
    for number in range(MOST_PAIRINGS):
        present = state.pair(present, pairing(f"{number}"))

    with pytest.raises(CodezeroError) as refused:
        state.pair(present, pairing("one more"))

    assert refused.value.problem.code == "CZ-PAIR-003"
    assert len(state.pair(present, pairing("3")).pairings) == MOST_PAIRINGS


def test_the_process_sees_each_change_at_once() -> None:
    live = Live()
    assert live.now.machine == ""

    for name in ("first", "second", "third"):
        added(name)
        assert [one.id for one in live.now.pairings][-1] == name


def test_nobody_prints_a_code(run_folder: Path) -> None:
    offer = Offer("the-secret-code", PAGE.origin, acts=True, expires_at=9e9)

    assert "the-secret-code" not in repr(offer) + repr(State("m", offer=offer))


# As releases wrote it that remembered no served ports.
OLDER = """{
  "machine":"01JZ0000000000000000000001","port":4711,"relays":true,
  "pairings":[{"id":"page","key":{"kty":"EC","crv":"P-256","x":"x","y":"y"},"name":"Browser","origin":"https://hub.example.org","acts":true,
    "created_at":1.0,"expires_at":9e9,"used_at":null}],
  "offer":null,
  "questions":[{"id":"4f7rk2qz","pairing":"page","method":"POST","target":"/agent/v1/serve","body_hash":"h","lines":["answer requests"],
    "asked_at":1.0,"expires_at":9e9,"answer":"waiting"}]
}"""


def test_a_file_of_an_older_release_is_read_and_lets_nothing_be_served_without_a_question() -> None:
    added("first")
    state.path().write_text(OLDER)

    kept = state.load()

    assert kept is not None
    assert [(one.id, one.served) for one in kept.pairings] == [("page", ())]
    assert [(one.id, one.serves) for one in kept.questions] == [("4f7rk2qz", ())]
