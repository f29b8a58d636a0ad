"""How Envoy is started, started again, and listened to. The running of it is in the process tests."""

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.router import envoy_process, settings
from codezero.router.envoy_process import LineForwarder, Restarts


def test_envoy_is_started_again_at_once_until_it_keeps_dying() -> None:
    restarts = Restarts()

    pauses = [restarts.died(float(second)) for second in range(9)]

    assert pauses[:4] == [0, 0, 0, 0]
    assert pauses[4] > 0
    assert pauses == sorted(pauses)
    assert max(pauses) == 1


def test_deaths_of_long_ago_are_forgiven() -> None:
    restarts = Restarts()
    for second in range(8):
        restarts.died(float(second))

    assert restarts.died(30.0) == 0


def test_each_envoy_is_its_own() -> None:
    """A killed one leaves no shared memory, and many run on one machine."""
    command = envoy_process.command(settings.envoy({"CODEZERO_ENVOY": "/opt/envoy", "CODEZERO_ENVOY_THREADS": "4"}))

    assert command[0] == "/opt/envoy"
    assert "--disable-hot-restart" in command
    assert command[command.index("--concurrency") + 1] == "4"


def test_the_program_itself_is_started_not_a_script_before_it() -> None:
    assert envoy_process.program().read_bytes()[:4] == b"\x7fELF"


@pytest.fixture
def sidecar() -> Iterator[socket.socket]:
    with tempfile.TemporaryDirectory(prefix="czr-") as folder:
        receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiving.settimeout(5)
        receiving.bind(f"{folder}/access.sock")
        with receiving:
            yield receiving


@pytest.fixture
def forwarder(sidecar: socket.socket) -> Iterator[LineForwarder]:
    forwarder = LineForwarder(Path(sidecar.getsockname()))
    yield forwarder
    forwarder.close()


def test_only_whole_lines_are_passed_on(sidecar: socket.socket, forwarder: LineForwarder) -> None:
    forwarder.take(b'{"a": 1}\n{"b"')
    assert sidecar.recv(65536) == b'{"a": 1}'

    forwarder.take(b": 2}\n")
    assert sidecar.recv(65536) == b'{"b": 2}'


def test_half_a_line_of_a_dead_envoy_is_forgotten(sidecar: socket.socket, forwarder: LineForwarder) -> None:
    forwarder.take(b"half")
    forwarder.forget_half()
    forwarder.take(b"whole\n")

    assert sidecar.recv(65536) == b"whole"


def test_what_nobody_takes_is_dropped_and_told_later(sidecar: socket.socket, forwarder: LineForwarder) -> None:
    """Envoy must never wait for a sidecar that is slow, or is not there."""
    path = Path(sidecar.getsockname())
    away = path.with_name("away")
    path.rename(away)
    forwarder.take(b"1\n2\n")
    assert forwarder.dropped == 2

    away.rename(path)
    forwarder.take(b"3\n")

    assert sidecar.recv(65536) == b"#dropped 2\n3"
    assert forwarder.dropped == 0


def test_a_full_queue_holds_nobody_up(sidecar: socket.socket, forwarder: LineForwarder) -> None:
    for _ in range(10_000):
        forwarder.take(b"x" * 10_000 + b"\n")

    assert forwarder.dropped > 0


def test_many_lines_share_datagrams_and_one_that_is_too_long_is_dropped(
    sidecar: socket.socket, forwarder: LineForwarder
) -> None:
    forwarder.take(b"a" * 10_000 + b"\n" + b"b" * 10_000 + b"\n" + b"c" * 20_000 + b"\nd\n")

    first, second = sidecar.recv(65536), sidecar.recv(65536)

    assert first.split(b"\n") == [b"#dropped 1", b"a" * 10_000]
    assert second.split(b"\n") == [b"b" * 10_000, b"d"]


def test_a_line_without_an_end_is_not_kept_for_ever(forwarder: LineForwarder, sidecar: socket.socket) -> None:
    for _ in range(100):
        forwarder.take(b"x" * 10_000)
    forwarder.take(b"\nnext\n")

    assert sidecar.recv(65536).endswith(b"next")
