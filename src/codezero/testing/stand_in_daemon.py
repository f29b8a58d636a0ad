"""A program in place of the Daemon, for tests of the Supervisor: it wishes what it is told to, and does the worst on request.

It consumes `orders.shop` (127.72.1.1, ports 80 and 3000). Over the API socket it takes one line, a command, and answers one line of JSON:
`status`, `exit N`, `kill`, `hang`, `stop`, `garbage`, `wish JSON` (a message of `wire.host_api`; the answer is what the Supervisor said),
`try-to-write PATH`.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import msgspec

from codezero.local.host.capture import original_destination
from codezero.local.supervisor.channel import Channel, daemon_channel
from codezero.testing.name_server import answer
from codezero.wire.host_api import (
    DNS_ADDRESS,
    Alive,
    ChangeCapture,
    DaemonReady,
    Done,
    HostMode,
    HostWarning,
    PublishNames,
    Stop,
    ToDaemon,
    ToSupervisor,
)

ADDRESS = "127.72.1.1"
NAMES = {"orders.shop": ADDRESS, "orders.shop.svc.cluster.local": ADDRESS}


class StandIn:
    """The program's state."""

    def __init__(self, channel: Channel[ToDaemon], end: socket.socket) -> None:
        self.channel = channel
        self.end = end
        self.mode = HostMode(capture="listeners", names="none")
        self.modes = 0
        self.done: dict[int, str | None] = {}
        self.warnings: dict[str, str] = {}
        self.hangs = False
        self.changed = asyncio.Condition()

    async def listen(self) -> None:
        """Take what the Supervisor says; without it, end."""
        while (message := await self.channel.receive()) is not None:
            match message:
                case HostMode():
                    self.mode = message
                    self.modes += 1
                case Done():
                    self.done[message.number] = message.problem
                case HostWarning():
                    self.warnings[message.code] = message.text
            async with self.changed:
                self.changed.notify_all()
        os._exit(3)

    async def beat(self) -> None:
        """Show that we live."""
        while True:
            if not self.hangs:
                self.channel.send(Alive())
            await asyncio.sleep(0.3)

    async def until_done(self, number: int) -> str | None:
        """Wait for the answer of that number; gives its problem."""
        async with self.changed:
            await self.changed.wait_for(lambda: number in self.done)
        return self.done[number]

    async def wish(self) -> None:
        """Say what we consume, once the mode is known."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.modes > 0)
        capture, dns = listeners(self.mode)
        asyncio.get_running_loop().add_reader(capture, say_destination, capture)
        asyncio.get_running_loop().add_reader(dns, answer_name, dns, self)
        self.channel.send(DaemonReady(capture.getsockname()[1], dns.getsockname()[1]))
        self.channel.send(ChangeCapture(1, add=((ADDRESS, 80), (ADDRESS, 3000)), reset=True))
        if self.mode.names == "hosts":
            self.channel.send(PublishNames(2, tuple(NAMES.items())))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one command."""
        line = (await reader.readline()).decode().strip()
        writer.write(json.dumps(await self.obey(*line.partition(" ")[::2])).encode() + b"\n")
        await writer.drain()
        writer.close()

    async def obey(self, command: str, argument: str) -> dict[str, Any]:
        """Do the command; gives the answer."""
        match command:
            case "exit":
                print("this build fails", file=sys.stderr, flush=True)
                os._exit(int(argument))
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                self.hangs = True
            case "stop":
                self.channel.send(Stop())
            case "garbage":
                self.end.send(b"\xc1garbage")
            case "wish":
                message = msgspec.json.decode(argument, type=ToSupervisor)
                self.channel.send(message)
                number = getattr(message, "number", 0)
                self.done.pop(number, None)
                return {"problem": await self.until_done(number)}
            case "try-to-write":
                return {"problem": problem_of_writing(Path(argument))}
            case _:
                return self.status()
        return {}

    def status(self) -> dict[str, Any]:
        """What a test may want to know of this process."""
        process_status = Path("/proc/self/status").read_text(encoding="ascii")
        return {
            "pid": os.getpid(),
            "mode": msgspec.to_builtins(self.mode),
            "modes": self.modes,
            "done": self.done,
            "warnings": self.warnings,
            "capabilities": {
                name: value.strip()
                for name, _, value in (line.partition(":") for line in process_status.splitlines())
                if name.startswith("Cap") or name == "NoNewPrivs"
            },
            "environment": dict(os.environ),
            "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        }


def listeners(mode: HostMode) -> tuple[socket.socket, socket.socket]:
    """The sockets for captured connections and for DNS, as the mode wants them."""
    capture, dns = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    if mode.capture == "nftables":
        bind_below_1024(capture)
        bind_below_1024(dns)
    else:
        capture.bind((ADDRESS, 3000))
        dns.bind((DNS_ADDRESS, 53))
    capture.listen()
    capture.setblocking(False)
    dns.setblocking(False)
    return capture, dns


def bind_below_1024(server: socket.socket) -> None:
    """Bind a free privileged port of 127.0.0.1: nobody but root can take it while we are away."""
    for port in range(700, 1024):
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return


def say_destination(listener: socket.socket) -> None:
    """Tell a captured connection where it wanted to go."""
    connection, _ = listener.accept()
    with connection:
        connection.sendall("{} {}\n".format(*original_destination(connection)).encode())


def answer_name(server: socket.socket, stand_in: StandIn) -> None:
    """Answer our names and forward the others."""
    query, client = server.recvfrom(4096)
    if any(name.split(".")[0].encode() in query for name in NAMES) or not stand_in.mode.upstreams:
        server.sendto(answer(query, NAMES), client)
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forward:
        forward.settimeout(2)
        try:
            forward.sendto(query, (stand_in.mode.upstreams[0], 53))
            server.sendto(forward.recv(4096), client)
        except OSError:
            return


def problem_of_writing(path: Path) -> str | None:
    """Why this process cannot write to that file, or None."""
    try:
        with path.open("ab"):
            return None
    except OSError as error:
        return error.strerror


async def run(options: argparse.Namespace) -> None:
    """Be the Daemon."""
    end = socket.socket(fileno=options.supervisor_fd)
    stand_in = StandIn(daemon_channel(end), end)
    server = await asyncio.start_unix_server(stand_in.serve, sock=socket.socket(fileno=options.socket_fd))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: os._exit(0))
    await asyncio.gather(stand_in.listen(), stand_in.beat(), stand_in.wish(), server.serve_forever())


def main() -> None:
    """Parse the Daemon's arguments and run."""
    parser = argparse.ArgumentParser()
    for name in ("--supervisor-fd", "--socket-fd", "--owner"):
        parser.add_argument(name, type=int)
    for name in ("--run-folder", "--state-folder", "--log-level"):
        parser.add_argument(name)
    options = parser.parse_args()
    if Path(options.state_folder, "fail").exists():
        sys.exit("this build fails")
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
