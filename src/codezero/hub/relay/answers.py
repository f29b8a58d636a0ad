"""One answer of a machine on its way to a page: as it comes, and never more than one piece of it in memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.paired import Head, More, Piece, Stop

# To serve may take a machine two minutes, and its user some seconds more.
HEAD_SECONDS: Final = 150.0

Say = Callable[[More | Stop], Awaitable[None]]


class Answer:
    """What a machine answers to the question `number`. `say` carries words to the machine, and raises EOFError where it is gone.

    One side tells (`tell`, `fail`) what comes from the machine; the other one takes `head`, then `pieces`, and says in the end that it leaves.
    """

    def __init__(self, number: int, say: Say) -> None:
        self.number = number
        self._say = say
        self._head: Head | None = None
        self._piece: Piece | None = None
        # How many pieces the machine may send.
        self._wanted = 0
        self._is_told = False
        self._failed: CodezeroError | None = None
        self._news = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self._is_told or self._failed is not None

    def tell(self, message: Head | Piece) -> None:
        """The machine has said that. Raises `CodezeroError` (PROTOCOL) where it was not its turn to."""
        if self.is_over:
            raise CodezeroError(problems.PROTOCOL, "an answer goes on after its end")
        match message:
            case Head():
                if self._head is not None:
                    raise CodezeroError(problems.PROTOCOL, "an answer begins twice")
                self._head = message
                self._wanted = 1
            case Piece():
                if not self._wanted:
                    raise CodezeroError(problems.PROTOCOL, "a piece of an answer came that nobody wanted yet")
                self._wanted -= 1
                self._piece = message
                self._is_told = message.is_last
        self._news.set()

    def fail(self, error: CodezeroError) -> None:
        """The rest does not come, because of `error`; what is here whole is given all the same."""
        if not self.is_over:
            self._failed = error
            self._news.set()

    async def head(self) -> Head:
        """How the answer begins. Raises `CodezeroError`: what it failed with, or TIMED_OUT."""
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                await self._until(lambda: self._head is not None)
        except TimeoutError:
            raise CodezeroError(
                problems.TIMED_OUT,
                "the machine did not answer in time",
                fix="see on the machine what it does: czctl status",
            ) from None
        assert self._head is not None
        return self._head

    async def pieces(self) -> AsyncIterator[bytes]:
        """The content, each piece asked for when the one before it was taken. Raises `CodezeroError` where it breaks off: then it is not whole."""
        while True:
            piece = await self.piece()
            if piece.content:
                yield piece.content
            if piece.is_last:
                return
            await self.more()

    async def piece(self) -> Piece:
        """The next piece of the content, which `more` asked for; the first one comes by itself. Raises `CodezeroError`."""
        await self._until(lambda: self._piece is not None)
        piece, self._piece = self._piece, None
        assert piece is not None
        return piece

    async def more(self) -> None:
        """Ask for the next piece."""
        self._wanted += 1
        await self._said(More(self.number))

    async def leave(self) -> None:
        """Take nothing more of it; the machine is told where it has not ended."""
        if not self.is_over:
            self.fail(away())
            await self._said(Stop(self.number))

    async def _until(self, is_there: Callable[[], bool]) -> None:
        while self._failed is None and not is_there():
            self._news.clear()
            await self._news.wait()
        if self._failed is not None:
            raise self._failed

    async def _said(self, word: More | Stop) -> None:
        try:
            await self._say(word)
        except EOFError:
            self.fail(away())


def broken() -> CodezeroError:
    """What is said of an answer that the machine itself could not bring to its end."""
    return CodezeroError(problems.PROTOCOL, "the machine broke off its answer", fix="see on the machine: czctl status")


def away() -> CodezeroError:
    """What is said of a machine that is not connected: the same of one that there is none of, and of somebody else's."""
    return CodezeroError(
        problems.MACHINE_AWAY,
        "no machine of yours with that id is connected to the Hub",
        fix="on the machine, see `czctl pairing list`, and pair it with `czctl pair` where it is not",
    )
