"""The channel to the Supervisor: answers find their questions, parts are cut to size, and life is shown."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import msgspec
import pytest

from codezero.local.daemon import host_client
from codezero.local.daemon.host_client import SupervisorClient, SupervisorLostError
from codezero.model.problems import CodezeroError
from codezero.testing.tunnels import until
from codezero.wire.host_api import (
    MAX_PACKET,
    PART,
    Alive,
    ChangeCapture,
    DaemonReady,
    Done,
    HostMode,
    HostWarning,
    PublishNames,
    Stop,
    ToDaemon,
    ToSupervisor,
)

MODE = HostMode("nftables", "hosts", ("192.0.2.53",))


class Supervisor:
    """The other end of the channel."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.channel.setblocking(False)
        self.heard: list[ToSupervisor] = []
        self.decoder: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)

    def say(self, message: ToDaemon) -> None:
        self.channel.send(msgspec.msgpack.encode(message))

    async def hear(self) -> ToSupervisor:
        """The next message that is not a heartbeat."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(10):
            while True:
                packet = await loop.sock_recv(self.channel, MAX_PACKET)
                message = self.decoder.decode(packet)
                self.heard.append(message)
                if not isinstance(message, Alive):
                    return message


@pytest.fixture
def supervisor() -> Generator[tuple[Supervisor, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield Supervisor(ours), theirs


@asynccontextmanager
async def connected(
    supervisor: tuple[Supervisor, socket.socket],
) -> AsyncGenerator[tuple[Supervisor, SupervisorClient, list[str]]]:
    lost: list[str] = []
    supervisor[0].say(MODE)
    async with host_client.supervised(supervisor[1], lost=lambda: lost.append("lost")) as client:
        yield supervisor[0], client, lost


async def test_mode_is_known_from_the_start(supervisor: tuple[Supervisor, socket.socket]) -> None:
    async with connected(supervisor) as (_, client, _):
        assert client.mode == MODE


async def test_answers_find_their_questions(supervisor: tuple[Supervisor, socket.socket]) -> None:
    async with connected(supervisor) as (other, client, _):
        change = asyncio.ensure_future(client.change_capture(add=[("127.73.0.1", 80)]))
        asked = await other.hear()
        assert isinstance(asked, ChangeCapture)
        other.say(Done(asked.number + 7, "somebody else's problem"))
        other.say(Done(asked.number))
        await change


async def test_refusal_is_an_error_with_its_reason(supervisor: tuple[Supervisor, socket.socket]) -> None:
    async with connected(supervisor) as (other, client, _):
        ready = asyncio.ensure_future(client.ready(capture_port=1, dns_port=2))
        assert await other.hear() == DaemonReady(1, 2)
        other.say(Done(0, "no such table"))
        with pytest.raises(CodezeroError, match="no such table"):
            await ready


async def test_large_changes_travel_in_parts(supervisor: tuple[Supervisor, socket.socket]) -> None:
    """Each packet has its limit of bytes and of entries."""
    many = [(f"127.73.{number // 250}.{number % 250}", 65535) for number in range(2 * PART + 1)]
    async with connected(supervisor) as (other, client, _):
        change = asyncio.ensure_future(client.change_capture(add=many, remove=many[:1]))
        added: list[tuple[str, int]] = []
        sizes: list[int] = []
        for _ in range(4):
            asked = await other.hear()
            assert isinstance(asked, ChangeCapture)
            added += asked.add
            sizes.append(len(asked.add))
            other.say(Done(asked.number))
        await change
        assert added == many
        assert sizes == [0, PART, PART, 1]


async def test_names_are_published_whole(supervisor: tuple[Supervisor, socket.socket]) -> None:
    names = {f"service-{number}.shop.svc.cluster.local": "127.73.0.1" for number in range(PART + 5)}
    async with connected(supervisor) as (other, client, _):
        published = asyncio.ensure_future(client.publish(names))
        first, second = await other.hear(), await other.hear()
        assert isinstance(first, PublishNames)
        assert isinstance(second, PublishNames)
        assert (first.part, first.last, second.part, second.last) == (0, False, 1, True)
        assert dict((*first.entries, *second.entries)) == names
        other.say(Done(second.number))
        await published

        nothing = asyncio.ensure_future(client.publish({}))
        assert await other.hear() == PublishNames(second.number + 1, ())
        other.say(Done(second.number + 1))
        await nothing


async def test_supervisor_that_does_not_answer_is_an_error(
    supervisor: tuple[Supervisor, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(supervisor) as (_, client, _):
        monkeypatch.setattr(host_client, "ANSWER_SECONDS", 0.05)
        with pytest.raises(CodezeroError, match="did not answer"):
            await client.ready(capture_port=1, dns_port=2)


async def test_messages_before_anybody_listens_are_kept(supervisor: tuple[Supervisor, socket.socket]) -> None:
    """A warning about the machine comes right after the mode."""
    async with connected(supervisor) as (other, client, _):
        warning = HostWarning("host-setup", "no nftables")
        other.say(warning)
        told: list[HostMode | HostWarning] = []
        await until(lambda: len(client._untold) == 2)
        client.listen(told.append)
        await until(lambda: told == [MODE, warning])
        newer = HostMode("nftables", "hosts", ("192.0.2.54",))
        other.say(newer)
        await until(lambda: told[-1] == newer)
        assert client.mode == newer


async def test_rubbish_from_the_supervisor_is_no_reason_to_die(supervisor: tuple[Supervisor, socket.socket]) -> None:
    """A newer Supervisor may say things this Daemon does not know."""
    async with connected(supervisor) as (other, client, lost):
        for packet in (b"\xc1", b"\x81", msgspec.msgpack.encode({"is": "News"}), msgspec.msgpack.encode([1])):
            other.channel.send(packet)
        stopped = asyncio.ensure_future(client.stop())
        assert await other.hear() == Stop()
        await stopped
        assert not lost


async def test_end_of_the_supervisor_is_noticed(supervisor: tuple[Supervisor, socket.socket]) -> None:
    async with connected(supervisor) as (other, _, lost):
        other.channel.close()
        await until(lambda: lost)


async def test_supervisor_that_never_speaks_is_none(
    supervisor: tuple[Supervisor, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_client, "ANSWER_SECONDS", 0.05)
    with pytest.raises(SupervisorLostError):
        async with host_client.supervised(supervisor[1], lost=lambda: None):
            pass


async def test_life_is_shown(supervisor: tuple[Supervisor, socket.socket], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it the Supervisor takes the Daemon for hung and replaces it."""
    monkeypatch.setattr(host_client, "ALIVE_SECONDS", 0.01)
    async with connected(supervisor) as (other, client, _):
        hearing = asyncio.ensure_future(other.hear())
        await until(lambda: other.heard.count(Alive()) >= 3)
        await client.stop()
        await hearing
