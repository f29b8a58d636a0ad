"""The original's published Node client (npm `@c6o/codezero-agent`, unmodified) and a Hub process: what it asks for, and what it gets (row 85)."""

import json
import os
import sqlite3
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests import node_peers

from codezero.model.ids import TeamspaceId
from codezero.sandbox.browser import Browser
from codezero.system.tokens import TokenVerifier
from codezero.testing.hub_process import HubProcess

pytestmark = pytest.mark.node

SOURCE = Path(__file__).parent / "agent_peer"
Json = dict[str, Any]


class Agent:
    """The client's process."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self._process = subprocess.Popen(
            ["node", "peer.mjs"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, **fields: str) -> Json:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **fields}) + "\n")
        self._process.stdin.flush()
        answer: Json = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path / "data")
    yield made.start()
    made.close()


@pytest.fixture
def owner(hub: HubProcess) -> Browser:
    return hub.owner()


@pytest.fixture
def organization(owner: Browser) -> str:
    return str(owner.ask("GET", "/organizations")["items"][0]["id"])


@pytest.fixture
def space(hub: HubProcess, owner: Browser, organization: str) -> str:
    """A Teamspace that has joined; that clusters join, and say where they are, is told in other tests."""
    made = str(owner.ask("POST", f"/organizations/{organization}/spaces", {"name": "shop"})["id"])
    now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
    with sqlite3.connect(hub.folder / "hub.db", timeout=20) as database:
        database.execute(
            "UPDATE spaces SET state='certified', certified_at=?, host='shop.example.com', port=8800 WHERE id=?",
            (now, made),
        )
    database.close()
    return made


@pytest.fixture
def key(owner: Browser, organization: str) -> Json:
    made: Json = owner.ask("POST", f"/organizations/{organization}/apikeys", {"name": "serverless"})
    return made


@pytest.fixture
def agent(hub: HubProcess, organization: str, space: str, key: Json) -> Iterator[Agent]:
    made = Agent(
        node_peers.installed(SOURCE),
        CZ_ORG_ID=organization,
        CZ_ORG_API_KEY=key["key"],
        CZ_SPACE_ID=space,
        CZ_HUB_SERVER_BASE_URL=hub.url,
    )
    yield made
    made.close()


def test_it_gets_what_it_connects_with(hub: HubProcess, organization: str, space: str, key: Json, agent: Agent) -> None:
    given = agent.ask("credentials")
    assert given.get("error") is None, given
    verifier = TokenVerifier(issuer=None)
    verifier.read_keys(hub.endpoint.request("GET", "/.well-known/jwks.json").content)
    speaker = verifier.verify(given["token"], TeamspaceId(space))

    assert given["host"] == "shop.example.com"
    assert (speaker.organization, speaker.user, speaker.device) == (organization, key["service_account"], key["id"])
    assert ssl.create_default_context(cadata=given["cert"]).cert_store_stats()["x509_ca"] >= 1
    assert agent.ask("credentials") == given, "it keeps them as long as they are good"
    agent.ask("forget")
    assert agent.ask("credentials")["token"] != given["token"]


def test_it_is_told_why_it_gets_nothing(owner: Browser, organization: str, space: str, key: Json, agent: Agent) -> None:
    owner.ask("POST", f"/organizations/{organization}/spaces/{space}/suspend")
    suspended = agent.ask("credentials")
    owner.ask("POST", f"/organizations/{organization}/spaces/{space}/resume")
    assert "token" in agent.ask("credentials")
    owner.ask("DELETE", f"/organizations/{organization}/apikeys/{key['id']}")
    agent.ask("forget")
    revoked = agent.ask("credentials")

    assert "Teamspace shop is suspended" in suspended["error"]
    assert "API key is not taken" in revoked["error"]
    assert key["key"] not in json.dumps(revoked)
