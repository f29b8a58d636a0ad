"""Canaries: a secret of its own in every slot of a Hub, and then everything is searched that others may come to see (T34, T47)."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from tests.hub_databases import PostgresServer
from websockets.sync.client import connect

from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser
from codezero.testing.hub_process import OWNER, HubProcess
from codezero.testing.teamspace import free_port
from codezero.wire.paired import RELAY_PATH, Ask, Head, Hello, Piece, ask_path

CLIENT_SECRET = "canary-of-the-client-secret-5f1d"
INVITED_PASSWORD = "canary of the invited person's password"
DATABASE_PASSWORD = "canary-of-the-database-9a7c"
PROOF = "canary.of-the-proof-of-a.page-3b81"
RELAYED_BODY = "canary of what a page asks its machine"
RELAYED_ANSWER = "canary of what a machine answers its page"


@pytest.fixture(params=["sqlite", "postgresql"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HubProcess]:
    """A Hub with an identity provider, and with a database whose URL has a password, where it has one."""
    (tmp_path / "client-secret").write_text(CLIENT_SECRET)
    (tmp_path / "client-secret").chmod(0o600)
    provider = {
        "name": "acme",
        "title": "Acme",
        "issuer": f"http://127.0.0.1:{free_port()}",
        "client_id": "hub",
        "client_secret_file": str(tmp_path / "client-secret"),
    }
    (tmp_path / "providers.json").write_text(json.dumps([provider]))
    variables = {"CODEZERO_HUB_PROVIDERS_FILE": str(tmp_path / "providers.json"), "CODEZERO_HUB_LOG_LEVEL": "debug"}
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database = server.new_database(empty=True)
        url = server.url(database).replace("postgres@", f"postgres:{DATABASE_PASSWORD}@")
        (tmp_path / "url").write_text(url)
        variables["CODEZERO_HUB_DATABASE_URL_FILE"] = str(tmp_path / "url")
    made = HubProcess(tmp_path / "data", variables=variables)
    yield made
    made.close()
    if request.param == "postgresql":
        server.drop(database)


def czctl(home: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    command = [sys.executable, "-m", "codezero.cli", *arguments]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def signed_in(hub: HubProcess, owner: Browser, home: Path) -> tuple[dict[str, str], str]:
    """What czctl keeps after a sign-in by a typed code, and what it printed."""
    said = ""
    with czctl(home, "auth", "login", "--hub", hub.public_url, "--no-browser") as login:
        assert login.stdout is not None
        for line in login.stdout:
            said += line
            for word in line.split():
                if len(word) == 9 and word[4] == "-":
                    owner.approve_device(word)
    assert login.returncode == 0, said
    return json.loads((home / "codezero" / "credentials.json").read_text()), said


def forms(secret: str) -> set[bytes]:
    """A secret, and how it would look where somebody has written it another way."""
    raw = secret.encode()
    return {raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"="), quote(secret, safe="").encode()}


def asked_by_relay(hub: HubProcess, token: str) -> bytes:
    """What a page gets from a machine through the Hub: something that changes it, which the log tells of."""
    machine, authorization = new_ulid(), {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    asked = {"method": "POST", "target": "/agent/v1/serve", "proof": PROOF, "body": RELAYED_BODY}
    address = f"ws{hub.url.removeprefix('http')}{RELAY_PATH}"
    with connect(address, proxy=None) as socket, ThreadPoolExecutor() as threads:
        socket.send(msgspec.msgpack.encode(Hello((1,), token, machine, "laptop")))
        socket.recv(20)
        answer = threads.submit(
            lambda: hub.endpoint.request(
                "POST", ask_path(machine), body=json.dumps(asked).encode(), headers=authorization
            )
        )
        question = msgspec.msgpack.decode(socket.recv(20), type=Ask)
        assert (question.proof, question.body) == (PROOF, RELAYED_BODY.encode())
        socket.send(msgspec.msgpack.encode(Head(question.id, 200, "application/json")))
        socket.send(msgspec.msgpack.encode(Piece(question.id, RELAYED_ANSWER.encode(), is_last=True)))
        content = answer.result().content
    assert "passed to a machine" in hub.log.read_text()
    return content


def dumped(hub: HubProcess, request: pytest.FixtureRequest) -> bytes:
    """All that is in the database."""
    if "CODEZERO_HUB_DATABASE_URL_FILE" not in hub.variables:
        return b"".join(file.read_bytes() for file in hub.folder.glob("hub.db*"))
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = Path(hub.variables["CODEZERO_HUB_DATABASE_URL_FILE"]).read_text().rpartition("/")[2]
    tables = server.run_sql(name, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'").split()
    return "\n".join(server.run_sql(name, f'SELECT row_to_json(t) FROM "{table}" t') for table in tables).encode()


def test_no_secret_is_where_others_may_look(hub: HubProcess, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    hub.start()
    link = hub.run("owner-link").stdout.strip()
    owner = Browser(hub.endpoint, hub.public_url)
    owner.become_first_owner(link, organization="Shop", **OWNER)
    organization = owner.ask("GET", "/organizations")["items"][0]["id"]
    home = f"/organizations/{organization}"
    invitation = owner.ask("POST", f"{home}/invitations", {"email": "bob@example.com", "role": "developer"})
    Browser(hub.endpoint, hub.public_url).accept_invitation(invitation["link"], name="Bob", password=INVITED_PASSWORD)
    space = owner.ask("POST", f"{home}/spaces", {"name": "staging"})
    key = owner.ask("POST", f"{home}/apikeys", {"name": "ci"}, key="canary-of-an-idempotency-key")
    ticket = owner.ask("POST", "/events/tickets")["ticket"]
    credentials, said = signed_in(hub, owner, tmp_path / "home")
    relayed_answer = asked_by_relay(hub, credentials["access_token"])
    # Wrong ones are somebody's right ones elsewhere.
    wrong = "canary of a password that was mistyped"
    with pytest.raises(CodezeroError):
        Browser(hub.endpoint, hub.public_url).sign_in(OWNER["email"], wrong)
    hub.endpoint.request(
        "GET", f"/api/v1/organizations?token={key['key']}", headers={"Authorization": f"Bearer {ticket}"}
    )
    with czctl(tmp_path / "home", "organization", "list") as listing:
        said += listing.communicate()[0]
    time.sleep(0.2)
    assert hub.process is not None
    process = Path("/proc", str(hub.process.pid))
    seen_by_others = {
        "log": hub.log.read_bytes(),
        "database": dumped(hub, request),
        "command line": (process / "cmdline").read_bytes(),
        "environment": (process / "environ").read_bytes(),
        "check": "".join(hub.run("check").stdout).encode(),
        "what czctl said": said.encode(),
        "czctl's context": (tmp_path / "home" / "codezero" / "hub.json").read_bytes(),
    }
    secrets = {
        "master key": (hub.folder / "master.key").read_text().strip(),
        "first owner's link": link.partition("token=")[2],
        "owner's password": OWNER["password"],
        "invited person's password": INVITED_PASSWORD,
        "mistyped password": wrong,
        "invitation": invitation["token"],
        "join token": space["join_token"],
        "API key": key["key"],
        "ticket": ticket,
        "cookie": str(owner.cookie).partition("=")[2],
        "client secret": CLIENT_SECRET,
        "access token": credentials["access_token"],
        "refresh token": credentials["refresh_token"],
        "device's key": "".join(credentials["key"].splitlines()[1:-1]),
        "database password": DATABASE_PASSWORD,
        "proof of a page": PROOF,
        "what a page asks": RELAYED_BODY,
        "what a machine answers": RELAYED_ANSWER,
    }
    assert relayed_answer == RELAYED_ANSWER.encode()

    assert all(len(secret) > 12 for secret in secrets.values()), "a slot is empty"
    found = [
        f"{name} in {place}"
        for name, secret in secrets.items()
        for place, content in seen_by_others.items()
        if any(form in content for form in forms(secret))
    ]
    assert found == []
    # The search itself finds what is there.
    assert OWNER["email"].encode() in seen_by_others["database"]
