"""Which images there are and what is in them. Those of a Teamspace are each the one before with more layers, so they share what they have in common."""

import hashlib
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.images import BuildError, archive, debian, wheels
from tools.images.archive import Image
from tools.images.debian import Apt, Packages
from tools.images.layers import Cache, Layer
from tools.images.tree import Folder, Link, Tree

ROOT = Path(__file__).parents[2]
REGISTRY = "docker.io/library"
USER = "65532:65532"

_COMMANDS = ("czsystem", "czorchestrator", "czrouter")
# Of our wheel, what the Hub alone serves.
_GUI = "codezero/gui/built"

# What CPython needs for what we import. Debian's package also has modules for terminals, databases and NIS; they and what only they
# (or installing packages) need is left out. That nothing that remains lacks a library is tested.
_PYTHON = Packages(
    names=("base-files", "libpython3.11-stdlib", "python3.11-minimal"),
    without=(
        *("dpkg", "tar", "mawk", "libacl1", "libselinux1", "libpcre2-8-0", "libmd0", "libzstd1"),
        *("readline-common", "libreadline8", "libncursesw6", "libtinfo6", "libdb5.3", "libsqlite3-0"),
        *("libnsl2", "libtirpc3", "libtirpc-common", "libgssapi-krb5-2", "libkrb5-3", "libk5crypto3"),
        *("libkrb5support0", "libkeyutils1", "libcom-err2"),
    ),
    left_out=(
        *(
            f"usr/lib/python3.11/lib-dynload/{name}.cpython-*"
            for name in ("_curses", "_curses_panel", "_dbm", "_sqlite3")
        ),
        *(f"usr/lib/python3.11/lib-dynload/{name}.cpython-*" for name in ("nis", "readline")),
        *("usr/lib/python3.11/pydoc_data/*", "usr/lib/python3.11/test/*", "usr/share/binfmts/*", "usr/lib/binfmt.d/*"),
        *("usr/share/base-files/*", "etc/dpkg/*", "etc/issue*", "etc/update-motd.d/*"),
        *("usr/share/applications/*", "usr/share/pixmaps/*"),
    ),
)
# The Hub's database, and what SQLAlchemy's greenlets are written in; the other images have neither.
_SQLITE = {"libsqlite3-0", "usr/lib/python3.11/lib-dynload/_sqlite3.cpython-*"}
_PYTHON_OF_HUB = Packages(
    names=(*_PYTHON.names, "libstdc++6"),
    without=[name for name in _PYTHON.without if name not in _SQLITE],
    left_out=[pattern for pattern in _PYTHON.left_out if pattern not in _SQLITE],
)
# A shell and what tests ask with, and the database that one of the protocol peers is.
_TOOLS = Packages(
    names=("busybox", "curl", "libc-bin", "mariadb-client-core", "mariadb-server-core"),
    without=("debconf", "dpkg", "perl-base", "tar"),
    left_out=("etc/mysql/*", "var/lib/dpkg/alternatives/*"),
)
_BUSYBOX = (
    *("awk", "basename", "cat", "chmod", "chown", "cp", "cut", "date", "dd", "df", "dirname", "du", "echo"),
    *("env", "expr", "find", "grep", "head", "hostname", "id", "ip", "kill", "ln", "ls", "mkdir", "mktemp"),
    *("mv", "nc", "netstat", "nslookup", "pgrep", "ping", "ps", "readlink", "rm", "sed", "seq", "sh", "sleep"),
    *("sort", "stat", "tail", "tee", "test", "timeout", "touch", "tr", "true", "uname", "uniq", "wc", "wget"),
    *("which", "xargs"),
)


@dataclass(frozen=True, slots=True)
class _Recipe:
    title: str
    description: str
    command: Sequence[str]


_IMAGES = {
    "teamspace": _Recipe("Codezero Teamspace", "System and Orchestrator of a Teamspace.", ["czsystem"]),
    "router": _Recipe("Codezero Router", "Envoy in front of a served service.", ["czrouter", "run"]),
    "hub": _Recipe("Codezero Hub", "Organizations, people, roles, policies, sign-in and audit.", ["czhub", "serve"]),
    "peers": _Recipe("Codezero test peers", "The sample project and what tests talk to; not for users.", ["python3"]),
}
NAMES = tuple(_IMAGES)


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was made."""

    name: str
    reference: str
    path: Path
    digest: str
    layers: Sequence[Layer]


def build(names: Sequence[str] = NAMES, *, out: Path, cache: Cache | None = None) -> Sequence[Built]:
    """Write the archives of the images `names` into `out`. Raises `BuildError`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    version = project["version"]
    cache = cache or Cache()
    with cache.held(), tempfile.TemporaryDirectory() as workshop:
        builder = _Builder(cache, Path(workshop))
        built: list[Built] = []
        for name in names:
            recipe = _IMAGES[name]
            layers = builder.layers(name)
            reference = f"{REGISTRY}/codezero-{name}:{version}"
            image = Image(
                reference=reference,
                architecture=builder.architecture,
                user=USER,
                command=recipe.command,
                environment={
                    "PATH": "/usr/local/bin:/usr/bin:/usr/sbin",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    "PYTHONUNBUFFERED": "1",
                },
                labels={
                    "org.opencontainers.image.title": recipe.title,
                    "org.opencontainers.image.description": recipe.description,
                    "org.opencontainers.image.version": version,
                    "org.opencontainers.image.licenses": project["license"],
                },
            )
            path = out / f"codezero-{name}-{version}.tar"
            built.append(Built(name, reference, path, archive.write(image, layers, path), layers))
        return built


class _Builder:
    """Makes the layers of one run, each once."""

    def __init__(self, cache: Cache, workshop: Path) -> None:
        self.architecture = debian.architecture()
        self._cache = cache
        self._workshop = workshop
        self._apt = Apt(cache.folder / "apt")
        self._made: dict[str, Sequence[Layer]] = {}
        self._apt.prepare()

    def layers(self, name: str) -> Sequence[Layer]:
        """Those of the image `name`, lowest first."""
        if name not in self._made:
            self._made[name] = getattr(self, f"_{name}")()
        return self._made[name]

    def _teamspace(self) -> Sequence[Layer]:
        python = self._packages(_PYTHON)
        return [python, self._locked("teamspace", python, without=()), self._own(python)]

    def _router(self) -> Sequence[Layer]:
        below = self.layers("teamspace")
        return [*below, self._locked("router", below[0], without=("teamspace",))]

    def _hub(self) -> Sequence[Layer]:
        python = self._packages(_PYTHON_OF_HUB)
        return [python, self._locked("hub", python, without=()), self._own(python, commands=["czhub"], has_gui=True)]

    def _peers(self) -> Sequence[Layer]:
        below = self.layers("router")
        return [*below, self._tools(), self._locked("peers", below[0], without=("teamspace", "router"))]

    def _packages(self, packages: Packages) -> Layer:
        files = self._apt.resolve(packages)
        debian.check(files)

        def make() -> Tree:
            tree = debian.unpacked(self._apt.download(files, self._folder()), packages)
            debian.add_base(tree, self.architecture)
            return wheels.compiled(tree, [], folder=f"usr/lib/python{wheels.PYTHON}")

        return self._cache.layer(["packages", *files.values()], make)

    def _tools(self) -> Layer:
        in_base = self._apt.resolve(_PYTHON)
        files = {name: file for name, file in self._apt.resolve(_TOOLS).items() if name not in in_base}

        def make() -> Tree:
            tree = debian.unpacked(self._apt.download(files, self._folder()), _TOOLS)
            for name in _BUSYBOX:
                tree.add(f"usr/bin/{name}", Link("busybox"))
            tree.add("tmp", Folder(is_shared=True))
            return tree

        return self._cache.layer(["tools", *files.values()], make)

    def _locked(self, name: str, python: Layer, *, without: Sequence[str]) -> Layer:
        folder = ROOT / "requirements"
        lock = wheels.locked(folder / f"{name}.txt", without=[folder / f"{other}.txt" for other in without])

        def make() -> Tree:
            found = wheels.download(lock, architecture=self.architecture, to=self._folder())
            return wheels.compiled(wheels.unpacked(found), [python], folder=wheels.SITE)

        return self._cache.layer(["wheels", lock, python.digest], make)

    def _own(self, python: Layer, *, commands: Sequence[str] = _COMMANDS, has_gui: bool = False) -> Layer:
        if has_gui and not (ROOT / "src" / _GUI / "index.html").is_file():
            raise BuildError("the GUI is not built: run `make gui`")
        wheel = wheels.own(ROOT, to=self._folder())

        def make() -> Tree:
            tree = wheels.unpacked([wheel], without=() if has_gui else (_GUI,))
            for name, launcher in wheels.launchers(wheel, commands).items():
                tree.add(f"usr/local/bin/{name}", launcher)
            for name in ("python", "python3"):
                tree.add(f"usr/local/bin/{name}", Link(f"/usr/bin/python{wheels.PYTHON}"))
            return wheels.compiled(tree, [python], folder=wheels.SITE)

        return self._cache.layer(
            ["own", f"gui={has_gui}", *commands, hashlib.sha256(wheel.read_bytes()).hexdigest(), python.digest], make
        )

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._workshop))
