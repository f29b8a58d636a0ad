"""Files that hold keys: for their owner's eyes alone from the first byte on, and whole or not there."""

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from codezero.model import problems
from codezero.model.problems import CodezeroError


def write(path: Path, content: bytes, *, replace: bool) -> None:
    """As `write_pieces`, of one."""
    write_pieces(path, (content,), replace=replace)


def write_pieces(path: Path, pieces: Iterable[bytes], *, replace: bool) -> None:
    """Write a file of mode 0600 of pieces as they come; raises `CodezeroError` where there is one already and it is not to be replaced, or it cannot be."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                beside.replace(path)
            else:
                # A rename would replace what somebody made in this moment.
                path.hardlink_to(beside)
        finally:
            beside.unlink(missing_ok=True)
    except FileExistsError:
        raise exists(path) from None
    except OSError as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{path} cannot be written: {error.strerror}") from None


def exists(path: Path) -> CodezeroError:
    """What to say of a file that would be overwritten."""
    return CodezeroError(
        problems.FILE_EXISTS, f"{path} is there already", fix="name another file, or add --force to replace it"
    )
