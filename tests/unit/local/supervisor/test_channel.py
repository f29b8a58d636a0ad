"""Packets between Supervisor and Daemon, also hostile ones."""

import socket
from collections.abc import Generator

import pytest

from codezero.local.supervisor.channel import daemon_channel, supervisor_channel
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.host_api import MAX_PACKET, PART, Alive, ChangeCapture, Done, HostMode, PublishNames


@pytest.fixture
def ends() -> Generator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours, theirs
    ours.close()
    theirs.close()


async def test_messages_arrive_whole_and_in_order(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = supervisor_channel(ends[0]), daemon_channel(ends[1])
    change = ChangeCapture(4, add=(("127.72.1.1", 80),))
    theirs.send(change)
    theirs.send(Alive())
    ours.send(HostMode("nftables", "hosts"))
    ours.send(Done(4, "no"))
    assert [await ours.receive(), await ours.receive()] == [change, Alive()]
    assert [await theirs.receive(), await theirs.receive()] == [HostMode("nftables", "hosts"), Done(4, "no")]
    theirs.close()
    assert await ours.receive() is None


async def test_a_full_part_fits_one_packet(ends: tuple[socket.socket, socket.socket]) -> None:
    """The contract: any message of at most PART entries can be sent."""
    ours, theirs = supervisor_channel(ends[0]), daemon_channel(ends[1])
    theirs.send(ChangeCapture(2**31, add=tuple((f"127.75.{n // 250}.{n % 250}", 65535) for n in range(PART))))
    assert isinstance(await ours.receive(), ChangeCapture)
    longest = ".".join(["a" * 62] * 4) + "a"
    names = PublishNames(2**31, tuple((longest, "127.75.255.255") for _ in range(PART)), part=2**15)
    theirs.send(names)
    assert await ours.receive() == names


@pytest.mark.parametrize(
    "packet",
    [
        b"\xc1",
        b"\x00",
        b"\x81\xa2is\xa4Boom",
        b"\x81\xa2is\xa5Alive" * 2,
        b"\x82\xa2is\xabDaemonReady\xaccapture_port\x00",
        b"\xff" * 1000,
        b"x" * (MAX_PACKET + 1),
    ],
    ids=["reserved", "number", "unknown message", "trailing bytes", "port 0", "noise", "too large"],
)
async def test_a_packet_that_is_no_message_is_a_protocol_error(
    ends: tuple[socket.socket, socket.socket], packet: bytes
) -> None:
    """The Supervisor reads what a hostile Daemon sends, as root (T37)."""
    ours = supervisor_channel(ends[0])
    ends[1].send(packet)
    with pytest.raises(CodezeroError) as caught:
        await ours.receive()
    assert caught.value.problem is problems.PROTOCOL


async def test_a_daemon_that_does_not_read_never_blocks_the_supervisor(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours = supervisor_channel(ends[0])
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(HostMode("nftables", "hosts", tuple("10.0.0.1" for _ in range(1000))))
