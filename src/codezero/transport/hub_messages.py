"""Whole messages with the Hub, in msgpack, over a WebSocket that is opened to it."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.messages import decoded

Out = TypeVar("Out")
In = TypeVar("In")

_ENCODER: Final = msgspec.msgpack.Encoder()


class Connect(connect):
    """As the library's, without following redirects: who answers for the Hub is not for a proxy on the way to say."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """What came instead of a WebSocket, unchanged."""
        return exc


class HubMessages(Generic[Out, In]):
    """Sends messages of type `Out` and receives those of type `In`; closing the socket stays with its owner.

    One task receives; any number may send. `ConnectionClosed` is raised where the connection has ended; `failures` makes a `CodezeroError` of it.
    """

    def __init__(
        self, socket: ClientConnection, decoder: msgspec.msgpack.Decoder[In], *, silent_seconds: float
    ) -> None:
        """A Hub that for `silent_seconds` takes nothing, or says nothing, is given up."""
        self._socket = socket
        self._decoder = decoder
        self._silent_seconds = silent_seconds

    async def send(self, message: Out) -> None:
        """Send one message, and wait until the connection can take more. Raises `CodezeroError` (HUB_UNREACHABLE) where it takes nothing."""
        try:
            async with asyncio.timeout(self._silent_seconds):
                await self._socket.send(_ENCODER.encode(message))
        except TimeoutError:
            raise CodezeroError(problems.HUB_UNREACHABLE, "the Hub takes nothing any longer") from None

    async def receive(self, *, within: float | None = None) -> In:
        """The next message, within as many seconds where not those of any other. Raises `CodezeroError` (HUB_UNREACHABLE, PROTOCOL)."""
        seconds = self._silent_seconds if within is None else within
        try:
            async with asyncio.timeout(seconds):
                content = await self._socket.recv()
        except TimeoutError:
            raise CodezeroError(problems.HUB_UNREACHABLE, f"the Hub has been silent for {seconds:g} s") from None
        if isinstance(content, str):
            raise CodezeroError(problems.PROTOCOL, "text came from the Hub instead of a message")
        return decoded(content, self._decoder)


@contextmanager
def failures() -> Generator[None]:
    """Raises what ended the connection in the block as one `CodezeroError`: what failed beside it, failed because of that."""
    try:
        yield
    except ConnectionClosed as error:
        raise _ended(error) from None
    except BaseExceptionGroup as errors:
        raise _first(errors) from None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    for error in errors.exceptions:
        if isinstance(error, CodezeroError):
            return error
    if all(isinstance(error, ConnectionClosed) for error in errors.exceptions):
        return _ended(errors.exceptions[0])
    return errors


def _ended(error: BaseException) -> CodezeroError:
    return CodezeroError(problems.HUB_UNREACHABLE, f"the connection ended: {error}")
