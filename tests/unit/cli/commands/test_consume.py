"""`czctl consume`, `primary-namespace` and `reset`: what is sent to the Daemon, what is shown, and that nobody's text gets lost."""

import os
import re
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.testing.czctl import Czctl, Ended
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.views import CONSUME
from codezero.wire.local_api import (
    MAX_BODY,
    ConsumedService,
    ConsumeState,
    ConsumeView,
    HealthWarning,
    Severity,
)

NOTHING = ConsumeView((), None, ())
BAD_RULE = CodezeroError(problems.BAD_RULE, "line 2: '!!': is not a rule", fix="see the help")


def change(daemon: ScriptedDaemon) -> dict[str, Any]:
    """The one change that was sent."""
    (request,) = [one for one in daemon.requests if one.line in ("PUT /v1/consume", "POST /v1/consume/test")]
    return request.json()


def test_rules_are_applied_from_stdin(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """Comments and blank lines go with them: they are the user's."""
    ended = czctl("consume", "apply", stdin=b"# mine\n*.shop\n\n!web.shop  # not\n")

    assert (ended.code, ended.err) == (0, "")
    assert change(daemon) == {"rules": ["# mine", "*.shop", "", "!web.shop  # not"], "append": False}
    assert "shop/orders" in ended.out


def test_a_dash_means_stdin(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    czctl("consume", "apply", "-", stdin=b"*.shop")

    assert change(daemon)["rules"] == ["*.shop"]


@pytest.mark.parametrize(
    "content", [b"*.shop\n!web.shop\n", b"*.shop\r\n!web.shop\r\n", b"\xef\xbb\xbf*.shop\n!web.shop"]
)
def test_rules_are_applied_from_a_file(czctl: Czctl, daemon: ScriptedDaemon, tmp_path: Path, content: bytes) -> None:
    """Also from one that an editor of another system wrote."""
    file = tmp_path / "rules.txt"
    file.write_bytes(content)

    assert czctl("consume", "apply", str(file)).code == 0
    assert change(daemon)["rules"] == ["*.shop", "!web.shop"]


@pytest.mark.parametrize("verb", ["apply", "test"])
def test_rules_can_come_after_those_there_are(czctl: Czctl, daemon: ScriptedDaemon, tmp_path: Path, verb: str) -> None:
    file = tmp_path / "rules.txt"
    file.write_text("*.shop\n")

    czctl("consume", verb, *(("--file",) if verb == "test" else ()), str(file), "--append")

    assert change(daemon) == {"rules": ["*.shop"], "append": True}


def test_a_primary_namespace_goes_with_the_rules(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """One change, so that rules which need it are not refused."""
    czctl("consume", "apply", "--primary-namespace", "shop", stdin=b"orders\n")

    assert change(daemon) == {"rules": ["orders"], "append": False, "primary_namespace": "shop"}


def test_refused_rules_are_an_error_and_nothing_else(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["PUT /v1/consume"] = BAD_RULE

    ended = czctl("consume", "apply", stdin=b"*.shop\n!!\n")

    assert (ended.code, ended.out) == (2, "")
    assert "line 2" in ended.err


@pytest.mark.parametrize("verb", ["apply", "test"])
def test_input_too_large_is_not_sent(czctl: Czctl, daemon: ScriptedDaemon, tmp_path: Path, verb: str) -> None:
    """Nor read to its end: somebody may give a device."""
    options = ("--file", "/dev/zero") if verb == "test" else ("/dev/zero",)

    ended = czctl("consume", verb, *options)

    assert ended.code == 2
    assert f"[{problems.TOO_LARGE.code}]" in ended.err
    assert str(MAX_BODY) in ended.err
    assert daemon.requests == []


@pytest.mark.parametrize("content", [b"*.shop\n\xff\xfe", "*.shop".encode("utf-16")])
def test_input_that_is_no_text_is_not_sent(czctl: Czctl, daemon: ScriptedDaemon, content: bytes) -> None:
    ended = czctl("consume", "apply", stdin=content)

    assert ended.code == 2
    assert "not UTF-8" in ended.err
    assert daemon.requests == []


def test_a_file_that_breaks_while_it_is_read_is_an_error(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("consume", "apply", "/proc/self/mem")

    assert ended.code == 2
    assert "cannot be read" in ended.err
    assert daemon.requests == []


@pytest.mark.parametrize("stdin", [b"", b"\n \n"])
def test_empty_stdin_does_not_end_all_consumes(czctl: Czctl, daemon: ScriptedDaemon, stdin: bytes) -> None:
    """It is what a pipe brings whose first command failed: `grep shop rules | czctl consume apply`."""
    ended = czctl("consume", "apply", stdin=stdin)

    assert ended.code == 2
    assert "fix:  to consume nothing: czctl consume clear" in ended.err
    assert daemon.requests == []


def test_an_empty_file_ends_all_consumes(czctl: Czctl, daemon: ScriptedDaemon, tmp_path: Path) -> None:
    (tmp_path / "rules").touch()

    assert czctl("consume", "apply", str(tmp_path / "rules")).code == 0
    assert change(daemon)["rules"] == []


@pytest.mark.parametrize(("verb", "rules"), [("all", ["*"]), ("clear", [])])
def test_all_and_clear_are_rules_too(czctl: Czctl, daemon: ScriptedDaemon, verb: str, rules: list[str]) -> None:
    assert czctl("consume", verb).code == 0
    assert change(daemon) == {"rules": rules, "append": False}


@pytest.mark.capability("command", "consume.test")
def test_a_trial_changes_nothing(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("consume", "test", "*.shop", "!web.shop", "--primary-namespace", "shop")

    assert ended.code == 0
    assert daemon.lines() == ["POST /v1/consume/test"]
    assert change(daemon) == {"rules": ["*.shop", "!web.shop"], "append": False, "primary_namespace": "shop"}


def test_a_trial_takes_rules_from_one_place(czctl: Czctl, daemon: ScriptedDaemon, tmp_path: Path) -> None:
    ended = czctl("consume", "test", "*.shop", "--file", os.devnull)

    assert ended.code == 2
    assert daemon.requests == []


def test_rules_are_shown_as_they_were_written(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    """`consume view > file` and `consume apply file` are each other's inverse."""
    rules = ("# mine", "*.shop\t# tab", "", "!web.shop")
    daemon.replies["GET /v1/consume"] = msgspec.structs.replace(CONSUME, rules=rules)

    ended = czctl("consume", "view")

    assert (ended.code, ended.out) == (0, "# mine\n*.shop\t# tab\n\n!web.shop\n")


def test_rules_cannot_steer_a_terminal(czctl: Czctl, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.replies["GET /v1/consume"] = msgspec.structs.replace(CONSUME, rules=("# \x1b[2J",))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert "\x1b" not in czctl("consume", "view").out


def test_no_rules_are_shown_as_nothing(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/consume"] = NOTHING

    assert czctl("consume", "view").out == ""
    assert czctl("consume", "view", "-o", "json").json()["rules"] == []


@pytest.mark.capability("command", "consume.list")
def test_consumed_services_as_a_table(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("consume", "list")

    assert (ended.code, ended.err) == (0, "")
    assert [line.split() for line in ended.out.splitlines()] == [
        ["SERVICE", "NAME", "ADDRESS", "PORTS", "STATE", "SESSIONS"],
        ["shop/orders", "orders", "127.72.1.1", "80", "enabled", "2"],
    ]
    assert czctl("consume", "list", "-o", "wide").out.splitlines()[1].endswith("orders orders.shop")


def test_a_service_that_cannot_be_reached_says_why(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    refused = ConsumedService(ServiceRef("shop", "web"), ConsumeState.REFUSED, None, (), (), reason="no rule allows it")
    daemon.replies["GET /v1/consume"] = msgspec.structs.replace(CONSUME, consumed=(refused,))

    assert re.search(r"shop/web +- +- +- +refused \(no rule allows it\) +0", czctl("consume", "list").out)


@pytest.mark.parametrize(
    ("view", "told"),
    [(NOTHING, "nothing is consumed\n"), (ConsumeView(("x.y",), None, ()), "the rules let no service in\n")],
)
def test_nothing_consumed_says_why(czctl: Czctl, daemon: ScriptedDaemon, view: ConsumeView, told: str) -> None:
    daemon.replies["GET /v1/consume"] = view

    ended = czctl("consume", "list")

    assert (ended.code, ended.out, ended.err) == (0, "", told)


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_consumed_services_for_scripts_are_the_view(czctl: Czctl, daemon: ScriptedDaemon, output: str) -> None:
    decode = msgspec.json.decode if output == "json" else msgspec.yaml.decode

    assert decode(czctl("consume", "list", "-o", output).out, type=ConsumeView) == CONSUME


@pytest.mark.parametrize(
    ("pattern", "shown"), [("shop", 1), ("sh*", 1), ("shop/o*", 1), ("shop/web", 0), ("billing", 0)]
)
def test_consumed_services_are_chosen_by_a_pattern(
    czctl: Czctl, daemon: ScriptedDaemon, pattern: str, shown: int
) -> None:
    assert len(czctl("consume", "list", "--filter", pattern, "-o", "json").json()["consumed"]) == shown


def test_warnings_are_told_beside_the_answer(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["PUT /v1/consume"] = msgspec.structs.replace(
        CONSUME, warnings=(HealthWarning("port-in-use", Severity.WARNING, "port 80 is taken", "stop nginx"),)
    )

    ended = czctl("consume", "all", "-o", "json")

    assert ended.err == "warning: port 80 is taken [port-in-use]; fix: stop nginx\n"
    assert ended.json()["rules"] == ["*.shop"]


def test_a_primary_namespace_is_selected_and_cleared(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    selected = czctl("primary-namespace", "select", "shop")
    cleared = czctl("primary-namespace", "clear", "-o", "json")

    assert (selected.code, selected.out, selected.err) == (0, "", "primary namespace: shop\n")
    assert (cleared.code, cleared.json()["api"]) == (0, CONSUME.api)
    assert [request.json() for request in daemon.requests] == [{"namespace": "shop"}, {"namespace": None}]


def test_reset_ends_everything(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("reset")

    assert (ended.code, ended.out, ended.err) == (0, "", "nothing is consumed or served any more\n")
    assert daemon.lines() == ["POST /v1/reset"]


class Editing:
    """`consume edit` with an editor that does as a script says, and the temporary folder it works in."""

    def __init__(self, czctl: Czctl, folder: Path) -> None:
        self._czctl = czctl
        self._folder = folder
        folder.mkdir()

    def __call__(self, script: str, *options: str) -> Ended:
        editor = self._folder.with_name("editor")
        editor.write_text(f"#!/bin/sh\nset -e\n{script}\n")
        editor.chmod(0o700)
        return self._czctl("consume", "edit", "--editor", str(editor), *options)

    def kept(self) -> list[Path]:
        """The files that are left."""
        return list(self._folder.iterdir())


@pytest.fixture
def edit(czctl: Czctl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Editing:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return Editing(czctl, tmp_path / "tmp")


def test_edited_rules_are_applied(edit: Editing, daemon: ScriptedDaemon) -> None:
    ended = edit('grep -qx "*.shop" "$1"; echo "!web.shop" >> "$1"')

    assert (ended.code, ended.err) == (0, "")
    assert change(daemon) == {"rules": ["*.shop", "!web.shop"], "append": False}
    assert "shop/orders" in ended.out
    assert edit.kept() == []


def test_unchanged_rules_are_not_sent(edit: Editing, daemon: ScriptedDaemon) -> None:
    ended = edit('touch "$1"')

    assert (ended.code, ended.err) == (0, "rules unchanged\n")
    assert daemon.lines() == ["GET /v1/consume"]
    assert edit.kept() == []


def test_unchanged_rules_are_sent_with_a_new_primary_namespace(edit: Editing, daemon: ScriptedDaemon) -> None:
    edit("true", "--primary-namespace", "billing")

    assert change(daemon) == {"rules": ["*.shop"], "append": False, "primary_namespace": "billing"}


def test_emptied_rules_end_all_consumes(edit: Editing, daemon: ScriptedDaemon) -> None:
    daemon.replies["PUT /v1/consume"] = NOTHING

    ended = edit(': > "$1"')

    assert (ended.code, ended.err) == (0, "nothing is consumed\n")
    assert change(daemon)["rules"] == []
    assert edit.kept() == []


def test_the_first_edit_begins_with_an_explanation_that_is_not_kept(edit: Editing, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/consume"] = NOTHING

    unchanged = edit('grep -q "One rule a line" "$1"')
    edit('echo "*.shop" >> "$1"')

    assert unchanged.err == "rules unchanged\n"
    assert change(daemon)["rules"] == ["*.shop"]


def test_an_editor_may_replace_the_file(edit: Editing, daemon: ScriptedDaemon) -> None:
    """Most write a new file and rename it."""
    edit('echo "*.billing" > "$1.new"; mv "$1.new" "$1"')

    assert change(daemon)["rules"] == ["*.billing"]
    assert edit.kept() == []


REFUSALS = [
    BAD_RULE,
    CodezeroError(problems.RULE_NEEDS_NAMESPACE, "line 2"),
    CodezeroError(problems.TUNNEL_DOWN, "down", fix="wait"),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.problem.code)
def test_refused_rules_are_kept_in_a_file_that_the_error_names(
    edit: Editing, czctl: Czctl, daemon: ScriptedDaemon, refusal: CodezeroError
) -> None:
    """Ten minutes of typing must survive one wrong character."""
    daemon.replies["PUT /v1/consume"] = [refusal, CONSUME]

    ended = edit('echo "!!" >> "$1"')

    (kept,) = edit.kept()
    assert (ended.code, ended.out) == (refusal.problem.exit_code, "")
    assert ended.err.startswith(f"error: {refusal.detail}; your text is kept in {kept} [{refusal.problem.code}]\n")
    assert f"\n  fix:  mend {kept}, then: czctl consume apply {kept}\n" in ended.err
    assert kept.read_text() == "*.shop\n!!\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert czctl("consume", "apply", str(kept)).code == 0


@pytest.mark.parametrize(
    ("script", "content"),
    [
        (r'printf "\377\376" >> "$1"', b"*.shop\n\xff\xfe"),
        ('head -c 1100000 /dev/zero | tr "\\0" "#" > "$1"', b"#" * 1_100_000),
        ('echo "!web.shop" >> "$1"; exit 3', b"*.shop\n!web.shop\n"),
    ],
    ids=["no text", "too large", "editor failed"],
)
def test_text_that_cannot_be_sent_is_kept(edit: Editing, daemon: ScriptedDaemon, script: str, content: bytes) -> None:
    ended = edit(script)

    (kept,) = edit.kept()
    assert ended.code == 2
    assert str(kept) in ended.err
    assert kept.read_bytes() == content
    assert daemon.lines() == ["GET /v1/consume"]


def test_text_is_kept_when_the_daemon_is_gone_meanwhile(edit: Editing, daemon: ScriptedDaemon) -> None:
    """An editor may be open for an hour."""
    ended = edit(f'echo "!web.shop" >> "$1"; rm {daemon.socket_path}')

    (kept,) = edit.kept()
    assert ended.code == 1
    assert kept.read_text() == "*.shop\n!web.shop\n"


def test_an_interrupt_while_the_change_is_under_way_keeps_the_text(
    edit: Editing, daemon: ScriptedDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("codezero.transport.local_client.LocalClient.change_consume", interrupted)

    ended = edit('echo "!web.shop" >> "$1"')

    (kept,) = edit.kept()
    assert ended.code == 130
    assert f"your text is kept in {kept}\n" in ended.err


@pytest.mark.parametrize("script", ["exit 1", 'rm "$1"', 'rm "$1"; exit 1'])
def test_an_edit_given_up_leaves_nothing(edit: Editing, daemon: ScriptedDaemon, script: str) -> None:
    ended = edit(script)

    assert ended.code == 2
    assert edit.kept() == []
    assert daemon.lines() == ["GET /v1/consume"]


def test_an_editor_that_does_not_exist_is_named(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    ended = czctl("consume", "edit", "--editor", "/no/such/editor")

    assert ended.code == 2
    assert "/no/such/editor" in ended.err


@pytest.mark.parametrize("variables", [("EDITOR",), ("VISUAL",), ("VISUAL", "EDITOR")])
def test_the_editor_of_the_environment_is_used(
    czctl: Czctl,
    daemon: ScriptedDaemon,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    variables: tuple[str, ...],
) -> None:
    """VISUAL before EDITOR, with the options they hold (`code -w`)."""
    for name in variables:
        editor = tmp_path / name
        editor.write_text(f'#!/bin/sh\necho "# $1 {name}" > "$2"\n')
        editor.chmod(0o700)
        monkeypatch.setenv(name, f"{editor} -w")

    czctl("consume", "edit")

    assert change(daemon)["rules"] == [f"# -w {variables[0]}"]
