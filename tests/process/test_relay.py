"""The relay by which laptops of a lab come into a cluster of somebody else: what it hands on, and what it does where it cannot."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cluster.relay import Address, Entry, Relay

SIZE = 3_000_000


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


@contextlib.contextmanager
def relayed(dial: Callable[[], socket.socket]) -> Iterator[socket.socket]:
    """A connection to a relay that hands on to what `dial` makes."""
    listener = socket.create_server(("127.0.0.1", 0))
    address: Address = listener.getsockname()
    relay = Relay(listener, dial)
    try:
        with socket.create_connection(address, timeout=10) as made:
            yield made
    finally:
        relay.close()


def test_each_side_can_end_what_it_says_and_still_hear(server: socket.socket) -> None:
    def count_and_answer() -> None:
        accepted, _ = server.accept()
        with accepted:
            received = 0
            while content := accepted.recv(65536):
                received += len(content)
            accepted.sendall(str(received).encode())

    threading.Thread(target=count_and_answer, daemon=True).start()
    with relayed(lambda: socket.create_connection(server.getsockname())) as client:
        client.sendall(bytes(SIZE))
        client.shutdown(socket.SHUT_WR)
        with client.makefile("rb") as answer:
            assert answer.read() == str(SIZE).encode()


def test_where_nobody_can_be_reached_the_connection_is_reset(server: socket.socket) -> None:
    address = server.getsockname()
    server.close()
    # It may come before the connection is known to stand.
    with pytest.raises(ConnectionResetError), relayed(lambda: socket.create_connection(address)) as client:
        client.recv(1)


def test_what_the_other_side_breaks_off_is_broken_off(server: socket.socket) -> None:
    with relayed(lambda: socket.create_connection(server.getsockname())) as client:
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        accepted.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_service_is_dialled_where_it_answers(server: socket.socket) -> None:
    """A load balancer without an address yet, a node that is away: the next one will do."""
    host, port = server.getsockname()
    asked: list[str] = []

    def get(kind: str, *_: str) -> list[dict[str, Any]]:
        asked.append(kind)
        if kind == "services":
            return [{"spec": {"ports": [{"port": 8800, "nodePort": port}]}, "status": {"loadBalancer": {}}}]
        addresses = [{"type": "InternalIP", "address": host}, {"type": "ExternalIP", "address": "127.0.0.99"}]
        return [{"status": {"addresses": addresses}}]

    entry = Entry("codezero", "codezero", 8800, get=get, environment={})
    with entry.dial() as first, entry.dial() as second:
        reached = [one.getpeername() for one in (first, second)]

    assert reached == [(host, port)] * 2
    # What answered once is not looked for again.
    assert asked == ["services", "nodes"]
