"""The way down to a System: orders in a bounded queue, what the Hub says, and whether traces are wanted. A System that does not read gets no more orders.

Nobody waits for a System: what does not fit is refused at once, and whoever asked is told.
"""

import asyncio
from collections import deque
from typing import Any, Final

from codezero.orchestrator.fanout import PING_SECONDS
from codezero.transport import messages
from codezero.transport.messages import MessageStream
from codezero.wire.coordination import EndVariants, FromHub, Ping, PutVariant, SessionEnded, TraceWanted

MAX_WAITING: Final = 1000
# A System that takes no message for so long is as good as gone.
SEND_SECONDS: Final = 10.0


class SystemLink:
    """What goes to one System. `number` tells it from all others, also earlier ones."""

    def __init__(self, number: int, *, traced: bool = False) -> None:
        self.number = number
        self._waiting: deque[PutVariant | EndVariants | SessionEnded] = deque()
        # Of each kind the newest word counts, so what was not sent yet is replaced.
        self._news: dict[type[FromHub], FromHub] = {}
        self._traced = traced
        self._told_traced = False
        self._wake = asyncio.Event()

    def pass_on(self, word: FromHub) -> None:
        """Send a word of the Hub soon; it goes ahead of orders."""
        if isinstance(word, SessionEnded):
            self.tell(word)
            return
        self._news[type(word)] = word
        self._wake.set()

    def tell(self, order: PutVariant | EndVariants | SessionEnded) -> bool:
        """Send an order soon; False when the System lags so far behind that it is not sent at all."""
        if len(self._waiting) >= MAX_WAITING:
            return False
        self._waiting.append(order)
        self._wake.set()
        return True

    def want_traces(self, on: bool) -> None:
        """Let the System report requests, or not any longer. However often that changes, only the last word is sent."""
        self._traced = on
        self._wake.set()

    def due(self) -> bytes | None:
        """The next message to send, which counts as sent; None where there is none."""
        if self._traced != self._told_traced:
            self._told_traced = self._traced
            return messages.frame(TraceWanted(self._traced))
        for kind in self._news:
            return messages.frame(self._news.pop(kind))
        return messages.frame(self._waiting.popleft()) if self._waiting else None

    async def feed(self, stream: MessageStream[Any, Any]) -> None:
        """Send what is due, and pings in between, until the connection ends; raises `EOFError` or `CodezeroError` when it does."""
        ping = messages.frame(Ping())
        while True:
            self._wake.clear()
            while (frame := self.due()) is not None:
                await stream.send_frames((frame,), within=SEND_SECONDS)
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                await stream.send_frames((ping,), within=PING_SECONDS)
