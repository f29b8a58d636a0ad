"""Whether the Supervisor tells a Daemon that lives from one that hangs."""

import asyncio
import socket
import time
from collections.abc import Iterator

import msgspec
import pytest

from codezero.kit.tasks import task_group
from codezero.local.supervisor.channel import Channel, supervisor_channel
from codezero.local.supervisor.daemon_process import conversation
from codezero.wire.host_api import Alive, ToSupervisor

CHECK_SECONDS = 0.02


@pytest.fixture
def ends() -> Iterator[tuple[Channel[ToSupervisor], socket.socket]]:
    """The Supervisor's channel and the Daemon's socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = supervisor_channel(ours)
    with theirs:
        yield channel, theirs
    channel.close()


async def _ignore(_message: ToSupervisor) -> None:
    pass


async def test_no_sign_of_life_is_lost_when_it_comes_together_with_the_check(
    ends: tuple[Channel[ToSupervisor], socket.socket],
) -> None:
    """Both happen each second, so on a busy machine they can meet in one turn of the loop again and again: a healthy Daemon was killed then."""
    channel, theirs = ends
    alive = msgspec.msgpack.encode(Alive())
    heard = 0

    async def hear(_message: ToSupervisor) -> None:
        nonlocal heard
        heard += 1

    async with task_group("test") as tasks:
        talk = tasks.start("conversation", conversation(channel, hear, check_seconds=CHECK_SECONDS))
        for number in range(1, 41):
            theirs.send(alive)
            # The loop finds message and check due at the same moment.
            time.sleep(CHECK_SECONDS * 1.5)
            for _ in range(5):
                await asyncio.sleep(0)
            assert (talk.done(), heard) == (False, number)
        theirs.shutdown(socket.SHUT_RDWR)
        assert await talk == "closed its channel"


async def test_a_daemon_that_says_nothing_is_silent(ends: tuple[Channel[ToSupervisor], socket.socket]) -> None:
    """It is replaced then (R43): at its start it may take longer than later."""
    channel, theirs = ends
    assert await conversation(channel, _ignore, check_seconds=0.001) == "silent for 30 seconds"
    theirs.send(msgspec.msgpack.encode(Alive()))
    assert await conversation(channel, _ignore, check_seconds=0.001) == "silent for 10 seconds"


async def test_a_daemon_that_talks_nonsense_breaks_the_protocol(
    ends: tuple[Channel[ToSupervisor], socket.socket],
) -> None:
    """Its requests change the machine: what is not understood is not guessed."""
    channel, theirs = ends
    theirs.send(b"nonsense")
    assert (await conversation(channel, _ignore)).startswith("broke the protocol: ")
