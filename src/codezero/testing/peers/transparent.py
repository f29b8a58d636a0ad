"""HTTP/1 byte by byte: whether the way to a server changes anything in what is asked or answered.

The server answers with the bytes it was asked with, in a form that proxies like to tidy up. The client asks the same twice, once over the way
that is judged and once directly, and compares every byte. Left out is what belongs to one hop and not to the message: the order of fields of
different names (RFC 9110, 5.3) and, for HTTP/1.0, the version and `Connection` (RFC 9110, 2.5 and 7.6.1), with the `Host` that a request
without one gets.
"""

import argparse
import socket
import threading
from contextlib import suppress
from typing import BinaryIO

from codezero.testing.peers.lines import PATIENCE
from codezero.testing.peers.verdict import BrokenError, Facts, Options, connected, main, must_equal

_HOST = b"Host: orders.shop\r\n"
_MANY = b"".join(b"X-Field-%d: %s\r\n" % (number, b"v" * 500) for number in range(100))
REQUESTS: dict[str, bytes] = {
    "plain": b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n",
    "case and order": b"GET /Api HTTP/1.1\r\nx-B: 2\r\nX-a: 1\r\n" + _HOST + b"USER-agent: T\r\nX-a: 3\r\n\r\n",
    "path as sent": b"GET //a/./b/../c%2fd;e?x=%20&y=+&= HTTP/1.1\r\n" + _HOST + b"\r\n",
    "http/1.0": b"GET /old HTTP/1.0\r\n" + _HOST + b"\r\n",
    "http/1.0 without host": b"GET /older HTTP/1.0\r\n\r\n",
    "http/1.0 kept alive": b"GET /old HTTP/1.0\r\n" + _HOST + b"Connection: keep-alive\r\n\r\n",
    "head": b"HEAD /h HTTP/1.1\r\n" + _HOST + b"\r\n",
    "options": b"OPTIONS /o HTTP/1.1\r\n" + _HOST + b"Origin: http://x\r\nContent-Length: 0\r\n\r\n",
    "post": b"POST /p HTTP/1.1\r\n" + _HOST + b"Content-Length: 11\r\nContent-Type: text/x\r\n\r\nhello world",
    "chunked with trailers": b"POST /c HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
    b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n",
    "forwarded": b"GET /f HTTP/1.1\r\n" + _HOST + b"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"
    b"Forwarded: for=1.2.3.4\r\nVia: 1.1 somebody\r\nX-Request-Id: mine\r\n\r\n",
    "cookies and baggage": b"GET /k HTTP/1.1\r\n"
    + _HOST
    + b"Cookie: a=1; b=2\r\nCookie: c=3\r\nbaggage: k=v;p,x=y\r\n\r\n",
    "large headers": b"GET /l HTTP/1.1\r\n" + _HOST + _MANY + b"\r\n",
    "expect": b"POST /e HTTP/1.1\r\n" + _HOST + b"Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    "another host": b"GET /n HTTP/1.1\r\nHost: Somebody.Else:8080\r\n\r\n",
    "odd method": b"PROPFIND /m HTTP/1.1\r\n" + _HOST + b"Depth: 1\r\nContent-Length: 0\r\n\r\n",
}


def serve(options: Options) -> None:
    """Answer with what came."""
    with socket.create_server((options.address, options.port), backlog=256) as server:
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_converse, args=(connection,), daemon=True).start()


def _converse(connection: socket.socket) -> None:
    with connection, suppress(OSError, ValueError):
        connection.settimeout(PATIENCE)
        reader = connection.makefile("rb")
        while asked := _request(connection, reader):
            head = [
                b"HTTP/1.1 234 Rather Fine", b"X-Odd-CASE: Kept", b"x-twice: 1", b"x-twice: 2", b"Server: of the team", b"Set-Cookie: a=1",
                b"Set-Cookie: b=2", b"Date: Mon, 02 Jan 2006 15:04:05 GMT", b"Content-Length: %d" % len(asked),
            ]  # fmt: skip
            connection.sendall(b"\r\n".join([*head, b"", b""]) + (b"" if asked.startswith(b"HEAD ") else asked))
            if b" HTTP/1.0\r\n" in asked and b"keep-alive" not in asked.lower():
                return


def _request(connection: socket.socket, reader: BinaryIO) -> bytes:
    head = _lines(reader)
    lowered = head.lower()
    if b"expect: 100-continue" in lowered:
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = b""
    if b"transfer-encoding: chunked" in lowered:
        while (line := reader.readline()) != b"0\r\n":
            body += line + reader.read(int(line, 16) + 2)
        body += b"0\r\n" + _lines(reader)
    elif b"content-length:" in lowered:
        body = reader.read(int(lowered.partition(b"content-length:")[2].partition(b"\r\n")[0]))
    return head + body


def _lines(reader: BinaryIO) -> bytes:
    """Lines up to the empty one, with it."""
    text = b""
    while line := reader.readline():
        text += line
        if line == b"\r\n":
            return text
    return b""


def check(options: Options) -> Facts:
    """Every request is answered alike, byte for byte, over both ways."""
    for name, request in REQUESTS.items():
        answers = [_ask(target, request, options.timeout) for target in (options.direct, options.target)]
        must_equal(name, answers[1], answers[0])
    # One after the other over one connection too: what is kept alive must not leak from one request into the next.
    kept = [request for name, request in REQUESTS.items() if "1.0" not in name and name not in {"head", "expect"}]
    answers = [_ask_all(target, kept, options.timeout) for target in (options.direct, options.target)]
    must_equal("kept-alive connection", answers[1], answers[0])
    return {"requests": len(REQUESTS) + len(kept)}


def _ask(target: str, request: bytes, timeout: float) -> bytes:
    with connected(target, timeout) as connection:
        connection.sendall(request)
        return _in_order(
            _answer(connection.makefile("rb"), head=request.startswith(b"HEAD ")), old=b"HTTP/1.0" in request
        )


def _ask_all(target: str, requests: list[bytes], timeout: float) -> list[bytes]:
    with connected(target, timeout) as connection:
        reader = connection.makefile("rb")
        answers: list[bytes] = []
        for request in requests:
            connection.sendall(request)
            answers.append(_in_order(_answer(reader, head=False)))
        return answers


def _in_order(answer: bytes, *, old: bool = False) -> bytes:
    """The answer, and the request within it, with their fields sorted by name; those of one name stay in their order."""
    parts: list[bytes] = []
    for part in answer.split(b"\r\n\r\n"):
        first, *fields = part.split(b"\r\n")
        if old:
            first = first.replace(b"HTTP/1.1", b"HTTP/1.0")
            hop = (b"connection:", b"host:", b"content-length:")
            fields = [field for field in fields if not field.lower().startswith(hop)]
        parts.append(b"\r\n".join([first, *sorted(fields, key=_name)]))
    return b"\r\n\r\n".join(parts)


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0].lower()


def _answer(reader: BinaryIO, *, head: bool) -> bytes:
    text = _lines(reader)
    if text.startswith(b"HTTP/1.1 100"):
        return text + _answer(reader, head=head)
    if not text:
        raise BrokenError("the connection ended without an answer")
    if head:
        return text
    return text + reader.read(int(text.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--direct", required=True, metavar="HOST:PORT", help="the server itself")


if __name__ == "__main__":
    main("transparent", serve=serve, check=check, client_options=_client_options)
