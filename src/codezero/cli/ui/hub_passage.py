"""The way to the Hub: its API by the same paths, with the credentials of czctl, which the page never sees.

czctl's client of the Hub blocks, so each request has a thread, of which there are only so many. Who asks, and which Hub, is looked up anew for each: the
user may sign in, or out, in a terminal meanwhile.
"""

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from codezero.cli.hub_client import HubClient, connect
from codezero.cli.ui.asking import JSON, Asked, LeftError
from codezero.transport.hub_http import Answer, HubEndpoint

T = TypeVar("T")

PREFIX: Final = "/api/v1/"
DEADLINE_SECONDS: Final = 30.0
_THREADS: Final = 16
_LINES: Final = "application/x-ndjson"
# Of the page's headers and of the Hub's: all others are of one connection, or nobody's business beyond it.
_PASSED_ON: Final = ("if-match", "idempotency-key")
_PASSED_BACK: Final = ("content-type", "etag", "retry-after", "x-request-id")


class HubPassage:
    """Passes requests on to the Hub that czctl is signed in to."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hub")
        self._endpoint: HubEndpoint | None = None

    def close(self) -> None:
        """Begin nothing any more; what is under way ends by its deadline."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def pass_on(self, asked: Asked) -> None:
        """Answer with what the Hub answers; raises `CodezeroError` where there is no answer of a Hub, or nobody is signed in."""
        if asked.method == "GET" and asked.headers.get("accept") == _LINES:
            await self._pass_lines(asked)
            return
        headers = {name: asked.headers[name] for name in _PASSED_ON if name in asked.headers}
        answer = await self.in_thread(lambda: self._answer(asked, headers))
        await asked.answer(answer.status, answer.content, _told(answer))

    async def in_thread(self, work: Callable[[], T]) -> T:
        """What blocking `work` gives."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

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
        pieces: asyncio.Queue[Answer | bytes | None] = asyncio.Queue(1)
        is_over = threading.Event()
        loop = asyncio.get_running_loop()

        def give(piece: Answer | bytes | None) -> None:
            if is_over.is_set():
                raise LeftError
            # Waits until the page has taken what came before.
            asyncio.run_coroutine_threadsafe(pieces.put(piece), loop).result()

        def read() -> None:
            client = self.client()
            with client.opened(asked.target, _LINES) as (answer, content):
                if answer.status >= 300:
                    client.endpoint.checked(answer)
                give(answer)
                for piece in content:
                    give(piece)
                give(None)

        async def take() -> None:
            answer = await pieces.get()
            assert isinstance(answer, Answer)
            await asked.begin(answer.status, _told(answer))
            while (piece := await pieces.get()) is not None:
                assert isinstance(piece, bytes)
                await asked.more(piece)
            await asked.more(b"", is_last=True)

        async with asked.present():
            reading = loop.run_in_executor(self._threads, read)
            taking = asyncio.ensure_future(take())
            try:
                await asyncio.wait((reading, taking), return_when=asyncio.FIRST_COMPLETED)
                if reading.done():
                    reading.result()
                await taking
            finally:
                is_over.set()
                taking.cancel()
                while not pieces.empty():
                    pieces.get_nowait()


def _told(answer: Answer) -> Mapping[str, str]:
    told = {name: answer.headers[name] for name in _PASSED_BACK if name in answer.headers}
    if not answer.content and answer.status != 200:
        told.pop("content-type", None)
    else:
        told.setdefault("content-type", JSON)
    return told
