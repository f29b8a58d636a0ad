"""Where the log goes: losing a line of it must never end the process that could undo our changes (R38)."""

import os
from pathlib import Path
from typing import TextIO

MAX_SIZE = 5 * 1024 * 1024


class Forgiving:
    """A text stream, such as standard error, whose reader may be gone or whose disk may be full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            return

    def isatty(self) -> bool:
        """Whether people read along."""
        return self._stream.isatty()


class LogFile:
    """A log file for root only; beyond `max_size` bytes it becomes `<name>.1` in place of the one before."""

    def __init__(self, path: Path, *, max_size: int = MAX_SIZE) -> None:
        self._path = path
        self._max_size = max_size
        self._descriptor: int | None = None
        self._size = 0

    def write(self, text: str) -> int:
        """Write what can be written; a full or missing disk is tried again at the next line."""
        content = text.encode("utf-8", "replace")
        try:
            if self._descriptor is None or self._size + len(content) > self._max_size:
                self._reopen()
            if self._descriptor is not None:
                self._size += os.write(self._descriptor, content)
        except OSError:
            return len(text)
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        """No: lines go to a file."""
        return False

    def _reopen(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)
        if self._path.exists() and self._path.stat().st_size >= self._max_size // 2:
            self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
