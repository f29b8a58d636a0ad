"""One answer of a machine on its way: at most one piece is here, each is wanted, and what is cut never looks whole."""

import asyncio

import pytest

from codezero.hub.relay.answers import Answer, away
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.paired import Head, More, Piece, Stop


class Said:
    """What the machine was told; it is gone after so many words."""

    def __init__(self, *, most: int = 100) -> None:
        self.words: list[More | Stop] = []
        self._most = most

    async def __call__(self, word: More | Stop) -> None:
        if len(self.words) >= self._most:
            raise EOFError("gone")
        self.words.append(word)


async def content(answer: Answer) -> list[bytes]:
    return [part async for part in answer.pieces()]


async def test_pieces_are_given_as_they_come_and_asked_for_when_taken() -> None:
    said = Said()
    answer = Answer(7, said)
    answer.tell(Head(7, 201, "application/json"))
    taking = asyncio.ensure_future(content(answer))
    for number in range(3):
        answer.tell(Piece(7, b"%d" % number, is_last=number == 2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    assert (await answer.head()).status == 201
    assert await taking == [b"0", b"1", b"2"]
    assert said.words == [More(7), More(7)]
    await answer.leave()
    assert len(said.words) == 2, "what has ended is not stopped"


@pytest.mark.parametrize(
    "words",
    [
        [Piece(1, b"a")],
        [Head(1, 200), Head(1, 200)],
        [Head(1, 200), Piece(1, b"a"), Piece(1, b"b")],
        [Head(1, 200), Piece(1, b"a", is_last=True), Piece(1, b"b")],
        [Head(1, 200), Piece(1, b"a", is_last=True), Head(1, 200)],
    ],
)
async def test_the_machine_says_what_its_turn_is(words: list[Head | Piece]) -> None:
    answer = Answer(1, Said())
    for word in words[:-1]:
        answer.tell(word)
    with pytest.raises(CodezeroError) as refused:
        answer.tell(words[-1])

    assert refused.value.problem is problems.PROTOCOL


async def test_what_is_cut_is_told_and_what_came_before_is_not_given_for_whole() -> None:
    answer = Answer(1, Said())
    answer.tell(Head(1, 200))
    answer.tell(Piece(1, b"half"))
    answer.fail(away())
    with pytest.raises(CodezeroError) as cut:
        await content(answer)

    assert cut.value.problem is problems.MACHINE_AWAY


async def test_what_is_here_whole_is_given_though_the_machine_has_gone() -> None:
    answer = Answer(1, Said())
    answer.tell(Head(1, 200))
    answer.tell(Piece(1, b"whole", is_last=True))
    answer.fail(away())

    assert await content(answer) == [b"whole"]


async def test_who_leaves_stops_it_once() -> None:
    said = Said()
    answer = Answer(1, said)
    answer.tell(Head(1, 200))
    await answer.leave()
    await answer.leave()

    assert said.words == [Stop(1)]
    assert answer.is_over


async def test_a_machine_that_does_not_take_a_word_is_away() -> None:
    answer = Answer(1, Said(most=0))
    answer.tell(Head(1, 200))
    answer.tell(Piece(1, b"half"))
    with pytest.raises(CodezeroError) as cut:
        await content(answer)

    assert cut.value.problem is problems.MACHINE_AWAY
