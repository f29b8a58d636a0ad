"""Logs: structured lines on stderr, secrets hidden by name."""

import json

import pytest

from codezero.kit import logs


def test_lines_are_json_with_facts_and_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(json=True)
    logs.get_logger("tunnel", session="S").info("connected", access_token="canary", port=8800)
    line = capsys.readouterr().err

    assert "canary" not in line
    facts = json.loads(line)
    assert (facts["component"], facts["event"], facts["port"], facts["session"]) == ("tunnel", "connected", 8800, "S")


def test_lines_below_the_level_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(level="warning")
    logs.get_logger("tunnel").info("connected")

    assert capsys.readouterr().err == ""
