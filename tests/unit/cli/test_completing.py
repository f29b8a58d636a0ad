"""Completion: live names, quickly, or silently nothing; and the scripts that ask for it."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
import pytest

from codezero.cli import hub_context, main
from codezero.cli.hub_context import HubContext, Named, Names
from codezero.cli.main import czctl as root
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.variants import Serving, ServingState
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import SILENCE, ScriptedDaemon
from codezero.testing.views import ORDERS, SERVES, VARIANT
from codezero.wire.local_api import ServicesView

Completer = Callable[[str], list[str]]


def service(namespace: str, name: str) -> Service:
    return Service(ServiceRef(namespace, name), ServiceKind.CLUSTER_IP, ())


@pytest.fixture
def teamspace(daemon: ScriptedDaemon) -> ScriptedDaemon:
    daemon.replies["GET /v1/services"] = ServicesView(
        (
            service("billing", "orders"),
            service("shop", "orders"),
            service("shop", "web"),
            service("evil\nplain,rm", "x"),
            service("shop", "$(reboot)"),
        )
    )
    return daemon


@pytest.fixture
def complete(czctl: Czctl, monkeypatch: pytest.MonkeyPatch) -> Completer:
    """What bash would be offered for a line; its last word is incomplete."""

    def run(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_CZCTL_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", "\n".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        ended = czctl()
        assert (ended.code, ended.err) == (0, "")
        return [offer.removeprefix("plain,") for offer in ended.out.split()]

    return run


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("czctl consume test ", ["orders.billing", "orders.shop", "web.shop"]),
        ("czctl consume test orders.b", ["orders.billing"]),
        ("czctl consume test shop/", ["shop/orders", "shop/web"]),
        ("czctl consume test *", ["*.billing", "*.shop"]),
        ("czctl consume test *.shop !w", ["!web.shop"]),
        ("czctl consume test !shop/w", ["!shop/web"]),
        ("czctl consume test zzz", []),
        ("czctl primary-namespace select ", ["billing", "shop"]),
        ("czctl primary-namespace select s", ["shop"]),
        ("czctl consume apply --primary-namespace b", ["billing"]),
        ("czctl services list -n ", ["billing", "shop"]),
        ("czctl services list --filter s", ["shop"]),
        ("czctl consume list --filter shop/o", ["shop/orders"]),
    ],
)
@pytest.mark.usefixtures("teamspace")
def test_names_of_the_teamspace_are_offered(complete: Completer, line: str, offered: list[str]) -> None:
    """And only names: what could be more than a word to a shell is left out."""
    assert complete(line) == offered


@pytest.fixture
def served(teamspace: ScriptedDaemon) -> ScriptedDaemon:
    """`shop/orders` is served here by alice, `shop/web` elsewhere by others, one of whom is not called like a user."""
    ports = (ServicePort(80), ServicePort(8080), ServicePort(53, Protocol.UDP))
    variants = tuple(replace(VARIANT, user_name=name) for name in ("alice", "bob@shop", "eve; reboot"))
    teamspace.replies |= {
        "GET /v1/serve": SERVES,
        "GET /v1/services": ServicesView(
            (
                Service(ORDERS, ServiceKind.CLUSTER_IP, ports),
                Service(
                    ServiceRef("shop", "web"),
                    ServiceKind.CLUSTER_IP,
                    (),
                    serving=Serving(ServingState.ACTIVE, variants),
                ),
            )
        ),
    }
    return teamspace


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("czctl serve ", ["end", "list", "shop/orders", "shop/web"]),
        ("czctl serve l", ["list"]),
        ("czctl serve shop/o", ["shop/orders"]),
        ("czctl serve orders.", ["orders.shop"]),
        ("czctl serve --takeover w", ["web.shop"]),
        ("czctl serve --remove ", ["shop/orders"]),
        ("czctl serve shop/orders ", ["80", "8080"]),
        ("czctl serve orders.shop 3000:8", ["3000:80", "3000:8080"]),
        ("czctl serve shop/orders --condition-type h", ["header"]),
        ("czctl serve shop/orders --mirror=a", ["all"]),
        ("czctl serve shop/orders --tak", ["--takeover"]),
        ("czctl serve e", ["end"]),
        ("czctl serve end ", ["shop/orders"]),
        ("czctl serve end --user bob ", ["shop/web"]),
        ("czctl serve end --user ", ["alice", "bob@shop"]),
        ("czctl serve end shop/orders --condition-type d", ["default"]),
        ("czctl serve list -o n", ["name"]),
        ("czctl trace-connections --service ", ["shop/orders", "shop/web"]),
        ("czctl trace-connections --direction ", ["consume", "serve"]),
    ],
)
@pytest.mark.usefixtures("served")
def test_what_can_be_served_and_what_is_served_is_offered(complete: Completer, line: str, offered: list[str]) -> None:
    assert complete(line) == offered


@pytest.mark.parametrize("line", ["czctl serve end ", "czctl serve shop/orders ", "czctl serve end --user "])
def test_without_a_daemon_serves_offer_nothing(complete: Completer, line: str) -> None:
    assert complete(line) == []


@pytest.mark.parametrize("reply", [CodezeroError(problems.NO_TEAMSPACE, "none"), CodezeroError(problems.INTERNAL, "x")])
def test_a_daemon_that_refuses_offers_nothing(
    complete: Completer, daemon: ScriptedDaemon, reply: CodezeroError
) -> None:
    daemon.replies["GET /v1/services"] = reply

    assert complete("czctl consume test ") == []


def test_without_a_daemon_nothing_is_offered(complete: Completer) -> None:
    assert complete("czctl consume test ") == []


def test_a_daemon_that_hangs_does_not_hang_the_shell(complete: Completer, daemon: ScriptedDaemon) -> None:
    """The bound is generous; without a deadline of its own the client would wait 10 s."""
    daemon.replies["GET /v1/services"] = SILENCE
    begun = time.monotonic()

    assert complete("czctl consume test ") == []
    assert time.monotonic() - begun < 8


def test_commands_are_offered_without_loading_them(complete: Completer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A TAB must not load the sandbox and all that it needs."""

    def refuse(name: str) -> None:
        pytest.fail(f"{name} was loaded")

    monkeypatch.setattr(main.importlib, "import_module", refuse)

    assert complete("czctl ") == list(main.COMMANDS)
    assert complete("czctl st") == [name for name in main.COMMANDS if name.startswith("st")]
    assert "--help" in complete("czctl --")


def test_verbs_options_and_codes_are_offered(complete: Completer) -> None:
    assert complete("czctl consume v") == ["view"]
    assert complete("czctl status -o ") == ["table", "json", "yaml"]
    assert complete("czctl explain CZ-CONSUME-00")[0] == "CZ-CONSUME-001"


def test_a_defect_while_completing_is_silent(czctl: Czctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is printed would stand in the middle of the line somebody types."""
    monkeypatch.setattr("codezero.cli.completing._services", lambda: 1 / 0)
    monkeypatch.setenv("_CZCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "czctl\nconsume\ntest\n")
    monkeypatch.setenv("COMP_CWORD", "3")

    ended = czctl()

    assert (ended.code, ended.out, ended.err) == (1, "", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_czctl(czctl: Czctl, shell: str) -> None:
    ended = czctl("completion", shell)

    assert (ended.code, ended.err) == (0, "")
    assert f"_CZCTL_COMPLETE={shell}_complete" in ended.out


def test_bash_accepts_its_script(czctl: Czctl, tmp_path: Path) -> None:
    script = tmp_path / "czctl.bash"
    script.write_text(czctl("completion", "bash").out)

    subprocess.run(["bash", "-n", script], check=True)
    registered = subprocess.run(
        ["bash", "-c", f"source {script}; complete -p czctl"], check=True, capture_output=True, text=True
    )
    assert "_czctl_completion" in registered.stdout


@pytest.mark.usefixtures("served")
def test_every_parameter_that_names_something_live_is_completed() -> None:
    """Commands to come take namespaces and rules too."""
    context = click.Context(root)
    for name in ("services", "consume", "primary-namespace", "serve"):
        group = root.get_command(context, name)
        assert isinstance(group, click.Group)
        for command in (group, *group.commands.values()):
            for parameter in command.params:
                if parameter.name in ("namespace", "pattern", "rules", "service"):
                    assert parameter.shell_complete(click.Context(command), ""), (command.name, parameter.name)


def test_names_of_the_hub_are_those_it_told_last(complete: Completer) -> None:
    """Without asking it: a TAB must not wait for a network."""
    hub_context.save(HubContext("https://hub.test", organization=Named("o1", "acme")))
    spaces = {"o1": ("shop", "shelf", "evil\nplain,rm"), "o2": ("ship",)}
    hub_context.save_names(Names("https://hub.test", ("acme", "apex", "two words"), spaces))

    assert complete("czctl organization select a") == ["acme", "apex"]
    assert complete("czctl space select sh") == ["shelf", "shop"]
    assert complete("czctl policy show --org a") == ["acme", "apex"]
    assert complete("czctl policy show --space sh") == ["shelf", "shop"]


def test_without_a_selected_organization_all_teamspaces_are_offered(complete: Completer) -> None:
    hub_context.save_names(Names("https://hub.test", (), {"o1": ("shop",), "o2": ("ship",)}))

    assert complete("czctl space status sh") == ["ship", "shop"]


def test_a_context_that_cannot_be_read_offers_nothing(complete: Completer) -> None:
    hub_context.save(HubContext("https://hub.test"))
    (hub_context.folder() / hub_context.CONTEXT_FILE).write_bytes(b"{")

    assert complete("czctl space select sh") == []
