"""Much data, byte-exact: up, down, or both at once over one connection."""

import argparse
import secrets
import socket
import threading

from codezero.testing.peers import numbered
from codezero.testing.peers.lines import receive_line, send_line, serve_lines
from codezero.testing.peers.verdict import BrokenError, Facts, Options, connected, main, must_equal, size


def serve(options: Options) -> None:
    """Send and check streams as the first line says: `up|down|both LENGTH SEED`."""
    serve_lines(options, _handle)


def _handle(connection: socket.socket, words: list[str]) -> None:
    direction, length, seed = words[0], int(words[1]), int(words[2])
    sending = threading.Thread(target=_send, args=(connection, length, seed), daemon=True)
    if direction in {"down", "both"}:
        sending.start()
    result = "exact"
    if direction in {"up", "both"}:
        try:
            numbered.receive(connection, length=length, seed=seed)
        except BrokenError as broken:
            result = str(broken)
    if direction in {"down", "both"}:
        sending.join()
    send_line(connection, result)


def _send(connection: socket.socket, length: int, seed: int) -> None:
    try:
        # Another stream than the client's, so that an echo does not pass for an answer.
        numbered.send(connection, length=length, seed=seed + 1)
    except OSError:
        connection.close()


def check(options: Options) -> Facts:
    """All bytes arrive, in order, in the directions asked for."""
    seed = secrets.randbelow(1 << 32)
    failures: list[Exception] = []
    with connected(options.target, options.timeout) as connection:
        send_line(connection, options.direction, options.size, seed)

        def upload() -> None:
            try:
                numbered.send(connection, length=options.size, seed=seed)
            except OSError as failure:
                failures.append(failure)

        uploading = threading.Thread(target=upload, daemon=True)
        if options.direction in {"up", "both"}:
            uploading.start()
        if options.direction in {"down", "both"}:
            numbered.receive(connection, length=options.size, seed=seed + 1)
        if options.direction in {"up", "both"}:
            uploading.join()
        if failures:
            raise failures[0]
        must_equal("what the server saw", " ".join(receive_line(connection)), "exact")
    return {"direction": options.direction, "bytes": options.size}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=size, default=size("64M"), help="bytes each way, as 64M or 2G")
    parser.add_argument("--direction", choices=["up", "down", "both"], default="both")


if __name__ == "__main__":
    main("bulk", serve=serve, check=check, client_options=_client_options)
