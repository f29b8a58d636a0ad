"""Everything that can die is killed: status tells the truth, all resumes by itself, and the machine can always be put back."""

import json

import pytest

from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

DAEMON = "codezero.local.daemon.main"
SUPERVISOR = "codezero.local.supervisor.main"
SYSTEM = "czsystem"
ORCHESTRATOR = "czorchestrator"


def whole(laptop: Laptop) -> bool:
    return laptop.is_connected() and laptop.core_answers()


def test_the_daemon_is_killed(consuming: Laptop) -> None:
    before = consuming.status()["pid"]
    consuming.kill(DAEMON)

    assert eventually(lambda: whole(consuming))
    assert consuming.status()["pid"] != before


def test_the_supervisor_is_killed(consuming: Laptop) -> None:
    """Nobody must notice that the watchman died."""
    before = set(consuming.processes(SUPERVISOR))
    for each in before:
        consuming.run("kill", "-KILL", str(each), check=False)
        eventually(lambda: whole(consuming), within=60)

    assert set(consuming.processes(SUPERVISOR)).isdisjoint(before)


def test_the_system_is_killed(consuming: Laptop) -> None:
    session = consuming.status()["tunnel"]["session"]
    consuming.kill(SYSTEM)
    eventually(
        lambda: consuming.status()["tunnel"]["state"] == "connecting" or consuming.status()["tunnel"]["reconnects"]
    )

    assert eventually(lambda: whole(consuming), within=60)
    assert consuming.status()["tunnel"]["session"] == session


def test_the_orchestrator_is_killed(consuming: Laptop) -> None:
    """Streams to services need no Orchestrator; only the live picture pauses."""
    epoch = consuming.status()["orchestrator"]["epoch"]
    consuming.kill(ORCHESTRATOR)

    assert consuming.core_answers()
    assert eventually(lambda: consuming.status()["orchestrator"]["epoch"] not in (None, epoch), within=60)
    assert eventually(lambda: whole(consuming))


def test_a_pod_is_killed(with_peers: Laptop) -> None:
    pods = json.loads(
        with_peers.sandbox.run(
            "cluster", ["kubectl", "get", "pods", "-n", "peers", "-l", "app=pair", "-o", "json"]
        ).stdout
    )["items"]
    with_peers.sandbox.kill(pods[0]["metadata"]["name"], namespace="peers")

    assert eventually(lambda: with_peers.curl("http://pair.peers:8090/", check=False).returncode == 0)


def test_a_silent_cut_is_told_and_healed(consuming: Laptop) -> None:
    """No reset, no error: packets just vanish. `connected` must not be shown for longer than the promise."""
    session = consuming.status()["tunnel"]["session"]
    consuming.sandbox.cut()
    try:
        lost = eventually(lambda: (now := consuming.status())["tunnel"]["state"] == "connecting" and now, within=15)
    finally:
        consuming.sandbox.mend()

    assert lost["tunnel"]["cause"]
    assert any(warning["severity"] in ("warning", "error") for warning in lost["warnings"])
    assert eventually(lambda: whole(consuming), within=60)
    assert consuming.status()["tunnel"]["session"] == session


def test_foreign_names_resolve_while_our_resolver_hangs(consuming: Laptop) -> None:
    """A machine without names is a broken machine; ours must never be why."""
    consuming.kill(DAEMON, signal="STOP")
    try:
        # Far less than the five seconds of a resolver nobody told to hurry, and than the Supervisor takes to see a hang.
        answer = consuming.run("timeout", "4", "getent", "ahostsv4", "www.example").stdout
    finally:
        consuming.kill(DAEMON, signal="CONT")

    assert answer.startswith("192.0.2.80")
    assert eventually(lambda: whole(consuming), within=60)


def test_stop_leaves_the_machine_byte_identical(laptop: Laptop) -> None:
    before = laptop.machine()
    laptop.start()
    laptop.consume("*.sample-project", primary_namespace=SAMPLE)
    eventually(laptop.core_answers)
    during = laptop.machine()
    laptop.czctl("stop")

    assert during["resolv.conf"] != before["resolv.conf"]
    assert during["nftables"] != before["nftables"]
    assert laptop.machine() == before


@pytest.mark.parametrize("options", [(), ("--names", "hosts"), ("--capture", "listeners")])
def test_cleanup_after_everything_was_killed_leaves_the_machine_byte_identical(
    laptop: Laptop, options: tuple[str, ...]
) -> None:
    """`kill -9` of Supervisor and Daemon together: the worst that can happen short of pulling the plug."""
    before = laptop.machine()
    laptop.start(*options)
    laptop.consume("*.sample-project", primary_namespace=SAMPLE)
    eventually(laptop.core_answers)
    victims = [*laptop.processes(SUPERVISOR), *laptop.processes(DAEMON)]
    laptop.run("kill", "-KILL", *map(str, victims))
    eventually(lambda: laptop.czctl("status", check=False).returncode == 1)
    left = laptop.machine()
    laptop.czctl("cleanup")

    assert left["resolv.conf"] != before["resolv.conf"] or left["hosts"] != before["hosts"]
    assert laptop.machine() == before


def test_a_start_after_everything_was_killed_works_and_stops_clean(laptop: Laptop) -> None:
    before = laptop.machine()
    laptop.start()
    laptop.run("kill", "-KILL", *map(str, [*laptop.processes(SUPERVISOR), *laptop.processes(DAEMON)]))
    eventually(lambda: laptop.czctl("status", check=False).returncode == 1)
    laptop.start()
    laptop.czctl("stop")

    assert laptop.machine() == before
