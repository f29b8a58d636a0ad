"""The file that leads to the page, and whether a browser is there to open it."""

import stat
from pathlib import Path

import pytest

from codezero.cli.ui import opening

ADDRESS = "http://127.0.0.1:8123/ui/#code=secret"


@pytest.mark.parametrize("runtime", ["own", "missing", "relative", "none"])
def test_the_file_is_the_users_alone_and_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str
) -> None:
    own = tmp_path / "run"
    own.mkdir()
    value = {"own": str(own), "missing": str(tmp_path / "missing"), "relative": "run", "none": ""}[runtime]
    monkeypatch.setenv("XDG_RUNTIME_DIR", value)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    with opening.leading_file(ADDRESS) as file:
        assert file.parent.parent == (own if runtime == "own" else tmp_path)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert f'url={ADDRESS}"' in file.read_text()
        assert "secret" not in str(file)

    assert not file.parent.exists()


@pytest.mark.parametrize(
    ("variables", "can"),
    [
        ({"DISPLAY": ":0"}, True),
        ({"BROWSER": "firefox"}, True),
        ({}, False),
        ({"DISPLAY": ":0", "CI": "true"}, False),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, False),
    ],
)
def test_a_browser_is_expected_where_a_person_sits(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], can: bool
) -> None:
    for name in ("BROWSER", "CI", "DISPLAY", "SSH_CONNECTION", "SSH_TTY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert opening.can_open() is can
