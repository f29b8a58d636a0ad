"""A reader that stops: while one connection is not read from, on either end, others carry on; what waited arrives whole afterwards."""

import argparse
import secrets
import socket
import threading

from codezero.testing.peers import numbered
from codezero.testing.peers.lines import PATIENCE, receive_line, send_line, serve_lines
from codezero.testing.peers.verdict import BrokenError, Facts, Options, connected, main, must_equal, size

SMALL_BUFFER = 64 << 10


def serve(options: Options) -> None:
    """Do what the first line says.

    `down LENGTH SEED`: send that stream. `up LENGTH SEED ID`: read that stream, only after another connection said `release ID`, and say
    whether it was exact.
    """
    released: dict[str, threading.Event] = {}
    lock = threading.Lock()

    def event(name: str) -> threading.Event:
        with lock:
            return released.setdefault(name, threading.Event())

    def handle(connection: socket.socket, words: list[str]) -> None:
        match words:
            case ["down", length, seed]:
                numbered.send(connection, length=int(length), seed=int(seed))
            case ["up", length, seed, name]:
                send_line(connection, "waiting")
                event(name).wait(PATIENCE)
                with lock:
                    released.pop(name, None)
                try:
                    numbered.receive(connection, length=int(length), seed=int(seed))
                    send_line(connection, "exact")
                except BrokenError as broken:
                    send_line(connection, broken)
            case ["release", name]:
                event(name).set()
            case _:
                raise ValueError(words)

    serve_lines(options, handle)


def check(options: Options) -> Facts:
    """With one download not read here and one upload not read there, a third transfer completes; then the two complete as well."""
    seed, name = secrets.randbelow(1 << 32), secrets.token_hex(8)
    failures: list[OSError] = []
    with connected(options.target, options.timeout) as unread, connected(options.target, options.timeout) as waiting:
        unread.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        send_line(unread, "down", options.stalled, seed)
        send_line(waiting, "up", options.stalled, seed, name)
        must_equal("the waiting server", receive_line(waiting), ["waiting"])
        waiting.settimeout(PATIENCE)

        def upload() -> None:
            try:
                numbered.send(waiting, length=options.stalled, seed=seed)
            except OSError as failure:
                failures.append(failure)

        uploading = threading.Thread(target=upload, daemon=True)
        uploading.start()
        with connected(options.target, options.timeout) as other:
            send_line(other, "down", options.size, seed + 1)
            numbered.receive(other, length=options.size, seed=seed + 1)
        if not uploading.is_alive():
            raise BrokenError(
                "the stalled upload went through at once, so nothing was held back: make --stalled larger"
            )
        numbered.receive(unread, length=options.stalled, seed=seed)
        with connected(options.target, options.timeout) as release:
            send_line(release, "release", name)
        uploading.join()
        if failures:
            raise failures[0]
        must_equal("the stalled upload", receive_line(waiting), ["exact"])
    return {"stalled": options.stalled, "bytes": options.size}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stalled", type=size, default=size("64M"), help="bytes of each stalled transfer")
    parser.add_argument("--size", type=size, default=size("64M"), help="bytes of the transfer beside them")


if __name__ == "__main__":
    main("stall", serve=serve, check=check, client_options=_client_options)
