"""The tunnel alone: its two ends as processes of their own, with nothing of Daemon, System or Router around them.

    python -m bench.ends certificates FOLDER
    python -m bench.ends cluster 127.0.0.1:8800 FOLDER [--open LISTEN=TARGET ...]
    python -m bench.ends laptop 127.0.0.1:8800 FOLDER [--open LISTEN=TARGET ...]
    python -m bench.ends quick [--rounds 3] [--seconds 1]

Either end opens streams for what connects to its LISTEN addresses; the other end dials TARGET. `quick` measures both directions of opening over
loopback: for who changes the tunnel and wants numbers before and after.
"""

import argparse
import asyncio
import contextlib
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

import uvloop
from bench import processes
from bench.load import Load, program

from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport import splice, tls, tunnel
from codezero.transport.tunnel import Tunnel, TunnelStream
from codezero.wire.control import TunnelHello, TunnelWelcome
from codezero.wire.open_header import OpenHeader, StreamKind

SERVER_NAME = "server"
_STREAMS = 4000


def write_certificates(folder: Path) -> None:
    """An authority and what it signed for a server and a client, in the forms that the baselines read."""
    folder.mkdir(parents=True, exist_ok=True)
    root = Authority.create("bench")
    (folder / "ca.pem").write_text(root.certificate_pem)
    leaves = {
        "server": root.issue("server", dns=[SERVER_NAME], addresses=["127.0.0.1"], server=True),
        "client": root.issue("client", dns=["client"], client=True),
    }
    for name, leaf in leaves.items():
        (folder / f"{name}.pem").write_text(leaf.certificate_pem)
        (folder / f"{name}.key").write_text(leaf.key_pem)
        (folder / f"{name}.both").write_text(leaf.certificate_pem + leaf.key_pem)


class _End:
    """What both ends do: dial what the other end opens, and open for what connects here."""

    def __init__(self, tasks: Tasks) -> None:
        self.tunnel: Tunnel | None = None
        self._tasks = tasks

    def accept(self, header: OpenHeader, _stream: TunnelStream) -> asyncio.Protocol:
        """Dial the target of an incoming stream."""
        host, _, port = header.target.rpartition(":")
        loop = asyncio.get_running_loop()
        return splice.dialled(lambda factory: loop.create_connection(factory, host, int(port)), tasks=self._tasks)

    async def listen(self, where: str, target: str) -> None:
        """Open a stream to `target` for each connection at `where`."""
        host, _, port = where.rpartition(":")

        def opener(_socket: asyncio.Transport, owner: asyncio.Protocol) -> TunnelStream:
            if self.tunnel is None:
                raise CodezeroError(problems.TUNNEL_DOWN, "there is no tunnel yet")
            return self.tunnel.open(OpenHeader(StreamKind.CONSUME, target), owner)

        await asyncio.get_running_loop().create_server(
            lambda: splice.accepted(opener), host, int(port), backlog=1024, reuse_address=True
        )


async def _run(options: argparse.Namespace) -> None:
    host, _, port = options.where.rpartition(":")
    folder = Path(options.folder)
    credentials = _credentials(folder, "server" if options.end == "cluster" else "client")
    roots = (folder / "ca.pem").read_text()
    async with task_group(options.end) as tasks:
        end = _End(tasks)
        for pair in options.open:
            await end.listen(*pair.split("="))
        if options.end == "cluster":
            await _cluster(end, host, int(port), credentials, roots)
        else:
            await _laptop(end, host, int(port), credentials, roots)


async def _cluster(end: _End, host: str, port: int, credentials: Credentials, roots: str) -> None:
    def welcome(_hello: TunnelHello, _peer: tls.Peer) -> TunnelWelcome:
        return TunnelWelcome(version=1, release="bench", session=SessionId(new_ulid()), max_streams=_STREAMS)

    def established(one: Tunnel) -> None:
        end.tunnel = one

    def start(connection: tls.TlsConnection) -> Tunnel:
        return tunnel.ServerTunnel.start(connection, welcome=welcome, acceptor=end.accept, established=established)

    context = certificates.server_context(credentials, client_roots=roots)
    await tls.listen(host, port, context, handlers={tunnel.ALPN: start})
    await asyncio.Event().wait()


async def _laptop(end: _End, host: str, port: int, credentials: Credentials, roots: str) -> None:
    context = certificates.client_context(roots=roots, credentials=credentials)
    while end.tunnel is None:
        try:
            end.tunnel = await tunnel.connect_tunnel(
                host, port, context=context, server_name=SERVER_NAME, release="bench", acceptor=end.accept
            )
        except CodezeroError as error:
            if error.problem is not problems.UNREACHABLE:
                raise
            await asyncio.sleep(0.05)  # the other end is not up yet
    raise await end.tunnel.closed


def _credentials(folder: Path, name: str) -> Credentials:
    return Credentials.from_pem((folder / f"{name}.pem").read_text(), (folder / f"{name}.key").read_text())


# Quick numbers over loopback


def _quick(options: argparse.Namespace) -> None:
    with contextlib.ExitStack() as running, tempfile.TemporaryDirectory() as folder:
        write_certificates(Path(folder))
        backend, where, consume, serve = (f"127.0.0.1:{port}" for port in _free_ports(4))
        running.enter_context(_process(program(), "server", backend))
        end = (sys.executable, "-m", "bench.ends")
        ends = [
            running.enter_context(_process(*end, "cluster", where, folder, "--open", f"{serve}={backend}")),
            running.enter_context(_process(*end, "laptop", where, folder, "--open", f"{consume}={backend}")),
        ]
        for one in (backend, consume, serve):
            Load(one).until_answered()
        columns = ["bulk up", "bulk down", "16 up", "16 down", "s/GB up", "s/GB down", "ping p50", "p99"]
        columns += ["connect p50", "p99", "conn/s"]
        print("opened by", *columns, sep="\t")
        for name, load in (("laptop", Load(consume)), ("cluster", Load(serve))):
            found = [list(_figures(load, [one.pid for one in ends], options.seconds)) for _ in range(options.rounds)]
            print(name, *(f"{statistics.median(values):.3g}" for values in zip(*found, strict=True)), sep="\t")


def _figures(load: Load, ends: list[int], seconds: float) -> Generator[float]:
    """In the order of the columns: MB/s, CPU seconds per GB, milliseconds, and connections a second."""
    costs: list[float] = []
    for direction in ("up", "down"):
        before = processes.seconds(ends)
        moved = load.bulk(direction, 1, seconds)
        costs.append((processes.seconds(ends) - before) / moved.gigabytes)
        yield moved.rate
    yield from (load.bulk(direction, 16, seconds).rate for direction in ("up", "down"))
    yield from costs
    for latency in (load.ping(seconds), load.connect(seconds)):
        yield latency.p50
        yield latency.p99
    yield load.connections(seconds)


@contextlib.contextmanager
def _process(*command: str) -> Generator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        running.wait()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.ends", description=__doc__)
    parts = parser.add_subparsers(required=True)
    making = parts.add_parser("certificates")
    making.add_argument("folder", type=Path)
    making.set_defaults(run=lambda options: write_certificates(options.folder))
    for name in ("cluster", "laptop"):
        end = parts.add_parser(name)
        end.add_argument("where")
        end.add_argument("folder")
        end.add_argument("--open", action="append", default=[], metavar="LISTEN=TARGET")
        end.set_defaults(run=lambda options: uvloop.run(_run(options)), end=name)
    quick = parts.add_parser("quick")
    quick.add_argument("--rounds", type=int, default=3)
    quick.add_argument("--seconds", type=float, default=1.0)
    quick.set_defaults(run=_quick)
    options = parser.parse_args()
    run: Callable[[argparse.Namespace], None] = options.run
    with contextlib.suppress(KeyboardInterrupt):
        run(options)


if __name__ == "__main__":
    main()
