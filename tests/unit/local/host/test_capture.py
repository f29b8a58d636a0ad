"""The table of captured connections, in a network namespace of its own with the real kernel."""

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from codezero.local.host import capture

pytestmark = [
    pytest.mark.nft,
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nftables"),
]

_PRELUDE = """
import asyncio, json, socket, subprocess, signal
from codezero.local.host.capture import CaptureTable, Ports, original_destination
from codezero.model.problems import CodezeroError

def shell(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()

def dial(address, port, family=socket.AF_INET):
    with socket.socket(family) as client:
        client.settimeout(3)
        try:
            client.connect((address, port))
        except OSError as error:
            return error.strerror or str(error)
        return "connected"

async def main():
    shell("ip link set lo up")
    table = CaptureTable()
    listener = socket.create_server(("127.0.0.1", 901))
    dns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    dns.bind(("127.0.0.1", 902))
    said = {}
"""


def _in_namespace(body: str, *, user: bool = False) -> dict[str, Any]:
    """What `body` puts into `said`, run in a fresh network namespace; with `user` in a user namespace as well."""
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    script = f"{_PRELUDE}{indented}    await table.close()\n    print(json.dumps(said))\nasyncio.run(main())"
    namespaces = ["-n", "-U", "-r"] if user else ["-n"]
    done = subprocess.run(
        ["unshare", *namespaces, sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("user", [False, True], ids=["root", "user namespace"])
def test_captured_pairs_reach_the_listener_and_all_else_is_refused(user: bool) -> None:
    """DESIGN 7: a consumed port answers, an unused one refuses at once, and UDP and IPv6 keep their manners."""
    said = _in_namespace(
        """
await table.start()
await table.listen_at(Ports(901, 902))
await table.change(add=[("127.72.1.1", 80)], remove=[])
said["captured"] = dial("127.72.1.1", 80)
said["destination"] = original_destination(listener.accept()[0])
said["unused port"] = dial("127.72.1.1", 81)
said["unused address"] = dial("127.75.255.254", 80)
said["outside the range"] = dial("127.76.0.1", 901)
everywhere = socket.create_server(("0.0.0.0", 3000))
said["an app on all addresses"] = [dial("127.0.0.1", 3000), dial("127.72.1.1", 3000)]
six = socket.create_server(("::1", 3000), family=socket.AF_INET6)
said["IPv6"] = dial("::1", 3000, socket.AF_INET6)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(3)
    client.connect(("127.72.0.53", 53))
    client.send(b"question")
    question, peer = dns.recvfrom(100)
    dns.sendto(b"answer", peer)
    said["DNS"] = client.recv(100).decode()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 5000))
for name in ("datagram refused", "datagram let through"):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect(("127.72.1.1", 5000))
        client.send(b"x")
        try:
            said[name] = udp.recv(9, socket.MSG_DONTWAIT).decode() if "through" in name else client.recv(9).decode()
        except OSError as error:
            said[name] = error.strerror
    await table.change(add=[("127.72.1.1", 5000)], remove=[], datagrams=True)
await table.change(add=[], remove=[("127.72.1.1", 80), ("127.72.9.9", 9)])
said["released"] = dial("127.72.1.1", 80)
""",
        user=user,
    )
    assert said == {
        "captured": "connected",
        "destination": ["127.72.1.1", 80],
        "unused port": "Connection refused",
        "unused address": "Connection refused",
        "outside the range": "Connection refused",
        "an app on all addresses": ["connected", "Connection refused"],
        "IPv6": "connected",
        "DNS": "answer",
        "datagram refused": "Connection refused",
        "datagram let through": "x",
        "released": "Connection refused",
    }


def test_an_app_and_a_consumed_port_of_the_same_number_live_side_by_side() -> None:
    """Row 24: started in either order, on 0.0.0.0."""
    said = _in_namespace(
        """
before = socket.create_server(("0.0.0.0", 3000))
await table.start()
await table.listen_at(Ports(901, 902))
await table.change(add=[("127.72.1.1", 3000), ("127.72.1.1", 3001)], remove=[])
after = socket.create_server(("0.0.0.0", 3001))
for port, app in ((3000, before), (3001, after)):
    said[f"app {port}"] = dial("127.0.0.1", port)
    app.accept()[0].close()
    said[f"service {port}"] = dial("127.72.1.1", port)
    said[f"destination {port}"] = original_destination(listener.accept()[0])[1]
"""
    )
    assert said == {
        "app 3000": "connected",
        "service 3000": "connected",
        "destination 3000": 3000,
        "app 3001": "connected",
        "service 3001": "connected",
        "destination 3001": 3001,
    }


def test_the_table_goes_with_its_owner_and_comes_back_whole() -> None:
    """Killed nft: no half state; and everything captured before is captured again."""
    said = _in_namespace(
        """
await table.start()
await table.listen_at(Ports(901, 902))
await table.change(add=[("127.72.1.1", 80)], remove=[])
table._nft.child.send(signal.SIGKILL)
said["how"] = await table.lost()
said["rules"] = shell("nft list ruleset")
try:
    await table.change(add=[("127.72.1.1", 81)], remove=[])
except CodezeroError as error:
    said["while lost"] = error.problem.code
await table.restore()
said["again"] = [dial("127.72.1.1", 80), dial("127.72.1.1", 81)]
"""
    )
    assert said == {
        "how": "signal SIGKILL",
        "rules": "",
        "while lost": "CZ-AGENT-008",
        "again": ["connected", "Connection refused"],
    }


def test_a_refused_change_changes_nothing_and_says_why() -> None:
    """One line is one transaction: a bad element takes the good ones beside it back."""
    said = _in_namespace(
        """
await table.start()
await table.listen_at(Ports(901, 902))
await table.change(add=[("127.72.1.1", 80)], remove=[])
try:
    await table.change(add=[("127.72.1.2", 80), ("127.72.1.999", 80)], remove=[("127.72.1.1", 80)])
except CodezeroError as error:
    said["problem"] = error.problem.code
said["captured"] = sorted(table.captured)
said["old"], said["new"] = dial("127.72.1.1", 80), dial("127.72.1.2", 80)
"""
    )
    assert said == {
        "problem": "CZ-AGENT-008",
        "captured": [["127.72.1.1", 80]],
        "old": "connected",
        "new": "Connection refused",
    }


def test_a_change_given_up_half_way_does_not_confuse_the_next() -> None:
    """A Daemon dies while its wish is being done: the answers of nft must stay with their questions."""
    said = _in_namespace(
        """
await table.start()
await table.listen_at(Ports(901, 902))
for pairs in ([(f"127.73.{n // 250}.{n % 250}", 80) for n in range(2000)], [("127.72.1.999", 80)]):
    for turns in range(1, 6):
        given_up = asyncio.ensure_future(table.change(add=pairs, remove=[]))
        for _ in range(turns):
            await asyncio.sleep(0)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        await table.clear()
await table.listen_at(Ports(901, 902))
await table.change(add=[("127.72.1.1", 80)], remove=[])
said["captured"] = dial("127.72.1.1", 80)
said["flushed"] = dial("127.73.0.1", 80)
"""
    )
    assert said == {"captured": "connected", "flushed": "Connection refused"}


def test_a_foreign_table_of_our_name_is_an_obstacle_with_a_reason() -> None:
    """We never take over what we did not make."""
    said = _in_namespace(
        """
shell("nft add table inet codezero; nft add chain inet codezero theirs")
try:
    await table.start()
except CodezeroError as error:
    said["problem"] = error.detail
said["rules"] = shell("nft list table inet codezero")
"""
    )
    assert "File exists" in said["problem"]
    assert "chain theirs" in said["rules"]


def test_thousands_of_ports_change_in_one_transaction() -> None:
    """A Teamspace of 5,000 services, consumed by `*`."""
    said = _in_namespace(
        """
await table.start()
await table.listen_at(Ports(901, 902))
pairs = [(f"127.73.{n // 250}.{n % 250}", 8080) for n in range(10000)]
await table.change(add=pairs, remove=[])
said["last"] = dial(*pairs[-1])
await table.change(add=[], remove=pairs)
said["gone"] = dial(*pairs[-1])
"""
    )
    assert said == {"last": "connected", "gone": "Connection refused"}


def test_no_history_of_commands_is_left_on_the_disk() -> None:
    """nft -i would write one into the home folder: a trace of us (R40)."""
    said = _in_namespace("await table.start()\nawait table.close()\nsaid['files'] = shell('ls -A / /root | grep nft')")
    assert said["files"] == ""


def test_an_uncaptured_connection_has_its_own_destination() -> None:
    """In `listeners` mode the same helper serves; a connection without NAT is where it says it is."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert capture.original_destination(accepted) == listener.getsockname()
