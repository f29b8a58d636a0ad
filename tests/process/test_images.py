"""The image of System and Orchestrator, made here and run from its own files alone: read-only, without rights, by its own Python."""

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Generator
from pathlib import Path

import pytest
from tools.images import recipes, wheels
from tools.images.layers import Cache
from tools.images.recipes import Built

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to enter the image's files"),
    pytest.mark.skipif(
        not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="images are made with apt-get and dpkg-deb"
    ),
]

# What a pod's user meets: the image's files, which cannot be changed, and nothing else of this machine.
_ENTER = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec chroot --userspec=65532:65532 "$@"'
# Each module that would be imported has a compiled one beside it that says it need not be compared with its source.
_STALE = """
import importlib.util, pathlib, sys
for root in sys.argv[1:]:
    for source in pathlib.Path(root).rglob("*.py"):
        kept = pathlib.Path(importlib.util.cache_from_source(source))
        if not kept.is_file() or kept.read_bytes()[4:8] != b"\\x01\\0\\0\\0":
            print(source)
"""
_IMPORTS = """
import importlib, pathlib, pkgutil, sys, sysconfig
parts = [importlib.import_module(name) for name in sys.argv[1:]]
for name in sorted({path.name.partition(".")[0] for path in pathlib.Path(sysconfig.get_path("platstdlib"), "lib-dynload").glob("*.so")}):
    importlib.import_module(name)
for part in parts:
    for module in pkgutil.walk_packages(part.__path__, f"{part.__name__}."):
        # Alembic runs those itself.
        if ".migrations." not in module.name:
            importlib.import_module(module.name)
print(sys.version_info[:2], sys.executable, sys.flags.dont_write_bytecode)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Built:
    (built,) = recipes.build(["teamspace"], out=tmp_path_factory.mktemp("images"))
    return built


@pytest.fixture(scope="module")
def root(image: Built, tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    yield from _unpacked(image, tmp_path_factory.mktemp("image"))


@pytest.fixture(scope="module")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    (built,) = recipes.build(["hub"], out=tmp_path_factory.mktemp("images"))
    yield from _unpacked(built, tmp_path_factory.mktemp("hub"))


def _unpacked(image: Built, folder: Path) -> Generator[Path]:
    for parent in folder.parents:
        if parent.name.startswith("pytest-"):
            parent.chmod(0o755)
    folder.chmod(0o755)
    for layer in image.layers:
        layer.unpack(folder)
    yield folder
    shutil.rmtree(folder)


def run(root: Path, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
    inside = ["unshare", "--mount", "sh", "-c", _ENTER, "sh", root, root, *command]
    environment = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin", "PYTHONDONTWRITEBYTECODE": "1", **settings}
    return subprocess.run(inside, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_the_system_starts_and_says_what_it_lacks(root: Path) -> None:
    """Outside a pod there is no API server to follow; that it gets so far needs the whole image."""
    done = run(root, "czsystem")

    assert "CZ-CLUSTER-001" in done.stderr, done.stderr
    assert "run in a pod with a service account" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("program", ["czorchestrator", "czsystem"])
def test_settings_that_cannot_be_are_told(root: Path, program: str) -> None:
    done = run(root, program, CODEZERO_LOG_LEVEL="loud")

    assert done.returncode == 2, done.stderr
    assert "CODEZERO_LOG_LEVEL" in done.stderr


def test_the_router_says_how_it_is_used(root: Path) -> None:
    done = run(root, "czrouter", "--help")

    assert done.returncode == 0, done.stderr
    assert "run a Router" in done.stdout


def test_everything_that_can_be_imported_has_its_libraries(root: Path) -> None:
    """Much of Debian is left out; a module that lacked a library would be found out in a pod."""
    parts = ("codezero.orchestrator", "codezero.router", "codezero.system")
    done = run(root, "/usr/local/bin/python", "-c", _IMPORTS, *parts)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split(") ")[0] == "(3, 11"


def test_the_hub_has_what_it_needs_in_its_own_image(hub_root: Path) -> None:
    """SQLite among it, which the other images go without."""
    imported = run(hub_root, "/usr/local/bin/python", "-c", _IMPORTS, "codezero.hub")
    checked = run(hub_root, "czhub", "check", CODEZERO_HUB_DATA_FOLDER="/var/lib/codezero-hub")

    assert imported.returncode == 0, imported.stderr
    assert checked.returncode == 0, checked.stderr
    assert "hub.db, new" in checked.stdout
    assert list((hub_root / wheels.SITE / "codezero/hub/storage/migrations/versions").glob("*.py"))
    assert not (hub_root / "usr/local/bin/czsystem").exists()


def test_the_gui_is_in_the_image_of_the_hub_alone(hub_root: Path, root: Path) -> None:
    served = run(
        hub_root,
        "/usr/local/bin/python",
        "-c",
        "from codezero.gui.files import *; print(Site(Where('hub', None)).is_built)",
    )

    assert served.stdout == "True\n", served.stderr
    assert (root / wheels.SITE / "codezero/gui").is_dir()
    assert not (root / wheels.SITE / "codezero/gui/built").exists()


def test_every_module_is_compiled_for_the_python_of_the_image(root: Path) -> None:
    """The root is read-only: what is not compiled would be compiled at each start."""
    folders = (f"/{wheels.SITE}/codezero", f"/{wheels.SITE}", "/usr/lib/python3.11")
    done = run(root, "/usr/bin/python3.11", "-c", _STALE, *folders)

    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (root / wheels.SITE / "codezero/system/__pycache__/main.cpython-311.pyc").is_file()


def test_nothing_in_it_gives_rights_or_can_be_changed(image: Built) -> None:
    for layer in image.layers:
        with tarfile.open(layer.blob) as archive:
            members = list(archive)
        assert {(member.uid, member.gid) for member in members} == {(0, 0)}
        assert [member.name for member in members if not member.issym() and member.mode & 0o6022] == []


def test_there_is_no_shell_and_no_installer(root: Path) -> None:
    programs = {path.name for folder in ("usr/bin", "usr/local/bin") for path in (root / folder).iterdir()}

    assert programs == {"python3.11", "python", "python3", "czsystem", "czorchestrator", "czrouter"}
    assert not list((root / wheels.SITE).glob("pip*"))


def test_an_empty_cache_gives_the_same_layers(image: Built, tmp_path: Path) -> None:
    """Whoever builds it again can compare: packages and wheels come to the same bytes at another time in another place."""
    (again,) = recipes.build(["teamspace"], out=tmp_path / "out", cache=Cache(tmp_path / "cache"))

    # The third is made from the tree, which somebody may be working on.
    assert [layer.digest for layer in again.layers[:2]] == [layer.digest for layer in image.layers[:2]]
    assert again.path.name == image.path.name


def test_our_wheel_is_the_same_each_time_and_needs_no_network(tmp_path: Path) -> None:
    """Made in a network of its own that has nothing, from a copy of the tree."""
    copied = tmp_path / "tree"
    copied.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(recipes.ROOT / name, copied)
    shutil.copytree(recipes.ROOT / "src", copied / "src", ignore=shutil.ignore_patterns("__pycache__"))
    make = "import pathlib, sys; from tools.images import wheels; wheels.own(pathlib.Path(sys.argv[1]), to=pathlib.Path(sys.argv[2]))"

    contents: list[bytes] = []
    for number in ("1", "2"):
        command = ["unshare", "--net", sys.executable, "-c", make, copied, tmp_path / number]
        subprocess.run(command, check=True, timeout=120, cwd=recipes.ROOT)
        (wheel,) = (tmp_path / number).glob("codezero-*.whl")
        contents.append(wheel.read_bytes())

    assert contents[0] == contents[1]


def test_an_image_that_does_not_exist_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.images", "--out", tmp_path, "teamspaces"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=recipes.ROOT)

    assert done.returncode == 2
    assert "there is no image 'teamspaces'; there are teamspace, router, hub, peers" in done.stderr
