"""Locked wheels and our own as files of a layer, compiled by the very Python that will run them."""

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.images import BuildError
from tools.images.layers import Layer
from tools.images.tree import File, Tree

PYTHON = "3.11"
# On Debian's path of modules, and not of Debian's packages.
SITE = f"usr/local/lib/python{PYTHON}/dist-packages"
# Debian 12 has glibc 2.36.
_GLIBC = range(36, 16, -1)
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# Sources that modules were compiled from, and what is never imported.
_LEFT_OUT = re.compile(r"(\.(pyx|pxd|pxi|c|h|cpp|hpp|pyi)|/\.gitignore)$")


def locked(requirements: Path, *, without: Sequence[Path] = ()) -> str:
    """The pinned wheels of a lock file that other lock files do not have. Raises `BuildError` where they disagree."""
    wanted = _pins(requirements)
    for other in without:
        for name, pin in _pins(other).items():
            if wanted.get(name, pin).split()[0] != pin.split()[0]:
                raise BuildError(f"{requirements.name} and {other.name} disagree about {name}: run `make lock`")
            wanted.pop(name, None)
    return "".join(wanted.values())


def download(lock: str, *, architecture: str, to: Path) -> Sequence[Path]:
    """Fetch the wheels of `lock` for the images' Python, whatever Python runs this; pip checks each hash."""
    machine = _MACHINES.get(architecture)
    if machine is None:
        raise BuildError(f"there are no images for {architecture}; build them on one of {', '.join(_MACHINES)}")
    (to / "lock.txt").write_text(lock)
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in _GLIBC] + [
        f"--platform=manylinux2014_{machine}"
    ]
    _pip(
        *("download", "--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", to / "lock.txt"),
        *(f"--python-version={PYTHON}", "--implementation=cp", *platforms, "--dest", to),
    )
    return sorted(to.glob("*.whl"))


def own(project: Path, *, to: Path) -> Path:
    """Our own wheel, made from the tree without any network."""
    _pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", to, project)
    (wheel,) = to.glob("*.whl")
    return wheel


def unpacked(wheels: Sequence[Path], *, without: Sequence[str] = ()) -> Tree:
    """The modules of these wheels, but for the folders `without`. Their commands are left out: they name the Python of whoever installs them."""
    tree = Tree()
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for about in archive.infolist():
                path = about.filename
                top, _, rest = path.partition("/")
                if top.endswith(".data"):
                    kind, _, path = rest.partition("/")
                    if kind not in ("purelib", "platlib"):
                        continue
                if about.is_dir() or _LEFT_OUT.search(path) or path.startswith(tuple(f"{name}/" for name in without)):
                    continue
                is_program = bool(about.external_attr >> 16 & 0o100)
                tree.add(f"{SITE}/{path}", File(archive.read(about), is_program=is_program))
    return tree


def launchers(wheel: Path, names: Sequence[str]) -> Mapping[str, File]:
    """The commands `names` of our wheel, for the images' Python."""
    with zipfile.ZipFile(wheel) as archive:
        (points,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        found = dict(re.findall(r"^(\w+)\s*=\s*([\w.]+:\w+)$", archive.read(points).decode(), re.MULTILINE))
    return {name: File(_launcher(*found[name].split(":")).encode(), is_program=True) for name in names}


def compiled(tree: Tree, below: Sequence[Layer], *, folder: str) -> Tree:
    """`tree` with the compiled modules of `folder`, made by the Python in `tree` and the layers below it.

    They are used without a look at the sources: nothing in the image changes, and a read-only root could not keep newer ones.
    """
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for layer in below:
            layer.unpack(root)
        tree.lay_out(root)
        (libraries,) = (root / "usr/lib").glob("*-linux-gnu")
        (loader,) = libraries.glob("ld-linux-*.so.*")
        command = [
            loader,
            "--library-path",
            libraries,
            root / f"usr/bin/python{PYTHON}",
            "-s",
            "-S",
            "-B",
            "-m",
            "compileall",
        ]
        options = ["-q", "--invalidation-mode", "unchecked-hash", "-s", root, "-p", "/", root / folder]
        # The order of sets is among what is compiled.
        environment = {"PYTHONHOME": str(root / "usr"), "PYTHONHASHSEED": "0"}
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise BuildError(f"modules of {folder} cannot be compiled: {done.stdout}{done.stderr}")
        for path in sorted((root / folder).rglob("*.pyc")):
            tree.add(path.relative_to(root).as_posix(), File(path.read_bytes()))
    return tree


def _launcher(module: str, function: str) -> str:
    return f"#!/usr/bin/python{PYTHON}\nimport sys\n\nfrom {module} import {function}\n\nsys.exit({function}())\n"


def _pins(requirements: Path) -> dict[str, str]:
    # A pin begins at the first column; its hashes follow on lines that are moved in.
    blocks = re.findall(r"^[a-z0-9][^\n]*\n(?:[ \t]+[^\n]*\n)*", requirements.read_text(), re.MULTILINE)
    return {re.split(r"[=\[ ]", block, maxsplit=1)[0]: block for block in blocks}


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"pip {arguments[0]}: {done.stderr.strip()}")
