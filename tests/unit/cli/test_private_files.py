import stat
from pathlib import Path

import pytest

from codezero.cli import private_files
from codezero.model import problems
from codezero.model.problems import CodezeroError


def test_a_file_is_for_its_owners_eyes_alone(tmp_path: Path) -> None:
    private_files.write(tmp_path / "key", b"secret", replace=False)

    assert (tmp_path / "key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_what_is_there_stays_unless_it_is_to_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("old")
    (tmp_path / "key").chmod(0o644)

    with pytest.raises(CodezeroError) as refused:
        private_files.write(tmp_path / "key", b"new", replace=False)
    assert refused.value.problem is problems.FILE_EXISTS
    assert (tmp_path / "key").read_text() == "old"

    private_files.write(tmp_path / "key", b"new", replace=True)
    assert (tmp_path / "key").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Somebody else's file would become ours, or ours theirs."""
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "key").symlink_to(tmp_path / "elsewhere")

    private_files.write(tmp_path / "key", b"secret", replace=True)

    assert (tmp_path / "elsewhere").read_text() == "theirs"
    assert not (tmp_path / "key").is_symlink()


def test_where_nothing_can_be_written_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodezeroError, match="nowhere/key cannot be written") as refused:
        private_files.write(tmp_path / "nowhere" / "key", b"secret", replace=True)

    assert refused.value.problem is problems.OUTPUT_FAILED
