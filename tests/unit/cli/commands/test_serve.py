"""`czctl serve`: what is asked of the Daemon, what is told, and that nothing is left half done."""

import time
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from codezero.cli.commands import serve as serve_module
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.variants import (
    ConditionPart,
    Mirror,
    PortPair,
    Serving,
    ServingState,
    VariantState,
    VariantView,
)
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.views import ALICE, CONSUME, ORDERS, SERVED, SERVES, SHOP, STATUS, VARIANT
from codezero.wire.local_api import ServedVariant, ServeResult, ServesView, ServicesView

BOB = "01JZ0000000000000000000007"
DONE = ServeResult(SERVED)
CURL = f"try it: {SERVED.curl}\n"


def service(ref: ServiceRef, *ports: int, variants: tuple[VariantView, ...] = ()) -> Service:
    return Service(
        ref,
        ServiceKind.CLUSTER_IP,
        (*(ServicePort(port) for port in ports), ServicePort(53, Protocol.UDP)),
        serving=Serving(ServingState.ACTIVE, variants) if variants else None,
    )


def variant(
    number: int, *condition: ConditionPart, user: str = ALICE.user, name: str = "alice", port: int = 80
) -> VariantView:
    return VariantView(
        variant_id=f"01JZ00000000000000000000{number:02}",
        user=user,
        user_name=name,
        device=str(ALICE),
        session=VARIANT.session,
        condition=condition or (ConditionPart("user"),),
        ports=(PortPair(port, 3000),),
        since=VARIANT.since,
        expires=VARIANT.expires,
        state=VariantState.ACTIVE,
    )


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a Teamspace that takes its time."""
    monkeypatch.setattr(serve_module, "_ASK_AGAIN_SECONDS", 0.001)


@pytest.fixture
def serving(daemon: ScriptedDaemon) -> ScriptedDaemon:
    """A Daemon that serves nothing and takes every serve."""
    daemon.replies |= {
        "GET /v1/serve": ServesView(()),
        "POST /v1/serve": DONE,
        "POST /v1/serve/end": ServeResult(ended=(VARIANT,)),
        "GET /v1/services": ServicesView((service(ORDERS, 80), service(ServiceRef("shop", "web"), 80, 443))),
        "GET /v1/status": msgspec.structs.replace(STATUS, teamspace=msgspec.structs.replace(SHOP, user_id=ALICE.user)),
    }
    return daemon


def asked(daemon: ScriptedDaemon, line: str = "POST /v1/serve") -> dict[str, Any]:
    """The one request of that kind."""
    (request,) = [one for one in daemon.requests if one.line == line]
    return request.json()


def test_a_serve_asks_once_and_tells_how_to_try_it(czctl: Czctl, serving: ScriptedDaemon) -> None:
    ended = czctl("serve", "shop/orders", "3000:80")

    assert ended.code == 0
    assert asked(serving) == {
        "service": "shop/orders",
        "ports": [{"remote": 80, "local": 3000, "host": None}],
        "condition": [{"kind": "user", "key": None, "value": None}],
        "expires_in": None,
        "takeover": False,
        "mirror": None,
        "preview": False,
        "restart": False,
    }
    assert ended.err == CURL
    assert ended.out.splitlines()[0].split() == ["SERVICE", "USER", "CONDITION", "PORTS", "STATE", "EXPIRES"]
    assert ended.out.splitlines()[1].startswith("shop/orders   alice   header x-debug:alice   3000:80   active   in ")


def test_both_forms_of_a_service_are_one(czctl: Czctl, serving: ScriptedDaemon) -> None:
    assert czctl("serve", "orders.shop", "3000:80").code == 0
    assert asked(serving)["service"] == "shop/orders"


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [
        (("shop/orders",), [(80, 80, None)]),
        (("shop/orders", "80"), [(80, 80, None)]),
        (("shop/orders", "3000"), [(80, 3000, None)]),
        (("shop/web", "443"), [(443, 443, None)]),
        (("shop/web", "3000:80", "443"), [(80, 3000, None), (443, 443, None)]),
        (("shop/orders", "box.lan:3000:80"), [(80, 3000, "box.lan")]),
        (("shop/gone", "1:2"), [(2, 1, None)]),
    ],
)
def test_ports_that_are_left_out_are_the_services_own(
    czctl: Czctl, serving: ScriptedDaemon, arguments: tuple[str, ...], pairs: list[tuple[int, int, str | None]]
) -> None:
    assert czctl("serve", *arguments).code == 0
    assert [(one["remote"], one["local"], one["host"]) for one in asked(serving)["ports"]] == pairs


@pytest.mark.parametrize(
    ("arguments", "code", "fix"),
    [
        (("shop/web",), "CZ-SERVE-006", "czctl serve shop/web 3000:80"),
        (("shop/web", "3000"), "CZ-SERVE-006", "czctl serve shop/web 3000:80"),
        (("shop/web", "1:80", "2:80"), "CZ-SERVE-006", "once"),
        (("shop/gone", "80"), "CZ-STREAM-001", "czctl services list"),
        (("shop/orders", "eighty"), "CZ-SERVE-006", "3000:80"),
        (("orders",), "CZ-SERVE-006", "czctl services list -o name"),
        (("lst",), "CZ-SERVE-006", "czctl serve list"),
        (("shop/orders", "--expires", "soon"), "CZ-SERVE-006", "--expires 90s"),
        (("shop/orders", "--condition", "x:1"), "CZ-SERVE-001", "add --condition-type header"),
        (("shop/orders", "--condition-type", "header"), "CZ-SERVE-001", "add --condition key:value"),
        (("shop/orders", "--condition-type", "path"), "CZ-SERVE-001", "add --condition /api"),
        (("shop/orders", "--condition-type", "user", "--condition", "x:1"), "CZ-SERVE-001", "that needs one"),
        (("shop/orders", "--condition-type", "header", "--condition", "host:x"), "CZ-SERVE-002", "another header"),
        (("shop/orders", "--condition-type", "moon"), "CZ-GENERAL-002", "czctl serve --help"),
        (("shop/orders", "--remove", "--takeover"), "CZ-GENERAL-002", "czctl serve --help"),
        (("shop/orders", "--mirror=half"), "CZ-GENERAL-002", "czctl serve --help"),
        (("--dry-run",), "CZ-GENERAL-002", "czctl serve --help"),
    ],
)
def test_bad_input_is_refused_with_the_next_step_and_nothing_is_served(
    czctl: Czctl, serving: ScriptedDaemon, arguments: tuple[str, ...], code: str, fix: str
) -> None:
    ended = czctl("serve", *arguments)

    assert (ended.code, ended.out) == (problems.ALL[code].exit_code, "")
    assert f"[{code}]" in ended.err
    assert fix in ended.err.partition("fix:")[2].splitlines()[0]
    assert "POST /v1/serve" not in serving.lines()


@pytest.mark.parametrize(
    ("options", "condition"),
    [
        (("--condition-type", "default"), [("default", None, None)]),
        (("--condition-type", "user"), [("user", None, None)]),
        (("--condition-type", "header", "--condition", "X-Debug: alice"), [("header", "x-debug", "alice")]),
        (
            ("--condition-type", "path", "--condition", "/api", "--condition-type", "user"),
            [("path", None, "/api"), ("user", None, None)],
        ),
        (
            (
                "--condition-type",
                "user",
                "--condition-type",
                "header",
                "--condition-type",
                "method",
                "--condition",
                "a:b:c",
                "--condition",
                "get",
            ),
            [("header", "a", "b:c"), ("method", None, "GET"), ("user", None, None)],
        ),
    ],
)
def test_conditions_come_in_pairs_and_all_must_be_met(
    czctl: Czctl, serving: ScriptedDaemon, options: tuple[str, ...], condition: list[tuple[str, str | None, str | None]]
) -> None:
    assert czctl("serve", "shop/orders", "3000:80", *options).code == 0
    assert [(one["kind"], one["key"], one["value"]) for one in asked(serving)["condition"]] == condition


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (("shop/orders", "--takeover"), "takeover", True),
        (("shop/orders", "--restart"), "restart", True),
        (("--expires", "2h", "shop/orders"), "expires_in", 7200.0),
        (("shop/orders", "--mirror"), "mirror", "safe"),
        (("shop/orders", "--mirror", "all"), "mirror", "all"),
        (("--mirror", "shop/orders"), "mirror", "safe"),
        (("--mirror", "safe", "shop/orders"), "mirror", "safe"),
        (("shop/orders", "--mirror", "--takeover"), "mirror", "safe"),
    ],
)
def test_options_may_stand_before_and_after_the_service(
    czctl: Czctl, serving: ScriptedDaemon, arguments: tuple[str, ...], field: str, value: object
) -> None:
    assert czctl("serve", *arguments).code == 0
    assert asked(serving)[field] == value
    assert asked(serving)["service"] == "shop/orders"


def test_side_effects_and_take_overs_are_told(czctl: Czctl, serving: ScriptedDaemon) -> None:
    bobs = variant(1, user=BOB, name="bob")
    serving.replies["POST /v1/serve"] = ServeResult(SERVED, effects=("pods see the Router's address",), taken=(bobs,))

    ended = czctl("serve", "shop/orders", "--takeover")

    assert ended.err.splitlines()[:2] == [
        "note: pods see the Router's address",
        "note: the variant of bob for user was taken over",
    ]


def test_a_dry_run_changes_nothing(czctl: Czctl, serving: ScriptedDaemon) -> None:
    """Nor is there a variant that could be shown: what was asked for is."""
    serving.replies["POST /v1/serve"] = ServeResult(effects=("x",), taken=(variant(1, user=BOB, name="bob"),))

    ended = czctl("serve", "shop/orders", "3000:80", "--takeover", "--mirror", "--dry-run")

    assert ended.code == 0
    assert asked(serving)["preview"] is True
    assert ended.err == "dry run: nothing is changed\nnote: x\nnote: the variant of bob for user would be taken over\n"
    assert ended.out.split() == ["SERVICE", "CONDITION", "PORTS", "shop/orders", "user", "(mirror", "safe)", "3000:80"]


def test_a_dry_run_with_a_conflict_ends_with_7(czctl: Czctl, serving: ScriptedDaemon) -> None:
    serving.replies["POST /v1/serve"] = CodezeroError(
        problems.CONDITION_TAKEN, "bob already serves shop/orders for default", fix="add --takeover"
    )

    ended = czctl("serve", "shop/orders", "--condition-type", "default", "--dry-run")

    assert (ended.code, ended.out) == (7, "")
    assert "bob already serves" in ended.err


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_a_serve_for_scripts_is_the_result(czctl: Czctl, serving: ScriptedDaemon, output: str) -> None:
    decode = msgspec.json.decode if output == "json" else msgspec.yaml.decode

    assert decode(czctl("serve", "shop/orders", "-o", output).out, type=ServeResult) == DONE


def preparing(state: ServingState = ServingState.PREPARING, detail: str = "") -> ServedVariant:
    return msgspec.structs.replace(SERVED, state=VariantState.PENDING, serving=state, detail=detail)


def test_a_serve_ends_when_requests_come(czctl: Czctl, serving: ScriptedDaemon) -> None:
    """Not before: the curl that is told must work at once."""
    serving.replies["POST /v1/serve"] = ServeResult(preparing(), effects=("x",))
    serving.replies["GET /v1/serve"] = [
        ServesView(()),
        ServesView((preparing(),)),
        ServesView((preparing(ServingState.ACTIVE),)),
        SERVES,
    ]

    ended = czctl("serve", "shop/orders", "-o", "json")

    assert ended.code == 0
    assert msgspec.json.decode(ended.out, type=ServeResult) == ServeResult(SERVED, effects=("x",))
    assert serving.lines().count("GET /v1/serve") == 4


@pytest.mark.parametrize(
    ("now", "code", "said"),
    [
        (
            ServesView((preparing(ServingState.CONTESTED, "argocd writes its selector"),)),
            7,
            "argocd writes its selector",
        ),
        (ServesView((preparing(ServingState.REFUSED, "it is headless"),)), 3, "it is headless"),
        (ServesView(()), 6, "was ended meanwhile"),
    ],
)
def test_a_serve_that_does_not_come_into_place_says_why(
    czctl: Czctl, serving: ScriptedDaemon, now: ServesView, code: int, said: str
) -> None:
    serving.replies["POST /v1/serve"] = ServeResult(preparing())
    serving.replies["GET /v1/serve"] = [ServesView(()), now]

    ended = czctl("serve", "shop/orders")

    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err


def test_a_service_that_one_may_serve_and_not_see_is_not_waited_for(czctl: Czctl, serving: ScriptedDaemon) -> None:
    """The catalog, which would tell that it is ready, does not have it."""
    serving.replies["POST /v1/serve"] = ServeResult(preparing())
    serving.replies["GET /v1/services"] = ServicesView(())

    ended = czctl("serve", "shop/orders", "3000:80")

    assert ended.code == 0
    assert "note: you may not see shop/orders" in ended.err


def test_a_port_that_the_service_does_not_have_is_told_to_be_the_laptops(czctl: Czctl, serving: ScriptedDaemon) -> None:
    """Whoever mistyped the service's port sees it."""
    assert czctl("serve", "shop/orders", "3000").err.startswith(
        "note: 3000 here answers for 80, the only port of shop/orders\n"
    )


def test_a_name_that_leads_nowhere_here_is_not_told_without_saying_so(czctl: Czctl, serving: ScriptedDaemon) -> None:
    serving.replies["GET /v1/consume"] = msgspec.structs.replace(CONSUME, consumed=())

    ended = czctl("serve", "shop/orders")

    assert "echo shop/orders | czctl consume apply --append\n" + CURL in ended.err


def test_a_teamspace_that_takes_too_long_is_told(
    czctl: Czctl, serving: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_module, "_READY_SECONDS", -1.0)
    serving.replies["POST /v1/serve"] = ServeResult(preparing(detail="no node has room for the Router"))

    ended = czctl("serve", "shop/orders")

    assert ended.code == 8
    assert "no node has room for the Router" in ended.err
    assert "czctl serve end shop/orders" in ended.err


def test_what_a_serve_waits_for_is_told_while_it_waits(
    czctl: Czctl, serving: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who could end the waiting, or the serve, would else hear of it when there is nothing left to wait for."""
    monkeypatch.setattr(serve_module, "_TELL_AFTER_SECONDS", 0.0)
    quota = preparing(detail="the cluster makes no Router: exceeded quota: team")
    serving.replies["POST /v1/serve"] = ServeResult(preparing(detail="being prepared"))
    serving.replies["GET /v1/serve"] = [ServesView(()), *[ServesView((quota,))] * 4, SERVES]

    ended = czctl("serve", "shop/orders", "3000:80")

    assert ended.code == 0
    assert ended.err.count("shop/orders waits: the cluster makes no Router: exceeded quota: team\n") == 1


def test_no_reason_is_not_told_as_one(czctl: Czctl, serving: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it waited for is over, or its service has left the catalog: nobody says what it waits for now."""
    monkeypatch.setattr(serve_module, "_TELL_AFTER_SECONDS", 0.0)
    reason, nothing = (ServesView((preparing(detail=detail),)) for detail in ("exceeded quota: team", ""))
    serving.replies["POST /v1/serve"] = ServeResult(preparing(detail="being prepared"))
    serving.replies["GET /v1/serve"] = [ServesView(()), *[reason] * 3, *[nothing] * 3, *[reason] * 3, SERVES]

    ended = czctl("serve", "shop/orders", "3000:80")

    assert ended.code == 0
    assert [line for line in ended.err.splitlines() if "waits" in line] == ["shop/orders waits: exceeded quota: team"]


def test_what_takes_a_moment_is_not_told(czctl: Czctl, serving: ScriptedDaemon) -> None:
    serving.replies["POST /v1/serve"] = ServeResult(preparing(detail="waiting until a Router is ready"))
    serving.replies["GET /v1/serve"] = [ServesView(()), SERVES]

    ended = czctl("serve", "shop/orders", "3000:80")

    assert ended.code == 0
    assert "waits" not in ended.err


def test_an_interruption_takes_back_what_was_begun(
    czctl: Czctl, serving: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.replies["POST /v1/serve"] = ServeResult(preparing())
    serving.replies["GET /v1/serve"] = [ServesView(()), ServesView((preparing(),))]

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)

    ended = czctl("serve", "shop/orders")

    assert (ended.code, ended.out) == (130, "")
    assert asked(serving, "POST /v1/serve/end")["variants"] == [VARIANT.variant_id]
    assert ended.err.split("\n") == ["shop/orders is not served", "", "interrupted", ""]


def test_an_interruption_ends_no_serve_that_was_there_before(
    czctl: Czctl, serving: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    serving.replies["POST /v1/serve"] = ServeResult(preparing())
    serving.replies["GET /v1/serve"] = ServesView((preparing(),))

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)

    assert czctl("serve", "shop/orders").code == 130
    assert "POST /v1/serve/end" not in serving.lines()


# Lists


def test_own_serves_as_a_table(czctl: Czctl, serving: ScriptedDaemon) -> None:
    serving.replies["GET /v1/serve"] = SERVES

    lines = czctl("serve", "list", "-o", "wide").out.splitlines()

    assert lines[0].split()[-4:] == ["VARIANT", "SINCE", "REQUESTS", "FAILED"]
    assert VARIANT.variant_id in lines[1]
    assert lines[1].split()[-2:] == ["7", "1"]


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_own_serves_for_scripts_are_the_view(czctl: Czctl, serving: ScriptedDaemon, output: str) -> None:
    serving.replies["GET /v1/serve"] = SERVES
    decode = msgspec.json.decode if output == "json" else msgspec.yaml.decode

    assert decode(czctl("serve", "list", "-o", output).out, type=ServesView) == SERVES


def test_names_name_a_service_once(czctl: Czctl, serving: ScriptedDaemon) -> None:
    serving.replies["GET /v1/serve"] = ServesView((SERVED, SERVED))

    assert czctl("serve", "list", "-o", "name").out == "shop/orders\n"


def test_nothing_served_is_no_error(czctl: Czctl, serving: ScriptedDaemon) -> None:
    ended = czctl("serve", "list")

    assert (ended.code, ended.out, ended.err) == (0, "", "nothing is served\n")


def test_what_everybody_serves_comes_from_the_catalog(czctl: Czctl, serving: ScriptedDaemon) -> None:
    bobs = replace(variant(1, ConditionPart("default"), user=BOB, name="bob\x1b"), mirror=Mirror.ALL)
    away = service(ORDERS, 80, variants=(VARIANT, bobs))
    serving.replies["GET /v1/services"] = ServicesView(
        (
            replace(away, serving=Serving(ServingState.CONTESTED, (VARIANT, bobs), "helm")),
            service(ServiceRef("shop", "web"), 80),
        )
    )

    ended = czctl("serve", "list", "--all")

    rows = ended.out.splitlines()[1:]
    assert [row.split("   ")[2].strip() for row in rows] == ["header x-debug:alice", "default (mirror all)"]
    assert all("contested (helm)" in row for row in rows)
    assert "\x1b" not in ended.out
    decoded = msgspec.json.decode(czctl("serve", "list", "--all", "-o", "json").out, type=ServesView)
    assert [one.variant for one in decoded.serves] == [VARIANT, bobs]


# Ends


@pytest.fixture
def own(serving: ScriptedDaemon) -> ScriptedDaemon:
    """Two variants of this laptop, one of another laptop of the user, one of Bob, on one service."""
    here = [variant(1), variant(2, ConditionPart("header", "x-a", "1"), port=8080)]
    there = variant(3, ConditionPart("default"))
    serving.replies["GET /v1/serve"] = ServesView(
        tuple(ServedVariant(ORDERS, one, one.state, ServingState.ACTIVE) for one in here)
    )
    serving.replies["GET /v1/services"] = ServicesView(
        (service(ORDERS, 80, variants=(*here, there, variant(4, user=BOB, name="bob"))),)
    )
    return serving


ALL_OWN = [f"01JZ00000000000000000000{number:02}" for number in (1, 2, 3)]


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        (("shop/orders", "--remove"), ALL_OWN),
        (("end", "orders.shop"), ALL_OWN),
        (("shop/orders", "3000:80", "--remove"), [ALL_OWN[0], ALL_OWN[2]]),
        (("shop/orders", "3000:8080", "--remove"), [ALL_OWN[1]]),
        (("shop/orders", "--remove", "--condition-type", "user"), [ALL_OWN[0]]),
        (("end", "shop/orders", "--condition-type", "header", "--condition", "X-A:1"), [ALL_OWN[1]]),
        (("end", "shop/orders", "--condition-type", "default"), [ALL_OWN[2]]),
    ],
)
def test_an_end_ends_the_users_own(
    czctl: Czctl, own: ScriptedDaemon, arguments: tuple[str, ...], ids: list[str]
) -> None:
    ended = czctl("serve", *arguments)

    assert ended.code == 0
    assert asked(own, "POST /v1/serve/end") == {"service": "shop/orders", "variants": ids, "reason": ""}
    assert ended.err == "ended 1 variant of shop/orders\n"
    assert "shop/orders" in ended.out


def test_a_dry_run_of_a_removal_ends_nothing(czctl: Czctl, own: ScriptedDaemon) -> None:
    ended = czctl("serve", "shop/orders", "--remove", "--dry-run")

    assert ended.code == 0
    assert "POST /v1/serve/end" not in own.lines()
    assert ended.err.startswith("dry run: 3 variants of shop/orders would end")
    assert len(ended.out.splitlines()) == 4


def test_what_is_not_served_has_ended(czctl: Czctl, serving: ScriptedDaemon) -> None:
    """So that scripts can clean up without looking."""
    ended = czctl("serve", "end", "shop/orders")

    assert (ended.code, ended.out, ended.err) == (0, "", "you do not serve shop/orders\n")
    serving.replies["POST /v1/serve/end"] = CodezeroError(problems.SERVE_UNKNOWN, "this laptop does not serve it")
    assert czctl("serve", "end", "shop/orders", "-o", "json").json()["ended"] == []


@pytest.mark.parametrize("command", [("end", "shop/gone"), ("shop/gone", "--remove")])
def test_what_status_says_has_ended_is_agreed_to(
    czctl: Czctl, serving: ScriptedDaemon, command: tuple[str, ...]
) -> None:
    """Also where the service has gone: it is what status tells to do."""
    serving.replies["POST /v1/serve/end"] = ServeResult()

    assert czctl("serve", *command).code == 0
    assert asked(serving, "POST /v1/serve/end") == {"service": "shop/gone", "variants": [], "reason": ""}


def test_a_service_that_is_not_there_is_a_mistake(czctl: Czctl, serving: ScriptedDaemon) -> None:
    serving.replies["POST /v1/serve/end"] = CodezeroError(problems.SERVE_UNKNOWN, "this laptop does not serve it")

    assert czctl("serve", "end", "shop/order").code == 6
    assert czctl("serve", "shop/order", "--remove", "--dry-run").code == 6


def test_waiting_asks_for_the_catalog_once(czctl: Czctl, serving: ScriptedDaemon) -> None:
    """It may have thousands of services, and a Router may take its time."""
    pending = msgspec.structs.replace(SERVED, state=VariantState.PENDING, serving=ServingState.PREPARING)
    serving.replies["POST /v1/serve"] = ServeResult(pending)
    serving.replies["GET /v1/serve"] = [*[ServesView((pending,))] * 5, ServesView((SERVED,))]

    assert czctl("serve", "shop/orders", "3000:80").code == 0
    assert serving.lines().count("GET /v1/services") == 1


def test_a_condition_nobody_serves_is_a_mistake_that_shows_what_there_is(czctl: Czctl, own: ScriptedDaemon) -> None:
    ended = czctl("serve", "end", "shop/orders", "--condition-type", "header", "--condition", "x-a:2")

    assert ended.code == 6
    assert "only for default, header x-a:1, user" in ended.err
    assert "POST /v1/serve/end" not in own.lines()


@pytest.mark.parametrize("user", ["bob", BOB, BOB.lower()])
def test_somebody_elses_ends_with_a_reason(czctl: Czctl, own: ScriptedDaemon, user: str) -> None:
    assert czctl("serve", "end", "shop/orders", "--user", user, "--reason", "release").code == 0
    assert asked(own, "POST /v1/serve/end") == {
        "service": "shop/orders",
        "variants": ["01JZ0000000000000000000004"],
        "reason": "release",
    }


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--user", "bob"), 2, "bob is to be told why"),
        (("--user", "bob", "--reason", " "), 2, "bob is to be told why"),
        (("--user", "carol", "--reason", "x"), 6, "'carol' does not serve shop/orders"),
    ],
)
def test_somebody_elses_does_not_end_without_a_reason_or_a_name(
    czctl: Czctl, own: ScriptedDaemon, options: tuple[str, ...], code: int, said: str
) -> None:
    ended = czctl("serve", "end", "shop/orders", *options)

    assert ended.code == code
    assert said in ended.err
    assert "POST /v1/serve/end" not in own.lines()


def test_two_users_of_one_name_are_told_apart_by_id(czctl: Czctl, own: ScriptedDaemon) -> None:
    other = "01JZ0000000000000000000008"
    own.replies["GET /v1/services"] = ServicesView(
        (service(ORDERS, 80, variants=(variant(4, user=BOB, name="bob"), variant(5, user=other, name="bob"))),)
    )

    ended = czctl("serve", "end", "shop/orders", "--user", "bob", "--reason", "x")

    assert ended.code == 2
    assert BOB in ended.err
    assert other in ended.err


def test_ones_own_by_name_needs_no_reason(czctl: Czctl, own: ScriptedDaemon) -> None:
    assert czctl("serve", "end", "shop/orders", "--user", "alice").code == 0
    assert asked(own, "POST /v1/serve/end")["variants"] == ALL_OWN


# The command that is a group


def test_help_shows_the_serve_and_its_verbs(czctl: Czctl) -> None:
    ended = czctl("serve", "--help")

    assert ended.out.startswith("Usage: czctl serve [OPTIONS] SERVICE [[[HOST:]LOCAL:]REMOTE]...\n")
    for word in ("--condition-type", "--takeover", "--dry-run", "\n  end ", "\n  list "):
        assert word in ended.out


def test_verbs_do_not_take_the_options_of_a_serve(czctl: Czctl) -> None:
    assert czctl("serve", "list", "--takeover").code == 2
    assert "--takeover" not in czctl("serve", "list", "--help").out
