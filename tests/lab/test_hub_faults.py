"""What a Hub ends and what it does not: revocations while streaming, a Hub that is away, and programs without a tunnel."""

import base64
import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests import node_peers
from tests.lab.conftest import start

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

CORE = f"{SAMPLE}/sample-project-core"
LEAF_URL = f"http://sample-project-leaf.{SAMPLE}:3010/api"
EDGE = f"http://{layout.NODE_ADDRESS}/api"
CONDITION = ("--condition-type", "header", "--condition", "x-c6o-team:blue")
# Says that it is connected, and when it is no more.
HOLD = (
    "import socket, sys\n"
    f"held = socket.create_connection(('sample-project-leaf.{SAMPLE}', 3010), timeout=10)\n"
    "held.settimeout(None)\n"
    "print('held', flush=True)\n"
    "try: held.recv(1)\n"
    "except OSError: pass\n"
    "print('ended', flush=True)\n"
)


@pytest.fixture(scope="module")
def hubbed(state_home: Path) -> Iterator[Sandbox]:
    with start(name=f"hub-faults-{os.getpid()}", hub="sqlite") as running:
        yield running


@pytest.fixture
def admin(hubbed: Sandbox) -> Laptop:
    found = Laptop(hubbed, layout.CLUSTER)
    found.sign_in("admin")
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


def outside(sandbox: Sandbox, *options: str) -> str:
    """Who answers somebody outside who sends the header."""
    curl = ["curl", "-sS", "--max-time", "10", "-H", "x-c6o-team: blue", *options, EDGE]
    return json.loads(sandbox.run("internet", curl).stdout)["where"]


@contextmanager
def streaming(sandbox: Sandbox, laptop: Laptop, *, serves: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A connection into the cluster that stands, and a served variant that answers."""
    laptop.join()
    laptop.consume(f"*.{SAMPLE}", primary_namespace=SAMPLE)
    eventually(lambda: laptop.curl(LEAF_URL, check=False).returncode == 0)
    environment = {"SP_ADDRESS": "127.0.0.1", "SP_PORT": "3000"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    local = laptop.popen("python", "-m", "codezero.sandbox.sample.core", env=environment, **quiet)
    held = laptop.popen("python", "-c", HOLD, stdout=subprocess.PIPE, text=True)
    assert held.stdout is not None
    try:
        if serves:
            laptop.czctl("serve", CORE, "3000", *CONDITION)
            eventually(lambda: outside(sandbox) == laptop.place)
        assert held.stdout.readline() == "held\n"
        yield held
    finally:
        for process in (local, held):
            process.kill()
            process.wait()
        held.stdout.close()
        laptop.czctl("reset", check=False)


def test_revocation_ends_what_streams(hubbed: Sandbox, admin: Laptop, dev1: Laptop, subtests: pytest.Subtests) -> None:
    """T41: whatever is taken away ends streams and serves that stand, and not only those to come. (Users and keys: the demo, and the job of `test_hub`.)"""

    def role(name: str) -> Callable[[], object]:
        return lambda: admin.czctl("organization", "role", "dev1@sandbox.example", name)

    def policy(text: str) -> Callable[[], object]:
        return lambda: admin.czctl("policy", "apply", input=text)

    def revoke_device() -> None:
        newest = max(asked(dev1, "device", "list")["devices"], key=lambda one: one["id"])
        dev1.czctl("device", "revoke", newest["id"])

    before = admin.czctl("policy", "show").stdout
    kinds: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "role": (role("auditor"), role("developer")),
        "space": (
            lambda: admin.czctl("space", "suspend", "sandbox"),
            lambda: admin.czctl("space", "resume", "sandbox"),
        ),
        "device": (revoke_device, lambda: None),
        "permission": (policy("forbid (principal, action, resource);\n"), policy(before)),
    }
    for kind, (take, give) in kinds.items():
        with subtests.test(kind):
            dev1.sign_in()
            with streaming(hubbed, dev1) as held:
                take()
                try:
                    assert held.stdout is not None
                    assert held.stdout.readline() == "ended\n"
                    eventually(lambda: outside(hubbed).startswith("sample-project-core-"))
                finally:
                    give()
            dev1.stop()
            if kind == "device":
                dev1.czctl("auth", "logout", check=False)


def test_while_the_hub_is_away_all_goes_on_and_afterwards_the_audit_is_whole(
    hubbed: Sandbox, admin: Laptop, dev1: Laptop, dev2: Laptop
) -> None:
    dev1.sign_in()
    dev2.sign_in()
    with streaming(hubbed, dev1) as held:
        hubbed.stop_hub()
        try:
            answers = [dev1.curl(LEAF_URL, check=False).returncode for _ in range(5)]
            served = outside(hubbed)
            is_held = held.poll() is None
            # Also what begins now: the certificate of the last time is still good. A reset ends what it takes away, streams as well.
            dev1.czctl("reset")
            dev1.consume(f"*.{SAMPLE}", primary_namespace=SAMPLE)
            dev1.czctl("serve", CORE, "3000", *CONDITION)
            again = eventually(lambda: outside(hubbed) == "laptop")
            login = dev2.czctl("auth", "login", "--force", check=False)
            status = dev1.czctl("status", check=False)
        finally:
            hubbed.start_hub()
    eventually(lambda: asked(admin, "space", "list")["spaces"][0]["connected"])

    def told() -> list[dict[str, Any]]:
        entries = asked(admin, "audit", "list", "--limit", "500")["entries"]
        return [entry for entry in entries if entry["action"].startswith("serve.")]

    eventually(lambda: len([entry for entry in told() if entry["action"] == "serve.begin"]) >= 2)
    counted = Counter((entry["action"], json.dumps(entry["target"]), entry["at"]) for entry in told())
    whole = admin.czctl("audit", "verify")

    assert answers == [0] * 5
    assert served == "laptop"
    assert again
    assert is_held
    assert login.returncode == 8
    assert "CZ-HUB-010" in login.stderr
    assert "curl" in login.stderr
    assert "connected" in status.stdout
    assert max(counted.values()) == 1, "something is told twice"
    assert whole.returncode == 0


@pytest.mark.node
def test_the_original_s_agent_fetches_until_its_key_is_revoked(hubbed: Sandbox, admin: Laptop, dev1: Laptop) -> None:
    """Whoever has built on npm `@c6o/codezero-agent` changes one variable."""
    hub = hubbed.hub()
    made = asked(admin, "apikey", "create", "functions")
    folder = node_peers.installed(Path(__file__).parent / "agent_peer")
    environment = {
        "CZ_ORG_ID": hub.organization,
        "CZ_ORG_API_KEY": made["key"],
        "CZ_SPACE_ID": hub.space,
        "CZ_HUB_SERVER_BASE_URL": hub.url,
        "NODE_EXTRA_CA_CERTS": hub.ca,
    }
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with dev1.popen("node", str(folder / "peer.mjs"), env=environment, **pipes) as peer:

        def fetched() -> dict[str, Any]:
            assert peer.stdin is not None
            assert peer.stdout is not None
            peer.stdin.write(f"{LEAF_URL}\n")
            peer.stdin.flush()
            return json.loads(peer.stdout.readline())

        first = fetched()
        admin.czctl("apikey", "revoke", made["id"])
        # Its token is good for minutes; the Teamspace knows better.
        last = eventually(lambda: answer if (answer := fetched()).get("status") != 200 else None, within=20)
        assert peer.stdin is not None
        peer.stdin.close()

    assert first["status"] == 200, first
    assert json.loads(first["body"])["who"] == "leaf"
    assert last == {**last, "status": 407}, last


def test_no_secret_of_the_run_is_in_a_log_or_a_command_line(hubbed: Sandbox, dev1: Laptop) -> None:
    """T47: whoever asks for help sends logs. (A Hub's own slots, one by one: `tests/process/test_hub_secrets.py`.)"""
    dev1.sign_in()
    dev1.join()
    dev1.consume(f"*.{SAMPLE}")
    kept = json.loads(dev1.run("sh", "-c", "cat ~/.config/codezero/credentials.json").stdout)
    identity = hubbed.run("cluster", ["kubectl", "-n", "codezero", "get", "secret", "codezero-identity", "-o", "json"])
    keys = [base64.b64decode(text).decode() for text in json.loads(identity.stdout)["data"].values()]
    secrets = {
        "access token": kept["access_token"],
        "refresh token": kept["refresh_token"],
        "device's key": kept["key"].splitlines()[1],
        **{f"key of the cluster {number}": key.splitlines()[1] for number, key in enumerate(keys) if "PRIVATE" in key},
        **{f"password of {name}": person.password for name, person in hubbed.hub().people.items()},
        "master key": hubbed.run("internet", ["cat", f"{hubbed.hub().data_folder}/master.key"]).stdout.strip(),
        "token of the CONNECT door": dev1.czctl("space", "token", "sandbox").stdout.strip(),
    }
    logs = [hubbed.log, *hubbed.log.parent.rglob("*.log")]
    seen = {str(log): log.read_text(errors="replace") for log in logs}
    seen["the agent's log"] = dev1.run("sh", "-c", "cat /var/lib/codezero/*.log", check=False).stdout
    seen["status"] = dev1.czctl("status", "-o", "json").stdout
    seen["command lines"] = dev1.run("sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '", check=False).stdout

    assert "czhub" in seen["command lines"] or "codezero.hub" in seen["command lines"]
    assert all(len(secret) > 12 for secret in secrets.values())
    assert [
        f"{name} in {place}" for name, secret in secrets.items() for place, text in seen.items() if secret in text
    ] == []
