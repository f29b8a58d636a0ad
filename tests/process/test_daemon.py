"""czdaemon as a real process on a machine of its own, with a real Teamspace: names resolve, connections arrive, nothing stays behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.model.problems import CodezeroError
from codezero.testing.machine import Machine
from codezero.testing.waiting import eventually
from codezero.transport.local_client import LocalClient
from codezero.wire import access_file
from codezero.wire.local_api import ConsumeChange, StatusView, TunnelState

pytestmark = [
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"),
]
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")

# System, Orchestrator, and the service orders.shop (an echo that greets), until killed.
TEAMSPACE = """
import asyncio, pathlib, sys
import msgspec
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.wire.access_file import TeamspaceAccess

async def main(folder):
    async with RealTeamspace(folder).running() as teamspace, echo_server(b"hello from the pod\\n") as port:
        teamspace.offer("orders", port)
        teamspace.offer("asleep", port, ready=False)
        laptop = teamspace.authorities.laptop(teamspace.authorities.device())
        access = TeamspaceAccess(
            teamspace.authorities.teamspace, "test", "127.0.0.1", teamspace.port, teamspace.authorities.parts.certificate_pem,
            laptop.certificate_pem, laptop.key_pem,
        )
        fresh = folder / "fresh"
        fresh.write_bytes(msgspec.json.encode(access))
        fresh.rename(folder / "access.json")
        await asyncio.Event().wait()

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""

DIAL = """
import socket, sys
try: print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).makefile().readline().strip())
except OSError as error: print(error.strerror or error)
"""

WAYS = [
    pytest.param("nftables", "resolv.conf", marks=needs_nft),
    pytest.param("nftables", "hosts", marks=needs_nft),
    ("listeners", "resolv.conf"),
    ("listeners", "hosts"),
]


@pytest.fixture
def folder() -> Generator[Path]:
    # pytest's own folders are too long for socket paths.
    made = Path(tempfile.mkdtemp(prefix="cz-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


class Laptop:
    """A machine with a Teamspace within reach."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.api = LocalClient(machine.run_folder / "daemon.sock")
        self._teamspace = machine.folder / "teamspace"
        self._teamspace.mkdir()
        self.teamspace = machine.start(
            sys.executable, "-c", TEAMSPACE, str(self._teamspace), errors=machine.folder / "teamspace.log"
        )

    def access(self) -> access_file.TeamspaceAccess:
        path = self._teamspace / "access.json"
        eventually(path.exists)
        return access_file.decode(path.read_bytes())

    def status(self) -> StatusView | None:
        try:
            return self.api.status()
        except CodezeroError:
            return None

    def consume(self) -> None:
        """Select the Teamspace and consume all of the namespace `shop`, which is primary."""
        access = self.access()
        eventually(self.status)
        self.api.select_teamspace(access)
        self.api.change_consume(ConsumeChange(("*.shop",), primary_namespace="shop"))
        eventually(self.is_consuming)

    def is_consuming(self) -> bool:
        status = self.status()
        return status is not None and status.consumed == 2 and self.dial("orders.shop") == "hello from the pod"

    def address(self, name: str) -> str:
        return self.machine.do("getent", "ahostsv4", name).output.partition(" ")[0]

    def dial(self, host: str, port: int = 80) -> str:
        return self.machine.do(sys.executable, "-c", DIAL, host, str(port)).output.strip()

    def start_daemon(self, *arguments: str) -> Any:
        machine = self.machine
        return machine.start(
            *(sys.executable, "-I", "-m", "codezero.local.daemon.main", "--foreground"),
            *("--run-folder", str(machine.run_folder), "--state-folder", str(machine.state_folder)),
            *("--log-level", "debug", *arguments),
            errors=machine.folder / "daemon.log",
        )


@pytest.fixture
def laptop(folder: Path) -> Generator[Laptop]:
    with Machine(folder) as machine:
        machine.start_name_server("127.0.0.99", foreign_example="192.0.2.7")
        yield Laptop(machine)


def assert_consuming(laptop: Laptop) -> None:
    names = ["orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local", "orders"]
    answers = {laptop.address(name) for name in names}
    assert len(answers) == 1
    (address,) = answers
    assert address.startswith("127.7")
    for name in names:
        assert laptop.dial(name) == "hello from the pod"
    assert laptop.dial("orders.shop", 81) == "Connection refused", "an unused port refuses"
    assert laptop.address("asleep.shop"), "a service without ready pods has its name"
    assert laptop.dial("asleep.shop") == "Connection refused"
    assert laptop.address("foreign.example") == "192.0.2.7"
    assert laptop.address("localhost") == "127.0.0.1"


def end(process: Any, pid: int) -> int:
    # nsenter ends as its child does; the signal must go to the Daemon itself.
    os.kill(pid, signal.SIGTERM)
    return process.wait(timeout=20)


@pytest.mark.parametrize(("capture", "names"), WAYS)
def test_by_hand_it_does_all_and_leaves_no_trace(laptop: Laptop, capture: str, names: str) -> None:
    """`czdaemon --foreground` is the whole product in one process, in each way the machine can be set up (DESIGN 7)."""
    before = laptop.machine.fingerprint()
    process = laptop.start_daemon("--capture", capture, "--names", names)
    laptop.consume()

    status = laptop.status()
    assert (status.host.capture, status.host.names) == (capture, names)
    assert not status.warnings
    assert_consuming(laptop)

    assert end(process, status.pid) == 0
    assert laptop.machine.fingerprint() == before
    assert not (laptop.machine.run_folder / "daemon.sock").exists()


@needs_nft
def test_stop_over_the_api_answers_and_leaves_no_trace(laptop: Laptop) -> None:
    before = laptop.machine.fingerprint()
    process = laptop.start_daemon()
    laptop.consume()

    laptop.api.shutdown()

    assert process.wait(timeout=20) == 0
    assert laptop.machine.fingerprint() == before


@needs_nft
def test_an_app_on_every_address_and_the_consumed_port_live_side_by_side(laptop: Laptop) -> None:
    """The commonest local set-up: one's own service on 0.0.0.0:80 while the cluster's is consumed (DESIGN 7)."""
    app = (
        "import socket\n"
        "s = socket.create_server(('0.0.0.0', 80))\n"
        "while True: c, _ = s.accept(); c.sendall(b'hello from the app\\n'); c.close()"
    )
    laptop.start_daemon()
    laptop.consume()
    laptop.machine.start(sys.executable, "-c", app)
    eventually(lambda: laptop.dial("127.0.0.1") == "hello from the app")

    assert laptop.dial("orders.shop") == "hello from the pod"
    assert not laptop.status().warnings


@needs_nft
def test_answers_for_ipv6_and_other_types_are_empty(laptop: Laptop) -> None:
    laptop.start_daemon()
    laptop.consume()
    answer = laptop.machine.do("dig", "AAAA", "orders.shop").output

    assert "status: NOERROR" in answer
    assert "ANSWER: 0" in answer
    assert "127.72.0.53" in answer


@needs_nft
def test_killed_teamspace_is_told_and_forgotten_names_stay(laptop: Laptop) -> None:
    """Status tells the truth; names keep their addresses, and connections are refused instead of hanging."""
    laptop.start_daemon()
    laptop.consume()
    for pid in laptop.machine.processes():
        if b"RealTeamspace" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: laptop.status().tunnel.state is TunnelState.CONNECTING)

    assert laptop.status().tunnel.cause
    assert laptop.address("orders.shop").startswith("127.7")
    assert laptop.dial("orders.shop") in {"", "Connection reset by peer", "Connection refused"}


@needs_nft
def test_killed_by_hand_it_starts_again_and_cleans_up_after_itself(laptop: Laptop) -> None:
    """After kill -9 nothing of the capture stays, and the next start undoes the rest."""
    before = laptop.machine.fingerprint()
    process = laptop.start_daemon()
    laptop.consume()
    os.kill(laptop.status().pid, signal.SIGKILL)
    process.wait(timeout=20)

    again = laptop.start_daemon()
    eventually(laptop.is_consuming)
    assert_consuming(laptop)
    assert end(again, laptop.status().pid) == 0
    assert laptop.machine.fingerprint() == before


@needs_nft
def test_a_second_one_is_told_that_one_runs(laptop: Laptop) -> None:
    """Two agents would undo each other's work (R41)."""
    laptop.start_daemon()
    eventually(laptop.status)
    second = laptop.start_daemon()

    assert second.wait(timeout=20) == 7
    assert laptop.status() is not None
    assert "CZ-AGENT-004" in (laptop.machine.folder / "daemon.log").read_text()


@needs_nft
def test_many_consumed_connections_over_one_tunnel(laptop: Laptop) -> None:
    laptop.start_daemon()
    laptop.consume()
    script = """
import concurrent.futures, socket, sys
def one(_):
    with socket.create_connection((sys.argv[1], 80), 20) as s:
        f = s.makefile("rwb"); assert f.readline() == b"hello from the pod\\n"
        data = bytes(200_000); f.write(data); f.flush(); s.shutdown(1); assert f.read() == data
with concurrent.futures.ThreadPoolExecutor(50) as pool: list(pool.map(one, range(200)))
print("all")
"""
    assert laptop.machine.do(sys.executable, "-c", script, laptop.address("orders.shop"), timeout=60).output == "all\n"
    port = laptop.access().port
    established = laptop.machine.shell(f"ss -Htn state established dport = :{port}")
    assert len(established.splitlines()) == 1


@needs_nft
@pytest.mark.parametrize(
    "arguments", [[], ["--foreground", "--socket-fd", "3"], ["--supervisor-fd", "3"], ["--capture", "magic"]]
)
def test_wrong_flags_are_told(laptop: Laptop, arguments: list[str]) -> None:
    result = laptop.machine.do(sys.executable, "-m", "codezero.local.daemon.main", *arguments)

    assert result.status == 2
    assert "usage: czdaemon" in result.errors


# --- with a Supervisor --------------------------------------------------------------------------------------------------------------------


def test_supervised_it_serves_and_survives_kills(laptop: Laptop) -> None:
    """kill -9 of the Daemon: back within seconds, same session, same addresses (R14)."""
    before = laptop.machine.fingerprint()
    supervisor = laptop.machine.start_supervisor()
    laptop.consume()
    assert laptop.status().supervised
    assert_consuming(laptop)
    address, session = laptop.address("orders.shop"), laptop.status().tunnel.session
    pid = laptop.status().pid

    os.kill(pid, signal.SIGKILL)
    eventually(lambda: (status := laptop.status()) is not None and status.pid != pid)
    eventually(laptop.is_consuming)
    assert laptop.address("orders.shop") == address
    assert laptop.status().tunnel.session == session
    assert_consuming(laptop)

    laptop.api.shutdown()
    assert supervisor.wait(timeout=20) == 0
    assert laptop.machine.fingerprint() == before


def test_daemon_ends_at_once_when_its_supervisor_is_gone(folder: Path) -> None:
    """Nobody could undo what it does; the next Supervisor starts a new one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "s"))
    with Machine(folder) as machine, contextlib.closing(ours), contextlib.closing(listener):
        process = subprocess.Popen(
            machine.inside(
                *(sys.executable, "-I", "-m", "codezero.local.daemon.main"),
                *("--supervisor-fd", str(theirs.fileno()), "--socket-fd", str(listener.fileno())),
                *("--state-folder", str(folder / "state"), "--owner", "0"),
            ),
            pass_fds=(theirs.fileno(), listener.fileno()),
        )
        theirs.close()
        ours.send(
            msgspec.msgpack.encode({"is": "HostMode", "capture": "nftables", "names": "resolv.conf", "upstreams": []})
        )
        ours.settimeout(20)
        heard = []
        while "DaemonReady" not in heard:
            heard.append(msgspec.msgpack.decode(ours.recv(200_000))["is"])
        ours.send(msgspec.msgpack.encode({"is": "Done", "number": 0}))
        ours.close()

        assert process.wait(timeout=10) == 3
