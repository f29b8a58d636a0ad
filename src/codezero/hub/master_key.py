"""The master key's file: made once, read at each start, and nobody else's to read. Without it the database's private keys are lost."""

import os
import secrets
import stat
from pathlib import Path

from codezero.hub.sealing import Sealer
from codezero.model import problems
from codezero.model.problems import CodezeroError

_LENGTH = 64


def read(path: Path) -> bytes | None:
    """The key, None where there is no file; raises `CodezeroError` (BAD_MASTER_KEY) for one that others may read or that holds no key."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _bad(f"the master key {path} cannot be read: {error.strerror}") from None
    try:
        # What is checked is what is read.
        _check(path, os.fstat(descriptor))
        content = os.read(descriptor, _LENGTH + 2)
    finally:
        os.close(descriptor)
    text = content.decode("ascii", "replace").strip()
    try:
        key = bytes.fromhex(text) if len(text) == _LENGTH else b""
    except ValueError:
        key = b""
    if not key:
        raise _bad(
            f"the master key {path} is not {_LENGTH} hexadecimal digits",
            fix="bring back the file that was made with the database; it is in no backup of the database",
        )
    return key


def create(path: Path) -> bytes:
    """Make the file and give its key; where another process was quicker, that one's key."""
    key = Sealer.new_master_key()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.write(key.hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            # Not a rename: that would replace the key of a process that was quicker.
            path.hardlink_to(beside)
        except FileExistsError:
            found = read(path)
            assert found is not None
            return found
        finally:
            beside.unlink(missing_ok=True)
        _sync(path.parent)
    except OSError as error:
        raise _bad(f"the master key {path} cannot be written: {error.strerror}") from None
    return key


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(path: Path, found: os.stat_result) -> None:
    # A mounted Secret is root's and readable by the group that the pod was given for it.
    loose = 0o077 if found.st_uid == os.geteuid() else 0o037
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
        raise _bad(f"the master key {path} is no file of yours or root's", fix=f"chown {os.geteuid()} {path}")
    if found.st_mode & loose:
        raise _bad(
            f"the master key {path} may be read or changed by others (mode {stat.S_IMODE(found.st_mode):04o})",
            fix=f"chmod 600 {path}",
        )


def _bad(detail: str, *, fix: str | None = None) -> CodezeroError:
    return CodezeroError(problems.BAD_MASTER_KEY, detail, fix=fix)
