"""`czctl status`: the truth in a few lines, or all of it as JSON."""

import sys

import msgspec
import pytest

from codezero.cli import main
from codezero.cli.commands import status
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import SILENCE, ScriptedDaemon
from codezero.testing.views import ALICE, SERVED, SHOP, STATUS
from codezero.transport.local_client import LocalClient
from codezero.wire.local_api import (
    HealthWarning,
    HubState,
    HubView,
    OrchestratorView,
    ServesView,
    Severity,
    StatusView,
    TunnelState,
    TunnelView,
)


def test_status_of_a_connected_machine(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("status")

    lines = ended.out.splitlines()
    assert (ended.code, ended.err) == (0, "")
    assert lines[0].startswith("Daemon        running (pid 4711, release 0.1.0, since ")
    assert lines[1] == "Teamspace     shop at 127.0.0.1:8800 as alice of acme"
    assert lines[2].startswith("Tunnel        connected (since ")
    assert lines[2].endswith(", 3 streams, 0 reconnects)")
    assert lines[3] == "Orchestrator  12 services"
    assert lines[4] == "Consuming     2 services by 1 rules, primary namespace shop"
    assert lines[5] == "Serving       0 variants"
    assert lines[6] == "Machine       capture by nftables (4 ports), names by resolv.conf (8 names)"
    assert lines[7:] == ["warning: slow [names-slow]", "  fix: wait"]


def test_status_tells_the_user_id_and_what_is_served(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """The id is what requests carry that are to be one's own."""
    daemon.replies |= {
        "GET /v1/status": msgspec.structs.replace(
            STATUS, served=1, teamspace=msgspec.structs.replace(SHOP, user_id=ALICE.user)
        ),
        "GET /v1/serve": ServesView((msgspec.structs.replace(SERVED, detail="\x1b[2J"),)),
    }

    lines = czctl("status").out.splitlines()

    assert lines[2] == f"User ID       {ALICE.user}"
    assert lines[6:8] == [
        "Serving       1 variant",
        "              shop/orders 3000:80 for header x-debug:alice: active (\N{REPLACEMENT CHARACTER}[2J)",
    ]


def test_status_asks_once_where_nothing_is_served(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    czctl("status")

    assert daemon.lines() == ["GET /v1/status"]


def test_status_without_a_teamspace(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """A Daemon that runs and has nothing to connect to is no error."""
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(
        STATUS,
        teamspace=None,
        tunnel=TunnelView(TunnelState.NONE),
        orchestrator=OrchestratorView(connected=False),
        primary_namespace=None,
        warnings=(),
    )

    ended = czctl("status")

    assert ended.code == 0
    assert "Teamspace     none selected\nTunnel        none\nOrchestrator  not connected\n" in ended.out


@pytest.mark.parametrize(
    ("tunnel", "shown"),
    [
        (TunnelView(TunnelState.CONNECTING), "not connected: connecting"),
        (
            TunnelView(TunnelState.CONNECTING, cause="shop did not answer", next_attempt_in=7.4),
            "not connected: shop did not answer; next attempt in 7 s",
        ),
        (TunnelView(TunnelState.CONNECTED, reconnects=2), "connected (now, 0 streams, 2 reconnects)"),
    ],
)
def test_status_says_why_the_tunnel_is_down(
    czctl: Czctl, daemon: ScriptedDaemon, tunnel: TunnelView, shown: str
) -> None:
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(STATUS, tunnel=tunnel)

    assert f"\nTunnel        {shown}\n" in czctl("status").out


def test_status_says_since_when_the_picture_is_old(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(
        STATUS, orchestrator=OrchestratorView(connected=True, services=3, stale_since=1.0)
    )

    assert "\nOrchestrator  3 services, stale for " in czctl("status").out


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_status_for_scripts_is_the_daemons_own_view(czctl: Czctl, daemon: ScriptedDaemon, output: str) -> None:
    """Scripts and the API see one schema."""
    ended = czctl("status", "-o", output)

    decode = msgspec.json.decode if output == "json" else msgspec.yaml.decode
    assert (ended.code, ended.err) == (0, "")
    assert decode(ended.out, type=StatusView) == STATUS


def test_status_shows_no_control_characters(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """A cause comes from the other end of the tunnel."""
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(
        STATUS,
        tunnel=TunnelView(TunnelState.CONNECTING, cause="\x1b]0;evil\x07\nDaemon fine"),
        warnings=(HealthWarning("\x1bc", Severity.ERROR, "\x9b2J", "\r"),),
    )

    out = czctl("status").out

    assert all(line.isprintable() for line in out.split("\n"))
    assert len(out.splitlines()) == 9


def test_warnings_have_colour_on_a_terminal_only(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What decides is where the text goes: stderr may be a terminal while stdout is a file."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main.run(["status"])
    piped = capsys.readouterr().out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main.run(["status"])
    shown = capsys.readouterr().out

    assert "\x1b" not in piped
    assert "\x1b[33mwarning\x1b[0m: slow" in shown


def test_no_color_is_heard(
    daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    main.run(["status"])
    main.run(["statsu"])

    assert "\x1b" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("reply", "code"), [(CodezeroError(problems.NOT_YOURS, "no"), 5), (SILENCE, 8)], ids=["another user's", "hangs"]
)
def test_a_daemon_that_cannot_be_asked_is_no_success(
    czctl: Czctl, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch, reply: CodezeroError, code: int
) -> None:
    daemon.replies["GET /v1/status"] = reply
    make = status.client

    def impatient(*, deadline: float) -> LocalClient:
        return make(deadline=deadline / 20)

    monkeypatch.setattr(status, "client", impatient)

    ended = czctl("status")

    assert (ended.code, ended.out) == (code, "")


@pytest.mark.parametrize(
    ("hub", "line"),
    [
        (HubView("https://hub.test", HubState.UNKNOWN), "(asked for the first time just now)"),
        (HubView("https://hub.test", HubState.REACHABLE, 1.0), "(reachable)"),
        (HubView("https://hub.test", HubState.UNREACHABLE, 1.0, "no answer"), "(unreachable: no answer)"),
        (HubView("https://hub.test", HubState.REFUSED, 1.0, "revoked"), "(refused: revoked)"),
        (HubView("https://hub.test", HubState.REACHABLE, 1.0, None, 0.0), "(reachable; certificate ends in 0 min)"),
    ],
)
def test_status_tells_of_the_hub(czctl: Czctl, daemon: ScriptedDaemon, hub: HubView, line: str) -> None:
    """As the Daemon knows it: czctl itself waits for no Hub."""
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(STATUS, hub=hub)

    assert f"Hub           https://hub.test {line}" in czctl("status").out.splitlines()
