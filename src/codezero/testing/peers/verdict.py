"""What all peers share: the command line, the one line of JSON, and sockets that give up instead of hanging."""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

Facts = dict[str, Any]
Options = argparse.Namespace

T = TypeVar("T")


class BrokenError(Exception):
    """The peer answered, and not with what it had to."""


def main(
    name: str,
    *,
    serve: Callable[[Options], None],
    check: Callable[[Options], Facts],
    client_options: Callable[[argparse.ArgumentParser], None] | None = None,
) -> None:
    """Run peer `name` as its arguments say: the server until it is ended, or the client to its verdict."""
    parser = argparse.ArgumentParser(prog=f"python -m codezero.testing.peers.{name}")
    roles = parser.add_subparsers(dest="role", required=True)
    server = roles.add_parser("server", help="serve until SIGTERM")
    server.add_argument("--address", default="0.0.0.0")
    server.add_argument("--port", type=int, required=True)
    client = roles.add_parser("client", help="talk to the server and say whether everything held")
    client.add_argument("target", help="URL or host:port")
    client.add_argument(
        "--timeout", type=float, default=60.0, help="seconds without progress after which the client gives up"
    )
    if client_options is not None:
        client_options(client)
    options = parser.parse_args()
    if options.role == "server":
        # Process 1 of a pod does not die of a signal it does not handle.
        signal.signal(signal.SIGTERM, lambda _number, _frame: os._exit(0))
        serve(options)
    else:
        sys.exit(_report(name, check, options))


def _report(name: str, check: Callable[[Options], Facts], options: Options) -> int:
    started = time.monotonic()
    try:
        facts = check(options)
        ok = True
    except Exception as failure:  # noqa: BLE001 - every failure is the verdict
        facts = {"error": f"{type(failure).__name__}: {failure}"}
        ok = False
    seconds = round(time.monotonic() - started, 3)
    print(json.dumps({"peer": name, "ok": ok, "target": options.target, "seconds": seconds, **facts}), flush=True)
    return 0 if ok else 1


def must_equal(what: str, received: object, expected: object) -> None:
    """Raise `BrokenError` unless `received` is `expected`; long values are cut in the message."""
    if received != expected:
        raise BrokenError(f"{what}: got {repr(received)[:200]} instead of {repr(expected)[:200]}")


def endpoint(target: str) -> tuple[str, int]:
    """Host and port of a URL or of `host:port`."""
    parts = urlsplit(target if "://" in target else f"//{target}")
    if parts.hostname is None or parts.port is None:
        raise ValueError(f"{target} names no host and port")
    return parts.hostname, parts.port


def url(target: str, scheme: str) -> str:
    """`target` as a URL."""
    return target if "://" in target else f"{scheme}://{target}"


def where() -> str:
    """The name of the pod or machine this runs on."""
    return os.environ.get("HOSTNAME") or socket.gethostname()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end."""
    return asyncio.run(work)


async def forever() -> None:
    """Wait until the process is ended."""
    await asyncio.Event().wait()


def connected(target: str, timeout: float) -> socket.socket:
    """A TCP connection whose operations give up after `timeout` seconds; the caller closes it."""
    return socket.create_connection(endpoint(target), timeout=timeout)


def size(text: str) -> int:
    """A number of bytes: 1000, 64K, 10M, 2G (powers of 1024)."""
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:].upper(), 1)
    return int(text if factor == 1 else text[:-1]) * factor
