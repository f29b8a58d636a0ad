"""Messages with the Hub: what is none is refused, and each end of a connection has a reason."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport import hub_messages
from codezero.transport.hub_messages import Connect, HubMessages
from codezero.wire.paired import Alive, FromMachine, Piece, ToMachine

Messages = HubMessages[FromMachine, ToMachine]

DECODER: msgspec.msgpack.Decoder[ToMachine] = msgspec.msgpack.Decoder(ToMachine)
# As much as no test waits for.
LONG = 60.0


@asynccontextmanager
async def connected(
    hub: Callable[[ServerConnection], Awaitable[None]], *, silent_seconds: float = LONG
) -> AsyncGenerator[Messages]:
    """Messages with one that does as `hub`, which ends with the block."""
    over = asyncio.Event()

    async def answer(socket: ServerConnection) -> None:
        await hub(socket)
        await over.wait()

    async with serve(answer, "127.0.0.1", 0, max_size=None, max_queue=1, close_timeout=0.1) as server:
        port = server.sockets[0].getsockname()[1]
        async with Connect(f"ws://127.0.0.1:{port}", proxy=None, compression=None, close_timeout=0.1) as socket:
            try:
                yield HubMessages(socket, DECODER, silent_seconds=silent_seconds)
            finally:
                over.set()


async def echo(socket: ServerConnection) -> None:
    await socket.send(await socket.recv())


async def nothing(_: ServerConnection) -> None:
    return


def saying(content: str | bytes) -> Callable[[ServerConnection], Awaitable[None]]:
    async def say(socket: ServerConnection) -> None:
        await socket.send(content)

    return say


async def test_messages_go_both_ways() -> None:
    async with connected(echo) as messages:
        await messages.send(Alive())
        assert await messages.receive() == Alive()


@pytest.mark.parametrize(
    "content",
    ["text", b"", b"\xc1", b"\x91" * 5000, msgspec.msgpack.encode(Piece(1, b"", True)), b"\x81\xa4type"],
    ids=["text", "nothing", "no msgpack", "a deep one", "one of the other side", "half of one"],
)
async def test_what_is_no_message_is_refused(content: str | bytes) -> None:
    async with connected(saying(content)) as messages:
        with pytest.raises(CodezeroError) as refused:
            await messages.receive()
    assert refused.value.problem is problems.PROTOCOL


async def test_a_hub_that_says_nothing_is_given_up() -> None:
    async with connected(nothing, silent_seconds=0.01) as messages:
        with pytest.raises(CodezeroError, match=r"silent for 0\.01 s") as silent:
            await messages.receive()
    assert silent.value.problem is problems.HUB_UNREACHABLE


async def test_one_message_can_have_a_limit_of_its_own() -> None:
    async with connected(nothing) as messages:
        with pytest.raises(CodezeroError, match=r"silent for 0\.02 s"):
            await messages.receive(within=0.02)


async def test_a_hub_that_takes_nothing_is_given_up() -> None:
    big = Piece(1, bytes(256 * 1024), False)
    async with asyncio.timeout(LONG), connected(nothing, silent_seconds=0.1) as messages:
        with pytest.raises(CodezeroError, match="takes nothing") as stuck:
            while True:
                await messages.send(big)
    assert stuck.value.problem is problems.HUB_UNREACHABLE


async def test_an_end_is_told_as_one() -> None:
    async def leaves(socket: ServerConnection) -> None:
        await socket.close()

    async with connected(leaves) as messages:
        with pytest.raises(ConnectionClosed):
            await messages.receive()
        with pytest.raises(CodezeroError, match="the connection ended") as ended, hub_messages.failures():
            await messages.receive()
    assert ended.value.problem is problems.HUB_UNREACHABLE


async def test_of_several_failures_the_reason_is_told_and_not_what_came_of_it() -> None:
    sent_away = CodezeroError(problems.RELAY_OFF, "go away")

    async def fails(error: Exception) -> None:
        raise error

    with pytest.raises(CodezeroError) as told, hub_messages.failures():
        async with task_group("test") as tasks:
            tasks.start("beside", fails(ConnectionClosed(None, None)))
            tasks.start("receiving", fails(sent_away))
    assert told.value is sent_away

    with pytest.raises(CodezeroError, match="the connection ended"), hub_messages.failures():
        async with task_group("test") as tasks:
            tasks.start("one", fails(ConnectionClosed(None, None)))
            tasks.start("two", fails(ConnectionClosed(None, None)))


async def test_a_defect_stays_one() -> None:
    async def fails(error: Exception) -> None:
        raise error

    with pytest.raises(ExceptionGroup) as defects, hub_messages.failures():
        async with task_group("test") as tasks:
            tasks.start("one", fails(ConnectionClosed(None, None)))
            tasks.start("two", fails(KeyError("a defect")))
    assert len(defects.value.exceptions) == 2


async def test_nobody_is_followed_elsewhere() -> None:
    def redirect(connection: ServerConnection, _: object) -> object:
        response = connection.respond(307, "")
        response.headers["Location"] = "ws://127.0.0.1:1/"
        return response

    async with serve(nothing, "127.0.0.1", 0, process_request=redirect) as server:  # pyright: ignore[reportArgumentType]
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(InvalidStatus) as refused:
            await Connect(f"ws://127.0.0.1:{port}", proxy=None)
    assert refused.value.response.status_code == 307
