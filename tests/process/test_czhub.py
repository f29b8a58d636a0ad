"""`czhub` as people run it: from nothing to a first owner, stopped and started, backed up and restored; and what it says when something is wrong."""

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser
from codezero.testing.hub_process import OWNER, HubProcess
from codezero.testing.waiting import eventually


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path / "data")
    yield made
    made.close()


def test_from_nothing_to_a_first_owner_who_is_still_there_after_a_restart(hub: HubProcess) -> None:
    """One command, no settings but for the ports: README's promise."""
    owner = hub.start().owner()
    before = owner.ask("GET", "/organizations")["items"]
    again = hub.run("owner-link")
    assert hub.stop() == 0
    hub.start()
    returned = Browser(hub.endpoint)
    returned.sign_in(OWNER["email"], OWNER["password"])

    assert [(found["name"], found["role"]) for found in before] == [("Shop", "owner")]
    assert again.returncode == 7
    assert "has an owner already" in again.stderr
    assert returned.ask("GET", "/organizations")["items"] == before
    assert owner.ask("GET", "/organizations")["items"] == before


def test_the_first_owner_s_link_is_shown_at_a_terminal_and_logged_nowhere(hub: HubProcess) -> None:
    """Logs are kept and sent on; whoever reads the link first owns the Hub."""
    controller, terminal = pty.openpty()
    with hub.log.open("wb") as log:
        hub.process = subprocess.Popen(
            hub.command("serve"), env=hub.environment(), stdin=subprocess.DEVNULL, stdout=terminal, stderr=log
        )
    os.close(terminal)
    shown = b""
    deadline = time.monotonic() + 30
    while b"token=" not in shown and time.monotonic() < deadline:
        if select.select([controller], [], [], 1)[0]:
            shown += os.read(controller, 4096)
    link = re.search(r"http://\S+token=\S+", shown.decode())
    assert link is not None, shown
    browser = Browser(hub.endpoint)
    browser.become_first_owner(link[0], organization="Shop", **OWNER)
    os.close(controller)
    hub.stop()

    logged = hub.log.read_text()
    assert "the Hub runs" in logged
    assert "token" not in logged
    assert OWNER["password"] not in logged


def test_a_second_one_with_the_same_data_is_refused(hub: HubProcess) -> None:
    hub.start()
    second = HubProcess(hub.folder).run("serve")

    assert second.returncode == 1
    assert "another czhub runs with the data folder" in second.stderr
    assert "[CZ-HUB-003]" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_told(hub: HubProcess, tmp_path: Path) -> None:
    hub.start()
    second = HubProcess(tmp_path / "other", port=hub.port).run("serve")

    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{hub.port}" in second.stderr


def test_all_mistakes_of_the_settings_are_told_at_once(hub: HubProcess) -> None:
    hub.variables = {"CODEZERO_HUB_LISTEN": "0.0.0.0:8700", "CODEZERO_HUB_LOG_LEVEL": "loud"}
    ended = hub.run("serve")

    assert ended.returncode == 2
    assert "CODEZERO_HUB_LISTEN" in ended.stderr
    assert "CODEZERO_HUB_LOG_LEVEL" in ended.stderr
    assert "fix:" in ended.stderr


def test_a_lost_master_key_is_told_and_no_new_one_is_made(hub: HubProcess) -> None:
    hub.start()
    hub.stop()
    (hub.folder / "master.key").unlink()
    ended = hub.run("serve")

    assert ended.returncode == 1
    assert "[CZ-HUB-005]" in ended.stderr
    assert not (hub.folder / "master.key").exists()


def test_a_backup_of_a_running_hub_is_restored_elsewhere(hub: HubProcess, tmp_path: Path) -> None:
    owner = hub.start().owner()
    organization = owner.ask("GET", "/organizations")["items"][0]["id"]
    owner.ask("POST", f"/organizations/{organization}/service-accounts", {"name": "before"})
    assert hub.run("backup", str(tmp_path / "hub.backup")).returncode == 0
    owner.ask("POST", f"/organizations/{organization}/service-accounts", {"name": "after"})
    hub.stop()
    elsewhere = HubProcess(tmp_path / "elsewhere", port=hub.port)
    elsewhere.folder.mkdir(mode=0o700)
    shutil.copy2(hub.folder / "master.key", elsewhere.folder)
    restored = elsewhere.run("restore", str(tmp_path / "hub.backup"))
    try:
        elsewhere.start()
        accounts = owner.ask("GET", f"/organizations/{organization}/service-accounts")["items"]
    finally:
        elsewhere.close()

    assert restored.returncode == 0, restored.stderr
    # Who was signed in still is.
    assert [account["name"] for account in accounts] == ["before"]


def test_a_stolen_token_key_is_followed_at_once_while_the_hub_runs(hub: HubProcess) -> None:
    hub.start()

    def published() -> set[str]:
        content = hub.endpoint.request("GET", "/.well-known/jwks.json").content
        return {key["kid"] for key in json.loads(content)["keys"]}

    before = published()
    in_time = hub.run("rotate-keys")
    eventually(lambda: published() > before)
    announced = published()
    at_once = hub.run("rotate-keys", "--at-once")
    eventually(lambda: len(published()) == 1 and not published() & announced)

    assert (in_time.returncode, at_once.returncode) == (0, 0)
    assert "in an hour" in in_time.stderr
    assert "worth nothing" in at_once.stderr


def test_nothing_it_makes_is_readable_by_others(hub: HubProcess) -> None:
    hub.start().owner()
    hub.stop()

    assert [str(path) for path in (hub.folder, *hub.folder.rglob("*")) if path.stat().st_mode & 0o077] == []


def test_its_numbers_and_states_have_a_port_of_their_own(hub: HubProcess, tmp_path: Path) -> None:
    from codezero.testing.teamspace import free_port
    from codezero.transport.hub_http import HubEndpoint

    port = free_port()
    hub.variables = {"CODEZERO_HUB_METRICS_LISTEN": f"127.0.0.1:{port}"}
    hub.start().owner()
    watched = HubEndpoint(f"http://127.0.0.1:{port}")
    page = watched.request("GET", "/metrics").content.decode()

    assert watched.request("GET", "/readyz").status == 200
    assert 'codezero_hub_requests_total{method="POST",route="/first-owner",status="303"} 1.0' in page
    assert "codezero_hub_ready 1.0" in page
    assert OWNER["email"] not in page
    assert hub.endpoint.request("GET", "/metrics").status == 404


def test_a_forgotten_password_is_set_anew_by_a_link(hub: HubProcess) -> None:
    owner = hub.start().owner()
    link = hub.run("password-link", OWNER["email"]).stdout.strip()
    nobody = hub.run("password-link", "nobody@acme.example")
    Browser(hub.endpoint).set_password(link, "another long password")

    with pytest.raises(CodezeroError) as ended:
        owner.ask("GET", "/organizations")
    assert ended.value.problem is problems.NOT_SIGNED_IN
    with pytest.raises(CodezeroError):
        Browser(hub.endpoint).sign_in(OWNER["email"], OWNER["password"])
    returned = Browser(hub.endpoint)
    returned.sign_in(OWNER["email"], "another long password")
    assert [found["name"] for found in returned.ask("GET", "/organizations")["items"]] == ["Shop"]
    assert nobody.returncode == 6
    assert "CZ-GENERAL-003" in nobody.stderr


def test_a_stranger_s_first_word_is_short(hub: HubProcess) -> None:
    """By the port itself: it ends before the Hub holds what a stranger sends."""
    with connect(f"{hub.start().url.replace('http', 'ws')}/api/v1/events", compression=None) as socket:
        socket.send("x" * 9000)
        with pytest.raises(ConnectionClosedError) as raised:
            socket.recv(timeout=20)
    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 1009


def test_help_begins_with_examples() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "codezero.hub.main", "--help"], capture_output=True, text=True, check=True
    ).stdout

    assert "czhub serve" in shown
    assert all(
        command in shown for command in ("owner-link", "backup", "restore", "verify-audit", "rotate-keys", "check")
    )
