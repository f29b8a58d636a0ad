"""A file of the machine in which a part is ours and the rest belongs to others: put ours in, follow others' changes, take ours out.

What others wrote is always the original: the file without our part. A foreign change, found at any time, is adopted as the new original.
"""

import contextlib
import errno
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from codezero.local.host.files import Disk, FileKind, FileState
from codezero.local.host.journal import Entry, Journal
from codezero.model import problems
from codezero.model.problems import CodezeroError

Strip = Callable[[bytes], bytes]


class Insert(Protocol):
    """Puts our part into what others wrote."""

    def __call__(self, original: bytes, /) -> bytes:
        """The new content; taking our part out of it must give `original` again."""
        ...


class ManagedFile:
    """One such file. `strip` takes our part out of a content, and leaves a content without it as it is."""

    def __init__(self, path: Path, *, strip: Strip, journal: Journal) -> None:
        self.path = path
        self._strip = strip
        self._journal = journal
        self._disk: Disk = journal.disk

    def original(self) -> bytes:
        """What others wrote, as far as it can be known now. Raises `CodezeroError` when the file cannot be read."""
        return self._original(self._read(), self._journal.get(self.path)).content

    def is_ours(self) -> bool:
        """Whether our part stands in the file now."""
        present = self._read()
        return present.kind is FileKind.FILE and self._strip(present.content) != present.content

    def watched(self) -> tuple[Path, ...]:
        """The paths in which others may write: the file, and what it leads to where it was a link."""
        entry = self._journal.get(self.path)
        if entry is None or entry.original.kind is not FileKind.LINK:
            return (self.path,)
        return (self.path, self.path.parent / entry.original.target)

    def apply(self, insert: Insert) -> bool:
        """Put our part in; gives whether the file had to be written. Journaled first; raises `CodezeroError`, with the file as before, when it cannot be done."""
        present, entry = self._read(), self._journal.get(self.path)
        original = self._original(present, entry)
        wanted = insert(original.content)
        if wanted == original.content:
            return self.undo()
        if entry is None or entry.unfinished or entry.original != original:
            self._journal.put(Entry(str(self.path), original))
        if present.kind is FileKind.FILE and present.content == wanted:
            return False
        mode = original.mode if original.kind is FileKind.FILE else 0o644
        ours = FileState(FileKind.FILE, wanted, "", mode, original.uid, original.gid, attributes=original.attributes)
        try:
            self._write(ours, original)
        except OSError as error:
            if self._read() == present:
                self._forget_attempt(entry)
            raise _failed(self.path, error) from error
        return True

    def undo(self) -> bool:
        """Take our part out and, where only we changed the file, make it exactly what it was; gives whether the file was written.

        Idempotent; without an entry the markers have to do. Raises `CodezeroError`, keeping the entry, when it cannot be done.
        """
        try:
            self._disk.remove_leftover(self.path)
            restored = self._restored(self._read(), self._journal.get(self.path))
            if restored is not None:
                self._restore(restored)
        except OSError as error:
            raise _failed(self.path, error) from error
        self._journal.remove(self.path)
        return restored is not None

    def _restored(self, present: FileState, entry: Entry | None) -> FileState | None:
        """What the file should be without us; None where it is that already."""
        if entry is not None and entry.unfinished:
            return entry.original
        if present.kind is not FileKind.FILE:
            return None
        stripped = self._strip(present.content)
        if stripped == present.content:
            return None
        if entry is not None and stripped == entry.original.content:
            return entry.original
        return FileState(
            FileKind.FILE, stripped, "", present.mode, present.uid, present.gid, attributes=present.attributes
        )

    def _original(self, present: FileState, entry: Entry | None) -> FileState:
        if entry is not None and entry.unfinished:
            return entry.original
        if present.kind is not FileKind.FILE:
            return present
        stripped = self._strip(present.content)
        if stripped == present.content:
            return present
        if entry is not None and stripped == entry.original.content:
            return self._followed(entry.original)
        return FileState(
            FileKind.FILE, stripped, "", present.mode, present.uid, present.gid, present.modified, present.attributes
        )

    def _followed(self, original: FileState) -> FileState:
        """The original with what its target holds today, where it is a link: others keep writing there."""
        if original.kind is not FileKind.LINK:
            return original
        target = self.path.parent / original.target
        try:
            content = self._disk.read(target.resolve()).content
        except OSError:
            content = b""
        return FileState(
            FileKind.LINK, content, original.target, original.mode, original.uid, original.gid, original.modified
        )

    def _write(self, state: FileState, original: FileState) -> None:
        if self._disk.replace(self.path, state):
            return
        _refuse_other_than_file(state)
        self._journal.put(Entry(str(self.path), original, unfinished=True))
        self._disk.overwrite(self.path, state)
        self._journal.put(Entry(str(self.path), original))

    def _restore(self, state: FileState) -> None:
        if self._disk.replace(self.path, state):
            return
        _refuse_other_than_file(state)
        # Not a condition here: on a full disk it is better to put the file back without than not at all.
        with contextlib.suppress(CodezeroError):
            self._journal.put(Entry(str(self.path), state, unfinished=True))
        self._disk.overwrite(self.path, state)

    def _forget_attempt(self, entry: Entry | None) -> None:
        if entry is None:
            self._journal.remove(self.path)
        else:
            self._journal.put(entry)

    def _read(self) -> FileState:
        try:
            return self._disk.read(self.path)
        except OSError as error:
            raise _failed(self.path, error) from error


def _refuse_other_than_file(state: FileState) -> None:
    if state.kind is not FileKind.FILE:
        raise OSError(errno.EROFS, "the file cannot be replaced in its folder")


def _failed(path: Path, error: OSError) -> CodezeroError:
    return CodezeroError(
        problems.HOST_CHANGE_FAILED,
        f"{path} could not be changed: {error.strerror or error}",
        fix=f"lsattr {path}; mount | grep {path.parent}",
    )
