"""`czctl services list`: what the Teamspace offers."""

import msgspec
import pytest

from codezero.model.services import Service, ServiceKind, ServiceRef
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.views import SERVICES
from codezero.wire.local_api import ServicesView

STALE = "warning: the Teamspace cannot see its cluster at the moment; this list may be old\n"


@pytest.mark.capability("command", "services.list")
def test_services_as_a_table(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("services", "list")

    assert (ended.code, ended.err) == (0, STALE)
    assert [line.split() for line in ended.out.splitlines()] == [
        ["NAMESPACE", "SERVICE", "PORTS", "READY", "KIND"],
        ["shop", "orders", "80/TCP", "1/2", "cluster-ip"],
        ["shop", "legacy", "-", "1/1", "external-name"],
    ]


def test_the_wide_table_has_details(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    assert czctl("services", "list", "-o", "wide").out.splitlines()[2].endswith("-> legacy.example")


def test_names_are_for_loops_of_a_shell(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    assert czctl("services", "list", "-o", "name").out == "shop/orders\nshop/legacy\n"


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_services_for_scripts_are_the_view(czctl: Czctl, daemon: ScriptedDaemon, output: str) -> None:
    decode = msgspec.json.decode if output == "json" else msgspec.yaml.decode

    assert decode(czctl("services", "list", "-o", output).out, type=ServicesView) == SERVICES


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("-n", "shop"), ["shop/orders", "shop/web"]),
        (("-n", "sh*"), ["shop/orders", "shop/web"]),
        (("-n", "other"), []),
        (("--filter", "shop"), ["shop/orders", "shop/web"]),
        (("--filter", "*/orders"), ["billing/orders", "shop/orders"]),
        (("--filter", "shop/ord*"), ["shop/orders"]),
        (("-n", "billing", "--filter", "shop"), []),
    ],
)
def test_services_are_chosen_by_patterns(
    czctl: Czctl, daemon: ScriptedDaemon, options: tuple[str, ...], shown: list[str]
) -> None:
    daemon.replies["GET /v1/services"] = ServicesView(
        tuple(
            Service(ServiceRef.parse(text), ServiceKind.CLUSTER_IP, ())
            for text in ("billing/orders", "shop/orders", "shop/web")
        )
    )

    ended = czctl("services", "list", *options, "-o", "name")

    assert (ended.code, ended.out.split()) == (0, shown)


def test_no_services_is_no_error(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/services"] = ServicesView(())

    ended = czctl("services", "list")

    assert (ended.code, ended.out, ended.err) == (0, "", "no services\n")


def test_names_that_are_none_do_not_reach_the_terminal(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """Ours are checked by the System; a broken one must not take over a terminal (T35)."""
    daemon.replies["GET /v1/services"] = ServicesView(
        (
            Service(
                ServiceRef("shop", "x\x1b[2J\nfake"), ServiceKind.EXTERNAL_NAME, (), external_name="\x1b]52;c;eA==\x07"
            ),
        )
    )

    for output in ("table", "wide", "name", "json", "yaml"):
        out = czctl("services", "list", "-o", output).out
        assert all(line.isprintable() for line in out.split("\n"))
    assert czctl("services", "list", "-o", "name").out.count("\n") == 1
