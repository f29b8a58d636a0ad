"""Pages that are paired with a machine, directly: `czctl pair` and its process before an agent, and whoever else speaks to it is refused."""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.process.test_daemon import Laptop

from codezero.cli.paired.process import Running
from codezero.cli.paired.state import MOST_PAIRINGS, State
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.czctl import CZCTL
from codezero.testing.forged_proofs import forged
from codezero.testing.machine import Machine
from codezero.testing.paired_page import PairedPage
from codezero.testing.paired_process import PairProcess, paired
from codezero.testing.scripted_daemon import Raw, ScriptedDaemon, in_chunks
from codezero.testing.views import CONSUME, SERVES, SERVICES, STATUS, VARIANT
from codezero.testing.waiting import eventually
from codezero.wire.local_api import ServeResult
from codezero.wire.paired import PAIRINGS, SCHEME

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
HUB = "https://hub.example.org"
EVENTS = b'{"what":"status","at":1.0}\n'


@dataclass
class Home:
    """A machine of somebody who knows a Hub, which does not answer."""

    path: Path

    def __post_init__(self) -> None:
        (self.path / "run").mkdir(parents=True)

    @property
    def folder(self) -> Path:
        return self.path / ".config" / "codezero"

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "TMPDIR": str(self.path),
            "CODEZERO_RUN_FOLDER": str(self.path / "run"),
            "CODEZERO_STATE_FOLDER": str(self.path / "state"),
            "CODEZERO_HUB": HUB,
        }

    def czctl(self, *arguments: str, **variables: str | None) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [CZCTL, *arguments],
            env={name: value for name, value in {**self.environment, **variables}.items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in ended.stderr
        return ended

    def json(self, *arguments: str) -> Any:
        ended = self.czctl(*arguments, "-o", "json")
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def state(self) -> State:
        return msgspec.json.decode((self.folder / "paired.json").read_bytes(), type=State)

    def running(self) -> Running | None:
        """What the process tells of itself, if one runs."""
        try:
            told = msgspec.json.decode((self.folder / "paired-process.json").read_bytes(), type=Running)
            os.kill(told.pid, 0)
        except (OSError, ValueError):
            return None
        return told

    def pid(self) -> int:
        running = self.running()
        assert running is not None
        return running.pid

    def log(self) -> str:
        return (self.folder / "paired.log").read_text()


@pytest.fixture
def home() -> Iterator[Home]:
    # pytest's own folders are too long for socket paths.
    folder = Path(tempfile.mkdtemp(prefix="cz-"))
    made = Home(folder)
    yield made
    running = made.running()
    if running is not None:
        os.kill(running.pid, signal.SIGTERM)
        eventually(lambda: made.running() is None)
    shutil.rmtree(folder, ignore_errors=True)


# What a machine asks its agent before it tells whether a serve is to be confirmed.
STATUS_LINE = "GET /v1/status"


@pytest.fixture
def daemon(home: Home) -> Iterator[ScriptedDaemon]:
    replies = {
        "GET /v1/status": STATUS,
        "GET /v1/services": SERVICES,
        "GET /v1/consume": CONSUME,
        "PUT /v1/consume": CONSUME,
        "POST /v1/reset": CONSUME,
        "POST /v1/serve": CONSUME,
        "GET /v1/events": Raw(in_chunks(EVENTS, end=False), hold=True),
    }
    with ScriptedDaemon(home.path / "run", dict(replies)) as running:
        yield running


# --- being paired --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("operation", "pairing.make", "pairing.list")
@pytest.mark.capability("command", "pairing.make", "pairing.list", "pairing.revoke")
def test_a_page_is_paired_asks_and_is_forgotten(home: Home, daemon: ScriptedDaemon) -> None:
    with PairProcess(home.environment) as waiting:
        page = waiting.page()
        before = page.ask("GET", "/agent/v1/status")
        made = page.pair()
        code, said = waiting.ended()
    again = page.pair()

    assert (before.status, before.code) == (401, "CZ-PAIR-001")
    assert (made.status, made.json()["pairing"]["id"], made.json()["port"]) == (200, page.id, page.port)
    assert made.json()["pairing"]["acts"]
    assert code == 0
    assert f"paired with {page.name} at {HUB}, for 30 days" in said
    assert f"{page.id[:12]}\n" in said
    assert page.code not in said + home.log()
    assert (again.status, again.code) == (403, "CZ-PAIR-003")
    services = page.ask("GET", "/agent/v1/services")
    assert services.content == msgspec.json.encode(SERVICES)
    assert page.ask("PUT", "/agent/v1/consume", {"rules": ["*.shop"]}).status == 200
    assert daemon.lines() == ["GET /v1/services", "PUT /v1/consume"]
    assert set(daemon.requests[1].headers) == {"host", "accept", "connection", "content-type", "content-length"}
    listed = home.json("pairing", "list")
    assert [(one["id"], one["name"], one["origin"]) for one in listed["pairings"]] == [(page.id, page.name, HUB)]
    assert listed["port"] == page.port
    assert page.ask("GET", PAIRINGS).json()["pairings"][0]["id"] == page.id
    assert home.folder.joinpath("paired.json").stat().st_mode & 0o777 == 0o600

    assert home.czctl("pairing", "revoke", "--", page.id[:8]).stderr == f"{page.name} is not paired any more\n"
    eventually(lambda: home.running() is None)
    with pytest.raises(ConnectionRefusedError):
        page.ask("GET", "/agent/v1/status")


@pytest.mark.capability("operation", "pairing.revoke")
def test_a_pairing_that_looks_changes_nothing_and_may_end_itself(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment, "--read-only")
    other = paired(home.environment)

    changed = page.ask("PUT", "/agent/v1/consume", {"rules": ["*.shop"]})
    of_another = page.ask("POST", f"{PAIRINGS}/revoke", {"id": other.id})
    read = page.ask("GET", "/agent/v1/consume")
    own = page.ask("POST", f"{PAIRINGS}/revoke", {"id": page.id})

    assert (changed.status, changed.code) == (403, "CZ-PAIR-002")
    assert (of_another.status, of_another.code) == (403, "CZ-PAIR-002")
    assert (read.status, own.status) == (200, 204)
    assert daemon.lines() == ["GET /v1/consume"]
    assert page.ask("GET", "/agent/v1/consume").code == "CZ-PAIR-001"
    assert other.ask("GET", "/agent/v1/consume").status == 200


def test_five_wrong_codes_make_the_right_one_worth_nothing(home: Home) -> None:
    with PairProcess(home.environment) as waiting:
        wrong = [waiting.page(code="x" * 43).pair().code for _ in range(5)]
        code, said = waiting.ended()

    assert wrong == ["CZ-PAIR-003"] * 5
    assert code == 4
    assert "a wrong code came too often" in said
    assert home.state().offer is None
    eventually(lambda: home.running() is None)


def test_a_code_is_for_the_key_the_origin_and_the_machine_that_it_was_used_with(home: Home) -> None:
    with PairProcess(home.environment) as waiting:
        page = waiting.page()
        other = PairedPage(page.origin, page.machine, page.port, page.code)
        elsewhere = waiting.page(key=page.key)
        elsewhere.machine = "01JZ0000000000000000000009"

        stolen = other.ask("POST", PAIRINGS, page.wanted(), proof=other.proof("POST", PAIRINGS, page.wanted()))
        own_key = other.ask("POST", PAIRINGS, other.wanted(mac=json.loads(page.wanted())["mac"]))
        moved = elsewhere.pair()
        no_point = page.ask(
            "POST", PAIRINGS, page.wanted(key={"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43})
        )

        assert (stolen.status, stolen.code) == (401, "CZ-PAIR-001")
        assert (own_key.status, own_key.code) == (403, "CZ-PAIR-003")
        assert (moved.status, moved.code) == (401, "CZ-PAIR-001")
        assert (no_point.status, no_point.code) == (401, "CZ-PAIR-001")
        assert page.pair().status == 200
        assert waiting.ended()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_takes_the_offer_back_and_leaves_nothing_behind(home: Home, number: signal.Signals) -> None:
    with PairProcess(home.environment) as waiting:
        page = waiting.page()
        waiting.process.send_signal(number)
        code, said = waiting.ended()

    assert code == 130
    assert said.endswith("interrupted\n")
    assert home.state().offer is None
    eventually(lambda: home.running() is None)
    with pytest.raises(ConnectionRefusedError):
        page.pair()


def test_the_browser_is_led_by_a_file_and_its_arguments_tell_nothing(home: Home) -> None:
    script = home.path / "browser.sh"
    script.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@" > "$0.given"\ncp "${1#file://}" "$0.page.part"\nmv "$0.page.part" "$0.page"\n'
    )
    script.chmod(0o755)
    environment = {**home.environment, "BROWSER": f"{script} %s"}
    with PairProcess(environment, options=()) as waiting:
        opened = Path(f"{script}.page")
        eventually(opened.exists)
        page = waiting.page()

        assert page.code not in Path(f"{script}.given").read_text()
        assert page.code in opened.read_text()
        assert page.pair().status == 200
        assert waiting.ended()[0] == 0


def test_without_a_hub_there_is_nothing_to_pair_with(home: Home) -> None:
    ended = home.czctl("pair", "--no-open", CODEZERO_HUB=None)

    assert ended.returncode == 3
    assert "[CZ-HUB-014]" in ended.stderr
    assert not home.folder.joinpath("paired.json").exists()


@needs_root
@pytest.mark.root
def test_root_by_sudo_pairs_nothing(home: Home) -> None:
    ended = home.czctl("pair", "--no-open", SUDO_UID="1000")

    assert ended.returncode == 2
    assert "czctl pair, without sudo" in ended.stderr


# --- the process ---------------------------------------------------------------------------------------------------------------------------


def test_killed_it_is_started_again_at_the_same_port_and_knows_what_was_used(
    home: Home, daemon: ScriptedDaemon
) -> None:
    page = paired(home.environment)
    proof = page.proof("GET", "/agent/v1/consume")
    assert page.ask("GET", "/agent/v1/consume", proof=proof).status == 200

    os.kill(home.pid(), signal.SIGKILL)
    eventually(lambda: home.running() is None)
    home.czctl("start")
    replayed = page.ask("GET", "/agent/v1/consume", proof=proof)
    fresh = page.ask("GET", "/agent/v1/consume")

    assert (replayed.status, replayed.code) == (401, "CZ-PAIR-001")
    assert "used before" in replayed.json()["detail"]
    assert fresh.status == 200


def test_where_its_port_is_taken_it_takes_another_and_says_so(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    os.kill(home.pid(), signal.SIGTERM)
    eventually(lambda: home.running() is None)
    with socket.create_server(("127.0.0.1", page.port)):
        home.czctl("start")
        port = home.json("pairing", "list")["port"]

        assert port != page.port
        page.port = port
        assert page.ask("GET", PAIRINGS).json()["port"] == port


def test_there_is_one_of_it_and_an_older_release_gives_way(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    first = home.pid()
    paired(home.environment)
    assert home.pid() == first
    told = home.folder / "paired-process.json"
    told.write_bytes(told.read_bytes().replace(b'"release":"', b'"release":"0.0.0-'))

    home.czctl("start")

    assert home.pid() != first
    assert page.ask("GET", PAIRINGS).status == 200


def test_stop_ends_it_and_start_begins_it_where_pages_are_paired(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    shown = home.czctl("status").stdout
    as_json = home.json("status")["pages"]
    daemon.replies["POST /v1/shutdown"] = CONSUME

    home.czctl("stop")
    stopped = home.running()
    daemon.requests.clear()
    home.czctl("start")

    assert f"Pages         1 paired; port {page.port}, not by the Hub (you are not signed in to {HUB})\n" in shown
    assert (as_json["paired"], as_json["direct_port"], as_json["relay"]) == (1, page.port, False)
    assert stopped is None
    assert page.ask("GET", PAIRINGS).status == 200
    home.czctl("pairing", "revoke", "--all")
    eventually(lambda: home.running() is None)
    home.czctl("start")
    assert home.running() is None
    assert "pages" not in home.json("status")


def test_signed_out_no_page_of_that_hub_is_paired(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    other = paired({**home.environment, "CODEZERO_HUB": "https://other.example.org"})

    ended = home.czctl("auth", "logout")

    assert "1 paired page is not paired any more" in ended.stderr
    assert page.ask("GET", PAIRINGS, headers={"Origin": HUB}).status == 401
    assert other.ask("GET", PAIRINGS).status == 200


def test_a_file_that_cannot_be_used_is_named_and_kept(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    file = home.folder / "paired.json"
    good = file.read_bytes()
    file.write_bytes(b'{"machine": 1}')

    asked = page.ask("GET", PAIRINGS)
    shown = home.czctl("pairing", "list")
    offered = home.czctl("pair", "--no-open")

    assert asked.status == 400
    assert "access-control-allow-origin" not in asked.headers
    assert shown.returncode == offered.returncode == 2
    assert f"mv {file} {file}.broken" in shown.stderr
    assert file.read_bytes() == b'{"machine": 1}'
    file.write_bytes(good)
    assert page.ask("GET", PAIRINGS).status == 200


def test_a_revoked_page_hears_nothing_more_at_once(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    paired(home.environment)
    connection, stream = page.open("GET", "/agent/v1/events")
    assert stream.readline() == EVENTS

    home.czctl("pairing", "revoke", "--", page.id)

    # The answer is cut, and has not come to its end.
    with pytest.raises((IncompleteRead, ConnectionResetError)):
        stream.read()
    connection.close()
    assert page.ask("GET", "/agent/v1/consume").code == "CZ-PAIR-001"


def test_so_many_pages_and_no_more(home: Home) -> None:
    page = paired(home.environment)
    file = home.folder / "paired.json"
    state = home.state()
    (one,) = state.pairings
    others = tuple(msgspec.structs.replace(one, id=f"{number:043}") for number in range(MOST_PAIRINGS - 1))
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(state, pairings=(one, *others))))

    with PairProcess(home.environment) as waiting:
        refused = waiting.page().pair()
        again = waiting.page(key=page.key).pair()

        assert (refused.status, refused.code) == (403, "CZ-PAIR-003")
        assert f"{MOST_PAIRINGS} pages are paired" in refused.json()["detail"]
        assert again.status == 200, "a page that is paired anew is no further one"
        assert waiting.ended()[0] == 0


# --- what is to be confirmed ---------------------------------------------------------------------------------------------------------------

SERVE = {"service": "shop/orders", "ports": [{"remote": 80, "local": 3000}], "condition": [{"kind": "default"}]}


TENANT = {**SERVE, "condition": [{"kind": "header", "key": "x-tenant", "value": "blue"}]}


@pytest.mark.capability("command", "pairing.confirm")
def test_what_touches_the_requests_of_others_waits_for_the_machine_and_is_done_once(
    home: Home, daemon: ScriptedDaemon
) -> None:
    page = paired(home.environment)

    first = page.ask("POST", "/agent/v1/serve", SERVE)
    again = page.ask("POST", "/agent/v1/serve", SERVE)
    (question,) = home.json("confirm")["questions"]

    assert (first.status, first.code) == (403, "CZ-PAIR-004")
    assert again.content == first.content, "it is one question"
    assert first.json()["fix"] == f"czctl confirm {question['id']}"
    assert question["asked"] == [
        "answer requests to shop/orders from port 3000 of this machine: whoever sent them",
        "ports 3000:80, condition default",
        "a yes to that port is remembered until the pairing ends",
    ]
    assert (question["page"], question["origin"]) == (page.name, HUB)
    assert home.czctl("confirm", question["id"], "--yes").stderr == "confirmed; the page does it now\n"
    changed = page.ask("POST", "/agent/v1/serve", {**SERVE, "expires_in": 60})
    done = page.ask("POST", "/agent/v1/serve", SERVE)
    once_more = page.ask("POST", "/agent/v1/serve", SERVE)
    assert (changed.code, done.status, once_more.code) == ("CZ-PAIR-004", 200, "CZ-PAIR-004")
    assert once_more.json()["detail"].endswith("answer requests to shop/orders: whoever sent them")
    assert [one.json() for one in daemon.requests if one.line != STATUS_LINE] == [SERVE]


def test_a_port_of_the_machine_is_served_by_a_page_once_it_was_confirmed_there(
    home: Home, daemon: ScriptedDaemon
) -> None:
    page, other = paired(home.environment), paired(home.environment)

    looked = page.ask("POST", "/agent/v1/serve", {**TENANT, "preview": True})
    first = page.ask("POST", "/agent/v1/serve", TENANT)
    (question,) = home.json("confirm")["questions"]
    home.czctl("confirm", question["id"], "--yes")
    done = page.ask("POST", "/agent/v1/serve", TENANT)

    assert (looked.status, first.status, first.code, done.status) == (200, 403, "CZ-PAIR-004", 200)
    assert question["asked"][0] == "answer requests to shop/orders from port 3000 of this machine"
    remembered = {
        "once more": TENANT,
        "one's own requests": {**SERVE, "condition": []},
        "another port of the service": {**TENANT, "ports": [{"remote": 443, "local": 3000}]},
    }
    answers = {why: page.ask("POST", "/agent/v1/serve", body).status for why, body in remembered.items()}
    assert answers == dict.fromkeys(remembered, 200)
    asked_still = {
        "another port of the machine": {**TENANT, "ports": [{"remote": 80, "local": 5432}]},
        "another port of the machine beside it": {**TENANT, "ports": [*TENANT["ports"], {"remote": 81, "local": 5432}]},
        "another service": {**TENANT, "service": "shop/cart"},
        "everybody's requests": SERVE,
        "in place of somebody else": {**TENANT, "takeover": True},
    }
    codes = {why: page.ask("POST", "/agent/v1/serve", body).code for why, body in asked_still.items()}
    assert codes == dict.fromkeys(asked_still, "CZ-PAIR-004")
    assert other.ask("POST", "/agent/v1/serve", TENANT).code == "CZ-PAIR-004", "it was said to one page"
    assert [line for line in daemon.lines() if line != STATUS_LINE] == ["POST /v1/serve"] * 5


def test_a_port_that_was_confirmed_in_one_teamspace_is_asked_for_again_in_another(
    home: Home, daemon: ScriptedDaemon
) -> None:
    page = paired(home.environment)
    page.ask("POST", "/agent/v1/serve", TENANT)
    (question,) = home.json("confirm")["questions"]
    home.czctl("confirm", question["id"], "--yes")
    here = page.ask("POST", "/agent/v1/serve", TENANT)

    assert STATUS.teamspace is not None
    moved = msgspec.structs.replace(STATUS.teamspace, id="01JZ0000000000000000000042")
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(STATUS, teamspace=moved)
    there = page.ask("POST", "/agent/v1/serve", TENANT)

    assert (here.status, there.code) == (200, "CZ-PAIR-004")


def test_a_page_that_is_paired_anew_has_no_port_of_the_machine(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    page.ask("POST", "/agent/v1/serve", TENANT)
    (question,) = home.json("confirm")["questions"]
    home.czctl("confirm", question["id"], "--yes")
    assert page.ask("POST", "/agent/v1/serve", TENANT).status == 200

    with PairProcess(home.environment) as waiting:
        again = waiting.page(key=page.key)
        assert again.pair().status == 200
        assert waiting.ended()[0] == 0

    assert again.id == page.id
    assert again.ask("POST", "/agent/v1/serve", TENANT).code == "CZ-PAIR-004"


def test_a_yes_is_used_up_also_where_the_agent_refuses(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    daemon.replies["POST /v1/serve"] = CodezeroError(problems.CONDITION_TAKEN, "somebody serves that")
    page.ask("POST", "/agent/v1/serve", SERVE)
    (question,) = home.json("confirm")["questions"]
    home.czctl("confirm", question["id"], "--yes")

    refused = page.ask("POST", "/agent/v1/serve", SERVE)
    again = page.ask("POST", "/agent/v1/serve", SERVE)

    assert refused.code == problems.CONDITION_TAKEN.code
    assert again.code == "CZ-PAIR-004"


def test_what_is_refused_is_told_to_the_page_and_nothing_is_done(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    page.ask("POST", "/agent/v1/serve", SERVE)
    (question,) = home.json("confirm")["questions"]

    home.czctl("confirm", question["id"], "--no")
    told = page.ask("POST", "/agent/v1/serve", SERVE)
    unknown = home.czctl("confirm", question["id"], "--yes")

    assert (told.status, told.code) == (403, "CZ-PAIR-002")
    assert "it was refused on the machine" in told.json()["detail"]
    assert unknown.returncode == 6
    assert set(daemon.lines()) == {STATUS_LINE}


def test_what_others_serve_is_not_ended_by_a_page_alone(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    daemon.replies |= {"GET /v1/serve": SERVES, "POST /v1/serve/end": ServeResult()}
    others = {"service": "shop/orders", "variants": ["01JZ0000000000000000000000"]}

    own = page.ask("POST", "/agent/v1/serve/end", {**others, "variants": [VARIANT.variant_id]})
    refused = page.ask("POST", "/agent/v1/serve/end", others)
    (question,) = home.json("confirm")["questions"]
    home.czctl("confirm", question["id"], "--yes")
    done = page.ask("POST", "/agent/v1/serve/end", others)

    assert (own.status, refused.code, done.status) == (200, "CZ-PAIR-004", 200)
    assert [one.json() for one in daemon.requests if one.line == "POST /v1/serve/end"][1:] == [others]


@pytest.mark.parametrize(
    ("typed", "status", "said"), [("y\n", 200, "confirmed"), ("n\n", 403, "refused"), ("\n", 403, "refused")]
)
def test_in_a_terminal_each_question_is_asked_and_no_is_the_answer_of_enter(
    home: Home, daemon: ScriptedDaemon, typed: str, status: int, said: str
) -> None:
    page = paired(home.environment)
    page.ask("POST", "/agent/v1/serve", SERVE)
    ours, theirs = pty.openpty()
    process = subprocess.Popen([CZCTL, "confirm"], env=home.environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, typed.encode())
    assert process.wait(60) == 0
    rest = os.read(ours, 4096).decode()
    os.close(ours)

    text = shown.decode()
    assert f"{page.name} at {HUB} asks, since " in text
    assert "answer requests to shop/orders from port 3000 of this machine: whoever sent them" in text
    assert "ports 3000:80, condition default" in text
    assert said in rest
    assert page.ask("POST", "/agent/v1/serve", SERVE).status == status


def test_a_move_of_the_machine_is_asked_for_and_needs_a_word_which_to_answer(home: Home) -> None:
    page = paired(home.environment)
    ids = {"organization": "01JZ0000000000000000000001", "space": "01JZ0000000000000000000002"}

    asked = page.ask("POST", "/console/teamspace", ids)
    nothing_said = home.czctl("confirm", "--yes")
    (question,) = home.json("confirm")["questions"]
    home.czctl("confirm", question["id"], "--yes")
    done = page.ask("POST", "/console/teamspace", ids)

    assert (asked.status, asked.code) == (403, "CZ-PAIR-004")
    assert nothing_said.returncode == 2
    assert "move this machine to another Teamspace" in question["asked"]
    # As `czctl space select` by somebody who is not signed in.
    assert done.json()["fix"] == f"czctl auth login --hub {HUB}"


# --- a real agent --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def laptop() -> Iterator[Laptop]:
    folder = Path(tempfile.mkdtemp(prefix="cz-"))
    with Machine(folder) as machine:
        machine.start_name_server("127.0.0.99", foreign_example="192.0.2.7")
        yield Laptop(machine)
    shutil.rmtree(folder, ignore_errors=True)


@needs_root
@pytest.mark.root
@pytest.mark.netns
def test_a_real_agent_is_used_from_a_paired_page_and_refuses_nothing_that_is_signed(laptop: Laptop, home: Home) -> None:
    process = laptop.start_daemon("--capture", "listeners")
    eventually(laptop.status)
    laptop.api.select_teamspace(laptop.access())
    environment = {
        **home.environment,
        "CODEZERO_RUN_FOLDER": str(laptop.machine.run_folder),
        "CODEZERO_STATE_FOLDER": str(laptop.machine.state_folder),
    }
    page = paired(environment)
    connection, events = page.open("GET", "/agent/v1/events")
    eventually(lambda: len(page.ask("GET", "/agent/v1/services").json()["services"]) == 2)

    preview = page.ask("POST", "/agent/v1/consume/test", {"rules": ["orders.shop"]})
    changed = page.ask("PUT", "/agent/v1/consume", {"rules": ["orders.shop"]})
    heard = b""
    while b'"what":"consume"' not in heard:
        heard = events.readline()
        assert heard, "the stream has ended"
    forged = page.ask("PUT", "/agent/v1/consume", {"rules": []}, proof=page.proof("PUT", "/agent/v1/consume", b"{}"))
    bad = page.ask("PUT", "/agent/v1/consume", {"rules": ["((("]})

    assert [one["service"]["name"] for one in preview.json()["consumed"]] == ["orders"]
    assert changed.json()["rules"] == ["orders.shop"]
    eventually(lambda: laptop.dial("orders.shop") == "hello from the pod")
    assert (forged.status, forged.code) == (401, "CZ-PAIR-001")
    assert (bad.status, bad.code) == (422, "CZ-CONSUME-001")
    assert page.ask("GET", "/agent/v1/consume").json()["rules"] == ["orders.shop"]
    assert page.ask("POST", "/agent/v1/reset").json()["rules"] == []
    connection.close()
    status = laptop.status()
    assert status is not None
    os.kill(status.pid, signal.SIGTERM)
    process.wait(timeout=60)
    assert page.ask("GET", "/agent/v1/status").code == "CZ-AGENT-001"


# --- everybody else ------------------------------------------------------------------------------------------------------------------------

ASK = "GET /agent/v1/services HTTP/1.1"
OWN = "Host: 127.0.0.1:{port}\r\nOrigin: {origin}\r\nAuthorization: {proof}"
POST = "POST /agent/v1/reset HTTP/1.1\r\n" + OWN.replace("{proof}", "{reset}")
# A request, its status, and whether a browser would let the page read the answer. All carry a good proof.
FORMS = {
    # Host: a page that has rebound its own name to us (T01).
    "rebound name": (ASK + "\r\n" + OWN.replace("127.0.0.1", "evil.example"), 401, False),
    "localhost": (ASK + "\r\n" + OWN.replace("127.0.0.1", "localhost"), 401, False),
    "no port": (ASK + "\r\n" + OWN.replace(":{port}", ""), 401, False),
    "another port": (ASK + "\r\n" + OWN.replace("{port}", "1"), 401, False),
    "another loopback address": (ASK + "\r\n" + OWN.replace("127.0.0.1", "127.0.0.2"), 401, False),
    "any address": (ASK + "\r\n" + OWN.replace("127.0.0.1", "0.0.0.0"), 401, False),
    "address as a number": (ASK + "\r\n" + OWN.replace("127.0.0.1", "2130706433"), 401, False),
    "short address": (ASK + "\r\n" + OWN.replace("127.0.0.1", "127.1"), 401, False),
    "ipv6": (ASK + "\r\n" + OWN.replace("127.0.0.1", "[::1]"), 401, False),
    "mapped ipv6": (ASK + "\r\n" + OWN.replace("127.0.0.1", "[::ffff:127.0.0.1]"), 401, False),
    "dot at the end": (ASK + "\r\n" + OWN.replace("127.0.0.1", "127.0.0.1."), 401, False),
    "user before": (ASK + "\r\n" + OWN.replace("127.0.0.1", "evil@127.0.0.1"), 401, False),
    "name after": (ASK + "\r\n" + OWN.replace("{port}", "{port}.evil.example"), 401, False),
    "leading zero in the port": (ASK + "\r\n" + OWN.replace("{port}", "0{port}"), 401, False),
    "two hosts": (ASK + "\r\n" + OWN + "\r\nHost: evil.example", 400, False),
    "empty host": (ASK + "\r\n" + OWN.replace("127.0.0.1:{port}", ""), 401, False),
    "no host in http 1.0": (ASK.replace("1.1", "1.0") + "\r\n" + OWN.partition("\r\n")[2], 401, False),
    # Origin: required, and exactly the one that was paired (T36).
    "no origin": (ASK + "\r\n" + OWN.replace("Origin: {origin}\r\n", ""), 401, False),
    "empty origin": (ASK + "\r\n" + OWN.replace("{origin}", ""), 401, False),
    "origin null": (ASK + "\r\n" + OWN.replace("{origin}", "null"), 401, False),
    "another origin": (ASK + "\r\n" + OWN.replace("{origin}", "https://evil.example"), 401, False),
    "our own origin": (ASK + "\r\n" + OWN.replace("{origin}", "http://127.0.0.1:{port}"), 401, False),
    "a plain origin": (ASK + "\r\n" + OWN.replace("{origin}", "http://hub.example.org"), 401, False),
    "origin with a port": (ASK + "\r\n" + OWN.replace("{origin}", "{origin}:443"), 401, False),
    "another port of it": (ASK + "\r\n" + OWN.replace("{origin}", "{origin}:8443"), 401, False),
    "a name below it": (ASK + "\r\n" + OWN.replace("{origin}", "https://evil.hub.example.org"), 401, False),
    "a name that goes on": (ASK + "\r\n" + OWN.replace("{origin}", "{origin}.evil.example"), 401, False),
    "a name that ends so": (ASK + "\r\n" + OWN.replace("{origin}", "https://evilhub.example.org"), 401, False),
    "origin with a slash": (ASK + "\r\n" + OWN.replace("{origin}", "{origin}/"), 401, False),
    "origin in capitals": (ASK + "\r\n" + OWN.replace("{origin}", "HTTPS://HUB.EXAMPLE.ORG"), 401, False),
    "origin with a user": (ASK + "\r\n" + OWN.replace("{origin}", "https://x@hub.example.org"), 401, False),
    "two origins": (ASK + "\r\n" + OWN + "\r\nOrigin: https://evil.example", 400, False),
    "two origins in one": (ASK + "\r\n" + OWN.replace("{origin}", "{origin} https://evil.example"), 401, False),
    # Whatever stands between.
    "forwarded": (ASK + "\r\n" + OWN + "\r\nX-Forwarded-For: 192.0.2.1", 401, False),
    "forwarded host": (ASK + "\r\n" + OWN + "\r\nX-Forwarded-Host: evil.example", 401, False),
    # Of the right page, and wrong all the same.
    "no proof": (ASK + "\r\n" + OWN.partition("\r\nAuth")[0], 401, True),
    "two proofs": (ASK + "\r\n" + OWN + "\r\nAuthorization: {proof}", 400, False),
    "a cookie in place of the proof": (ASK + "\r\n" + OWN.replace("Authorization", "Cookie"), 401, True),
    "the proof as bearer": (ASK + "\r\n" + OWN.replace("{proof}", "Bearer x"), 401, True),
    "absolute target": (ASK.replace("/agent", "http://evil.example/agent") + "\r\n" + OWN, 400, True),
    "asterisk": ("GET * HTTP/1.1\r\n" + OWN, 400, True),
    "going up": (ASK.replace("/agent/v1", "/agent/v1/../v1") + "\r\n" + OWN, 400, True),
    "escaped": (ASK.replace("/v1/services", "/v1%2Fservices") + "\r\n" + OWN, 400, True),
    "a query": (ASK.replace("services", "services?x=1") + "\r\n" + OWN, 401, True),
    "another target": (ASK.replace("services", "status") + "\r\n" + OWN, 401, True),
    "another method": (ASK.replace("GET", "PUT") + "\r\n" + OWN, 405, True),
    "a method that there is not": (ASK.replace("GET", "TRACE") + "\r\n" + OWN, 405, True),
    "head": (ASK.replace("GET", "HEAD") + "\r\n" + OWN, 405, True),
    "text": (POST + "\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}", 400, True),
    "form": (POST + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{{}}", 400, True),
    "another body": (POST + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}", 401, True),
    "in chunks": (POST + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0", 400, True),
    "too long": (POST + "\r\nContent-Type: application/json\r\nContent-Length: 1048577", 413, True),
}


def raw(page: PairedPage, content: bytes) -> bytes:
    """All that comes back to some bytes, until the machine closes the connection."""
    with socket.create_connection(("127.0.0.1", page.port), 60) as connection:
        connection.sendall(content)
        received = b""
        while piece := connection.recv(65536):
            received += piece
        return received


def test_only_its_own_page_is_answered_of_many_forms_of_requests(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    answers: dict[str, bytes] = {}
    for name, (form, _, _) in FORMS.items():
        proof = f"{SCHEME} {page.proof('GET', '/agent/v1/services')}"
        reset = f"{SCHEME} {page.proof('POST', '/agent/v1/reset')}"
        text = form.format(port=page.port, origin=page.origin, proof=proof, reset=reset)
        answers[name] = raw(page, text.encode() + (b"" if "\r\n\r\n" in text else b"\r\n\r\n"))

    assert len(FORMS) > 50
    assert {name: int(answer.split(b" ")[1]) for name, answer in answers.items()} == {
        name: status for name, (_, status, _) in FORMS.items()
    }
    allowed = f"\r\naccess-control-allow-origin: {page.origin}\r\n".encode()
    assert {name: allowed in answer for name, answer in answers.items()} == {
        name: is_read for name, (_, _, is_read) in FORMS.items()
    }
    hidden = [answers[name] for name, (_, status, is_read) in FORMS.items() if not is_read and status == 401]
    assert len({answer.partition(b"\r\n\r\n")[2] for answer in hidden}) == 1, "who is refused does not learn why"
    assert not any(b"access-control" in answer for answer in hidden)
    assert all(b"cross-origin-resource-policy: same-origin" in answer for answer in hidden)
    ours = [answer for answer in answers.values() if b"problem+json" in answer]
    assert all(b"\r\nvary: Origin\r\n" in answer and b"set-cookie" not in answer for answer in ours)
    assert len(ours) > 45
    assert not daemon.requests, "none of them came to the agent"
    good = page.ask("GET", "/agent/v1/services")
    assert (good.status, good.headers["access-control-allow-origin"]) == (200, page.origin)
    assert good.headers["cross-origin-resource-policy"] == "cross-origin"
    assert (good.headers["cache-control"], good.headers["x-content-type-options"]) == ("no-store", "nosniff")
    assert "access-control-allow-credentials" not in good.headers


def test_of_many_forged_proofs_none_comes_to_the_agent(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    body = b'{"rules":["*.shop"]}'
    # HTTP carries no other characters, and takes white space away at the ends.
    made = [
        one
        for one in forged(page, "PUT", "/agent/v1/consume", body)
        if re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", one.proof)
    ]
    answers = {one.why: page.ask(one.method, one.target, one.body, proof=one.proof) for one in made}

    assert len(made) > 80
    assert {why: answer.status for why, answer in answers.items() if answer.status not in (400, 401, 405)} == {}
    assert not daemon.requests
    assert page.ask("PUT", "/agent/v1/consume", body).status == 200
    assert daemon.lines() == ["PUT /v1/consume"]


# What a browser asks before a page's request: target, method, headers, and whether it may.
PREFLIGHTS = {
    "to change": ("/agent/v1/consume", "PUT", "authorization,content-type", True),
    "to read": ("/agent/v1/consume", "GET", "authorization", True),
    "to stop": ("/agent/v1/teamspace", "DELETE", "authorization", True),
    "in capitals": ("/agent/v1/consume", "PUT", "Authorization, Content-Type", True),
    "a method that the target has not": ("/agent/v1/consume", "DELETE", "authorization", False),
    "a target that there is not": ("/agent/v1/shutdown", "POST", "authorization", False),
    "keys": ("/agent/v1/teamspace", "PUT", "authorization", False),
    "another header": ("/agent/v1/consume", "PUT", "authorization,x-codezero-csrf", False),
    "no method": ("/agent/v1/consume", "", "authorization", False),
}


def test_browsers_are_told_what_the_page_may_send_and_pages_of_others_nothing(
    home: Home, daemon: ScriptedDaemon
) -> None:
    page = paired(home.environment)

    def preflight(target: str, method: str, headers: str, origin: str = page.origin) -> Any:
        told = {
            "Origin": origin,
            "Authorization": None,
            "Access-Control-Request-Method": method or None,
            "Access-Control-Request-Headers": headers,
        }
        return page.ask("OPTIONS", target, headers=told)

    for name, (target, method, headers, may) in PREFLIGHTS.items():
        answer = preflight(target, method, headers)
        assert answer.status == (204 if may else 403), name
        assert answer.headers.get("access-control-allow-methods") == (method if may else None), name
        assert ("access-control-allow-headers" in answer.headers) == may, name
        assert "access-control-allow-credentials" not in answer.headers
        other = preflight(target, method, headers, origin="https://evil.example")
        assert other.status == 401, name
        assert not any(header.startswith("access-control") for header in other.headers), name
    assert not daemon.requests


@pytest.mark.parametrize("way", ["half a head", "held"])
def test_there_are_only_so_many_connections(home: Home, daemon: ScriptedDaemon, way: str) -> None:
    page = paired(home.environment)
    halves = [socket.create_connection(("127.0.0.1", page.port), 60) for _ in range(64)]
    try:
        if way == "half a head":
            for half in halves:
                half.sendall(b"GET /agent/v1/consume HTTP/1.1\r\nHost:")
        with socket.create_connection(("127.0.0.1", page.port), 60) as further:
            assert further.recv(100).startswith(b"HTTP/1.1 503 ")
        assert all(half.recv(100) == b"" for half in halves)
    finally:
        for half in halves:
            half.close()
    assert page.ask("GET", "/agent/v1/consume").status == 200


@needs_root
@pytest.mark.root
def test_another_user_of_the_machine_is_refused_also_with_a_good_proof(home: Home, daemon: ScriptedDaemon) -> None:
    page = paired(home.environment)
    script = (
        "import socket, sys\n"
        f"c = socket.create_connection(('127.0.0.1', {page.port}))\n"
        "c.sendall(sys.argv[1].encode()); print(c.makefile().read())"
    )

    def command() -> list[str]:
        proof = f"{SCHEME} {page.proof('GET', '/agent/v1/services')}"
        request = f"{ASK}\r\n{OWN}\r\nConnection: close\r\n\r\n".format(port=page.port, origin=page.origin, proof=proof)
        return ["/usr/bin/python3", "-c", script, request]

    as_other = ["setpriv", "--reuid=65534", "--clear-groups", *command()]
    other = subprocess.run(as_other, capture_output=True, text=True, timeout=60, check=True)
    own = subprocess.run(command(), capture_output=True, text=True, timeout=60, check=True)

    assert other.stdout.startswith("HTTP/1.1 401 ")
    assert "access-control" not in other.stdout
    assert own.stdout.startswith("HTTP/1.1 200 ")
    assert daemon.lines() == ["GET /v1/services"]


def test_what_one_user_has_paired_is_nothing_to_another(home: Home, daemon: ScriptedDaemon) -> None:
    """Each has a process of their own: told apart by their homes, as czctl does."""
    page = paired(home.environment)
    theirs = Home(home.path / "other")
    try:
        other = paired(theirs.environment)
        there = PairedPage(page.origin, other.machine, other.port, key=page.key)

        assert (other.port == page.port, other.machine == page.machine) == (False, False)
        assert there.ask("GET", PAIRINGS).code == "CZ-PAIR-001"
        assert other.ask("GET", "/agent/v1/status").code == "CZ-AGENT-001", "their agent does not run"
        assert not daemon.requests
    finally:
        theirs.czctl("pairing", "revoke", "--all")
        eventually(lambda: theirs.running() is None)
