"""The files of one layer, before they are bytes.

Owners, times and modes are none of its business: all is root's, of one moment, readable by everybody and written by nobody else.
So no layer can hold a program that gives rights, nor a file that a process of the image may change; a folder that is shared is said to be.
"""

import io
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tools.images import BuildError

# As wheels have it that know no other time; a layer's bytes must not tell when it was made.
MOMENT = 1_580_601_600


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder; everybody may make files in one that is shared."""

    is_shared: bool = False


@dataclass(frozen=True, slots=True)
class File:
    """A file and whether it can be run."""

    content: bytes
    is_program: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


Entry = Folder | File | Link


class Tree:
    """What a layer adds, by paths without a leading slash. Parents come by themselves."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, path: str, entry: Entry) -> None:
        """Put `entry` at `path`; raises `BuildError` for a path that leads outside, through a link, or to something else that is there."""
        if path != posixpath.normpath(path) or path.startswith(("/", "../")) or path in ("", ".", ".."):
            raise BuildError(f"{path!r} is no path of an image")
        for parent in reversed(PurePosixPath(path).parents[:-1]):
            if not isinstance(self._entries.setdefault(str(parent), Folder()), Folder):
                raise BuildError(f"{path!r} leads through {str(parent)!r}, which is no folder")
        if self._entries.setdefault(path, entry) != entry:
            raise BuildError(f"{path!r} is there already, and something else")

    def get(self, path: str) -> Entry | None:
        """What is at `path`."""
        return self._entries.get(path)

    def lay_out(self, folder: Path) -> None:
        """Write it below `folder`, which has nothing at these paths."""
        for path, entry in self:
            place = folder / path
            match entry:
                case Folder():
                    place.mkdir(exist_ok=True)
                case Link(target):
                    place.symlink_to(target)
                case File(content, is_program):
                    place.write_bytes(content)
                    place.chmod(0o755 if is_program else 0o644)

    def packed(self) -> bytes:
        """As a tar archive; the same tree is the same bytes."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, entry in self:
                about = tarfile.TarInfo(path)
                about.mtime = MOMENT
                match entry:
                    case Folder(is_shared):
                        about.type, about.mode = tarfile.DIRTYPE, 0o1777 if is_shared else 0o755
                        archive.addfile(about)
                    case Link(target):
                        about.type, about.mode, about.linkname = tarfile.SYMTYPE, 0o777, target
                        archive.addfile(about)
                    case File(content, is_program):
                        about.size, about.mode = len(content), 0o755 if is_program else 0o644
                        archive.addfile(about, io.BytesIO(content))
        return out.getvalue()

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(sorted(self._entries.items()))
