"""The peers are the measuring instruments of the acceptance tests: they must pass what is whole, and find what is not."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from codezero.testing.sample_parts import PASSWORD, free_port, is_open
from codezero.testing.waiting import eventually

PEERS = [
    "http",
    "h2c",
    "grpc_bidi",
    "websocket",
    "greeting",
    "bulk",
    "halfclose",
    "many",
    "stall",
    "udp",
    "psql",
    "mysql",
]
SMALLER = {"many": ["--connections", "200"], "bulk": ["--size", "8M"], "stall": ["--size", "8M", "--stalled", "32M"]}
ENVIRONMENT = {"PATH": os.environ["PATH"], "SP_DATABASE_PASSWORD": PASSWORD}

Relay = Callable[[bytes], bytes]


def client(name: str, target: str, *options: str) -> tuple[int, dict[str, Any]]:
    ended = subprocess.run(
        [sys.executable, "-m", f"codezero.testing.peers.{name}", "client", target, "--timeout", "20", *options],
        env=ENVIRONMENT,
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
    )
    assert ended.stderr == ""
    return ended.returncode, json.loads(ended.stdout)


@contextmanager
def server(name: str, log: Path) -> Iterator[int]:
    port = free_port()
    arguments = [
        sys.executable,
        "-m",
        f"codezero.testing.peers.{name}",
        "server",
        "--address",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=output, stderr=output)
    try:
        if name != "udp":
            eventually(lambda: process.poll() is not None or is_open(port), within=60)
        assert process.poll() is None, log.read_text()
        yield port
    finally:
        process.terminate()
        assert process.wait(30) == 0


@contextmanager
def relay(port: int, change: Relay, *, half_close: bool = True) -> Iterator[int]:
    """A port that passes connections on to `port`, with what comes back changed."""

    def pump(source: socket.socket, sink: socket.socket, change: Relay) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(change(data))
            if half_close:
                sink.shutdown(socket.SHUT_WR)
            else:
                sink.shutdown(socket.SHUT_RDWR)
                source.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            opened.extend((near, far))
            for arguments in ((near, far, lambda data: data), (far, near, change)):
                thread = threading.Thread(target=pump, args=arguments)
                thread.start()
                threads.append(thread)

    opened: list[socket.socket] = []
    threads: list[threading.Thread] = []
    listener = socket.create_server(("127.0.0.1", 0))
    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        for connection in opened:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in threads:
            thread.join()
        for connection in opened:
            connection.close()


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_content_with_a_plain_connection(name: str, tmp_path: Path) -> None:
    """What fails without a tunnel proves nothing about the tunnel."""
    with server(name, tmp_path / "log") as port:
        code, verdict = client(name, f"127.0.0.1:{port}", *SMALLER.get(name, []))

    assert (code, verdict["ok"], verdict["peer"]) == (0, True, name), verdict


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_fails_where_nobody_listens(name: str) -> None:
    """A cut tunnel must be seen, with a verdict and not a riddle."""
    options = ["--tries", "1", "--wait", "0.2"] if name == "udp" else []

    code, verdict = client(name, f"127.0.0.1:{free_port()}", *options)

    assert (code, verdict["ok"]) == (1, False)
    assert verdict["error"]


def test_the_transparent_peer_is_content_with_the_server_itself_and_finds_a_changed_byte(tmp_path: Path) -> None:
    """A proxy that tidies one letter up is not transparent."""

    def tidied(data: bytes) -> bytes:
        return data.replace(b"X-Odd-CASE", b"x-odd-case")

    with server("transparent", tmp_path / "log") as port, relay(port, tidied) as tidying:
        direct = ("--direct", f"127.0.0.1:{port}")
        same, _ = client("transparent", f"127.0.0.1:{port}", *direct)
        code, verdict = client("transparent", f"127.0.0.1:{tidying}", *direct)

    assert (same, code) == (0, 1)
    assert verdict["error"].startswith("BrokenError: plain")


def flip_once(at: int) -> Relay:
    """Changes one bit of the byte at position `at` of what comes back."""
    position = 0

    def change(data: bytes) -> bytes:
        nonlocal position
        start, position = position, position + len(data)
        if not start <= at < position:
            return data
        changed = bytearray(data)
        changed[at - start] ^= 1
        return bytes(changed)

    return change


def test_bulk_finds_a_single_wrong_bit(tmp_path: Path) -> None:
    """Byte-exact means every bit."""
    with server("bulk", tmp_path / "log") as port, relay(port, flip_once(3_000_000)) as changed:
        code, verdict = client("bulk", f"127.0.0.1:{changed}", "--size", "4M", "--direction", "down")

    assert code == 1
    assert "differs" in verdict["error"]


def test_bulk_finds_an_early_end(tmp_path: Path) -> None:
    """A stream cut short must not pass for a short stream."""
    received = 0

    def cut(data: bytes) -> bytes:
        nonlocal received
        received += len(data)
        if received > 1_000_000:
            raise OSError
        return data

    with server("bulk", tmp_path / "log") as port, relay(port, cut) as cutting:
        code, _ = client("bulk", f"127.0.0.1:{cutting}", "--size", "4M", "--direction", "down", "--timeout", "2")

    assert code == 1


def test_halfclose_finds_a_tunnel_that_closes_both_ways(tmp_path: Path) -> None:
    """The commonest fault of proxies."""
    with server("halfclose", tmp_path / "log") as port, relay(port, lambda data: data, half_close=False) as closing:
        code, _ = client("halfclose", f"127.0.0.1:{closing}")

    assert code == 1


@pytest.mark.parametrize("name", ["http", "h2c", "grpc_bidi", "websocket", "greeting", "bulk", "halfclose", "stall"])
def test_nonsense_ends_its_own_connection_only(name: str, tmp_path: Path) -> None:
    """The servers stand in for applications that survive strangers."""
    with server(name, tmp_path / "log") as port:
        for nonsense in (b"\xff" * 5000, b"\n", b"up -1 x\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100):
            with socket.create_connection(("127.0.0.1", port), timeout=15) as stranger:
                try:
                    stranger.sendall(nonsense)
                    stranger.shutdown(socket.SHUT_WR)
                except ConnectionError:
                    pass
        code, verdict = client(name, f"127.0.0.1:{port}", *SMALLER.get(name, []))

    assert code == 0, verdict
