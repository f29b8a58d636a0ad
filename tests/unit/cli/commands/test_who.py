"""`czctl who`: laptops, and what each consumes and serves."""

from dataclasses import replace

import msgspec
import pytest

from codezero.cli.commands.who import WhoView
from codezero.model.ids import SessionId
from codezero.model.services import Service, ServiceKind, ServiceRef
from codezero.model.sessions import Presence, PresenceState
from codezero.model.variants import Serving, ServingState
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.views import ALICE, ORDERS, SESSION, SHOP, STATUS, VARIANT
from codezero.wire.local_api import PresenceView, ServicesView

CAROL = replace(ALICE, user="01JZ0000000000000000000009")


@pytest.fixture
def team(daemon: ScriptedDaemon) -> ScriptedDaemon:
    """Alice serves and consumes, Carol consumes a lot, Dave's laptop is out of sight and Erin's has left."""
    daves = replace(
        VARIANT, user="01JZ000000000000000000000D", user_name="dave", session=SessionId("01JZ00000000000000000000D0")
    )
    many = tuple(ServiceRef("shop", f"s{number}") for number in range(5))
    daemon.replies |= {
        "GET /v1/status": msgspec.structs.replace(
            STATUS, teamspace=msgspec.structs.replace(SHOP, user="alice@shop", user_id=ALICE.user)
        ),
        "GET /v1/services": ServicesView(
            (Service(ORDERS, ServiceKind.CLUSTER_IP, (), serving=Serving(ServingState.ACTIVE, (VARIANT, daves))),)
        ),
        "GET /v1/presence": PresenceView(
            (
                Presence(SESSION, ALICE, "desk\x1b", PresenceState.ONLINE, 5.0, (ORDERS,)),
                Presence(SessionId("01JZ00000000000000000000C0"), CAROL, "couch", PresenceState.AWAY, 6.0, many),
                Presence(SessionId("01JZ00000000000000000000E0"), CAROL, "old", PresenceState.GONE, 6.0),
            )
        ),
    }
    return daemon


def test_laptops_with_what_they_serve_and_consume(czctl: Czctl, team: ScriptedDaemon) -> None:
    ended = czctl("who")

    rows = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in ended.out.splitlines()]
    assert (ended.code, ended.err) == (0, "")
    assert rows[0] == ["USER", "LAPTOP", "STATE", "SINCE", "SERVES", "CONSUMES"]
    assert [row[:3] for row in rows[1:]] == [
        [CAROL.user, "couch", "away"],
        ["alice@shop", "desk\N{REPLACEMENT CHARACTER}", "online"],
        ["dave", "-", "away"],
    ]
    assert [row[4:] for row in rows[1:]] == [
        ["-", "5 services"],
        ["shop/orders for header x-debug:alice", "shop/orders"],
        ["shop/orders for header x-debug:alice", "-"],
    ]


def test_a_user_who_serves_nothing_has_a_name_too(czctl: Czctl, team: ScriptedDaemon) -> None:
    carols = Presence(
        SessionId("01JZ00000000000000000000C0"), CAROL, "couch", PresenceState.ONLINE, 6.0, user_name="carol"
    )
    team.replies["GET /v1/presence"] = PresenceView((carols,))

    assert "\ncarol " in czctl("who").out


def test_the_wide_table_has_ids(czctl: Czctl, team: ScriptedDaemon) -> None:
    assert czctl("who", "-o", "wide").out.splitlines()[2].endswith(ALICE.user)


def test_who_for_scripts(czctl: Czctl, team: ScriptedDaemon) -> None:
    view = msgspec.json.decode(czctl("who", "-o", "json").out, type=WhoView)

    assert view.api == "codezero.io/local/v1"
    (alices,) = [one for one in view.laptops if one.user == ALICE.user]
    assert (alices.session, alices.consumes) == (SESSION, (ORDERS,))
    assert [(one.service, one.variant) for one in alices.serves] == [(ORDERS, VARIANT)]
    assert [one.since for one in view.laptops if one.user_name == "dave"] == [None]


def test_nobody_is_no_error(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/presence"] = PresenceView(())

    ended = czctl("who")

    assert (ended.code, ended.out, ended.err) == (0, "", "nobody is connected\n")
