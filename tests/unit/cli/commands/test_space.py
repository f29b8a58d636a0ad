"""Which Teamspace `czctl space` removes, and by which name it asks. All else it does is in `tests/process/test_czctl_hub.py`."""

from collections.abc import Iterator

import pytest

from codezero.cli import hub_context
from codezero.cli.commands import space as commands
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_hub import ScriptedHub

OWNER = "01JZ0000000000000000000001"
FORMER, PRESENT = "01JZ0000000000000000000002", "01JZ0000000000000000000003"
SPACES = f"/api/v1/organizations/{OWNER}/spaces"


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    """Where `shop`, which this machine has selected, is called `former` now, and another one is called `shop`."""
    former, present = [
        {"id": one, "name": name, "state": "certified"} for one, name in ((FORMER, "former"), (PRESENT, "shop"))
    ]
    replies = {
        f"GET /api/v1/organizations/{OWNER}": {"id": OWNER, "name": "acme inc"},
        f"GET {SPACES}": {"items": [former, present], "next": None},
        f"GET {SPACES}/{FORMER}": former,
        f"GET {SPACES}/{PRESENT}": present,
        f"DELETE {SPACES}/{FORMER}": {},
        f"DELETE {SPACES}/{PRESENT}": {},
        f"POST {SPACES}/{FORMER}/suspend": former,
    }
    with ScriptedHub(dict(replies)) as running:
        hub_context.save(HubContext(running.url, organization=Named(OWNER, "acme"), space=Named(FORMER, "shop")))
        hub_context.save_credentials(Credentials(running.url, access_token="t"))
        yield running


def removed(hub: ScriptedHub) -> list[str]:
    return [one.path.rpartition("/")[2] for one in hub.asked if one.method == "DELETE"]


def test_the_one_that_has_the_name_now_is_removed(hub: ScriptedHub, czctl: Czctl) -> None:
    ended = czctl("space", "remove", "shop", "--yes")

    assert ended.code == 0, ended.err
    assert removed(hub) == [PRESENT]


def test_the_selected_one_is_spoken_of_by_the_name_it_has_now(hub: ScriptedHub, czctl: Czctl) -> None:
    suspended, ended = czctl("space", "suspend"), czctl("space", "remove", "--yes")

    assert "former is suspended" in suspended.err
    assert "former is removed" in ended.err
    assert removed(hub) == [FORMER]


def test_what_is_asked_names_it_as_the_hub_does(
    hub: ScriptedHub, czctl: Czctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(commands, "_confirm", asked.append)

    ended = czctl("space", "remove")

    assert ended.code == 0, ended.err
    assert asked == [f"Remove the Teamspace former ({FORMER}) for all members of acme inc?"]
