"""HTTP/1.1: the server tells what reached it; the client makes several requests over one connection."""

import argparse
import hashlib
import json
import os
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from codezero.testing.peers.verdict import Facts, Options, endpoint, main, must_equal, url, where

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


def serve(options: Options) -> None:
    """Answer every request with its method, path, headers, the digest of its body, and who asked."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def echo(request: "Request") -> "Response":
        digest, length = hashlib.sha256(), 0
        async for chunk in request.stream():
            digest.update(chunk)
            length += len(chunk)
        return JSONResponse(
            {
                "where": where(),
                "method": request.method,
                "path": request.url.path,
                "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw],
                "bytes": length,
                "sha256": digest.hexdigest(),
                "connection": request.client and list(request.client),
            }
        )

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    app = Starlette(routes=[Route("/{path:path}", echo, methods=methods)])
    uvicorn.run(
        app, host=options.address, port=options.port, log_level="warning", access_log=False, server_header=False
    )


def check(options: Options) -> Facts:
    """GET and POST over one connection; bodies arrive whole, headers as sent, and the connection is kept."""
    target = url(options.target, "http")
    path = urlsplit(target).path or "/"
    headers = dict(line.split(":", 1) for line in options.header)
    connection = HTTPConnection(*endpoint(target), timeout=options.timeout)
    answer: dict[str, Any] = {}
    connections: set[str] = set()
    for number in range(options.requests):
        body = os.urandom(number * 10_000) if number else None
        method = "POST" if body is not None else "GET"
        connection.request(method, path, body=body, headers={"x-request": str(number), **headers})
        response = connection.getresponse()
        must_equal("status", response.status, 200)
        answer = json.loads(response.read())
        received = dict(answer["headers"])
        must_equal("method", answer["method"], method)
        must_equal("path", answer["path"], path)
        must_equal("header x-request", received.get("x-request"), str(number))
        must_equal("digest of the body", answer["sha256"], hashlib.sha256(body or b"").hexdigest())
        connections.add(str(answer["connection"]))
    connection.close()
    must_equal("connections used", len(connections), 1)
    return {"requests": options.requests, "where": answer["where"], "headers": answer["headers"]}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=5)
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")


if __name__ == "__main__":
    main("http", serve=serve, check=check, client_options=_client_options)
