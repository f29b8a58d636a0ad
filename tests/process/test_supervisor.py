"""The Supervisor as a real process on a machine of its own: names and packets arrive, whoever is killed, and nothing stays behind."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from codezero.testing.machine import STAND_IN_DAEMON, Machine
from codezero.testing.waiting import eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for namespaces"),
]
needs_nft = pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables")

ORDERS = "127.72.1.1"


@pytest.fixture
def folder() -> Generator[Path]:
    # pytest's own folders are too long for socket paths.
    made = Path(tempfile.mkdtemp(prefix="cz-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def machine(folder: Path) -> Generator[Machine]:
    with Machine(folder) as made:
        made.start_name_server("127.0.0.99", foreign_example="192.0.2.7")
        yield made


def _ready(machine: Machine, *, other_than: int | None = None) -> dict[str, Any]:
    """The stand-in's status once all its wishes are done."""

    def look() -> dict[str, Any] | None:
        try:
            status = machine.ask("status")
        except OSError:
            return None
        wanted = {"0", "1", "2"} if status["mode"]["names"] == "hosts" else {"0", "1"}
        if status["pid"] == other_than or not wanted.issubset(status["done"]):
            return None
        return status

    return eventually(look, within=30)


def _start(machine: Machine, *arguments: str) -> dict[str, Any]:
    machine.start_supervisor(*arguments, daemon=STAND_IN_DAEMON)
    return _ready(machine)


def _dial(machine: Machine, address: str, port: int) -> str:
    """What a captured connection hears: where it wanted to go. Or the error."""
    script = (
        "import socket,sys\n"
        "try: print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).makefile().readline().strip())\n"
        "except OSError as error: print(error.strerror)"
    )
    return machine.do(sys.executable, "-c", script, address, str(port)).output.strip()


def _address(machine: Machine, name: str) -> str:
    return machine.do("getent", "ahostsv4", name).output.partition(" ")[0]


def _assert_consuming(machine: Machine) -> None:
    assert _address(machine, "orders.shop") == ORDERS
    assert _address(machine, "localhost") == "127.0.0.1"
    assert _dial(machine, ORDERS, 3000) == f"{ORDERS} 3000"


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _stop(machine: Machine, process: subprocess.Popen[bytes]) -> int:
    # nsenter ends as its child does; the signal must go to the Supervisor itself.
    os.kill(machine.supervisor_state()["pid"], signal.SIGTERM)
    return process.wait(timeout=20)


WAYS = [
    pytest.param("nftables", "resolv.conf", marks=needs_nft),
    pytest.param("nftables", "hosts", marks=needs_nft),
    ("listeners", "resolv.conf"),
    ("listeners", "hosts"),
]


@pytest.mark.parametrize(("capture", "names"), WAYS)
@pytest.mark.parametrize("mounted", [False, True], ids=["plain files", "mounted files"])
def test_names_and_packets_arrive_and_stop_leaves_no_trace(
    machine: Machine, capture: str, names: str, mounted: bool
) -> None:
    """The whole promise of DESIGN 7 in each way, also where the files are bind mounts as in containers (R40)."""
    if mounted:
        for name in ("resolv.conf", "hosts"):
            machine.shell(
                f"cp -p /etc/{name} {machine.folder}/{name}; mount --bind {machine.folder}/{name} /etc/{name}"
            )
    before = machine.fingerprint()
    supervisor = machine.start_supervisor("--capture", capture, "--names", names, daemon=STAND_IN_DAEMON)
    status = _ready(machine)
    assert status["mode"] == {"is": "HostMode", "capture": capture, "names": names, "upstreams": ["127.0.0.99"]}
    assert set(status["done"].values()) == {None}
    _assert_consuming(machine)
    assert _address(machine, "foreign.example") == "192.0.2.7"
    assert _address(machine, "printer") == "10.0.0.9"
    assert _dial(machine, ORDERS, 3001) == "Connection refused"
    assert machine.fingerprint() != before
    assert _stop(machine, supervisor) == 0
    assert machine.fingerprint() == before
    assert not (machine.run_folder / "daemon.sock").exists()


@pytest.mark.parametrize("names", ["resolv.conf", "hosts"])
def test_all_of_it_works_for_root_of_a_user_namespace(folder: Path, names: str) -> None:
    """The sandbox of an ordinary user: the same capture, confinement and undo, without any right on the machine outside."""
    with Machine(folder, user_namespace=True) as machine:
        before = machine.fingerprint()
        supervisor = machine.start_supervisor("--names", names, "--owner", "0", daemon=STAND_IN_DAEMON)
        status = _ready(machine)
        assert status["capabilities"]["CapEff"] == f"{1 << 10:016x}"
        assert machine.ask("try-to-write /etc/hosts")["problem"] == "Read-only file system"
        _assert_consuming(machine)
        assert _stop(machine, supervisor) == 0
        assert machine.fingerprint() == before


def test_the_best_ways_are_found(machine: Machine) -> None:
    """Without flags a machine with nftables and plain DNS gets both."""
    mode = _start(machine)["mode"]
    assert (mode["capture"], mode["names"]) == ("nftables" if shutil.which("nft") else "listeners", "resolv.conf")


def test_the_socket_is_the_owners_alone(machine: Machine) -> None:
    """T03: the folder is root's, the socket 0600 of the user who started us, from the first moment."""
    _start(machine, "--owner", "1234")
    folder, sock = machine.run_folder.stat(), (machine.run_folder / "daemon.sock").stat()
    assert (folder.st_mode & 0o7777, folder.st_uid) == (0o755, 0)
    assert (sock.st_mode & 0o7777, sock.st_uid) == (0o600, 1234)


def test_the_daemon_has_few_rights(machine: Machine) -> None:
    """Root in name, but with one capability, a read-only system and none of the caller's environment (security.md 5.10)."""
    status = _start(machine)
    bind_only = f"{1 << 10:016x}"
    assert status["capabilities"] == {
        "CapInh": f"{0:016x}",
        "CapPrm": bind_only,
        "CapEff": bind_only,
        "CapBnd": bind_only,
        "CapAmb": f"{0:016x}",
        "NoNewPrivs": "1",
    }
    assert set(status["environment"]) <= {"PATH", "LC_ALL", "HOME", "LC_CTYPE"}
    assert machine.ask("try-to-write /etc/hosts")["problem"] == "Read-only file system"
    assert machine.ask(f"try-to-write {machine.state_folder}/journal/x")["problem"] == "Read-only file system"
    assert machine.ask(f"try-to-write {machine.state_folder}/rules")["problem"] is None


@needs_nft
@pytest.mark.parametrize(
    "victims",
    [
        ("daemon",),
        ("guard",),
        ("supervisor",),
        ("supervisor", "daemon"),
        ("guard", "daemon"),
        ("daemon", "supervisor"),
        ("nft",),
        ("nft", "daemon"),
    ],
    ids=" and ".join,
)
def test_whoever_is_killed_all_comes_back_by_itself(machine: Machine, victims: tuple[str, ...]) -> None:
    """R14: kill -9 of any part but Supervisor and guard together, and names and packets arrive again."""
    before = machine.fingerprint()
    first = _start(machine)
    state = eventually(lambda: (now := machine.supervisor_state())["guard"] and now)
    pids = {"supervisor": state["pid"], "guard": state["guard"], "daemon": state["daemon"]}
    pids["nft"] = int(machine.shell(f"pgrep -P {state['pid']} -x nft"))
    for victim in victims:
        _kill(pids[victim])
    if {"daemon", "supervisor"} & set(victims):
        _ready(machine, other_than=first["pid"])
    eventually(lambda: _dial(machine, ORDERS, 80) == f"{ORDERS} 80")
    _assert_consuming(machine)
    if "guard" in victims:
        eventually(lambda: machine.supervisor_state()["guard"] not in (None, pids["guard"]))
    os.kill(machine.supervisor_state()["pid"], signal.SIGTERM)
    eventually(lambda: not machine.supervisor_state())
    assert machine.fingerprint() == before


@needs_nft
@pytest.mark.parametrize("names", ["resolv.conf", "hosts"])
def test_all_killed_together_stay_dead_and_cleanup_puts_the_machine_back(machine: Machine, names: str) -> None:
    """kill -9 of Supervisor, guard and Daemon: `czctl cleanup` alone, offline, restores every byte (R40)."""
    before = machine.fingerprint()
    _start(machine, "--names", names)
    state = eventually(lambda: (now := machine.supervisor_state())["guard"] and now)
    for name in ("guard", "pid", "daemon"):
        _kill(state[name])
    eventually(lambda: not set(machine.processes()) & {state["guard"], state["pid"], state["daemon"]})
    assert machine.fingerprint() != before
    assert "codezero" not in machine.shell("nft list tables")
    undo = _undo_script(machine)
    assert names in machine.shell(f'{sys.executable} -c "{undo}"')
    assert machine.fingerprint() == before
    assert machine.shell(f'{sys.executable} -c "{undo}"') == "()\n"


@pytest.mark.parametrize(
    "killed", [("pid", "daemon"), ("pid",), ("daemon",), ()], ids=lambda killed: " and ".join(killed) or "none"
)
def test_cleanup_wins_over_whoever_is_left(machine: Machine, killed: tuple[str, ...]) -> None:
    """While a guard is about to bring everything back, or all is well: after `czctl cleanup` nothing runs, and nothing comes back."""
    before = machine.fingerprint()
    _start(machine)
    state = eventually(lambda: (now := machine.supervisor_state())["guard"] and now)
    for name in killed:
        _kill(state[name])
    machine.shell(f'{sys.executable} -c "{_undo_script(machine)}"')
    eventually(lambda: len(machine.processes()) == 1)
    assert machine.fingerprint() == before


def _undo_script(machine: Machine) -> str:
    return (
        "from pathlib import Path; from codezero.local.host.undo import undo; "
        f"print(undo(state_folder=Path({str(machine.state_folder)!r})))"
    )


def test_the_next_start_undoes_what_a_dead_one_left(machine: Machine) -> None:
    """After a power loss nobody ran cleanup: the start does, and stop still leaves the original."""
    before = machine.fingerprint()
    first = _start(machine)
    state = eventually(lambda: (now := machine.supervisor_state())["guard"] and now)
    for name in ("guard", "pid"):
        _kill(state[name])
    supervisor = machine.start_supervisor("--names", "hosts", daemon=STAND_IN_DAEMON)
    assert _ready(machine, other_than=first["pid"])["mode"]["names"] == "hosts"
    assert "127.72.0.53" not in machine.shell("cat /etc/resolv.conf")
    assert _stop(machine, supervisor) == 0
    assert machine.fingerprint() == before


def test_a_crash_report_that_cannot_be_written_does_not_end_the_supervisor(machine: Machine) -> None:
    """A full disk and a crash come together often; then nobody would be left to start the Daemon again, and to undo."""
    machine.state_folder.mkdir(mode=0o700)
    (machine.state_folder / "last-crash.json").mkdir()
    first = _start(machine)
    supervisor = machine.supervisor_state()["pid"]
    _kill(first["pid"])
    _ready(machine, other_than=first["pid"])
    assert machine.supervisor_state()["pid"] == supervisor


def test_a_daemon_that_keeps_failing_is_given_up_and_the_machine_put_back(machine: Machine) -> None:
    """R15: five failures in a minute; then the machine is as before, and people are told what and why."""
    before = machine.fingerprint()
    machine.state_folder.mkdir(mode=0o700)
    (machine.state_folder / "fail").touch()
    supervisor = machine.start_supervisor(daemon=STAND_IN_DAEMON)
    assert supervisor.wait(timeout=60) == 1
    assert machine.fingerprint() == before
    log = (machine.folder / "supervisor.log").read_text()
    assert "[CZ-AGENT-007]" in log
    crash = (machine.state_folder / "last-crash.json").read_text()
    assert "this build fails" in crash
    assert (machine.state_folder / "last-crash.json").stat().st_mode & 0o777 == 0o600
    assert machine.supervisor_state()["phase"] == "failed"
    # The name server is all that is left: no guard starts it over.
    assert len(machine.processes()) == 1


@pytest.mark.parametrize("misdeed", ["hang", "garbage", "exit 0"])
def test_a_misbehaving_daemon_is_replaced(machine: Machine, misdeed: str) -> None:
    """Silent for ten seconds, not speaking the protocol, or simply gone: a fresh one takes over."""
    first = _start(machine)
    with contextlib.suppress(OSError):
        machine.ask(misdeed)
    _ready(machine, other_than=first["pid"])
    _assert_consuming(machine)


def test_stop_asked_by_the_daemon_ends_everything(machine: Machine) -> None:
    """`czctl stop` reaches the Daemon; all of ours ends and the machine is as before."""
    before = machine.fingerprint()
    supervisor = machine.start_supervisor(daemon=STAND_IN_DAEMON)
    _ready(machine)
    machine.ask("stop")
    assert supervisor.wait(timeout=20) == 0
    assert machine.fingerprint() == before
    assert len(machine.processes()) == 1


def test_a_second_supervisor_explains_itself(machine: Machine) -> None:
    """R41: one wins by lock, the other names it and touches nothing."""
    status = _start(machine)
    second = machine.start_supervisor(daemon=STAND_IN_DAEMON)
    assert second.wait(timeout=20) == 7
    assert f"process {machine.supervisor_state()['pid']} of Codezero" in (machine.folder / "supervisor.log").read_text()
    assert machine.ask("status")["pid"] == status["pid"]
    _assert_consuming(machine)


@needs_nft
def test_foreign_rules_live_beside_ours_and_cannot_harm_them(machine: Machine) -> None:
    """A firewall that flushes everything at its reload removes its own rules, not ours; and we never touch its."""
    machine.shell("nft add table ip foreign; nft add chain ip foreign c")
    supervisor = machine.start_supervisor(daemon=STAND_IN_DAEMON)
    _ready(machine)
    assert "chain c" in machine.shell("nft list table ip foreign")
    machine.shell("nft flush ruleset; nft add table ip foreign; nft add chain ip foreign d")
    _assert_consuming(machine)
    assert machine.do("nft", "delete", "table", "inet", "codezero").status != 0
    assert _stop(machine, supervisor) == 0
    assert machine.shell("nft -s list tables") == "table ip foreign\n"
    assert "chain d" in machine.shell("nft list table ip foreign")


@needs_nft
def test_neighbours_and_containers_reach_neither_addresses_nor_ports(machine: Machine) -> None:
    """T09, T10: even where route_localnet lets packets from outside reach loopback."""
    machine.shell(
        "ip link add lan type veth peer name far; ip addr add 10.5.0.1/24 dev lan; ip link set lan up; "
        "sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.lan.route_localnet=1"
    )
    with Machine(_sibling(machine)) as neighbour:
        machine.shell(f"ip link set far netns {neighbour.pid}")
        neighbour.shell(
            "ip addr add 10.5.0.2/24 dev far; ip link set far up; sysctl -qw net.ipv4.conf.all.route_localnet=1 "
            "net.ipv4.conf.far.route_localnet=1; ip route add 127.72.0.0/14 via 10.5.0.1 src 10.5.0.2; "
            # What the neighbour sends to its own 127.0.0.1 must leave by the wire here.
            "ip rule del pref 0; ip rule add pref 10 lookup local; ip rule add pref 5 to 127.0.0.1 lookup 77; "
            "ip rule add pref 5 to 127.72.0.0/14 lookup 77; ip route add 127.0.0.0/8 via 10.5.0.1 src 10.5.0.2 table 77"
        )
        control = (
            "import socket; s=socket.socket(); s.bind(('127.0.0.1', 99)); s.listen(); s.accept()[0].sendall(b'open\\n')"
        )
        machine.start(sys.executable, "-c", control)
        eventually(lambda: _dial_soon(neighbour, "127.0.0.1", 99) == "open")
        _start(machine)
        ports = machine.shell("nft list set inet codezero ours").partition("elements = {")[2].partition("}")[0]
        assert _dial(machine, ORDERS, 80) == f"{ORDERS} 80"
        for port in map(int, ports.split(",")):
            assert _dial_soon(neighbour, "127.0.0.1", port) == "timed out"
        assert _dial_soon(neighbour, ORDERS, 80) == "timed out"
        shutil.rmtree(neighbour.folder, ignore_errors=True)


def _sibling(machine: Machine) -> Path:
    folder = machine.folder / "neighbour"
    folder.mkdir()
    return folder


def _dial_soon(machine: Machine, address: str, port: int) -> str:
    script = (
        "import socket,sys\n"
        "try: print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).makefile().readline().strip())\n"
        "except OSError as error: print(error.strerror or error)"
    )
    return machine.do(sys.executable, "-c", script, address, str(port)).output.strip()


def test_a_rewrite_by_others_is_adopted_and_survives_us(machine: Machine) -> None:
    """R19: DHCP brings a new server; ours stays first, the Daemon learns the new one, and stop leaves theirs."""
    supervisor = machine.start_supervisor(daemon=STAND_IN_DAEMON)
    _ready(machine)
    machine.start_name_server("127.0.0.98", foreign_example="192.0.2.8")
    machine.shell(
        "printf 'nameserver 127.0.0.98\\n' > /etc/resolv.conf.dhcp; mv /etc/resolv.conf.dhcp /etc/resolv.conf"
    )
    eventually(lambda: machine.ask("status")["mode"]["upstreams"] == ["127.0.0.98"])
    eventually(lambda: _address(machine, "orders.shop") == ORDERS)
    assert _address(machine, "foreign.example") == "192.0.2.8"
    assert _stop(machine, supervisor) == 0
    assert machine.shell("cat /etc/resolv.conf") == "nameserver 127.0.0.98\n"


def test_against_a_program_that_insists_we_give_way_and_say_so(machine: Machine) -> None:
    """R19: no endless fight over the file; after three rounds the user is told."""
    _start(machine)
    machine.start("sh", "-c", "while :; do echo 'nameserver 127.0.0.99' > /etc/resolv.conf; sleep 0.2; done")
    warning = eventually(lambda: machine.ask("status")["warnings"].get("resolv.conf-contested"))
    assert "keeps rewriting /etc/resolv.conf" in warning


def test_with_only_our_resolver_dead_foreign_names_still_resolve(machine: Machine) -> None:
    """The machine's own servers stand behind ours; a dead Daemon refuses at once."""
    _start(machine)
    state = eventually(lambda: (now := machine.supervisor_state())["guard"] and now)
    for name in ("guard", "pid", "daemon"):
        _kill(state[name])
    assert _address(machine, "foreign.example") == "192.0.2.7"


@pytest.mark.parametrize(
    ("wish", "problem"),
    [
        ('{"is":"ChangeCapture","number":7,"add":[["127.72.0.53",80]]}', "not a virtual address"),
        ('{"is":"ChangeCapture","number":7,"add":[["127.72.1.999",80]]}', "not a virtual address"),
        ('{"is":"ChangeCapture","number":7,"remove":[["127.72.0.1",80]]}', "not a virtual address"),
        ('{"is":"PublishNames","number":7,"entries":[["bad..name","127.72.1.1"]]}', "not a host name"),
        ('{"is":"PublishNames","number":7,"entries":[["a.b","127.72.0.53"]]}', "not a virtual address"),
        ('{"is":"PublishNames","number":7,"entries":[["a.b","127.72.1.1"]],"part":4}', "part 4"),
    ],
)
def test_wishes_outside_our_range_are_refused(machine: Machine, wish: str, problem: str) -> None:
    """The Supervisor does not believe its Daemon: it may be somebody else by now (stance 4)."""
    _start(machine, "--names", "hosts")
    assert problem in machine.ask(f"wish {wish}")["problem"]
    _assert_consuming(machine)


def test_names_that_belong_to_the_machine_are_not_published(machine: Machine) -> None:
    """T13: a service called localhost must not become the laptop's localhost."""
    _start(machine, "--names", "hosts")
    wish = '{"is":"PublishNames","number":7,"entries":[["localhost","127.72.1.1"],["cart.shop","127.72.1.2"]]}'
    assert machine.ask(f"wish {wish}")["problem"] is None
    assert _address(machine, "localhost") == "127.0.0.1"
    assert _address(machine, "cart.shop") == "127.72.1.2"
    eventually(lambda: "localhost" in machine.ask("status")["warnings"].get("names-skipped", ""))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run-folder", "/proc/1/run"), "cannot work"),
        (("--owner=-7",), "is not a user id"),
        (("--owner", str(2**32 - 1)), "is not a user id"),
        (("--run-folder", "/tmp/" + "x" * 120), "could not be made for uid"),
        (("--names", "hosts", "--hosts", "/mnt/hosts"), "hosts is not possible on this machine"),
        (("--run-folder", "relative"), "not an absolute path"),
        (("--capture", "magic"), "invalid choice"),
    ],
)
def test_a_start_that_cannot_be_says_why_and_changes_nothing(
    machine: Machine, arguments: tuple[str, ...], said: str
) -> None:
    """No traceback, a code, and the machine as before."""
    machine.shell("mount -t tmpfs tmpfs /mnt; echo > /mnt/hosts; mount -o remount,ro /mnt")
    before = machine.fingerprint()
    assert machine.start_supervisor(*arguments, daemon=STAND_IN_DAEMON).wait(timeout=20) != 0
    log = (machine.folder / "supervisor.log").read_text()
    assert said in log
    assert "Traceback" not in log
    assert machine.fingerprint() == before
    shutil.rmtree("/tmp/" + "x" * 120, ignore_errors=True)
