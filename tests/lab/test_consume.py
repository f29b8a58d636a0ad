"""The consume stories, on the lab's laptop: real names, real addresses, real connections, one tunnel, nothing else."""

import json
import re

import pytest

from codezero.testing.laptop import CORE_URL, SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.contract, pytest.mark.netns, pytest.mark.nft]

CORE = f"sample-project-core.{SAMPLE}"
LEAF = "sample-project-leaf"


def test_every_form_of_a_name_answers_with_one_virtual_address(consuming: Laptop) -> None:
    """Code that runs in the cluster must run on the laptop unchanged, whichever form it uses."""
    forms = [f"{LEAF}.{SAMPLE}", f"{LEAF}.{SAMPLE}.svc", f"{LEAF}.{SAMPLE}.svc.cluster.local", LEAF]
    answers = [consuming.run("getent", "hosts", form).stdout.split()[0] for form in forms]

    assert len(set(answers)) == 1
    assert answers[0].startswith(("127.72.", "127.73.", "127.74.", "127.75."))


def test_a_pod_of_a_headless_service_answers_to_its_own_name(consuming: Laptop) -> None:
    service = "sample-project-peers"
    addresses = {consuming.address_of(f"{service}-{number}.{service}.{SAMPLE}") for number in (0, 1)}

    assert None not in addresses
    assert len(addresses) == 2
    for number in (0, 1):
        answer = json.loads(consuming.curl(f"http://{service}-{number}.{service}.{SAMPLE}:3010/api").stdout)
        assert answer["where"] == f"{service}-{number}"


def test_asking_for_ipv6_gets_an_empty_answer_and_not_an_error(consuming: Laptop) -> None:
    """NXDOMAIN for AAAA would make resolvers forget the name altogether."""
    answer = consuming.dig("AAAA", f"{LEAF}.{SAMPLE}")

    assert "status: NOERROR" in answer
    assert "ANSWER: 0" in answer


def test_foreign_names_reach_the_machines_own_name_server(consuming: Laptop) -> None:
    assert consuming.dig("+short", "www.example").strip() == "192.0.2.80"
    assert "status: NXDOMAIN" in consuming.dig("nowhere.example")
    assert consuming.dig("+short", "TXT", "www.example").strip()
    assert consuming.dig("+short", "+tcp", "www.example").strip() == "192.0.2.80"


def test_a_service_that_is_not_consumed_has_no_name(consuming: Laptop) -> None:
    assert consuming.address_of("codezero.codezero") is None
    assert consuming.address_of("nothing.sample-project.svc.cluster.local") is None


def test_curl_by_name_is_answered_by_a_pod(consuming: Laptop) -> None:
    answer = consuming.core()

    assert answer["who"] == "core"
    assert answer["where"].startswith("sample-project-core-")
    assert answer["leaf"]["who"] == "leaf"
    assert "success" in answer["database"]


def test_there_is_no_other_way_in(consuming: Laptop) -> None:
    """What answers by name must come through the tunnel, or the test proves nothing."""
    consuming.sandbox.cut()
    try:
        eventually(lambda: not consuming.core_answers())
        direct = consuming.run("curl", "-s", "--max-time", "2", "https://198.51.100.10:6443/", check=False)
    finally:
        consuming.sandbox.mend()

    assert direct.returncode != 0
    assert eventually(consuming.core_answers)


def test_the_laptop_holds_one_connection_to_the_cluster(consuming: Laptop) -> None:
    consuming.core()
    lines = consuming.run("ss", "-Htn", "state", "established", "dst", "198.51.100.10").stdout.splitlines()

    assert len(lines) == 1
    assert lines[0].split()[3].endswith(":8800")


@pytest.mark.parametrize("first", ["app", "consume"])
def test_an_app_on_every_address_and_a_consumed_port_live_side_by_side(consuming: Laptop, first: str) -> None:
    """Everybody's own service listens on 0.0.0.0:3000 while the consumed one is at port 3000 too."""
    if first == "app":
        consuming.consume()
    app = consuming.popen("python", "-m", "http.server", "3000", "--bind", "0.0.0.0", "--directory", "/etc/skel")
    try:
        eventually(lambda: consuming.curl("http://127.0.0.1:3000/", check=False).returncode == 0)
        consuming.consume("*.sample-project", primary_namespace=SAMPLE)
        eventually(consuming.core_answers)

        assert consuming.core()["who"] == "core"
        assert "Directory listing" in consuming.curl("http://127.0.0.1:3000/").stdout
    finally:
        app.terminate()
        app.wait()
        consuming.consume("*.sample-project", primary_namespace=SAMPLE)


def test_an_unused_port_of_a_virtual_address_refuses(consuming: Laptop) -> None:
    """Silence would make clients wait; an open port would make them believe."""
    refused = consuming.curl(f"http://{CORE}:3999/", check=False)

    assert refused.returncode == 7
    assert "refused" in refused.stderr.lower() or "connect" in refused.stderr.lower()


def test_a_service_without_a_ready_pod_refuses(with_peers: Laptop) -> None:
    eventually(lambda: with_peers.consumed()["peers/unready"]["state"] == "unready")

    assert with_peers.address_of("unready.peers") is not None
    assert with_peers.curl("http://unready.peers:8089/", check=False).returncode == 7


def test_connections_spread_over_the_pods_of_a_service(with_peers: Laptop) -> None:
    def hosts() -> bool:
        answers = [json.loads(with_peers.curl("http://pair.peers:8090/").stdout) for _ in range(8)]
        return len({answer["where"] for answer in answers}) == 2

    assert eventually(hosts)


def test_rules_follow_the_cluster(consuming: Laptop) -> None:
    """A service made after the rules was written for must appear, and a deleted one must go."""
    kubectl = ("kubectl", "-n", SAMPLE)
    consuming.sandbox.run("cluster", [*kubectl, "create", "service", "clusterip", "late", "--tcp=80:3010"])
    try:
        assert eventually(lambda: consuming.address_of(f"late.{SAMPLE}"))
    finally:
        consuming.sandbox.run("cluster", [*kubectl, "delete", "service", "late"])

    assert eventually(lambda: consuming.address_of(f"late.{SAMPLE}") is None)


def test_exceptions_and_ports_narrow_what_is_consumed(consuming: Laptop) -> None:
    try:
        consuming.consume("*.sample-project", f"!{LEAF}.sample-project", "!sample-project-core.sample-project:3000")
        eventually(lambda: consuming.address_of(f"{LEAF}.{SAMPLE}") is None)

        assert consuming.curl(CORE_URL, check=False).returncode != 0
    finally:
        consuming.consume("*.sample-project", primary_namespace=SAMPLE)
    assert eventually(consuming.core_answers)


def test_what_is_caught_goes_to_ports_that_only_root_can_take(consuming: Laptop) -> None:
    """T15: while the Daemon restarts, another user's program must not catch its connections."""
    ruleset = consuming.run("nft", "list", "table", "inet", "codezero").stdout
    ports = {int(port) for port in re.findall(r"dnat ip to 127\.0\.0\.1:(\d+)", ruleset)}

    assert len(ports) == 2
    assert max(ports) < 1024


def test_a_lan_peer_reaches_neither_addresses_nor_names(consuming: Laptop) -> None:
    """T09: the laptop must not become a way into the cluster for its neighbours."""
    address = consuming.address_of(CORE)
    lan = consuming.sandbox
    lan.run("lan", ["ip", "route", "replace", "127.72.0.0/14", "via", "192.168.77.10"], check=False)
    reached = lan.run("lan", ["curl", "-s", "--max-time", "2", f"http://{address}:3000/api"], check=False)
    lan.run("lan", ["ip", "route", "del", "127.72.0.0/14"], check=False)

    assert reached.returncode != 0
    assert lan.run("lan", ["dig", "+time=1", "+tries=1", "@192.168.77.10", CORE], check=False).returncode != 0


def test_the_connect_door_serves_simple_clients(consuming: Laptop) -> None:
    """The published Node agent and scripts reach a service with a token and no agent."""
    token = consuming.sandbox.token()
    answer = consuming.run(
        "python",
        "-m",
        "codezero.testing.connect_client",
        consuming.sandbox.access_file(),
        f"{CORE}:3000",
        "/api",
        input=token,
    )
    refused = consuming.run(
        "python",
        "-m",
        "codezero.testing.connect_client",
        consuming.sandbox.access_file(),
        f"{CORE}:3000",
        "/api",
        input="forged",
        check=False,
    )

    assert json.loads(answer.stdout)["who"] == "core"
    assert "407" in refused.stderr
