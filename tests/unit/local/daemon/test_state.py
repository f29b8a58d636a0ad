"""What outlives the Daemon, and what happens to it when it is damaged."""

import stat
from pathlib import Path

import pytest

from codezero.local.daemon.state import (
    ADDRESSES_FILE,
    RULES_FILE,
    SERVES_FILE,
    SESSION_FILE,
    TEAMSPACE_FILE,
    SavedServes,
    ServeWish,
    StateFolder,
)
from codezero.model.consume import parse_rules
from codezero.model.ids import SessionId
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, PortPair
from codezero.wire.access_file import TeamspaceAccess

TEAMSPACE = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
OTHER = "01HZZZZZZZZZZZZZZZZZZZZZZX"
PEM = "-----BEGIN SECRET-----"
ACCESS = TeamspaceAccess(TEAMSPACE, "demo", "198.51.100.10", 8800, PEM, PEM, PEM)


def test_everything_comes_back(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    state.save_rules(parse_rules(["# mine", "", "orders"], primary_namespace="shop"), primary_namespace="shop")
    state.save_teamspace(ACCESS)
    state.save_session(TEAMSPACE, SessionId("s"))
    plan = state.plan(TEAMSPACE)
    address = plan.address_of(ServiceRef("shop", "orders"))
    state.save_addresses(TEAMSPACE, plan.known())

    again = StateFolder(tmp_path / "state")
    rules, primary = again.rules()

    assert (rules.lines, primary) == (("# mine", "", "orders"), "shop")
    assert again.teamspace() == ACCESS
    assert again.session(TEAMSPACE) == "s"
    assert again.plan(TEAMSPACE).known() == {"shop/orders": address}
    assert not again.warnings


def test_serves_belong_to_their_teamspace_and_laptop(tmp_path: Path) -> None:
    """Somebody else's, after the access file was changed, must not be served on."""
    state = StateFolder(tmp_path)
    wish = ServeWish(ServiceRef("shop", "orders"), (ConditionPart("user"),), (PortPair(80, 3000),), None, 5.0)
    saved = SavedServes(TEAMSPACE, "laptop", wishes=(wish,))
    state.save_serves(saved)

    assert StateFolder(tmp_path).serves(TEAMSPACE, "laptop") == saved
    assert StateFolder(tmp_path).serves(OTHER, "laptop") == SavedServes(OTHER, "laptop")
    assert StateFolder(tmp_path).serves(TEAMSPACE, "other") == SavedServes(TEAMSPACE, "other")
    state.save_serves(SavedServes(TEAMSPACE, "laptop"))
    assert not (tmp_path / SERVES_FILE).exists()
    state.save_serves(None)


def test_nothing_there_is_fine(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")

    assert state.rules()[0].lines == ()
    assert state.teamspace() is None
    assert state.session(TEAMSPACE) is None
    assert len(state.plan(TEAMSPACE)) == 0
    assert not state.warnings


def test_only_the_daemon_can_read_it(tmp_path: Path) -> None:
    """The access file holds the device's private key."""
    state = StateFolder(tmp_path / "state")
    state.save_teamspace(ACCESS)

    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / TEAMSPACE_FILE).stat().st_mode) == 0o600


def test_sessions_and_addresses_belong_to_their_teamspace(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.save_session(TEAMSPACE, SessionId("s"))
    state.save_addresses(TEAMSPACE, {"shop/orders": "127.73.0.1"})

    assert state.session(OTHER) is None
    assert len(state.plan(OTHER)) == 0


def test_forgetting(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    state.save_teamspace(ACCESS)
    state.save_session(TEAMSPACE, SessionId("s"))
    for _ in range(2):
        state.save_teamspace(None)
        state.save_session(TEAMSPACE, None)

    assert state.teamspace() is None
    assert state.session(TEAMSPACE) is None


DAMAGE = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'{"rules": 5}',
    b'{"rules": ["not a rule!"]}',
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"rules": ["orders"]}',
]


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", [RULES_FILE, TEAMSPACE_FILE, SESSION_FILE, ADDRESSES_FILE])
def test_damaged_file_is_set_aside_and_reported(tmp_path: Path, name: str, content: bytes) -> None:
    """A Daemon that does not start because of its own file could only be repaired by an expert."""
    if (name, content) == (RULES_FILE, b"null"):
        content = b"0"
    (tmp_path / name).write_bytes(content)
    state = StateFolder(tmp_path)

    state.rules(), state.teamspace(), state.session(TEAMSPACE), state.plan(TEAMSPACE)

    assert not (tmp_path / name).exists()
    assert [path.read_bytes() for path in tmp_path.glob(f"{name}.unusable-*")] == [content]
    assert state.warnings[0].code == "STATE_FILE_UNUSABLE"
    assert name in state.warnings[0].text


def test_damaged_files_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(10):
        (tmp_path / RULES_FILE).write_bytes(b"x")
        StateFolder(tmp_path).rules()

    assert len(list(tmp_path.iterdir())) <= 3


def test_links_are_not_followed(tmp_path: Path) -> None:
    """The folder is root's; a link in it is a trick, or an accident."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text('{"rules": ["a.b"]}')
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / RULES_FILE).symlink_to(elsewhere)
    state = StateFolder(folder)

    assert state.rules()[0].lines == ()
    assert elsewhere.read_text() == '{"rules": ["a.b"]}'


def test_keys_are_not_quoted_in_warnings(tmp_path: Path) -> None:
    (tmp_path / TEAMSPACE_FILE).write_text('{"key": "SECRET-KEY", "port": "SECRET-KEY"}')
    state = StateFolder(tmp_path)
    state.teamspace()

    assert "SECRET-KEY" not in state.warnings[0].text
