"""HTTP/2 without TLS by prior knowledge: many streams over one connection, with flow control."""

import argparse
import asyncio
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from codezero.kit.tasks import task_group
from codezero.testing.peers.verdict import Facts, Options, main, must_equal, run, url, where

if TYPE_CHECKING:
    from h2.connection import H2Connection


def serve(options: Options) -> None:
    """Answer every request with its method, path and the digest of its body, then the body's length in a trailer."""
    run(_serve(options))


async def _serve(options: Options) -> None:
    server = await asyncio.start_server(_connection, options.address, options.port)
    async with server:
        await server.serve_forever()


async def _connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.exceptions import ProtocolError

    connection = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    answers = _Answers(connection)
    try:
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                answers.handle(event)
            writer.write(connection.data_to_send())
            await writer.drain()
    except (ProtocolError, OSError):
        pass  # A broken client harms its own connection only.
    finally:
        writer.close()


class _Answers:
    """The requests of one connection on their way in."""

    def __init__(self, connection: "H2Connection") -> None:
        self._connection = connection
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, tuple[Any, int]] = {}

    def handle(self, event: object) -> None:
        from h2 import events

        match event:
            case events.RequestReceived(stream_id=int(stream), headers=headers):
                self._headers[stream] = {str(name): str(value) for name, value in headers}
                self._bodies[stream] = (hashlib.sha256(), 0)
            case events.DataReceived(stream_id=int(stream), data=bytes(data), flow_controlled_length=int(length)):
                digest, count = self._bodies[stream]
                digest.update(data)
                self._bodies[stream] = (digest, count + len(data))
                self._connection.acknowledge_received_data(length, stream)
            case events.StreamEnded(stream_id=int(stream)):
                self._answer(stream)
            case events.StreamReset(stream_id=int(stream)):
                self._headers.pop(stream, None)
                self._bodies.pop(stream, None)
            case _:
                pass

    def _answer(self, stream: int) -> None:
        headers = self._headers.pop(stream)
        digest, count = self._bodies.pop(stream)
        body = {"where": where(), "method": headers[":method"], "path": headers[":path"], "sha256": digest.hexdigest()}
        self._connection.send_headers(stream, [(":status", "200"), ("content-type", "application/json")])
        self._connection.send_data(stream, json.dumps(body).encode())
        self._connection.send_headers(stream, [("x-bytes", str(count))], end_stream=True)


def check(options: Options) -> Facts:
    """Requests in parallel over one connection; every body arrives whole."""
    return run(_check(options))


async def _check(options: Options) -> Facts:
    import httpx2

    limits = httpx2.Limits(max_connections=1)
    async with httpx2.AsyncClient(
        http1=False, http2=True, limits=limits, timeout=options.timeout, trust_env=False
    ) as client:

        async def ask(number: int) -> str:
            body = os.urandom(number * 50_000)
            response = await client.post(f"{url(options.target, 'http').rstrip('/')}/{number}", content=body)
            answer = response.json()
            must_equal("version", response.http_version, "HTTP/2")
            must_equal("status", response.status_code, 200)
            must_equal("path", answer["path"], f"/{number}")
            must_equal("digest of the body", answer["sha256"], hashlib.sha256(body).hexdigest())
            return str(answer["where"])

        async with task_group("h2c") as tasks:
            asked = [tasks.start(str(number), ask(number)) for number in range(options.streams)]
    return {"streams": options.streams, "where": asked[0].result()}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--streams", type=int, default=8)


if __name__ == "__main__":
    main("h2c", serve=serve, check=check, client_options=_client_options)
