"""Many connections at once: all are opened, held, and only then used."""

import argparse
import asyncio
import resource
import secrets

from codezero.kit.tasks import task_group
from codezero.testing.peers.verdict import Facts, Options, endpoint, main, must_equal, run

OPENING = 100
"""How many connections are being opened at a time; all stay open."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def serve(options: Options) -> None:
    """Echo whatever comes."""
    _allow_many_files()
    run(_serve(options))


async def _serve(options: Options) -> None:
    server = await asyncio.start_server(_echo, options.address, options.port, backlog=2048)
    async with server:
        await server.serve_forever()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # The client went away.
    finally:
        writer.close()


def check(options: Options) -> Facts:
    """Every connection opens, and each echoes its own message while all are open."""
    _allow_many_files()
    return run(_check(options))


async def _check(options: Options) -> Facts:
    host, port = endpoint(options.target)
    opening = asyncio.Semaphore(OPENING)
    opened: list[Connection] = []

    async def open_one() -> None:
        async with opening, asyncio.timeout(options.timeout):
            opened.append(await asyncio.open_connection(host, port))

    async def talk(connection: Connection) -> None:
        reader, writer = connection
        for _ in range(options.rounds):
            message = secrets.token_bytes(options.size)
            writer.write(message)
            async with asyncio.timeout(options.timeout):
                must_equal("echo", await reader.readexactly(len(message)), message)

    try:
        async with task_group("opening") as tasks:
            for number in range(options.connections):
                tasks.start(str(number), open_one())
        async with task_group("talking") as tasks:
            for number, connection in enumerate(opened):
                tasks.start(str(number), talk(connection))
    finally:
        for _, writer in opened:
            writer.close()
    return {"connections": len(opened), "rounds": options.rounds}


def _allow_many_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--size", type=int, default=1000)


if __name__ == "__main__":
    main("many", serve=serve, check=check, client_options=_client_options)
