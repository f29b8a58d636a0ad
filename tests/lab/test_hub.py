"""The journeys of people with a Hub, from the first sign-in to the last command, with czctl and the API: once on SQLite, once on PostgreSQL."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.lab.conftest import start

from codezero.sandbox import layout
from codezero.sandbox.control import Hub, Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

CORE = f"{SAMPLE}/sample-project-core"
LEAF = f"{SAMPLE}/sample-project-leaf"
EDGE = f"http://{layout.NODE_ADDRESS}/api"
USER_HEADER = "x-c6o-userid"
TEAM = "x-c6o-team: blue"
CONDITION = ("--condition-type", "header", "--condition", "x-c6o-team:blue")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Hub:
    """What the Hub keeps its data in."""
    return request.param


@pytest.fixture(scope="module")
def hubbed(database: Hub, state_home: Path) -> Iterator[Sandbox]:
    """A sandbox whose Teamspace belongs to a Hub."""
    with start(name=f"hub-{database}-{os.getpid()}", hub=database) as running:
        yield running


@pytest.fixture
def admin(hubbed: Sandbox) -> Laptop:
    """Whoever owns the organization, at the machine with the kubeconfig."""
    found = Laptop(hubbed, layout.CLUSTER)
    found.sign_in("admin")
    found.czctl("organization", "select", "sandbox")
    return found


@pytest.fixture
def dev1(hubbed: Sandbox) -> Iterator[Laptop]:
    found = Laptop(hubbed)
    yield found
    found.stop()


@pytest.fixture
def dev2(hubbed: Sandbox) -> Iterator[Laptop]:
    found = Laptop(hubbed, layout.LAPTOP2)
    yield found
    found.stop()


def asked(laptop: Laptop, *arguments: str) -> Any:
    return json.loads(laptop.czctl(*arguments, "-o", "json").stdout)


def outside(sandbox: Sandbox, *headers: str) -> dict[str, Any]:
    """What somebody who knows nothing of Codezero gets from the shared page."""
    options = [part for header in headers for part in ("-H", header)]
    return json.loads(sandbox.run("internet", ["curl", "-sS", "--max-time", "10", *options, EDGE]).stdout)


def user_id(laptop: Laptop) -> str:
    return str(laptop.status()["teamspace"]["user_id"])


@pytest.fixture
def local_core(dev1: Laptop) -> Iterator[None]:
    environment = {
        "SP_ADDRESS": "127.0.0.1",
        "SP_PORT": "3000",
        "SP_LEAF_URL": f"http://sample-project-leaf.{SAMPLE}:3010",
    }
    yield from _running(dev1, "core", environment)


@pytest.fixture
def local_leaf(dev2: Laptop) -> Iterator[None]:
    yield from _running(dev2, "leaf", {"SP_ADDRESS": "127.0.0.1", "SP_PORT": "3010"})


def _running(laptop: Laptop, part: str, environment: dict[str, str]) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = laptop.popen("python", "-m", f"codezero.sandbox.sample.{part}", env=environment, **quiet)
    yield
    process.kill()
    process.wait()


def test_an_admin_makes_an_organization_and_a_teamspace_and_invites_people(state_home: Path, database: Hub) -> None:
    """From a Hub with an owner and a bare cluster to a Teamspace that is certified and connected; what the admin types is all there is to it."""
    with start(name=f"admin-{database}-{os.getpid()}", sample=False, hub=database, teamspace=False) as bare:
        hub, admin = bare.hub(), Laptop(bare, layout.CLUSTER)
        admin.sign_in("admin")
        admin.czctl("organization", "create", "acme")
        made = asked(admin, "space", "create", "staging")
        invited = asked(admin, "organization", "invite", "carol@example.com", "--role", "developer")
        before = asked(admin, "space", "list")["spaces"]
        values = ("--set", "system.replicas=1", "--set", "orchestrator.replicas=1", "--serve-namespace", "shop")
        admin.run("kubectl", "create", "namespace", "shop")
        install = ("teamspace", "install", "--hub", hub.url, "--hub-ca", hub.ca, "--join-token-file", "-", *values)
        admin.czctl(*install, input=made["join_token"], timeout=120)
        eventually(lambda: asked(admin, "space", "list")["spaces"][0]["connected"])
        (after,) = asked(admin, "space", "list")["spaces"]
        pods = admin.run("kubectl", "-n", "codezero", "get", "pods,services").stdout
        members = asked(admin, "organization", "members")["members"]
        audit = [entry["action"] for entry in asked(admin, "audit", "list")["entries"]]
        told = admin.czctl("teamspace", "status").stdout
        secret = admin.run(
            "kubectl", "-n", "codezero", "get", "secret", "codezero-join", "-o", "yaml", check=False
        ).stdout

    assert [(space["name"], space["state"]) for space in before] == [("staging", "invited")]
    assert made["join_token"] not in made["install_command"]
    assert invited["link"].startswith(hub.url)
    assert (after["state"], after["host"], after["port"]) == ("certified", layout.NODE_ADDRESS, layout.TUNNEL_PORT)
    assert "pod/system-" in pods
    assert [member["name"] for member in members] == ["admin"]
    assert {"organization.create", "space.create", "invitation.create", "space.join"} <= set(audit), audit
    assert hub.url in told
    assert "token:" not in secret, "a token that was used stays in the cluster"


@pytest.mark.capability("command", "agent.start", "agent.stop", "agent.status", "agent.reset", "consume.change")
@pytest.mark.capability("command", "consume.primary-namespace", "serve.start")
def test_a_developer_signs_in_consumes_serves_and_leaves(hubbed: Sandbox, dev1: Laptop, local_core: None) -> None:
    before = dev1.machine()
    said = dev1.sign_in()
    dev1.join()
    dev1.czctl("primary-namespace", "select", SAMPLE)
    dev1.czctl("consume", "apply", input=f"{SAMPLE}/*\n!{CORE}\n")
    leaf = eventually(lambda: dev1.curl("http://sample-project-leaf:3010/api", check=False).stdout)
    dev1.czctl("serve", CORE, "3000")
    mine = eventually(lambda: outside(hubbed, f"{USER_HEADER}: {user_id(dev1)}")["where"] == "laptop")
    others = outside(hubbed)["where"]
    status = dev1.status()
    may = dev1.czctl("auth", "can-i", "consume", f"sample-project-core.{SAMPLE}")
    dev1.czctl("reset")
    dev1.czctl("stop")

    assert "organization: sandbox; Teamspace: sandbox" in said
    assert json.loads(leaf)["who"] == "leaf"
    assert mine
    assert others.startswith("sample-project-core-")
    assert status["teamspace"]["user"] == "dev1"
    assert may.returncode == 0
    assert dev1.machine() == before


@pytest.mark.capability("command", "people.list", "sessions.list", "sessions.end")
def test_a_team_mate_sees_who_serves_and_both_answer_one_request(
    hubbed: Sandbox, admin: Laptop, dev1: Laptop, dev2: Laptop, local_core: None, local_leaf: None
) -> None:
    """Whoever manages the Teamspace ends a session: what its laptop served ends, and it comes back."""
    for laptop in (dev1, dev2):
        laptop.sign_in()
        laptop.join()
        laptop.consume(f"*.{SAMPLE}", primary_namespace=SAMPLE)
    dev1.czctl("serve", CORE, "3000", *CONDITION)
    seen = eventually(lambda: [one for one in asked(dev2, "who")["laptops"] if one["serves"]])
    dev2.czctl("serve", LEAF, "3010", *CONDITION)

    def crossing() -> tuple[str, str]:
        answer = outside(hubbed, TEAM)
        return answer["where"], str(answer["leaf"].get("where"))

    eventually(lambda: crossing() == ("laptop", "laptop2"))
    plain = outside(hubbed)
    listed = asked(dev2, "sessions", "list")
    (his,) = [session["id"] for session in listed["sessions"] if session["user_name"] == "dev2"]
    admin.czctl("sessions", "end", his, "--reason", "lunch")
    eventually(lambda: not dev2.serves())
    eventually(lambda: crossing()[1].startswith("sample-project-leaf-"))
    eventually(dev2.is_connected)

    assert [one["user_name"] for one in seen] == ["dev1"]
    assert plain["where"].startswith("sample-project-core-")
    assert plain["leaf"]["where"].startswith("sample-project-leaf-")
    assert {"dev1", "dev2"} <= {session["user_name"] for session in listed["sessions"]}
    assert len(dev1.serves()) == 1


def test_a_ci_job_signs_in_with_a_key_and_runs_its_tests(hubbed: Sandbox, admin: Laptop, dev2: Laptop) -> None:
    """The key never stands in a command line; when it is revoked, the job ends."""
    hub = hubbed.hub()
    made = asked(admin, "apikey", "create", "nightly", "--expires", "2h")
    job = dev2
    job.czctl(
        "auth",
        "login",
        "--force",
        "--hub",
        hub.url,
        "--hub-ca",
        hub.ca,
        "--apikey-file",
        "-",
        "--orgID",
        hub.organization,
        input=made["key"],
    )
    job.join()
    job.czctl("space", "select", "--id", hub.space)
    job.czctl("consume", "apply", "--primary-namespace", SAMPLE, input=f"*.{SAMPLE}\n")
    answer = eventually(lambda: job.curl("http://sample-project-leaf:3010/api", check=False).stdout)
    user = job.status()["teamspace"]["user"]
    admin.czctl("apikey", "revoke", made["id"])
    eventually(lambda: not job.is_connected(), within=30)
    refused = job.czctl("auth", "status", check=False)
    job.czctl("reset", check=False)
    job.czctl("stop")

    assert json.loads(answer)["who"] == "leaf"
    assert user == "nightly"
    assert refused.returncode == 4, refused.stdout + refused.stderr
