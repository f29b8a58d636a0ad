"""Makes a port of a place reachable at the same port of this machine's loopback: for a person's browser, which is outside of the sandbox.

A socket belongs to the network namespace it was made in. So a small program in the place dials, and passes each connection out over a pair of sockets.
"""

import argparse
import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Final

from codezero.kit.tasks import task_group
from codezero.sandbox.control import Sandbox

ADDRESS: Final = "127.0.0.1"
_CHUNK: Final = 65_536
_DIAL_SECONDS: Final = 5.0


def free_port() -> socket.socket:
    """A listening socket on a free port of this machine's loopback, for `published`."""
    return socket.create_server((ADDRESS, 0))


@contextlib.contextmanager
def published(sandbox: Sandbox, place: str, listener: socket.socket) -> Generator[None]:
    """Lead connections of `listener`, which this closes at its end, to the same port of the loopback in `place`, for as long as the block lasts."""
    port = listener.getsockname()[1]
    ours, theirs = socket.socketpair()
    command = ["python", "-I", "-m", "codezero.sandbox.publishing", "--descriptor", str(theirs.fileno()), str(port)]
    with listener, ours, theirs:
        dialler = sandbox.popen(place, command, pass_fds=(theirs.fileno(),))
        theirs.close()
        begun: Future[Callable[[], None]] = Future()
        thread = threading.Thread(target=_run, args=(listener, ours, begun), daemon=True)
        thread.start()
        end = begun.result()
        try:
            yield
        finally:
            # What dials ends with its socket.
            ours.shutdown(socket.SHUT_RDWR)
            end()
            thread.join()
            dialler.wait()


def _run(listener: socket.socket, dialler: socket.socket, begun: Future[Callable[[], None]]) -> None:
    with asyncio.Runner() as runner:
        runner.run(_lead(listener, dialler, begun))


async def _lead(listener: socket.socket, dialler: socket.socket, begun: Future[Callable[[], None]]) -> None:
    """Lead connections on until told to end by what `begun` gets."""
    dialling, ending = asyncio.Lock(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            async with dialling:
                there = await asyncio.to_thread(_dialled, dialler)
            if there is not None:
                back, forth = await asyncio.open_connection(sock=there)
                async with task_group("directions") as both:
                    both.start("forth", _pass_on(reader, forth))
                    both.start("back", _pass_on(back, writer))
        writer.close()

    async def listen() -> None:
        async with task_group("published") as connections:

            def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connections.start("connection", lead(reader, writer))

            async with await asyncio.start_server(accepted, sock=listener):
                begun.set_result(lambda: loop.call_soon_threadsafe(ending.set) and None)
                await asyncio.Event().wait()

    async with task_group("publishing") as tasks:
        tasks.start_service("listening", listen())
        await ending.wait()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # the one that is gone is noticed by the other direction, too
    finally:
        writer.close()


def _dialled(dialler: socket.socket) -> socket.socket | None:
    dialler.sendall(b".")
    said, descriptors, _, _ = socket.recv_fds(dialler, 1, 1)
    return socket.socket(fileno=descriptors[0]) if said and descriptors else None


def main() -> None:
    """Dial in this place whenever asked, until the other end goes."""
    parser = argparse.ArgumentParser(prog="codezero.sandbox.publishing", allow_abbrev=False)
    parser.add_argument("--descriptor", type=int, required=True)
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    with socket.socket(fileno=arguments.descriptor) as asked:
        while asked.recv(1):
            try:
                with socket.create_connection((ADDRESS, arguments.port), _DIAL_SECONDS) as there:
                    there.setblocking(False)
                    socket.send_fds(asked, [b"."], [there.fileno()])
            except OSError:
                asked.sendall(b"!")


if __name__ == "__main__":
    main()
