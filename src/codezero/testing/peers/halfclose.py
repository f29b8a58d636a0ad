"""Half-close: one side ends its stream and still receives what the other has to say; each way round."""

import argparse
import hashlib
import secrets
import socket
from collections import OrderedDict

from codezero.testing.peers.lines import receive_all, receive_line, send_line, serve_lines
from codezero.testing.peers.verdict import Facts, Options, connected, main, must_equal, size
from codezero.testing.waiting import eventually

REMEMBERED = 100


def serve(options: Options) -> None:
    """Do what the first line says.

    `digest`: answer with the digest of what comes until the end of the stream. `talk LENGTH ID`: send that many bytes, end the own stream, and
    keep what comes afterwards. `kept ID`: tell what was kept.
    """
    kept: OrderedDict[str, str] = OrderedDict()

    def handle(connection: socket.socket, words: list[str]) -> None:
        match words:
            case ["digest"]:
                send_line(connection, hashlib.sha256(receive_all(connection)).hexdigest())
            case ["talk", length, name]:
                connection.sendall(_text(int(length), name))
                connection.shutdown(socket.SHUT_WR)
                kept[name] = hashlib.sha256(receive_all(connection)).hexdigest()
                while len(kept) > REMEMBERED:
                    kept.popitem(last=False)
            case ["kept", name]:
                send_line(connection, kept.get(name, "nothing"))
            case _:
                raise ValueError(words)

    serve_lines(options, handle)


def check(options: Options) -> Facts:
    """The client ends first and gets its answer; the server ends first and gets the client's."""
    name = secrets.token_hex(8)
    sent = _text(options.size, name)
    with connected(options.target, options.timeout) as connection:
        send_line(connection, "digest")
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        must_equal("digest after our end", receive_line(connection), [hashlib.sha256(sent).hexdigest()])
        must_equal("the end of the server's stream", connection.recv(1), b"")
    with connected(options.target, options.timeout) as connection:
        send_line(connection, "talk", options.size, name)
        must_equal("what the server said before its end", receive_all(connection), sent)
        connection.sendall(sent[::-1])
        connection.shutdown(socket.SHUT_WR)
        # Whoever has ended its stream closes after ours: a second end, or a reset, are both fine.
        try:
            connection.recv(1)
        except ConnectionResetError:
            pass
    digest = hashlib.sha256(sent[::-1]).hexdigest()
    # Nothing tells when the server has seen our end.
    received = eventually(lambda: _kept(options, name), within=options.timeout)
    must_equal("what the server received after its end", received, digest)
    return {"bytes": options.size}


def _kept(options: Options, name: str) -> str | None:
    """What the server kept of `name`, if it has it already."""
    with connected(options.target, options.timeout) as connection:
        send_line(connection, "kept", name)
        answer = " ".join(receive_line(connection))
    return None if answer == "nothing" else answer


def _text(length: int, name: str) -> bytes:
    block = hashlib.sha512(name.encode()).digest()
    return (block * (length // len(block) + 1))[:length]


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=size, default=size("1M"))


if __name__ == "__main__":
    main("halfclose", serve=serve, check=check, client_options=_client_options)
