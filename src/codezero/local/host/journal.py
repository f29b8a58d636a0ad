"""What we changed on the machine, written down before each change, so that anybody can undo it later with everything else dead.

One JSON file per changed file of the machine, replaced atomically and synced; an entry is old or new, never partial. The folder belongs to root
and is locked by whoever may change the machine.
"""

import fcntl
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import msgspec

from codezero.local.host.files import Disk, FileKind, FileState
from codezero.model import problems
from codezero.model.problems import CodezeroError

JOURNAL_FOLDER = "journal"


class Entry(msgspec.Struct, frozen=True):
    """A file of the machine that we changed: what it was. While `unfinished`, an in-place write may have left any content in it."""

    path: str
    original: FileState
    unfinished: bool = False


class Journal:
    """The entries under `<state folder>/journal`. Use it inside `locked`."""

    def __init__(self, state_folder: Path, *, disk: Disk | None = None) -> None:
        self.folder = state_folder / JOURNAL_FOLDER
        self.disk = disk or Disk()

    @contextmanager
    def locked(self) -> Generator[int | None]:
        """Be the only one who changes this machine; raises `CodezeroError` ALREADY_RUNNING when another is.

        Gives the process that was in charge before and did not end in order, or None.
        """
        _make_private(self.folder.parent)
        _make_private(self.folder)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            holder = _process_id(descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CodezeroError(
                    problems.ALREADY_RUNNING,
                    f"process {holder or 'unknown'} of Codezero is in charge of this machine ({self.folder / 'lock'})",
                    fix="czctl stop",
                ) from None
            predecessor = _process_id(descriptor)
            os.pwrite(descriptor, f"{os.getpid():<20}\n".encode(), 0)
            yield predecessor
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def holder(self) -> int | None:
        """The process in charge; None where there is none, or none that this process can see (it may be of another process namespace)."""
        try:
            descriptor = os.open(self.folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            process = _process_id(descriptor)
            return process if process is not None and _has_open(process, os.fstat(descriptor)) else None
        finally:
            os.close(descriptor)

    def entries(self) -> list[Entry]:
        """All entries. One that cannot be read is moved aside: the markers in the file itself then have to do."""
        found: list[Entry] = []
        for file in sorted(self.folder.glob("*.json")):
            entry = self._load(file)
            if entry is not None:
                found.append(entry)
        return found

    def get(self, path: Path) -> Entry | None:
        """The entry of the file of the machine at `path`, or None."""
        return self._load(self._file(path))

    def put(self, entry: Entry) -> None:
        """Write the entry down, in place of an earlier one of the same file; it is on the disk when this returns.

        Raises `CodezeroError` when it cannot be: the change must not be made then.
        """
        state = FileState(
            FileKind.FILE, content=msgspec.json.encode(entry), mode=0o600, uid=os.geteuid(), gid=os.getegid()
        )
        why = "it cannot be replaced"
        try:
            if self.disk.replace(self._file(Path(entry.path)), state):
                return
        except OSError as error:
            why = error.strerror or str(error)
        raise CodezeroError(
            problems.HOST_CHANGE_FAILED,
            f"the journal folder {self.folder} cannot be written: {why}",
            fix=f"df {self.folder}",
        )

    def remove(self, path: Path) -> None:
        """Forget the entry of that file, if there is one: the change is undone."""
        file = self._file(path)
        if file.exists():
            self.disk.replace(file, FileState(FileKind.ABSENT))

    def _file(self, path: Path) -> Path:
        return self.folder / f"{path.name}-{sha256(str(path).encode()).hexdigest()[:16]}.json"

    def _load(self, file: Path) -> Entry | None:
        try:
            return msgspec.json.decode(self.disk.read(file).content, type=Entry) if file.exists() else None
        except msgspec.DecodeError:
            file.replace(file.with_suffix(".unreadable"))
            return None


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = folder.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or stat.S_IMODE(info.st_mode) & 0o022:
        raise CodezeroError(
            problems.UNSAFE_INSTALL,
            f"{folder} must be a folder of uid {os.geteuid()} that nobody else can write",
            fix=f"sudo chown {os.geteuid()} {folder} && sudo chmod 0700 {folder}",
        )


def _process_id(descriptor: int) -> int | None:
    text = os.pread(descriptor, 21, 0).strip()
    return int(text) if text.isdigit() else None


def _has_open(process: int, lock: os.stat_result) -> bool:
    """Whether the process has the lock file open: its number alone could be that of anybody by now."""
    try:
        with os.scandir(f"/proc/{process}/fd") as opened:
            return any(os.path.samestat(entry.stat(), lock) for entry in opened)
    except OSError:
        return False
