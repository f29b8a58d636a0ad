"""The way to the Hub: its API by the same paths, with the credentials of czctl, which the page never sees.

czctl's client of the Hub blocks, so each request has a thread, and there are only so many. Who asks, and which Hub, is looked up anew for each: the
user may sign in, or out, in a terminal meanwhile.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Final

from codezero.cli.hub_client import HubClient, connect
from codezero.cli.loopback.asking import JSON, Asked, LeftError
from codezero.cli.loopback.threads import Threads
from codezero.kit.tasks import task_group
from codezero.transport.hub_http import Answer, HubEndpoint

PREFIX: Final = "/api/v1/"
DEADLINE_SECONDS: Final = 30.0
_LINES: Final = "application/x-ndjson"
# Of the page's headers and of the Hub's: all others are of one connection, or nobody's business beyond it.
_PASSED_ON: Final = ("if-match", "idempotency-key")
_PASSED_BACK: Final = ("content-type", "etag", "retry-after", "x-request-id")


class HubPassage:
    """Passes requests on to the Hub that czctl is signed in to."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._endpoint: HubEndpoint | None = None

    async def pass_on(self, asked: Asked) -> None:
        """Answer with what the Hub answers; raises `CodezeroError` where there is no answer of a Hub, or nobody is signed in."""
        if asked.method == "GET" and asked.headers.get("accept") == _LINES:
            await self._pass_lines(asked)
            return
        headers = {name: asked.headers[name] for name in _PASSED_ON if name in asked.headers}
        answer = await self._threads.run(lambda: self._answer(asked, headers))
        await asked.answer(answer.status, answer.content, _told(answer))

    async def endpoint(self) -> HubEndpoint:
        """The Hub that is asked now. Raises `CodezeroError` (NO_HUB)."""
        return (await self._threads.run(self.client)).endpoint

    def client(self) -> HubClient:
        """A client as whoever is signed in now; blocking. Raises `CodezeroError` (NO_HUB)."""
        client = connect()
        known = self._endpoint
        if known is not None and (known.url, known.ca) == (client.endpoint.url, client.endpoint.ca):
            # It has read the authorities of this machine, which takes longer than to ask.
            client.endpoint = known
        self._endpoint = client.endpoint
        return client

    def _answer(self, asked: Asked, headers: Mapping[str, str]) -> Answer:
        client = self.client()
        answer = client.answer(
            asked.method, asked.target, asked.body or None, headers=headers, deadline=DEADLINE_SECONDS
        )
        if not answer.is_json:
            # Nothing, else no Hub: a network's sign-in page must not be a page of ours.
            client.endpoint.checked(answer)
        return answer

    async def _pass_lines(self, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Answer | bytes | Exception | None] = asyncio.Queue(1)
        is_over = threading.Event()

        def give(piece: Answer | bytes | Exception | None) -> None:
            if is_over.is_set():
                raise LeftError
            # Waits until the page has taken what came before.
            asyncio.run_coroutine_threadsafe(pieces.put(piece), loop).result()

        def read() -> None:
            with contextlib.suppress(LeftError):
                try:
                    self._read_lines(asked.target, give)
                except LeftError:
                    raise
                except Exception as error:  # noqa: BLE001 - raised again by who takes the pieces
                    give(error)

        async with asked.present(), task_group("lines") as tasks:
            tasks.start("read", self._threads.run(read))
            try:
                await _take_lines(asked, pieces)
            finally:
                is_over.set()
                while not pieces.empty():
                    pieces.get_nowait()

    def _read_lines(self, target: str, give: Callable[[Answer | bytes | None], None]) -> None:
        client = self.client()
        with client.opened(target, _LINES) as (answer, pieces):
            if answer.status >= 300:
                client.endpoint.checked(answer)
            give(answer)
            for piece in pieces:
                give(piece)
            give(None)


async def _take_lines(asked: Asked, pieces: "asyncio.Queue[Answer | bytes | Exception | None]") -> None:
    while (piece := await pieces.get()) is not None:
        match piece:
            case Answer():
                await asked.begin(piece.status, _told(piece))
            case bytes():
                await asked.more(piece)
            case Exception():
                raise piece
    await asked.more(b"", is_last=True)


def _told(answer: Answer) -> Mapping[str, str]:
    told = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    if not answer.content and answer.status != 200:
        told.pop("content-type", None)
    else:
        told.setdefault("content-type", JSON)
    return told
