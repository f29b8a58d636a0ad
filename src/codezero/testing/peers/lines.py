"""A threaded TCP server for peers whose client says in a first line what it wants."""

import contextlib
import socket
import threading
from collections.abc import Callable

from codezero.testing.peers.verdict import Options

MAX_LINE = 200
PATIENCE = 300.0

Handler = Callable[[socket.socket, list[str]], None]


def serve_lines(options: Options, handle: Handler) -> None:
    """Call `handle` in a thread of its own for each connection, with the words of its first line; closes the connection afterwards."""
    with socket.create_server((options.address, options.port), backlog=1024) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_conversation, args=(connection, handle), daemon=True).start()


def send_line(connection: socket.socket, *words: object) -> None:
    """Send `words` as one line."""
    connection.sendall((" ".join(str(word) for word in words) + "\n").encode())


def receive_line(connection: socket.socket) -> list[str]:
    """The words of the next line, and not a byte more than it; none when the connection ends instead."""
    line = bytearray()
    while not line.endswith(b"\n") and len(line) < MAX_LINE:
        byte = connection.recv(1)
        if not byte:
            return []
        line += byte
    return line.decode(errors="replace").split()


def receive_all(connection: socket.socket) -> bytes:
    """Everything up to the end of the peer's stream."""
    data = bytearray()
    while chunk := connection.recv(65536):
        data += chunk
    return bytes(data)


def _conversation(connection: socket.socket, handle: Handler) -> None:
    # A peer that goes away or talks nonsense ends its own conversation only.
    with connection, contextlib.suppress(OSError, ValueError, IndexError):
        connection.settimeout(PATIENCE)
        handle(connection, receive_line(connection))
