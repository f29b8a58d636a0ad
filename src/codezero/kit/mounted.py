"""Files that somebody else replaces under our feet: mounted Secrets and ConfigMaps.

Such mounts change by a rename of a symbolic link, which file events report unreliably; so they are looked at regularly, and read only when
their identity or time changed.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

MAX_FILE = 4 * 1024 * 1024
LOOK_SECONDS = 1.0

Content = dict[str, bytes]


class MountedFiles:
    """The files `names` of `folder`; those that are missing or cannot be read are left out of the content."""

    def __init__(self, folder: Path, names: Sequence[str], *, look_seconds: float = LOOK_SECONDS) -> None:
        self._paths = {name: folder / name for name in names}
        self._look_seconds = look_seconds

    def read(self) -> Content:
        """What the files hold now."""
        content: Content = {}
        for name, path in self._paths.items():
            try:
                with path.open("rb") as file:
                    content[name] = file.read(MAX_FILE)
            except OSError:
                continue  # a mount that is not there yet, or a key the Secret does not have
        return content

    async def changes(self) -> AsyncIterator[Content]:
        """The content now, then again after each change."""
        seen: Content | None = None
        marks: object = None
        while True:
            # Marks first: a change between the two looks is seen at the next turn.
            latest = self._marks()
            if latest != marks or seen is None:
                content = self.read()
                marks = latest
                if content != seen:
                    seen = content
                    yield content
            await asyncio.sleep(self._look_seconds)

    def _marks(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_mark(path) for path in self._paths.values())


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
