"""WebSocket: text, binary, fragments, pings from either side, and a proper close."""

import argparse
import asyncio
import os
from typing import TYPE_CHECKING

from codezero.testing.peers.verdict import Facts, Options, forever, main, must_equal, run, url

if TYPE_CHECKING:
    from websockets.asyncio.server import ServerConnection

MAX_MESSAGE = 4 << 20


def serve(options: Options) -> None:
    """Echo every message."""
    run(_serve(options))


async def _serve(options: Options) -> None:
    from websockets.asyncio.server import serve as listen

    async def echo(connection: "ServerConnection") -> None:
        async for message in connection:
            await connection.send(message)

    async with listen(echo, options.address, options.port, max_size=MAX_MESSAGE):
        await forever()


def check(options: Options) -> Facts:
    """Messages of every kind come back as they were, and the connection closes with 1000."""
    return run(_check(options))


async def _check(options: Options) -> Facts:
    from websockets.asyncio.client import connect

    messages: list[str | bytes] = ["", "Grüße", b"", os.urandom(70_000), "x" * options.size, os.urandom(options.size)]
    async with (
        asyncio.timeout(options.timeout),
        connect(url(options.target, "ws"), max_size=MAX_MESSAGE, proxy=None) as connection,
    ):
        for message in messages:
            await connection.send(message)
            must_equal("echo", await connection.recv(), message)
        await connection.send(["in ", "several ", "frames"])
        must_equal("echo of fragments", await connection.recv(), "in several frames")
        await (await connection.ping())
        await connection.close()
        must_equal("close code", connection.close_code, 1000)
    return {"messages": len(messages) + 1}


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, default=1 << 20, help="length of the largest messages, at most 4194304")


if __name__ == "__main__":
    main("websocket", serve=serve, check=check, client_options=_client_options)
