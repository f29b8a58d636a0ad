"""Files that change under our feet."""

import asyncio
import os
from pathlib import Path

from codezero.kit.mounted import MAX_FILE, MountedFiles


def mount(folder: Path, generation: int, **files: str) -> None:
    """Replace the content of a mount as the kubelet does: a new folder, and a symbolic link that is renamed."""
    data = folder / f"..{generation}"
    data.mkdir()
    for name, content in files.items():
        (data / name).write_text(content)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)
    (folder / "..fresh").symlink_to(data.name)
    (folder / "..fresh").rename(folder / "..data")


async def test_a_mount_that_changes_is_seen(tmp_path: Path) -> None:
    """All files of one generation at once, also when only one of them differs."""
    mount(tmp_path, 1, crt="one", key="one")
    changes = MountedFiles(tmp_path, ("crt", "key"), look_seconds=0.01).changes()
    assert await anext(changes) == {"crt": b"one", "key": b"one"}
    mount(tmp_path, 2, crt="two", key="two")

    assert await asyncio.wait_for(anext(changes), 10) == {"crt": b"two", "key": b"two"}


async def test_files_that_come_late_are_seen(tmp_path: Path) -> None:
    """A pod may start before its Secret exists."""
    changes = MountedFiles(tmp_path / "late", ("crt",), look_seconds=0.01).changes()
    assert await anext(changes) == {}
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "crt").write_text("here")

    assert await asyncio.wait_for(anext(changes), 10) == {"crt": b"here"}
    (tmp_path / "late" / "crt").unlink()
    assert await asyncio.wait_for(anext(changes), 10) == {}


async def test_a_rewrite_with_the_same_content_is_no_change(tmp_path: Path) -> None:
    """Nobody is disturbed by a touched file."""
    file = tmp_path / "crt"
    file.write_text("one")
    changes = MountedFiles(tmp_path, ("crt",), look_seconds=0.01).changes()
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes))  # type: ignore[arg-type]
    for second in range(5):
        os.utime(file, (second, second))
        await asyncio.sleep(0.02)
    assert not waiting.done()
    file.write_text("two")

    assert await asyncio.wait_for(waiting, 10) == {"crt": b"two"}


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    """A mistake in a mount must not fill the memory."""
    with (tmp_path / "crt").open("wb") as file:
        file.truncate(MAX_FILE * 3)

    assert len(MountedFiles(tmp_path, ("crt",)).read()["crt"]) == MAX_FILE
