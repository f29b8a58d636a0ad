"""Everything that can die is killed while 200 requests a second go on: nobody without a condition notices, the others fall back, all resumes.

"Falls back within 5 s" is `eventually(..., within=...)` here: a bound that only ends a failing test; the time itself is measured by `make bench`.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import (
    address_of,
    application,
    ask,
    kubectl,
    nobody_notices,
    put_back,
    replicas_of,
    selector,
)
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

SERVICE = "peers/http"
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")
BLUE = ("-H", "x-team: blue")
DAEMON = "codezero.local.daemon.main"
KUBECTL_APPLY = ("apply", "-f", "-")
MANIFEST = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "http", "namespace": "peers"},
    "spec": {
        "selector": {"app": "http"},
        "ports": [{"name": "main", "port": 8080, "protocol": "TCP", "targetPort": 8080}],
    },
}


@pytest.fixture
def url(sandbox: Sandbox, peers: None) -> str:
    return f"http://{address_of(sandbox, 'http')}:8080/hello"


@pytest.fixture
def served(serving1: Laptop, url: str) -> Iterator[Laptop]:
    """dev1 serves `peers/http` for `x-team: blue`, and its application answers."""
    with application(serving1, "http", 9001):
        serving1.serve(SERVICE, "9001:8080", *CONDITION)
        yield serving1


def falls_back(sandbox: Sandbox, url: str) -> bool:
    answer = ask(sandbox, url, *BLUE)
    return answer.fallback is not None and answer.where.startswith("http-")


def reaches_the_laptop(sandbox: Sandbox, url: str) -> bool:
    try:
        return ask(sandbox, url, *BLUE).where == "laptop"
    except AssertionError:
        return False


def test_the_local_application_is_killed(sandbox: Sandbox, serving1: Laptop, url: str) -> None:
    with nobody_notices(sandbox, url):
        with application(serving1, "http", 9001) as running:
            serving1.serve(SERVICE, "9001:8080", *CONDITION)
            assert ask(sandbox, url, *BLUE).where == "laptop"
            serving1.kill("peers.http server --address 127.0.0.1 --port 9001")
            running.wait()
            answer = eventually(lambda: falls_back(sandbox, url) and ask(sandbox, url, *BLUE), within=5)
        with application(serving1, "http", 9001):
            assert eventually(lambda: reaches_the_laptop(sandbox, url))

    assert answer.fallback == "unreachable"


@pytest.mark.contract
@pytest.mark.parametrize("program", ["daemon", "czsystem", "czorchestrator", "czrouter follow"])
def test_a_part_is_killed(sandbox: Sandbox, served: Laptop, url: str, program: str) -> None:
    with nobody_notices(sandbox, url):
        assert ask(sandbox, url, *BLUE).where == "laptop"
        for _ in range(3):
            victim = DAEMON if program == "daemon" else program
            eventually(lambda: served.processes(victim))  # noqa: B023 - called at once
            served.kill(victim)
            # Whoever cannot reach the laptop at the moment is answered all the same.
            answer = ask(sandbox, url, *BLUE)
            assert answer.where == "laptop" or answer.fallback is not None
            assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)


def test_the_network_between_laptop_and_cluster_falls_silent(sandbox: Sandbox, served: Laptop, url: str) -> None:
    with nobody_notices(sandbox, url):
        assert ask(sandbox, url, *BLUE).where == "laptop"
        sandbox.cut("laptop")
        try:
            assert eventually(lambda: falls_back(sandbox, url), within=8)
        finally:
            sandbox.mend("laptop")
        assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)


def test_envoy_is_killed_with_one_replica(sandbox: Sandbox, served: Laptop, url: str) -> None:
    """Its connections die with it; new ones must be answered again at once, from the laptop too."""
    for _ in range(3):
        served.kill("envoy.*bootstrap.json")

        assert eventually(lambda: _answers(sandbox, url), within=5)
        assert eventually(lambda: reaches_the_laptop(sandbox, url))


def _answers(sandbox: Sandbox, url: str) -> bool:
    try:
        return ask(sandbox, url).where.startswith("http-")
    except AssertionError:
        return False


@pytest.mark.contract
def test_with_all_our_parts_dead_the_service_still_answers_and_repair_restores_it(
    sandbox: Sandbox, served: Laptop, url: str
) -> None:
    """Traffic of people who do not use the tool never depends on the tool."""
    replicas = replicas_of(sandbox, "system")
    kubectl(sandbox, "scale", "deployment", "system", "orchestrator", "-n", "codezero", "--replicas=0")
    try:
        with nobody_notices(sandbox, url):
            served.kill(DAEMON)
            eventually(lambda: not served.processes("czsystem") and not served.processes("czorchestrator"))
            # The Router's own follower too: Envoy alone keeps the service going.
            served.kill("czrouter follow")
            assert eventually(lambda: falls_back(sandbox, url), within=30)
            before = selector(sandbox, "http")
            repaired = sandbox.run("cluster", ["czctl", "teamspace", "repair", "--yes"], timeout=120)
            assert selector(sandbox, "http") == {"app": "http"} != before, repaired.stdout
            assert eventually(lambda: ask(sandbox, url, *BLUE).fallback is None)
        assert kubectl(sandbox, "get", "serves", "-A", "-o", "name") == ""
    finally:
        kubectl(sandbox, "scale", "deployment", "system", "orchestrator", "-n", "codezero", f"--replicas={replicas}")
        eventually(lambda: all(pod.ready for pod in sandbox.status().pods if pod.namespace == "codezero"), within=60)
        eventually(served.is_connected, within=60)


@pytest.mark.parametrize("moment", range(6))
def test_the_system_is_killed_while_a_service_is_being_rewired(
    sandbox: Sandbox, serving1: Laptop, url: str, moment: int
) -> None:
    """At whatever moment it dies: the selector is the team's or ours, and never a third; nobody's request fails."""
    put_back(sandbox, "http")
    with application(serving1, "http", 9001), nobody_notices(sandbox, url):
        serving = serving1.popen(
            "czctl", "serve", SERVICE, "9001:8080", *CONDITION, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _when(sandbox, moment)
        serving1.kill("czsystem")
        seen = selector(sandbox, "http")
        serving.wait()
        # An order that was lost with the System is told as such, and may be given again.
        eventually(
            lambda: serving1.czctl("serve", SERVICE, "9001:8080", *CONDITION, check=False).returncode == 0, within=60
        )
        assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)

    assert seen.keys() == {"app"}
    assert seen["app"] == "http" or seen["app"].startswith("cz-")


def _when(sandbox: Sandbox, moment: int) -> None:
    """Wait for the step of that number: objects appear one after the other."""
    looks: list[Callable[[], Any]] = [
        lambda: True,
        lambda: kubectl(sandbox, "get", "serves", "-n", "peers", "-o", "name"),
        lambda: "cz-origin" in kubectl(sandbox, "get", "services", "-n", "peers", "-o", "name"),
        lambda: "cz-router" in kubectl(sandbox, "get", "deployments", "-n", "peers", "-o", "name"),
        lambda: "cz-router" in kubectl(sandbox, "get", "pods", "-n", "peers", "-o", "name"),
        lambda: selector(sandbox, "http")["app"] != "http",
    ]
    eventually(looks[moment], pause=0.01)


@pytest.mark.contract
def test_a_team_that_applies_its_manifest_now_and_then_keeps_its_serves(
    sandbox: Sandbox, served: Laptop, url: str
) -> None:
    """A deploy overwrites the selector; the serve comes back by itself, and in between the team's own pods answer."""
    with nobody_notices(sandbox, url):
        kubectl(sandbox, *KUBECTL_APPLY, input=json.dumps(MANIFEST))
        assert eventually(lambda: selector(sandbox, "http")["app"].startswith("cz-"), within=60)
        assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)


@pytest.mark.contract
def test_a_writer_that_fights_every_second_gets_its_way(sandbox: Sandbox, served: Laptop, url: str) -> None:
    """Two controllers that correct each other for ever would be worse than no serve at all."""
    text = json.dumps(MANIFEST)
    loop = 'while true; do echo "$MANIFEST" | kubectl apply -f - >/dev/null 2>&1; sleep 1; done'
    with nobody_notices(sandbox, url):
        writer = sandbox.popen("cluster", ["sh", "-c", loop], env={"MANIFEST": text}, start_new_session=True)
        try:
            assert eventually(lambda: served.serves()[0]["serving"] == "contested", within=120)
            assert selector(sandbox, "http") == {"app": "http"}
            assert any(one["code"] == "SERVE_CONTESTED" for one in served.status()["warnings"])
        finally:
            os.killpg(writer.pid, signal.SIGTERM)
            writer.wait()
        # A cluster's proxies follow in their own time.
        assert eventually(lambda: ask(sandbox, url, *BLUE).where.startswith("http-"))
        # Whoever serves again, now that nobody fights, gets it back.
        served.serve(SERVICE, "9001:8080", *CONDITION)
        assert eventually(lambda: reaches_the_laptop(sandbox, url), within=60)


@pytest.mark.contract
def test_a_rollout_of_the_served_deployment_goes_unnoticed(sandbox: Sandbox, served: Laptop, url: str) -> None:
    with nobody_notices(sandbox, url):
        kubectl(sandbox, "scale", "deployment", "http", "-n", "peers", "--replicas=2")
        kubectl(sandbox, "rollout", "status", "deployment", "http", "-n", "peers", "--timeout=60s")
        # Both pods get their share of what comes through the Router, and of nothing else.
        eventually(lambda: len({ask(sandbox, url).where for _ in range(10)}) == 2)
        assert reaches_the_laptop(sandbox, url)
    kubectl(sandbox, "scale", "deployment", "http", "-n", "peers", "--replicas=1")


@pytest.mark.contract
def test_a_service_that_is_deleted_and_made_again_is_not_served(
    sandbox: Sandbox, serving1: Laptop, peers: None
) -> None:
    """A namesake is another service: nobody agreed to divert its traffic."""
    manifest = {**MANIFEST, "metadata": {"name": "twin", "namespace": "peers"}}
    kubectl(sandbox, *KUBECTL_APPLY, input=json.dumps(manifest))
    with application(serving1, "http", 9001):
        serving1.serve("peers/twin", "9001:8080", *CONDITION)
        kubectl(sandbox, "delete", "service", "twin", "-n", "peers")
        kubectl(sandbox, *KUBECTL_APPLY, input=json.dumps(manifest))

        assert eventually(lambda: serving1.serves() == [], within=60)
        assert eventually(
            lambda: "twin" not in kubectl(sandbox, "get", "serves", "-n", "peers", "-o", "name"), within=60
        )
        assert selector(sandbox, "twin") == {"app": "http"}
    kubectl(sandbox, "delete", "service", "twin", "-n", "peers")


@pytest.mark.contract
def test_a_serve_object_made_by_hand_diverts_nothing_and_says_so(sandbox: Sandbox, served: Laptop, url: str) -> None:
    """T25: who may write in a namespace may not thereby send its traffic to laptops."""
    found = json.loads(kubectl(sandbox, "get", "serve", "http", "-n", "peers", "-o", "json"))
    forged = {**found["spec"]["routes"][0], "id": "01J00000000000000000000000", "condition": {"type": "default"}}
    patch = json.dumps({"spec": {"routes": [*found["spec"]["routes"], forged]}})
    kubectl(sandbox, "patch", "serve", "http", "-n", "peers", "--type=merge", "-p", patch)
    by_hand = {
        "apiVersion": "codezero.io/v1beta1",
        "kind": "Serve",
        "metadata": {"name": "pair", "namespace": "peers"},
        "spec": {"service": "pair", "routes": [{**forged, "ports": [{"localPort": 9001, "remotePort": 8090}]}]},
    }
    kubectl(sandbox, *KUBECTL_APPLY, input=json.dumps(by_hand))
    try:
        told = eventually(
            lambda: (
                (now := kubectl(sandbox, "get", "serve", "pair", "-n", "peers", "-o", "json"))
                and "CZ-SERVE-009" in now
                and now
            ),
            within=30,
        )
        assert told
        assert selector(sandbox, "pair") == {"app": "pair"}
        assert ask(sandbox, url).where.startswith("http-")
        assert reaches_the_laptop(sandbox, url)
    finally:
        kubectl(sandbox, "delete", "serve", "pair", "-n", "peers", "--timeout=60s")
