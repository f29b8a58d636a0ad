"""`czctl audit` where the audit is long, slow, cut off, or none at all. A real one is in `tests/process/test_czctl_hub.py`."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from codezero.cli import hub_client, hub_context
from codezero.cli.commands import audit as commands
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_hub import Asked, ScriptedHub, Slowly

EXPORT = "GET /api/v1/organizations/o/audit/export"
CHECKPOINT = b'{"checkpoint":"signed"}\n'


def entry(number: int) -> bytes:
    return json.dumps({"action": "member.role", "number": number}).encode() + b"\n"


def numbers(text: str) -> list[int | None]:
    return [json.loads(line).get("number") for line in text.splitlines()]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedHub]:
    """Whose answers have a deadline of half a second."""
    monkeypatch.setattr(hub_client, "_DEADLINE_SECONDS", 0.5)
    monkeypatch.setattr(commands, "_PAUSE_SECONDS", 0.01)
    with ScriptedHub() as running:
        hub_context.save(HubContext(running.url, organization=Named("o", "acme")))
        hub_context.save_credentials(Credentials(running.url, access_token="t"))
        yield running


def test_an_export_may_take_longer_than_any_answer(hub: ScriptedHub, czctl: Czctl) -> None:
    """The deadline is that of each piece."""
    hub.replies[EXPORT] = Slowly([entry(1), entry(2), entry(3), entry(4), CHECKPOINT], pause=0.2)

    ended = czctl("audit", "export")

    assert ended.code == 0, ended.err
    assert numbers(ended.out) == [1, 2, 3, 4, None]


def test_one_that_is_cut_off_goes_on_behind_the_last_entry(hub: ScriptedHub, czctl: Czctl, tmp_path: Path) -> None:
    """Within a line, too, of which nothing is written."""

    def answer(asked: Asked) -> object:
        after = int(parse_qs(asked.query).get("after", ["0"])[0])
        rest = [entry(number) for number in range(after + 1, 6)]
        if len(rest) <= 1:
            return Slowly([*rest, CHECKPOINT])
        return Slowly([*rest[:2], b'{"number": 9'], cut=after == 0)

    hub.replies[EXPORT] = answer
    file = tmp_path / "audit.jsonl"

    shown, written = czctl("audit", "export"), czctl("audit", "export", "--file", str(file))

    assert (shown.code, written.code) == (0, 0), shown.err + written.err
    assert numbers(shown.out) == [1, 2, 3, 4, 5, None]
    assert file.read_text() == shown.out
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_that_never_ends_well_says_from_where_to_go_on(hub: ScriptedHub, czctl: Czctl) -> None:
    hub.replies[EXPORT] = lambda asked: Slowly([] if "after=7" in asked.query else [entry(7)], cut=True)

    ended = czctl("audit", "export")

    assert (ended.code, numbers(ended.out)) == (8, [7])
    assert "czctl audit export --after 7" in ended.err


def test_only_what_is_behind_a_number_is_exported(hub: ScriptedHub, czctl: Czctl) -> None:
    hub.replies[EXPORT] = entry(8)

    ended = czctl("audit", "export", "--after", "7", "--pseudonymous")

    assert numbers(ended.out) == [8]
    assert [parse_qs(one.query) for one in hub.asked] == [{"after": ["7"], "pseudonymous": ["true"]}]


@pytest.mark.parametrize(
    "answer",
    [Slowly([b"<html>sign in</html>\n"], kind="text/html"), Slowly([], kind="text/html"), {"items": []}],
    ids=["a page", "nothing", "something else"],
)
def test_what_is_no_audit_is_not_taken_for_one(hub: ScriptedHub, czctl: Czctl, tmp_path: Path, answer: object) -> None:
    """A network's sign-in page would be kept as evidence."""
    hub.replies[EXPORT] = answer

    ended = czctl("audit", "export", "--file", str(tmp_path / "audit.jsonl"))

    assert ended.code == 8
    assert "is no Hub" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", [b"<html>\n", b"\n", b'{"at": "\xff"}\n'])
def test_a_line_that_is_no_json_is_not_taken_for_one(hub: ScriptedHub, czctl: Czctl, line: bytes) -> None:
    hub.replies[EXPORT] = entry(1) + line

    ended = czctl("audit", "export")

    assert ended.code != 0
    assert "cannot be read" in ended.err


def test_a_file_that_is_there_is_left_alone_before_anything_is_asked(
    hub: ScriptedHub, czctl: Czctl, tmp_path: Path
) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_text("kept")

    ended = czctl("audit", "export", "--file", str(file))

    assert (ended.code, file.read_text(), hub.asked) == (7, "kept", [])


def test_a_check_may_take_longer_than_any_answer(hub: ScriptedHub, czctl: Czctl) -> None:
    def answer(_asked: Asked) -> object:
        time.sleep(1)
        return {"ok": True, "entries": 3}

    hub.replies["POST /api/v1/organizations/o/audit/verify"] = answer

    ended = czctl("audit", "verify")

    assert ended.code == 0, ended.err
