"""czctl and a Hub, both as processes: signing in by all ways, what is kept where, and every command once."""

import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.cli.hub_client import DeviceKey
from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.sandbox.browser import Browser
from codezero.testing.czctl import CZCTL
from codezero.testing.hub_process import OWNER, HubProcess
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.teamspace import free_port
from codezero.testing.views import CONSUME, SERVICES, SHOP, STATUS
from codezero.transport.hub_http import HubEndpoint
from codezero.wire import access_file
from codezero.wire.access_file import HubReference, TeamspaceAccess
from codezero.wire.local_api import HubState, HubView

# Signs in at the page it is given, approves, and follows the redirect: what a person does with a browser.
BROWSER = """
import sys, urllib.request
from urllib.parse import urlsplit
from codezero.sandbox.browser import Browser
from codezero.transport.hub_http import HubEndpoint
url, email, password = sys.argv[1:]
parts = urlsplit(url)
browser = Browser(HubEndpoint(f"{parts.scheme}://{parts.netloc}"))
browser.sign_in(email, password)
back = browser.approve_redirect(url)
print(urllib.request.urlopen(back).read().decode(), file=sys.stderr)
"""


@dataclass
class Machine:
    """A machine of somebody: its home, and czctl there."""

    home: Path
    hub: HubProcess
    variables: dict[str, str]

    def czctl(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [CZCTL, *arguments],
            env={**self.environment(), **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "CODEZERO_RUN_FOLDER": str(self.home / "run"),
            "CODEZERO_STATE_FOLDER": str(self.home / "state"),
            "TMPDIR": str(self.home),
            **self.variables,
        }

    def json(self, *arguments: str, stdin: str = "") -> Any:
        ended = self.czctl(*arguments, "-o", "json", stdin=stdin)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    @property
    def folder(self) -> Path:
        return self.home / ".config" / "codezero"

    def kept(self) -> dict[str, Any]:
        return json.loads((self.folder / "credentials.json").read_text())

    def login(self, *options: str, email: str = OWNER["email"], password: str = OWNER["password"]) -> str:
        """By a browser that opens here; what czctl said."""
        script = self.home / "browser.py"
        script.write_text(BROWSER)
        browser = f"{sys.executable} {script} %s {email} '{password}'"
        ended = self.czctl("auth", "login", "--hub", self.hub.url, *options, BROWSER=browser)
        assert ended.returncode == 0, ended.stderr
        return ended.stderr


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path_factory.mktemp("hub") / "data").start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner(hub: HubProcess) -> Browser:
    return hub.owner()


@pytest.fixture
def machine(hub: HubProcess, owner: Browser, tmp_path: Path) -> Machine:
    return Machine(tmp_path, hub, {})


@pytest.mark.capability("command", "auth.sign-in", "auth.whoami")
def test_a_browser_signs_in_and_the_only_organization_is_selected(machine: Machine) -> None:
    said = machine.login()

    assert f"signed in to {machine.hub.url} as Olga" in said
    assert "organization: Shop" in said
    assert "You can close this window." in said
    status = machine.json("auth", "status")
    assert (status["hub"], status["by"], status["email"]) == (machine.hub.url, "browser", OWNER["email"])
    assert status["organization"]["name"] == "Shop"
    assert (machine.folder / "credentials.json").stat().st_mode & 0o777 == 0o600
    again = machine.czctl("auth", "login")
    assert "already signed in" in again.stderr


@pytest.mark.capability("command", "auth.machine")
def test_a_code_typed_elsewhere_signs_in(machine: Machine, owner: Browser) -> None:
    """Without a display, and over SSH, by itself."""
    process = subprocess.Popen(
        [CZCTL, "auth", "login", "--hub", machine.hub.url],
        env={**machine.environment(), "DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(rf"open {machine.hub.url}/device in a browser and type ([A-Z]{{4}}-[A-Z]{{4}})", line)
    assert found is not None, line

    owner.approve_device(found[1])
    _, said = process.communicate(timeout=60)

    assert process.returncode == 0, said
    assert "as Olga" in said


@pytest.mark.capability("command", "service-account.create")
@pytest.mark.parametrize("how", ["file", "stdin", "argument"])
def test_an_api_key_signs_in_with_its_organization(machine: Machine, how: str) -> None:
    machine.login()
    made = machine.json("apikey", "create", f"ci-{how}")
    other = Machine(machine.home / "ci", machine.hub, {})
    other.home.mkdir()
    file = machine.home / "key"
    file.write_text(made["key"] + "\n")
    organization = machine.json("auth", "status")["organization"]["id"]

    match how:
        case "file":
            ended = other.czctl("auth", "login", "--hub", machine.hub.url, "--apikey-file", str(file))
        case "stdin":
            ended = other.czctl(
                "auth", "login", "--hub", machine.hub.url, "--apikey-file", "-", "--org", "Shop", stdin=made["key"]
            )
        case _:
            ended = other.czctl(
                "auth", "login", "--hub", machine.hub.url, "--apikey", made["key"], "--orgID", organization
            )

    assert ended.returncode == 0, ended.stderr
    assert ("warning: --apikey shows the secret" in ended.stderr) == (how == "argument")
    status = other.json("auth", "status")
    assert (status["by"], status["user"]["name"], status["organization"]["name"]) == ("api-key", f"ci-{how}", "Shop")
    machine.czctl("apikey", "revoke", f"ci-{how}")
    refused = other.czctl("auth", "status")
    assert refused.returncode == 4
    assert "[CZ-HUB-001]" in refused.stderr


def test_the_environment_signs_in_and_nothing_is_kept(machine: Machine) -> None:
    machine.login()
    key = machine.json("apikey", "create", "environment")["key"]
    token = machine.czctl("auth", "token").stdout.strip()
    bare = Machine(machine.home / "bare", machine.hub, {"CODEZERO_HUB": machine.hub.url})
    bare.home.mkdir()

    by_key = bare.czctl("auth", "status", "-o", "json", CODEZERO_API_KEY=key)
    by_token = bare.czctl("auth", "status", "-o", "json", CODEZERO_TOKEN=token)

    assert json.loads(by_key.stdout)["user"]["name"] == "environment"
    assert json.loads(by_token.stdout)["user"]["name"] == "Olga"
    assert json.loads(by_token.stdout)["by"] == "environment"
    assert not bare.folder.exists()


def test_twenty_at_once_with_an_expired_token_stay_signed_in(machine: Machine) -> None:
    """R28: one of them refreshes; a refresh token that is used twice would end the sign-in."""
    machine.login()
    before = machine.kept()
    (machine.folder / "credentials.json").write_text(json.dumps({**before, "expires": time.time() - 1}))

    processes = [
        subprocess.Popen(
            [CZCTL, "organization", "list", "-o", "name"],
            env=machine.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(20)
    ]
    ended = [process.communicate(timeout=120) for process in processes]

    assert {(process.returncode, out) for process, (out, _) in zip(processes, ended, strict=True)} == {(0, "Shop\n")}
    after = machine.kept()
    assert after["refresh_token"] != before["refresh_token"]
    assert machine.czctl("auth", "status").returncode == 0


def test_a_copied_store_is_worth_nothing_without_the_key(machine: Machine) -> None:
    """T04: tokens are bound to the device's key."""
    machine.login()
    stolen = {**machine.kept(), "key": DeviceKey.new().pem, "expires": 0.0}
    thief = Machine(machine.home / "thief", machine.hub, {})
    thief.folder.mkdir(parents=True)
    (thief.folder / "hub.json").write_text((machine.folder / "hub.json").read_text())
    (thief.folder / "credentials.json").write_text(json.dumps(stolen))

    refused = thief.czctl("auth", "status")

    assert refused.returncode == 4
    assert machine.czctl("auth", "status").returncode == 0


@pytest.mark.capability("command", "auth.sign-out")
def test_logging_out_ends_it_here_and_there(machine: Machine) -> None:
    machine.login()
    before = machine.kept()

    ended = machine.czctl("auth", "logout")

    assert (ended.returncode, ended.stderr) == (0, f"signed out of {machine.hub.url}\n")
    assert not (machine.folder / "credentials.json").exists()
    refused = machine.czctl("auth", "status")
    assert refused.returncode == 4
    assert f"fix:  czctl auth login --hub {machine.hub.url}" in refused.stderr
    (machine.folder / "credentials.json").write_text(json.dumps(before))
    assert machine.czctl("auth", "status").returncode == 4
    machine.login()
    assert machine.czctl("auth", "logout").returncode == 0
    assert "not signed in" in machine.czctl("auth", "logout").stderr


def test_a_hub_that_is_away_is_named_and_what_is_kept_stays(machine: Machine) -> None:
    machine.login()
    context = json.loads((machine.folder / "hub.json").read_text())
    away = f"http://127.0.0.1:{free_port()}"
    for file, content in (("hub.json", context), ("credentials.json", machine.kept())):
        (machine.folder / file).write_text(json.dumps({**content, "url": away}))

    asked = machine.czctl("organization", "list", "-o", "json")

    assert asked.returncode == 8
    problem = json.loads(asked.stderr)
    assert problem["code"] == "CZ-HUB-010"
    assert away in problem["detail"]
    out = machine.czctl("auth", "logout")
    assert out.returncode == 0
    assert "the Hub could not be told" in out.stderr
    assert not (machine.folder / "credentials.json").exists()


def test_no_command_shows_a_secret_but_the_one_that_is_asked_to(machine: Machine) -> None:
    machine.login()
    kept = machine.kept()
    told = "".join(
        text
        for arguments in (("auth", "status"), ("auth", "status", "-o", "json"), ("device", "list"), ("auth", "login"))
        for ended in [machine.czctl(*arguments)]
        for text in (ended.stdout, ended.stderr)
    )

    for name in ("access_token", "refresh_token", "key"):
        assert kept[name] not in told
    assert kept["access_token"] not in (machine.folder / "hub.json").read_text()


@pytest.mark.capability("command", "organization.list", "organization.create", "member.list", "member.role")
@pytest.mark.capability("command", "member.remove", "invitation.create", "invitation.list", "invitation.withdraw")
def test_organizations_members_and_invitations(machine: Machine, hub: HubProcess) -> None:
    """What an admin does by the command line, each once, as JSON."""
    machine.login()

    made = machine.json("organization", "create", "Other")
    assert (made["name"], made["role"], made["api"]) == ("Other", "owner", "codezero.io/hub/v1")
    listed = machine.json("organization", "list")
    assert {one["name"] for one in listed["organizations"]} >= {"Shop", "Other"}
    assert machine.json("auth", "status")["organization"]["name"] == "Other"

    invitation = machine.json("organization", "invite", "bob@example.com", "--role", "admin")
    assert invitation["link"].startswith(hub.url)
    assert [one["email"] for one in machine.json("organization", "members", "--invited")["invitations"]] == [
        "bob@example.com"
    ]
    browser = Browser(hub.endpoint)
    browser.accept_invitation(invitation["link"], name="Bob", password="a long password of bob")
    members = {one["name"]: one["role"] for one in machine.json("organization", "members")["members"]}
    assert members == {"Olga": "owner", "Bob": "admin"}

    assert machine.json("organization", "role", "bob@example.com", "viewer")["role"] == "viewer"
    assert machine.czctl("organization", "remove", "bob@example.com").returncode == 0
    assert [one["name"] for one in machine.json("organization", "members")["members"]] == ["Olga"]
    assert machine.czctl("organization", "invite", "eve@example.com").returncode == 0
    withdrawn = machine.czctl("organization", "invite", "eve@example.com", "--withdraw")
    assert "withdrawn" in withdrawn.stderr
    assert machine.czctl("organization", "select", "Shop").returncode == 0
    assert machine.json("auth", "status")["organization"]["name"] == "Shop"


def test_the_last_owner_stays_and_names_that_are_none_are_named(machine: Machine) -> None:
    machine.login()

    last = machine.czctl("organization", "role", OWNER["email"], "viewer", "--org", "Shop")
    unknown = machine.czctl("organization", "remove", "nobody@example.com", "--org", "Shop")
    wrong = machine.czctl("organization", "members", "--org", "Shopp")

    assert (last.returncode, "CZ-HUB-011" in last.stderr) == (7, True)
    assert unknown.returncode == 6
    assert (wrong.returncode, "did you mean 'Shop'" in wrong.stderr) == (6, True)


@pytest.mark.capability("command", "apikey.list", "apikey.create", "apikey.revoke", "device.list", "device.revoke")
def test_keys_and_devices(machine: Machine) -> None:
    machine.login()
    made = machine.json("apikey", "create", "nightly", "--expires", "720h", "--scope", "spaces.read", "--org", "Shop")
    listed = machine.json("apikey", "list", "--org", "Shop")["apikeys"]
    (own,) = [one for one in listed if one["name"] == "nightly"]
    assert made["key"].startswith("cz_key_")
    assert (own["id"], own["scopes"], "key" in own) == (made["id"], ["spaces.read"], False)
    assert machine.czctl("apikey", "revoke", "nightly", "--org", "Shop").returncode == 0
    assert machine.czctl("apikey", "revoke", "nightly", "--org", "Shop").returncode == 6

    this = machine.kept()["device"]
    assert this in [one["id"] for one in machine.json("device", "list")["devices"]]
    assert this in [one["id"] for one in machine.json("device", "list", "--org", "Shop")["devices"]]
    assert machine.czctl("device", "revoke", this).returncode == 0
    refused = machine.czctl("organization", "list")
    assert refused.returncode == 4
    machine.login("--force")
    assert machine.kept()["device"] != this


def test_whoever_signs_in_next_ends_the_device_of_before_and_its_agent_leaves(machine: Machine) -> None:
    """Two people at one machine: nothing goes on as the first."""
    machine.login()
    before = machine.kept()
    organization = machine.json("organization", "create", "Handover")["id"]
    for name in ("one", "two"):
        machine.json("space", "create", name)
    link = machine.json("organization", "invite", "nina@example.com", "--role", "developer")["link"]
    Browser(machine.hub.endpoint).accept_invitation(link, name="Nina", password="a long password of nina")
    there = msgspec.structs.replace(SHOP, user_id=machine.json("auth", "status")["user"]["id"])
    running = msgspec.structs.replace(STATUS, teamspace=there, hub=HubView(machine.hub.url, HubState.REACHABLE))
    (machine.home / "run").mkdir()

    replies = {"GET /v1/status": running, "DELETE /v1/teamspace": STATUS}
    with ScriptedDaemon(machine.home / "run", dict(replies)) as daemon:
        said = machine.login("--force", email="nina@example.com", password="a long password of nina")

    assert "the agent has left its Teamspace" in said
    assert "DELETE /v1/teamspace" in daemon.lines()
    assert machine.json("auth", "status")["organization"]["id"] == organization
    (machine.folder / "credentials.json").write_text(json.dumps(before))
    assert machine.czctl("auth", "status").returncode == 4


def test_names_are_completed_as_the_hub_told_them_last(machine: Machine) -> None:
    machine.login()
    machine.czctl("organization", "list")

    offered = machine.czctl(_CZCTL_COMPLETE="bash_complete", COMP_WORDS="czctl organization select Sh", COMP_CWORD="3")

    assert offered.stdout == "plain,Shop\n"


def joined(machine: Machine, name: str) -> dict[str, Any]:
    """A Teamspace whose cluster has joined, and told where laptops connect to."""
    made = machine.json("space", "create", name)
    key = certificates.new_key()
    request = {"token": made["join_token"], "csr": certificates.certificate_request(key), "release": "test"}
    endpoint = machine.hub.endpoint
    endpoint.checked(endpoint.request("POST", "/api/v1/teamspaces/join", body=json.dumps(request).encode()))
    # What its channel would tell.
    with sqlite3.connect(machine.hub.folder / "hub.db") as database:
        database.execute("update spaces set host = '127.0.0.1', port = 8800 where id = ?", (made["id"],))
    return made


@pytest.mark.capability("command", "space.list", "space.create", "space.show", "space.join-token", "space.suspend")
@pytest.mark.capability("command", "space.resume", "space.rotate", "space.remove", "space.token")
def test_teamspaces_are_made_looked_at_and_removed(machine: Machine) -> None:
    machine.login()
    machine.czctl("organization", "create", "Spaces")

    made = joined(machine, "shop")
    assert made["install_command"].startswith("czctl teamspace install --hub")
    assert machine.json("auth", "status")["space"]["name"] == "shop"
    assert [one["name"] for one in machine.json("space", "list")["spaces"]] == ["shop"]
    status = machine.json("space", "status", "shop")
    assert (status["id"], status["state"], status["host"]) == (made["id"], "unreachable", "127.0.0.1")
    assert machine.json("space", "suspend", "shop")["state"] == "suspended"
    assert machine.json("space", "resume")["state"] == "unreachable"
    assert machine.json("space", "rotate")["rotating"]
    assert machine.czctl("space", "token").stdout.count(".") == 2
    anew = machine.json("space", "join-token")
    assert anew["join_token"] != made["join_token"]
    taken = machine.czctl("space", "create", "shop")
    assert taken.returncode == 7

    assert machine.json("space", "create", "billing")["state"] == "invited"
    assert machine.czctl("space", "select", "billing").returncode == 0
    assert machine.json("auth", "status")["space"]["name"] == "billing"
    unasked = machine.czctl("space", "remove", "billing")
    assert (unasked.returncode, "--yes" in unasked.stderr) == (2, True)
    assert machine.czctl("space", "remove", "billing", "--yes").returncode == 0
    assert machine.json("auth", "status")["space"] is None
    assert machine.czctl("space", "status", "billing").returncode == 6
    assert machine.czctl("organization", "select", "Spaces").returncode == 0
    assert machine.json("auth", "status")["space"]["name"] == "shop"


@pytest.mark.capability("command", "policy.show", "policy.save", "policy.check", "policy.versions")
@pytest.mark.capability("command", "policy.rollback")
def test_policies_are_tried_applied_compared_and_brought_back(machine: Machine) -> None:
    machine.login()
    machine.czctl("organization", "create", "Policies")
    machine.czctl("space", "create", "shop")
    before = machine.czctl("policy", "show").stdout
    file = machine.home / "shop.cedar"
    file.write_text(
        before.replace("// @test deny viewer consume shop/orders", "// @test allow viewer consume shop/orders")
    )

    wrong = machine.czctl("policy", "test", str(file))
    assert (wrong.returncode, wrong.stdout.startswith("line ")) == (1, True)
    refused = machine.czctl("policy", "apply", str(file), "-o", "json")
    assert refused.returncode == 2
    assert json.loads(refused.stderr)["code"].startswith("CZ-POLICY-")

    file.write_text(f"{before}\n// A word for the auditors.\n")
    assert machine.json("policy", "test", str(file))["valid"]
    assert "+// A word for the auditors." in machine.czctl("policy", "diff", str(file)).stdout
    assert machine.json("policy", "apply", str(file), "--comment", "a word")["number"] == 2
    assert "+// A word for the auditors." in machine.czctl("policy", "diff").stdout
    assert [one["number"] for one in machine.json("policy", "versions")["versions"]] == [2, 1]
    assert machine.json("policy", "show", "--version", "1")["text"] == before
    assert machine.json("policy", "rollback", "1")["number"] == 3
    assert machine.czctl("policy", "show").stdout == before

    script = machine.home / "editor"
    script.write_text("#!/bin/sh\necho '// by hand' >> \"$1\"\n")
    script.chmod(0o755)
    edited = machine.czctl("policy", "edit", "--editor", str(script), "--comment", "by hand")
    assert edited.returncode == 0, edited.stderr
    assert machine.czctl("policy", "show").stdout.endswith("// by hand\n")
    script.write_text("#!/bin/sh\necho 'permit (' >> \"$1\"\n")
    spoiled = machine.czctl("policy", "edit", "--editor", str(script))
    kept = re.search(r"your text is kept in (\S+)", spoiled.stderr)
    assert (spoiled.returncode, kept is not None) == (2, True)
    assert kept is not None
    assert "permit (" in Path(kept[1].rstrip("]")).read_text()


@pytest.mark.capability("command", "policy.explain")
def test_what_one_may_do_is_answered_with_the_reason(machine: Machine, owner: Browser) -> None:
    machine.login()
    machine.czctl("organization", "create", "May I")
    machine.czctl("space", "create", "shop")
    link = machine.json("organization", "invite", "vera@example.com", "--role", "viewer")["link"]
    Browser(machine.hub.endpoint).accept_invitation(link, name="Vera", password="a long password of vera")

    allowed = machine.czctl("auth", "can-i", "consume", "orders.shop")
    denied = machine.czctl("auth", "can-i", "consume", "orders.shop", "--as", "vera@example.com", "-o", "json")
    header = machine.czctl(
        "auth", "can-i", "serve", "shop/orders", "--condition-type", "header", "--condition", "x-team:blue"
    )

    assert (allowed.returncode, allowed.stdout.startswith("yes")) == (0, True)
    assert denied.returncode == 5
    assert json.loads(denied.stdout)["allowed"] is False
    assert json.loads(denied.stdout)["reason"]
    assert header.returncode == 0
    told = machine.json("policy", "explain", "consume", "orders.shop", "--as", "vera@example.com")
    assert (told["allowed"], told["policies"]) == (False, [])
    assert "vera" not in machine.czctl("policy", "explain", "consume", "orders.shop").stdout
    assert machine.czctl("auth", "can-i", "fly", "orders.shop").returncode == 2


@pytest.mark.capability("command", "audit.list", "audit.export", "audit.verify")
def test_the_audit_is_listed_exported_and_verified(machine: Machine) -> None:
    machine.login()
    machine.czctl("organization", "create", "Audited")
    machine.czctl("space", "create", "shop")

    listed = machine.json("audit", "list", "--limit", "1")["entries"]
    assert [one["action"] for one in listed] == ["space.create"]
    assert {
        one["action"].partition(".")[0] for one in machine.json("audit", "list", "--action", "space")["entries"]
    } == {"space"}
    exported = machine.czctl("audit", "export")
    assert all(json.loads(line) for line in exported.stdout.splitlines())
    assert "Olga" not in machine.czctl("audit", "export", "--pseudonymous").stdout
    file = machine.home / "audit.jsonl"
    assert machine.czctl("audit", "export", "--file", str(file)).returncode == 0
    assert file.stat().st_mode & 0o777 == 0o600
    verified = machine.json("audit", "verify")
    assert (verified["ok"], verified["broken"]) == (True, None)


def test_sessions_are_listed_and_one_that_is_not_there_is_not_ended(machine: Machine) -> None:
    machine.login()
    machine.czctl("organization", "create", "Sessions")
    joined(machine, "shop")

    assert machine.json("sessions", "list") == {"sessions": [], "api": "codezero.io/hub/v1"}
    ended = machine.czctl("sessions", "end", "01JZ0000000000000000000002", "--reason", "test")
    assert ended.returncode in {6, 8}, ended.stderr


@pytest.mark.capability("command", "agent.teamspace.select")
def test_start_takes_the_selected_teamspace_with_a_certificate_of_this_machine_s_key(machine: Machine) -> None:
    """The key stays here: the Hub signs a request by it."""
    machine.login()
    machine.czctl("organization", "create", "Start")
    made = joined(machine, "shop")
    (machine.home / "run").mkdir()

    with ScriptedDaemon(machine.home / "run", {"GET /v1/status": STATUS, "PUT /v1/teamspace": STATUS}) as daemon:
        started = machine.czctl("start")
        machine.json("space", "create", "empty")
        selected = machine.czctl("space", "select", "empty")

    assert started.returncode == 0, started.stderr
    (given,) = [one for one in daemon.requests if one.line == "PUT /v1/teamspace"]
    access = access_file.decode(given.body)
    assert (access.teamspace, access.name, access.host, access.port) == (made["id"], "shop", "127.0.0.1", 8800)
    assert (access.organization, access.user) == ("Start", "Olga")
    assert access.hub == HubReference(machine.hub.url)
    assert access.device == machine.kept()["device"]
    assert access.key == machine.kept()["key"]
    Credentials.from_pem(access.certificate, access.key)
    assert selected.returncode == 3
    assert "[CZ-SPACE-002]" in selected.stderr


def test_start_goes_on_without_the_hub(machine: Machine) -> None:
    """R05: a Hub that is away stops nobody who was there before."""
    machine.login()
    machine.czctl("organization", "create", "Away")
    joined(machine, "shop")
    away = f"http://127.0.0.1:{free_port()}"
    context = json.loads((machine.folder / "hub.json").read_text())
    for file, content in (("hub.json", context), ("credentials.json", machine.kept())):
        (machine.folder / file).write_text(json.dumps({**content, "url": away}))
    (machine.home / "run").mkdir()

    with ScriptedDaemon(machine.home / "run", {"GET /v1/status": STATUS}) as daemon:
        started = machine.czctl("start")

    assert started.returncode == 0, started.stderr
    assert "going on with what is known from last time" in started.stderr
    assert "connected to shop as alice" in started.stderr
    assert [one.line for one in daemon.requests if one.line.startswith("PUT")] == []


def test_a_machine_with_an_api_key_starts_too(machine: Machine) -> None:
    """CI: no person, no browser, a key of its own for the certificate."""
    machine.login()
    machine.czctl("organization", "create", "CI")
    made = joined(machine, "shop")
    key = machine.json("apikey", "create", "ci")["key"]
    organization = machine.json("auth", "status")["organization"]["id"]
    runner = Machine(machine.home / "ci", machine.hub, {})
    (runner.home / "run").mkdir(parents=True)
    signed = runner.czctl("auth", "login", "--hub", machine.hub.url, "--apikey", key, "--orgID", organization)
    assert "next: czctl start" in signed.stderr

    with ScriptedDaemon(runner.home / "run", {"GET /v1/status": STATUS, "PUT /v1/teamspace": STATUS}) as daemon:
        started = runner.czctl("start")
        selected = runner.czctl("space", "select", "--id", made["id"])

    assert started.returncode == 0, started.stderr
    assert selected.returncode == 0, selected.stderr
    first, second = [access_file.decode(one.body) for one in daemon.requests if one.line == "PUT /v1/teamspace"]
    assert first.user == "ci"
    assert (first.device, first.key) == (second.device, second.key)


def test_a_machine_with_an_api_key_of_the_environment_stays_the_device_that_it_is(machine: Machine) -> None:
    """Each other device would end what is served and open. Where another agent runs, such as in a home that machines share, it is another device."""
    machine.login()
    machine.czctl("organization", "create", "Stays")
    made = joined(machine, "shop")
    keys = [machine.json("apikey", "create", name)["key"] for name in ("one", "two")]
    runner = Machine(machine.home / "stays", machine.hub, {"CODEZERO_HUB": machine.hub.url})
    (runner.home / "run").mkdir(parents=True)
    file = runner.folder / "machine-key.json"

    def started(device: str | None, key: str = keys[0]) -> TeamspaceAccess:
        there = msgspec.structs.replace(STATUS, teamspace=msgspec.structs.replace(SHOP, id=made["id"], device=device))
        with ScriptedDaemon(runner.home / "run", {"GET /v1/status": there, "PUT /v1/teamspace": there}) as daemon:
            ended = runner.czctl("start", CODEZERO_API_KEY=key)
        assert ended.returncode == 0, ended.stderr
        (given,) = [one for one in daemon.requests if one.line == "PUT /v1/teamspace"]
        return access_file.decode(given.body)

    first = started(None)
    assert first.device is not None
    assert file.stat().st_mode & 0o777 == 0o600
    assert keys[0] not in file.read_text()

    again = started(first.device)
    assert (again.device, again.key) == (first.device, first.key)
    assert again.certificate != first.certificate

    for other in (started("01JZ0000000000000000000002"), started(None)):
        assert other.device != first.device
    last = json.loads(file.read_text())["device"]
    stranger = started(last, keys[1])
    assert stranger.device != last
    file.write_text(file.read_text().replace("BEGIN PRIVATE KEY", "BEGIN NOTHING"))
    assert started(stranger.device, keys[1]).device != stranger.device
    ended = runner.czctl("auth", "logout")
    assert ended.returncode == 0, ended.stderr
    assert not file.exists()


def lines_of(page: str) -> list[str]:
    """The commands that a page tells people to type."""
    text = (Path(__file__).parent.parent.parent / "docs" / "how-to" / page).read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


def types(machine: Machine, line: str, **variables: str) -> None:
    """Type a line of a page; the addresses and names in it are those of the test."""
    ended = subprocess.run(
        ["bash", "-c", f'czctl() {{ {CZCTL} "$@"; }}; curl() {{ echo answered; }}; {line}'],
        env={**machine.environment(), **variables},
        cwd=machine.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert ended.returncode == 0, (line, ended.stderr)
    assert ended.stdout or ended.stderr, f"{line} says nothing at all"


REPLIES = {
    "GET /v1/status": STATUS, "PUT /v1/teamspace": STATUS, "PUT /v1/consume": CONSUME, "POST /v1/reset": CONSUME,
    "GET /v1/services": SERVICES,
}  # fmt: skip


def test_what_the_page_about_signing_in_tells_people_to_type_works(machine: Machine, owner: Browser) -> None:
    machine.login()
    machine.czctl("organization", "create", "acme")
    joined(machine, "shop")
    machine.czctl("auth", "logout")
    (machine.home / "run").mkdir()
    script = machine.home / "browser.py"
    browser = f"{sys.executable} {script} %s {OWNER['email']} '{OWNER['password']}'"
    # A certificate of its own is tried with a Hub that has one; a code needs somebody who types it.
    typed = [line for line in lines_of("sign-in.md") if "--hub-ca" not in line and "--no-browser" not in line]

    with ScriptedDaemon(machine.home / "run", dict(REPLIES)):
        for line in typed:
            types(machine, line.replace("https://hub.example.org", machine.hub.url), BROWSER=browser)

    assert len(typed) > 8


def test_what_the_page_about_ci_tells_people_to_type_works(machine: Machine) -> None:
    machine.login()
    machine.czctl("organization", "create", "pipelines")
    made = joined(machine, "staging")
    key = machine.json("apikey", "create", "for-the-page")["key"]
    runner = Machine(machine.home / "runner", machine.hub, {})
    (runner.home / "run").mkdir(parents=True)
    (runner.home / "key.txt").write_text(key)
    lines = lines_of("use-in-ci.md")

    with ScriptedDaemon(runner.home / "run", dict(REPLIES)):
        for line in lines[1:5]:
            types(runner, line, CODEZERO_HUB=machine.hub.url, CODEZERO_API_KEY=key)
        for line in lines[6:]:
            typed = line.replace("https://hub.example.org", machine.hub.url)
            types(runner, typed.replace("01JAB3CDEFGHJKMNPQRSTVWXYZ", made["id"]))
    types(machine, lines[0])

    assert lines[5] == "czctl stop"
    assert len(lines) == 9


def test_a_hub_with_an_authority_of_its_own_is_believed_by_it_alone(tmp_path: Path) -> None:
    """Given once and remembered; without it nothing is sent."""
    authority, stranger = Authority.create("hub", path_length=0), Authority.create("other", path_length=0)
    own = authority.issue("hub", addresses=["127.0.0.1"], server=True)
    for name, content in (
        ("tls.crt", own.certificate_pem),
        ("tls.key", own.key_pem),
        ("ca.pem", authority.certificate_pem),
        ("other.pem", stranger.certificate_pem),
    ):
        (tmp_path / name).write_text(content)
    files = {
        "CODEZERO_HUB_TLS_CERT_FILE": str(tmp_path / "tls.crt"),
        "CODEZERO_HUB_TLS_KEY_FILE": str(tmp_path / "tls.key"),
    }
    hub = TlsHub(tmp_path / "data", variables=files, ca=authority.certificate_pem).start()
    machine = Machine(tmp_path, hub, {})
    try:
        wrong = machine.czctl(
            "auth", "login", "--no-browser", "--hub", hub.url, "--hub-ca", str(tmp_path / "other.pem")
        )
        unknown = machine.czctl("auth", "login", "--no-browser", "--hub", hub.url)
        hub.owner()
        key = tmp_path / "key"
        key.write_text("cz_key_01JAB3CDEFGHJKMNPQRSTVWXYZ_nonsense")
        known = machine.czctl(
            "auth", "login", "--hub", hub.url, "--hub-ca", str(tmp_path / "ca.pem"), "--apikey-file", str(key)
        )
    finally:
        hub.close()

    for refused in (wrong, unknown):
        assert (refused.returncode, "[CZ-HUB-012]" in refused.stderr) == (8, True)
        assert "nothing was sent" in refused.stderr
    assert (known.returncode, "[CZ-HUB-001]" in known.stderr) == (4, True)


@dataclass
class TlsHub(HubProcess):
    """A Hub that speaks TLS, with a certificate that this machine does not believe by itself."""

    ca: str = ""

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def public_url(self) -> str:
        return self.url

    @property
    def endpoint(self) -> HubEndpoint:
        return HubEndpoint(self.url, self.ca)
