"""The master key's file: there must be one Hub's key, whole, and for nobody else's eyes."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from codezero.hub import master_key
from codezero.model import problems
from codezero.model.problems import CodezeroError


def refusal(path: Path) -> CodezeroError:
    with pytest.raises(CodezeroError) as refused:
        master_key.read(path)
    assert refused.value.problem is problems.BAD_MASTER_KEY
    return refused.value


def test_what_was_made_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "new" / "master.key"
    assert master_key.read(file) is None

    key = master_key.create(file)

    assert master_key.read(file) == key
    assert file.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in file.parent.iterdir()] == ["master.key"]


def test_two_who_start_at_once_get_the_same_key(tmp_path: Path) -> None:
    """The second one's database would else be sealed under a key that is gone."""
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: master_key.create(tmp_path / "master.key"), range(8)))

    assert len(keys) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "master.key"
    master_key.create(file)
    file.chmod(mode)

    assert refusal(file).fix == f"chmod 600 {file}"


@pytest.mark.parametrize("content", [b"", b"00", b"x" * 64, b"00" * 33, b"\xff" * 64])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "master.key"
    file.write_bytes(content)
    file.chmod(0o600)

    assert "64 hexadecimal digits" in refusal(file).detail


def test_a_folder_is_no_key(tmp_path: Path) -> None:
    folder = tmp_path / "master.key"
    folder.mkdir()

    refusal(folder)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CodezeroError) as refused:
        master_key.create(Path(os.devnull) / "master.key")

    assert refused.value.problem is problems.BAD_MASTER_KEY
