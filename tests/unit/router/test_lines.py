"""Lines of Envoy's access log reach the follower whole, and never hold Envoy up."""

import asyncio
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.router.lines import LineForwarder, LinePipe


@pytest.fixture
def follower() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(prefix="czr-") as folder:
        receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiving.settimeout(5)
        receiving.bind(f"{folder}/access.sock")
        with receiving:
            yield receiving


@pytest.fixture
def forwarder(follower: socket.socket) -> Iterator[LineForwarder]:
    forwarder = LineForwarder(Path(follower.getsockname()))
    yield forwarder
    forwarder.close()


def test_only_whole_lines_are_passed_on(follower: socket.socket, forwarder: LineForwarder) -> None:
    forwarder.take(b'{"a": 1}\n{"b"')
    assert follower.recv(65536) == b'{"a": 1}'

    forwarder.take(b": 2}\n")
    assert follower.recv(65536) == b'{"b": 2}'


def test_half_a_line_of_a_dead_envoy_is_forgotten(follower: socket.socket, forwarder: LineForwarder) -> None:
    forwarder.take(b"half")
    forwarder.forget_half()
    forwarder.take(b"whole\n")

    assert follower.recv(65536) == b"whole"


def test_what_nobody_takes_is_dropped_and_told_later(follower: socket.socket, forwarder: LineForwarder) -> None:
    """Envoy must never wait for a follower that is slow, or is not there."""
    path = Path(follower.getsockname())
    away = path.with_name("away")
    path.rename(away)
    forwarder.take(b"1\n2\n")
    assert forwarder.dropped == 2

    away.rename(path)
    forwarder.take(b"3\n")

    assert follower.recv(65536) == b"#dropped 2\n3"

    forwarder.take(b"4\n")

    assert follower.recv(65536) == b"4"


def test_a_full_queue_holds_nobody_up(follower: socket.socket, forwarder: LineForwarder) -> None:
    for _ in range(10_000):
        forwarder.take(b"x" * 10_000 + b"\n")

    assert forwarder.dropped > 0


def test_many_lines_share_datagrams_and_one_that_is_too_long_is_dropped(
    follower: socket.socket, forwarder: LineForwarder
) -> None:
    forwarder.take(b"a" * 10_000 + b"\n" + b"b" * 10_000 + b"\n" + b"c" * 20_000 + b"\nd\n")

    first, second = follower.recv(65536), follower.recv(65536)

    assert first.split(b"\n") == [b"#dropped 1", b"a" * 10_000]
    assert second.split(b"\n") == [b"b" * 10_000, b"d"]


def test_a_line_without_an_end_is_not_kept_for_ever(forwarder: LineForwarder, follower: socket.socket) -> None:
    for _ in range(100):
        forwarder.take(b"x" * 10_000)
    forwarder.take(b"\nnext\n")

    assert follower.recv(65536).endswith(b"next")


async def test_a_pipe_outlives_who_writes_to_it(follower: socket.socket, forwarder: LineForwarder) -> None:
    """What a killed Envoy wrote last is passed on, its half line is not, and its successor uses the same pipe."""
    pipe = LinePipe(forwarder)
    try:
        os.write(pipe.entrance, b"last\nhalf")
        pipe.begin_anew()
        os.write(pipe.entrance, b"first\n")

        assert await asyncio.to_thread(follower.recv, 65536) == b"last"
        assert await asyncio.to_thread(follower.recv, 65536) == b"first"
    finally:
        pipe.close()
