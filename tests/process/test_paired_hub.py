"""A machine, its Hub and a page in between, all as processes: the same signed requests by both ways, and what ends them."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.process.test_czctl_hub import Machine, lines_of, types

from codezero.cli.paired.process import Running
from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser
from codezero.testing.hub_process import HubProcess
from codezero.testing.paired_page import PairedPage
from codezero.testing.paired_process import PairProcess, paired
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.views import CONSUME, STATUS
from codezero.testing.waiting import eventually
from codezero.wire.paired import PAIRINGS

# As JSON tells it.
SHOWN = msgspec.json.decode(msgspec.json.encode(CONSUME))


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path_factory.mktemp("hub") / "data").start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def browser(hub: HubProcess) -> Browser:
    """Signed in as the owner, as the page in front of the machine."""
    return hub.owner()


@pytest.fixture
def machine(hub: HubProcess, browser: Browser) -> Iterator[Machine]:
    """Signed in as the owner, with an agent."""
    # pytest's own folders are too long for socket paths.
    folder = Path(tempfile.mkdtemp(prefix="cz-"))
    (folder / "run").mkdir()
    made = Machine(folder, hub, {})
    made.login()
    yield made
    told = running(made)
    if told is not None:
        os.kill(told.pid, signal.SIGTERM)
        eventually(lambda: running(made) is None)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def daemon(machine: Machine) -> Iterator[ScriptedDaemon]:
    replies = {"GET /v1/status": STATUS, "GET /v1/consume": CONSUME, "PUT /v1/consume": CONSUME}
    with ScriptedDaemon(machine.home / "run", dict(replies)) as made:
        yield made


def running(machine: Machine) -> Running | None:
    try:
        told = msgspec.json.decode((machine.folder / "paired-process.json").read_bytes(), type=Running)
        os.kill(told.pid, 0)
    except (OSError, ValueError):
        return None
    return told


def relayed(browser: Browser, page: PairedPage, method: str, target: str, body: object = None) -> Any:
    """What the page gets through the Hub; problems are raised."""
    asked = msgspec.to_builtins(page.asked(method, target, body))
    return browser.ask("POST", f"/machines/{page.machine}/ask", asked)


def stands(machine: Machine) -> bool:
    told = running(machine)
    return told is not None and told.relay_stands


def test_a_page_is_paired_through_the_hub_and_asks_by_both_ways(
    machine: Machine, browser: Browser, daemon: ScriptedDaemon
) -> None:
    with PairProcess(machine.environment()) as waiting:
        page = waiting.page()
        eventually(lambda: stands(machine))
        wanted = page.wanted()
        proof = page.proof("POST", PAIRINGS, wanted)
        asked = {"method": "POST", "target": PAIRINGS, "proof": proof, "body": wanted.decode()}
        made = browser.ask("POST", f"/machines/{page.machine}/ask", asked)
        assert waiting.ended()[0] == 0

    by_hub = relayed(browser, page, "PUT", "/agent/v1/consume", {"rules": ["*.shop"]})
    directly = page.ask("GET", "/agent/v1/consume")

    assert (made["pairing"]["id"], made["relays"]) == (page.id, True)
    assert by_hub == directly.json() == SHOWN
    assert daemon.lines() == ["PUT /v1/consume", "GET /v1/consume"]
    (listed,) = browser.ask("GET", "/machines")
    assert listed["machine"] == page.machine
    assert "by the Hub" in machine.czctl("status").stdout
    assert machine.json("pairing", "list")["relays"]
    token = machine.kept()["access_token"]
    assert token not in (machine.folder / "paired.log").read_text()


def test_what_was_asked_by_one_way_is_not_good_by_the_other(
    machine: Machine, browser: Browser, daemon: ScriptedDaemon
) -> None:
    page = paired(machine.environment())
    eventually(lambda: stands(machine))
    proof = page.proof("GET", "/agent/v1/consume")
    assert page.ask("GET", "/agent/v1/consume", proof=proof).status == 200

    with pytest.raises(CodezeroError) as refused:
        browser.ask(
            "POST", f"/machines/{page.machine}/ask", {"method": "GET", "target": "/agent/v1/consume", "proof": proof}
        )

    assert refused.value.problem.code == "CZ-PAIR-001"
    assert daemon.lines() == ["GET /v1/consume"]


def test_a_move_to_another_teamspace_is_asked_by_its_name(machine: Machine, browser: Browser) -> None:
    page = paired(machine.environment())
    (organization,) = browser.ask("GET", "/organizations")["items"]
    space = browser.ask("POST", f"/organizations/{organization['id']}/spaces", {"name": "staging"})
    known = {"organization": organization["id"], "space": space["id"]}

    told = page.ask("POST", "/console/teamspace", known)
    page.ask("POST", "/console/teamspace", {**known, "space": page.machine})
    named, nameless = machine.json("confirm")["questions"]

    assert told.code == "CZ-PAIR-004"
    assert told.json()["detail"].endswith("move this machine to Teamspace staging of Shop")
    assert named["asked"] == [
        "move this machine to Teamspace staging of Shop",
        f"Teamspace {space['id']}, organization {organization['id']}",
    ]
    assert nameless["asked"][0] == "move this machine to another Teamspace"


def test_without_the_relay_the_machine_is_not_at_the_hub_until_it_is_switched_on(
    machine: Machine, browser: Browser, daemon: ScriptedDaemon
) -> None:
    page = paired(machine.environment(), "--no-relay")
    assert not page.ask("GET", PAIRINGS).json()["relays"]
    assert "not by the Hub (switched off: czctl pair --relay)" in machine.czctl("status").stdout
    assert browser.ask("GET", "/machines") == []

    paired(machine.environment())
    assert not page.ask("GET", PAIRINGS).json()["relays"], "it stays as it was"
    paired(machine.environment(), "--relay")

    eventually(lambda: stands(machine))
    assert relayed(browser, page, "GET", "/agent/v1/consume") == SHOWN


def test_a_hub_that_is_away_for_a_while_is_found_again_and_direct_goes_on(
    hub: HubProcess, machine: Machine, browser: Browser, daemon: ScriptedDaemon
) -> None:
    page = paired(machine.environment())
    eventually(lambda: stands(machine))

    hub.stop()
    eventually(lambda: not stands(machine))
    meanwhile = page.ask("GET", "/agent/v1/consume")
    hub.start()
    eventually(lambda: stands(machine), within=90)

    assert meanwhile.status == 200
    assert relayed(browser, page, "GET", "/agent/v1/consume") == SHOWN


def test_signed_out_nothing_is_paired_and_nothing_runs(
    machine: Machine, browser: Browser, daemon: ScriptedDaemon
) -> None:
    paired(machine.environment())
    eventually(lambda: stands(machine))

    ended = machine.czctl("auth", "logout")

    assert "1 paired page is not paired any more" in ended.stderr
    eventually(lambda: running(machine) is None)
    eventually(lambda: browser.ask("GET", "/machines") == [])


def test_pages_of_who_was_signed_in_before_are_nothing_for_who_is_now(machine: Machine, hub: HubProcess) -> None:
    page = paired(machine.environment())
    link = machine.json("organization", "invite", "nina@example.com", "--role", "developer")["link"]
    Browser(hub.endpoint).accept_invitation(link, name="Nina", password="a long password of nina")

    anew = machine.login("--force")
    assert "not paired any more" not in anew, "whoever signs in as themselves keeps their pages"
    assert page.ask("GET", PAIRINGS).status == 200
    said = machine.login("--force", email="nina@example.com", password="a long password of nina")

    assert "1 paired page is not paired any more" in said
    assert machine.json("pairing", "list")["pairings"] == []
    eventually(lambda: running(machine) is None)


# A browser that opens the file of `czctl pair`, and there the page.
BROWSER = """
import html, re, sys
from urllib.parse import urlsplit
from codezero.testing.paired_page import PairedPage
text = open(urlsplit(sys.argv[1]).path).read()
answered = PairedPage.at(html.unescape(re.search('url=([^"]+)"', text)[1])).pair()
assert answered.status == 200, answered.content
"""


def test_what_the_page_about_pairing_tells_people_to_type_works(machine: Machine, daemon: ScriptedDaemon) -> None:
    script = machine.home / "opens.py"
    script.write_text(BROWSER)
    # Without a browser that opens, somebody has to open the address.
    typed = [line for line in lines_of("pair-the-hubs-page.md") if "--no-open" not in line]

    for line in typed:
        types(machine, line, BROWSER=f"{sys.executable} {script} %s")

    assert len(typed) > 6
    assert machine.json("pairing", "list")["pairings"] == []
