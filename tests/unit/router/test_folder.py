"""Files that Envoy and a follower started again can rely on."""

from pathlib import Path
from typing import Any

import pytest

from codezero.router.folder import RouterFolder


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    """Whoever has the old one open reads it to its end."""
    folder = RouterFolder(tmp_path)
    folder.put({"cds.json": {"version_info": "1"}})
    with (tmp_path / "cds.json").open() as before:
        folder.put({"cds.json": {"version_info": "2"}})

        assert before.read() == '{"version_info":"1"}'

    assert (tmp_path / "cds.json").read_text() == '{"version_info":"2"}'
    assert [path.name for path in tmp_path.iterdir()] == ["cds.json"]


def test_a_file_that_says_the_same_already_stays(tmp_path: Path) -> None:
    """Each rename makes Envoy look."""
    folder = RouterFolder(tmp_path)
    folder.put({"cds.json": {}})
    before = (tmp_path / "cds.json").stat().st_ino

    folder.put({"cds.json": {}})
    assert (tmp_path / "cds.json").stat().st_ino == before

    folder.put_again({"cds.json": {}})
    assert (tmp_path / "cds.json").stat().st_ino != before


def test_secrets_are_never_readable_by_others(tmp_path: Path) -> None:
    folder = RouterFolder(tmp_path)
    (tmp_path / ".sds-identity.json.new").write_text("left over, and readable")
    folder.put({"sds-identity.json": {"key": "x"}, "sds-authority.json": {}}, secret=True)

    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert folder.has_secrets


def test_half_of_the_secrets_is_none(tmp_path: Path) -> None:
    folder = RouterFolder(tmp_path)
    folder.put({"sds-identity.json": {}}, secret=True)

    assert not folder.has_secrets


def test_the_last_plan_is_remembered(tmp_path: Path, plans: Any) -> None:
    folder = RouterFolder(tmp_path)
    assert folder.kept() is None

    folder.keep(plans.plan(plans.rule(1), plans.rule(2)))

    assert folder.kept() == plans.plan(plans.rule(1), plans.rule(2))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"namespace": "shop", "service": "orders", "ports": 1}'])
def test_a_last_plan_that_cannot_be_read_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "plan.json").write_text(content)

    assert RouterFolder(tmp_path).kept() is None
