"""One file of the machine: read it with all that belongs to it, and put it back exactly.

Replacing is atomic (a new file in the same folder, then rename) where the file may be renamed; a bind-mounted file can only be written in place,
which a crash can interrupt: `journal` exists for that.
"""

import errno
import os
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

import msgspec

MAX_SIZE = 16 * 1024 * 1024
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# What rename or creating a file beside it answers for a bind-mounted file, or one in a read-only folder.
_CANNOT_RENAME = frozenset({errno.EBUSY, errno.EROFS, errno.EXDEV, errno.EACCES, errno.EPERM})


class FileKind(StrEnum):
    """What stands under the name."""

    FILE = "file"
    LINK = "link"
    ABSENT = "absent"


class FileState(msgspec.Struct, frozen=True):
    """Everything about a file that must come back: content, kind, target of a link, mode, owner, time of change, extended attributes.

    The content of a link is that of the file it leads to, empty when it leads nowhere; it is for reading, a link is restored by its target.
    """

    kind: FileKind
    content: bytes = b""
    target: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    modified: int = 0  # nanoseconds
    attributes: dict[str, bytes] = {}


class NotAFileError(OSError):
    """Under the name stands something that is neither a regular file nor a link, or it is larger than `MAX_SIZE`."""


def _before_nothing(_step: str) -> None:
    pass


class Disk:
    """Reads and replaces files. `before` is told each step that cannot be taken back, before it happens; tests stop the process there."""

    def __init__(self, *, before: Callable[[str], None] = _before_nothing) -> None:
        self._before = before

    def read(self, path: Path) -> FileState:
        """What stands under `path` now; raises `NotAFileError` for devices, folders and files too large."""
        with _folder(path) as folder:
            try:
                info = os.lstat(path.name, dir_fd=folder)
            except FileNotFoundError:
                return FileState(FileKind.ABSENT)
            if stat.S_ISLNK(info.st_mode):
                return _link_state(path, folder, info)
            descriptor = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                info = os.fstat(file.fileno())
                return FileState(
                    FileKind.FILE,
                    content=_content(path, file.fileno()),
                    mode=stat.S_IMODE(info.st_mode),
                    uid=info.st_uid,
                    gid=info.st_gid,
                    modified=info.st_mtime_ns,
                    attributes=_attributes(file.fileno()),
                )

    def replace(self, path: Path, state: FileState) -> bool:
        """Make `path` be `state`, atomically; `modified` 0 means now. False, with nothing changed, where this file cannot be renamed."""
        with _folder(path) as folder:
            if state.kind is FileKind.ABSENT:
                self._before(f"unlink {path.name}")
                _unlink(path.name, folder)
                os.fsync(folder)
                return True
            beside = leftover_name(path)
            try:
                _unlink(beside, folder)
                self._before(f"create {beside}")
                self._create(beside, state, folder)
                self._before(f"rename {path.name}")
                os.rename(beside, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            except OSError as error:
                _unlink(beside, folder, quiet=True)
                if error.errno in _CANNOT_RENAME:
                    return False
                raise
            self._before(f"sync folder of {path.name}")
            os.fsync(folder)
            return True

    def _create(self, name: str, state: FileState, folder: int) -> None:
        if state.kind is FileKind.LINK:
            os.symlink(state.target, name, dir_fd=folder)
            os.chown(name, state.uid, state.gid, dir_fd=folder, follow_symlinks=False)
            os.utime(name, ns=(state.modified, state.modified), dir_fd=folder, follow_symlinks=False)
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb", buffering=0) as file:
            self._before(f"write {name}")
            _write_all(file.fileno(), state.content)
            _set_metadata(file.fileno(), state)
            self._before(f"sync {name}")
            os.fsync(file.fileno())

    def overwrite(self, path: Path, state: FileState) -> None:
        """Write a regular file in place. Readers never see a mixture of both contents; a crash of the machine may leave one.

        Raises OSError when the file is not there, is a link, or must not be written.
        """
        with _folder(path) as folder:
            descriptor = os.open(path.name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(descriptor, "r+b", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                self._before(f"overwrite {path.name}")
                # Blank lines up to the old length: between write and truncate a reader sees the new content, not the old one's tail.
                _write_all(descriptor, state.content.ljust(size, b"\n"))
                self._before(f"truncate {path.name}")
                os.ftruncate(descriptor, len(state.content))
                _set_metadata(descriptor, state)
                self._before(f"sync {path.name}")
                os.fsync(file.fileno())

    def remove_leftover(self, path: Path) -> None:
        """Remove what an interrupted `replace` of `path` may have left beside it."""
        try:
            with _folder(path) as folder:
                _unlink(leftover_name(path), folder)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.ENOENT):
                raise


def leftover_name(path: Path) -> str:
    """The name of the file that `Disk.replace` makes beside `path`."""
    return f".{path.name}.codezero-new"


@contextmanager
def _folder(path: Path) -> Generator[int]:
    descriptor = os.open(path.parent, _FOLDER_FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _link_state(path: Path, folder: int, info: os.stat_result) -> FileState:
    target = os.readlink(path.name, dir_fd=folder)
    try:
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        content = b""
    else:
        with os.fdopen(descriptor, "rb"):
            content = _content(path, descriptor)
    return FileState(
        FileKind.LINK, content=content, target=target, uid=info.st_uid, gid=info.st_gid, modified=info.st_mtime_ns
    )


def _content(path: Path, descriptor: int) -> bytes:
    info = os.fstat(descriptor)
    if not stat.S_ISREG(info.st_mode):
        raise NotAFileError(errno.EINVAL, "not a regular file", str(path))
    parts: list[bytes] = []
    size = 0
    while part := os.read(descriptor, 1024 * 1024):
        size += len(part)
        if size > MAX_SIZE:
            raise NotAFileError(errno.EFBIG, f"larger than {MAX_SIZE} bytes", str(path))
        parts.append(part)
    return b"".join(parts)


def _attributes(descriptor: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    except OSError:
        return {}


def _set_metadata(descriptor: int, state: FileState) -> None:
    info = os.fstat(descriptor)
    if (info.st_uid, info.st_gid) != (state.uid, state.gid):
        os.fchown(descriptor, state.uid, state.gid)
    if stat.S_IMODE(info.st_mode) != state.mode:
        os.fchmod(descriptor, state.mode)
    for name, value in state.attributes.items():
        try:
            os.setxattr(descriptor, name, value)
        except OSError:
            # A security label the policy sets itself; the file is as good without.
            continue
    if state.modified:
        os.utime(descriptor, ns=(state.modified, state.modified))


def _write_all(descriptor: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], written)


def _unlink(name: str, folder: int, *, quiet: bool = False) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    except OSError:
        if not quiet:
            raise
