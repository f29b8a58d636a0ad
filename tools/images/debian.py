"""Debian's packages, fetched by apt, as files of a layer: nothing is installed and no script of a package runs."""

import io
import posixpath
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tools.images import BuildError
from tools.images.tree import Entry, File, Link, Tree

RELEASE = "12"
_MERGED = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
# Where scanners look for the packages of an image that has no dpkg.
_STATUS = "var/lib/dpkg/status.d"
_COPYRIGHT = "usr/share/doc/*/copyright"
_LEFT_OUT = (
    *(f"usr/share/{folder}/*" for folder in ("bug", "doc", "doc-base", "info", "lintian", "locale", "man", "menu")),
    # Conversions between old character sets.
    "usr/lib/*/gconv/*",
)


@dataclass(frozen=True, slots=True)
class Packages:
    """What a layer takes from Debian: packages with all they depend on, but for what its programs do without."""

    names: Sequence[str]
    without: Collection[str] = ()
    # Patterns of paths.
    left_out: Sequence[str] = ()


class Apt:
    """The ordinary apt client with the machine's sources, on a state of its own: an empty machine on which nothing is installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def prepare(self) -> None:
        """Ask for the newest lists; where nobody answers, those of the last time do."""
        for part in ("state/lists/partial", "cache/archives/partial"):
            (self._folder / part).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        try:
            self._run("update", *("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=15"))
        except BuildError as error:
            print(f"the lists of Debian's packages are those of the last time: {error}", file=sys.stderr)

    def resolve(self, packages: Packages) -> Mapping[str, str]:
        """The files of the packages by name, in the order in which they depend on each other."""
        printed = self._run("install", "--yes", "--print-uris", *packages.names)
        # 'address' file size hash, the last of them not always there
        files = [shlex.split(line)[1] for line in printed.splitlines() if line.startswith("'")]
        return {name: file for file in files if (name := file.partition("_")[0]) not in packages.without}

    def download(self, files: Mapping[str, str], to: Path) -> Sequence[Path]:
        """Fetch them into `to`; apt checks the signatures."""
        self._run("download", *(f"{name}={_version(file)}" for name, file in files.items()), folder=to)
        return [to / file for file in files.values()]

    def _run(self, *arguments: str, folder: Path | None = None) -> str:
        settings = {
            "Dir::State": f"{self._folder}/state",
            "Dir::State::status": f"{self._folder}/status",
            "Dir::Cache": f"{self._folder}/cache",
            "APT::Install-Recommends": "false",
            # It could not write into a folder of ours.
            "APT::Sandbox::User": "root",
        }
        options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        try:
            command = ["apt-get", "-qq", *options, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
        except FileNotFoundError:
            raise BuildError("apt-get is missing: images are built on Debian or a machine with its tools") from None
        except subprocess.CalledProcessError as error:
            said = " ".join(line for line in error.stderr.splitlines() if line.startswith("E:")) or error.stderr.strip()
            raise BuildError(
                f"apt-get {arguments[0]}: {said} (apt's sources must be those of Debian {RELEASE}, and reachable)"
            ) from None
        return done.stdout


def unpacked(debs: Sequence[Path], packages: Packages) -> Tree:
    """The files of these packages, and a record of each package."""
    tree = Tree()
    for deb in debs:
        for path, entry in contents(
            subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], capture_output=True, check=True).stdout
        ):
            if not _is_left_out(path, packages):
                tree.add(path, entry)
        control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, check=True).stdout
        tree.add(f"{_STATUS}/{deb.name.partition('_')[0]}", File(control))
    return tree


def contents(archive: bytes) -> list[tuple[str, Entry]]:
    """The files and links of a package's tar archive, where a machine with /usr merged has them. Raises `BuildError` for what no package should hold."""
    found: dict[str, Entry] = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        for member in members:
            path = _inside(member.name)
            if member.isdir():
                continue
            if member.mode & 0o6000:
                raise BuildError(f"{member.name!r} would run with the rights of its owner")
            if member.issym():
                found[merged(path)] = Link(_target(path, member.linkname))
            elif member.islnk():
                same = found.get(merged(_inside(member.linkname)))
                if not isinstance(same, File):
                    raise BuildError(f"{member.name!r} is a link to {member.linkname!r}, which is no file before it")
                found[merged(path)] = same
            elif member.isfile():
                content = members.extractfile(member)
                assert content is not None
                found[merged(path)] = File(content.read(), is_program=bool(member.mode & 0o100))
            else:
                raise BuildError(f"{member.name!r} is neither file, folder nor link")
    return list(found.items())


def merged(path: str) -> str:
    """Where `path` is on a machine on which /bin, /lib and so on are links into /usr."""
    return f"usr/{path}" if path.partition("/")[0] in _MERGED else path


def add_base(tree: Tree, architecture: str) -> None:
    """What the first layer has besides packages: the links that merge /usr, and our user."""
    for name in ("bin", "lib", "sbin", *(["lib64"] if architecture == "amd64" else [])):
        tree.add(name, Link(f"usr/{name}"))
    tree.add("etc/passwd", File(b"root:x:0:0:root:/:/sbin/nologin\ncodezero:x:65532:65532:Codezero:/:/sbin/nologin\n"))
    tree.add("etc/group", File(b"root:x:0:\ncodezero:x:65532:\n"))
    tree.add("etc/nsswitch.conf", File(b"passwd: files\ngroup: files\nhosts: files dns\n"))


def check(files: Mapping[str, str]) -> None:
    """Raises `BuildError` where apt's packages are of another Debian."""
    found = files.get("base-files", "")
    if not found.startswith(f"base-files_{RELEASE}."):
        raise BuildError(f"apt's sources must be those of Debian {RELEASE}, and offer {found or 'nothing'}")


def architecture() -> str:
    """The one of this machine, as Debian and images call it."""
    try:
        return subprocess.run(
            ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except FileNotFoundError:
        raise BuildError("dpkg is missing: images are built on Debian or a machine with its tools") from None


def _version(file: str) -> str:
    return file.split("_")[1].replace("%3a", ":")


def _inside(name: str) -> str:
    path = posixpath.normpath(name)
    if name.startswith("/") or ".." in name.split("/"):
        raise BuildError(f"{name!r} leads out of the package")
    return path


def _target(path: str, target: str) -> str:
    if target.startswith("/") or merged(path) == path:
        return target
    # The link has moved a folder down, and what it says is seen from where it was.
    whole = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target))
    return target if ".." not in target.split("/") else whole


def _is_left_out(path: str, packages: Packages) -> bool:
    if fnmatchcase(path, _COPYRIGHT):
        return False
    return any(fnmatchcase(path, pattern) for pattern in (*_LEFT_OUT, *packages.left_out))
