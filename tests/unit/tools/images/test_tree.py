"""What a layer can hold, and that the same files are the same bytes."""

import io
import tarfile
from pathlib import Path

import pytest
from tools.images import BuildError
from tools.images.tree import MOMENT, Entry, File, Folder, Link, Tree


def tree(**entries: Entry) -> Tree:
    made = Tree()
    for path, entry in entries.items():
        made.add(path, entry)
    return made


def members(packed: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        return {member.name: member for member in archive}


def test_the_same_files_are_the_same_bytes_in_whatever_order_they_came() -> None:
    one, other = Tree(), Tree()
    files = {"usr/bin/a": File(b"a", is_program=True), "usr/lib/b": File(b"b"), "bin": Link("usr/bin")}
    for path, entry in files.items():
        one.add(path, entry)
    for path, entry in reversed(files.items()):
        other.add(path, entry)

    assert one.packed() == other.packed()


def test_all_is_roots_of_one_moment_and_nobody_elses_to_write() -> None:
    made = Tree()
    made.add("usr/bin/program", File(b"", is_program=True))
    made.add("etc/settings", File(b""))

    found = members(made.packed())

    assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {(0, 0, MOMENT)}
    assert {path: oct(member.mode) for path, member in found.items()} == {
        "etc": "0o755",
        "etc/settings": "0o644",
        "usr": "0o755",
        "usr/bin": "0o755",
        "usr/bin/program": "0o755",
    }


def test_a_shared_folder_is_everybodys_but_nobodys_file_is_anothers() -> None:
    assert members(tree(tmp=Folder(is_shared=True)).packed())["tmp"].mode == 0o1777


def test_folders_come_before_what_is_in_them() -> None:
    made = Tree()
    made.add("a-b", File(b""))
    made.add("a/b/c", File(b""))

    names = list(members(made.packed()))

    assert names.index("a") < names.index("a/b") < names.index("a/b/c")


@pytest.mark.parametrize("path", ["", ".", "..", "../etc/passwd", "/etc/passwd", "a/../../b", "a/./b", "a//b", "a/"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(BuildError, match="no path of an image"):
        Tree().add(path, File(b""))


def test_nothing_is_put_through_a_link() -> None:
    """Where it would end up is for the machine to say that unpacks it."""
    made = tree(lib=Link("/etc"))

    with pytest.raises(BuildError, match="leads through 'lib'"):
        made.add("lib/passwd", File(b""))


def test_two_packages_may_agree_on_a_file_and_not_differ() -> None:
    made = tree(same=File(b"1"))
    made.add("same", File(b"1"))

    with pytest.raises(BuildError, match="something else"):
        made.add("same", File(b"2"))


def test_it_is_laid_out_as_it_is(tmp_path: Path) -> None:
    made = Tree()
    made.add("usr/bin/program", File(b"run", is_program=True))
    made.add("bin", Link("usr/bin"))

    made.lay_out(tmp_path)

    assert (tmp_path / "bin/program").read_bytes() == b"run"
    assert (tmp_path / "usr/bin/program").stat().st_mode & 0o777 == 0o755
