"""Whole messages over a byte stream: an unsigned 32-bit big-endian length, then msgpack.

Both ends keep the limits: a length above the limit ends the connection before a byte of the message is kept.
"""

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.coordination import MAX_MESSAGE

Out = TypeVar("Out")
In = TypeVar("In")

_PREFIX = 4
_encoder = msgspec.msgpack.Encoder()


def frame(message: object, *, limit: int = MAX_MESSAGE) -> bytes:
    """The bytes of one message, ready for `MessageStream.send_frames`; raises `CodezeroError` (TOO_LARGE) above `limit` bytes of msgpack."""
    buffer = bytearray(_PREFIX)
    _encoder.encode_into(message, buffer, _PREFIX)
    length = len(buffer) - _PREFIX
    if length > limit:
        raise CodezeroError(
            problems.TOO_LARGE, f"a {type(message).__name__} of {length} bytes; at most {limit} are sent"
        )
    buffer[:_PREFIX] = length.to_bytes(_PREFIX, "big")
    return bytes(buffer)


def decoded(content: bytes, decoder: msgspec.msgpack.Decoder[In], *, limit: int | None = None) -> In:
    """The message that a peer has sent; raises `CodezeroError` (PROTOCOL) for what is none, and for one above `limit` bytes."""
    if limit is not None and len(content) > limit:
        raise CodezeroError(problems.PROTOCOL, f"a message of {len(content)} bytes; at most {limit} are allowed")
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, ValueError, RecursionError, OverflowError) as error:
        raise CodezeroError(problems.PROTOCOL, f"a message cannot be read: {error}") from None


class MessageStream(Generic[Out, In]):
    """Sends messages of type `Out` and receives those of type `In`; owns the connection.

    `limit` bounds one message in bytes, in both directions, and may be changed between messages (small before the peer has proved itself).
    One task receives; any number may send. Deadlines (`within`) are seconds; after a missed one the connection should be closed.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: msgspec.msgpack.Decoder[In],
        *,
        limit: int = MAX_MESSAGE,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = decoder
        # Kept over a missed deadline, so that the next `receive` goes on where the last one stopped.
        self._awaited: int | None = None
        self.limit = limit

    @property
    def reader(self) -> asyncio.StreamReader:
        """The bytes after the messages received so far, for one who goes on with another protocol."""
        return self._reader

    @property
    def writer(self) -> asyncio.StreamWriter:
        """Where the messages go."""
        return self._writer

    @property
    def waiting(self) -> int:
        """Bytes sent that the connection has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    async def send(self, message: Out, *, within: float | None = None) -> None:
        """Send one message and wait until the connection can take more.

        Raises `CodezeroError` (TOO_LARGE, TIMED_OUT) and `EOFError` when the connection is lost.
        """
        await self.send_frames((frame(message, limit=self.limit),), within=within)

    async def send_frames(self, frames: Iterable[bytes], *, within: float | None = None) -> None:
        """Send messages made by `frame`, which several receivers may share; otherwise as `send`."""
        try:
            async with asyncio.timeout(within):
                self._refuse_closed()
                self._writer.writelines(frames)
                await self._writer.drain()
        except TimeoutError:
            raise CodezeroError(problems.TIMED_OUT, f"the peer took no message for {within:g} s") from None
        except OSError as error:
            raise EOFError(f"the connection is lost: {error}") from None

    def send_nowait(self, message: Out) -> None:
        """Send one message without waiting; raises `CodezeroError` (TOO_LARGE) when more than `limit` bytes wait already, `EOFError` when closed."""
        if self.waiting > self.limit:
            raise CodezeroError(problems.TOO_LARGE, f"the peer does not read: {self.waiting} bytes wait")
        self._refuse_closed()
        self._writer.write(frame(message, limit=self.limit))

    async def receive(self, *, within: float | None = None) -> In:
        """The next message. Raises `CodezeroError` (PROTOCOL, TIMED_OUT), and `EOFError` when the peer ended or the connection is lost."""
        try:
            async with asyncio.timeout(within):
                if self._awaited is None:
                    length = int.from_bytes(await self._reader.readexactly(_PREFIX), "big")
                    if not 0 < length <= self.limit:
                        raise CodezeroError(
                            problems.PROTOCOL, f"a message of {length} bytes; at most {self.limit} are allowed"
                        )
                    self._awaited = length
                body = await self._reader.readexactly(self._awaited)
                self._awaited = None
        except asyncio.IncompleteReadError as error:
            within_message = bool(error.partial) or self._awaited is not None
            raise EOFError("the peer ended within a message" if within_message else "the peer ended") from None
        except TimeoutError:
            raise CodezeroError(problems.TIMED_OUT, f"no message came within {within:g} s") from None
        except OSError as error:
            raise EOFError(f"the connection is lost: {error}") from None
        return decoded(body, self._decoder)

    def _refuse_closed(self) -> None:
        if self._writer.is_closing():
            raise EOFError("the connection is closed")

    def close(self) -> None:
        """Close the connection after the bytes sent so far; safe to call again."""
        self._writer.close()

    def abort(self) -> None:
        """Drop the connection and what waits."""
        self._writer.transport.abort()
