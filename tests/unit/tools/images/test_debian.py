"""Packages become files of a machine with /usr merged; what no package should hold is refused."""

import io
import tarfile
from pathlib import Path

import pytest
from tools.images import BuildError, debian
from tools.images.debian import Apt, Packages
from tools.images.tree import File, Folder, Link, Tree


def member(name: str, kind: bytes = tarfile.REGTYPE, *, mode: int = 0o644, link: str = "") -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.type, about.mode, about.linkname = kind, mode, link
    return about


def package(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for about in members:
            if about.isreg():
                about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("./bin/sh", "usr/bin/sh"),
        ("./sbin/ip", "usr/sbin/ip"),
        ("./lib/x86_64-linux-gnu/libz.so.1", "usr/lib/x86_64-linux-gnu/libz.so.1"),
        ("./lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
        ("./usr/bin/python3.11", "usr/bin/python3.11"),
        ("./etc/mime.types", "etc/mime.types"),
        ("./library/book", "library/book"),
    ],
)
def test_files_are_where_a_merged_machine_has_them(name: str, path: str) -> None:
    assert debian.contents(package(member(name), content=b"x")) == [(path, File(b"x"))]


@pytest.mark.parametrize(
    ("name", "link", "target"),
    [
        ("./lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2.13", "libz.so.1.2.13"),
        ("./lib64/ld.so", "/lib/x86_64-linux-gnu/ld.so", "/lib/x86_64-linux-gnu/ld.so"),
        ("./usr/lib/x/a.so", "../../../lib/x/a.so.1", "../../../lib/x/a.so.1"),
        ("./lib/x/a.so", "../../usr/lib/x/a.so.1", "/usr/lib/x/a.so.1"),
        ("./lib/x/a.so", "../y/a.so", "/lib/y/a.so"),
    ],
)
def test_a_link_that_moved_leads_where_it_led(name: str, link: str, target: str) -> None:
    ((_, entry),) = debian.contents(package(member(name, tarfile.SYMTYPE, link=link)))

    assert entry == Link(target)


def test_programs_stay_programs_and_folders_come_by_themselves() -> None:
    found = debian.contents(package(member("./usr/bin", tarfile.DIRTYPE), member("./usr/bin/a", mode=0o755)))

    assert found == [("usr/bin/a", File(b"", is_program=True))]


def test_a_second_name_of_a_file_is_that_file() -> None:
    first, second = member("./bin/a", mode=0o755), member("./bin/b", tarfile.LNKTYPE, link="./bin/a")

    assert dict(debian.contents(package(first, second, content=b"x")))["usr/bin/b"] == File(b"x", is_program=True)


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (member("../etc/passwd"), "leads out"),
        (member("./usr/../../etc/passwd"), "leads out"),
        (member("/etc/passwd"), "leads out"),
        (member("./dev/null", tarfile.CHRTYPE), "neither file, folder nor link"),
        (member("./run/pipe", tarfile.FIFOTYPE), "neither file, folder nor link"),
        (member("./bin/su", mode=0o4755), "with the rights of its owner"),
        (member("./bin/wall", mode=0o2755), "with the rights of its owner"),
        (member("./bin/b", tarfile.LNKTYPE, link="./bin/a"), "no file before it"),
        (member("./bin/b", tarfile.LNKTYPE, link="../../etc/shadow"), "leads out"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
def test_what_no_package_should_hold_is_refused(odd: tarfile.TarInfo, why: str) -> None:
    with pytest.raises(BuildError, match=why):
        debian.contents(package(odd))


def test_the_first_layer_has_our_user_and_merged_folders() -> None:
    tree = Tree()
    debian.add_base(tree, "amd64")

    assert tree.get("bin") == Link("usr/bin")
    assert tree.get("lib64") == Link("usr/lib64")
    passwd = tree.get("etc/passwd")
    assert isinstance(passwd, File)
    assert b"codezero:x:65532:65532:" in passwd.content
    assert tree.get("etc") == Folder()


@pytest.mark.parametrize(
    "files", [{}, {"base-files": "base-files_13.8_amd64.deb"}, {"base-files": "base-files_120_a.deb"}]
)
def test_packages_of_another_debian_are_refused(files: dict[str, str]) -> None:
    with pytest.raises(BuildError, match="Debian 12"):
        debian.check(files)


def test_the_packages_of_debian_12_are_taken() -> None:
    debian.check({"base-files": "base-files_12.4+deb12u15_amd64.deb"})


def test_without_apt_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(BuildError, match="apt-get is missing"):
        Apt(tmp_path).resolve(Packages(names=["libc6"]))
    with pytest.raises(BuildError, match="dpkg is missing"):
        debian.architecture()
