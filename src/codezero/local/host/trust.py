"""Whether only root can change a file: its owner and mode, and those of every folder above it (T05).

Standard library only, and complete in itself: the installed launchers carry a copy of this text and run it before they import anything of ours.
"""

# Plain functions instead of pathlib: thousands of calls at each start.
# ruff: noqa: PTH100, PTH112, PTH114, PTH118, PTH120
import os
import stat


def untrusted(paths: list[str]) -> str | None:
    """What is wrong with the first path, of these, all below them and all folders above them, that others than root can change; None if none."""
    seen: set[str] = set()
    for path in paths:
        for part in (os.path.abspath(path), os.path.realpath(path)):
            problem = _above(part, seen) or _below(part, seen)
            if problem:
                return problem
    return None


def _above(path: str, seen: set[str]) -> str | None:
    while path not in seen:
        seen.add(path)
        problem = _one(path)
        if problem:
            return problem
        path = os.path.dirname(path)
    return None


def _below(path: str, seen: set[str]) -> str | None:
    if os.path.islink(path) or not os.path.isdir(path):
        return None
    for folder, folders, files in os.walk(path):
        # What pip installs for the interpreter is not on the path of a launcher.
        folders[:] = [name for name in folders if name not in ("site-packages", "dist-packages")]
        for name in (*folders, *files):
            part = os.path.join(folder, name)
            if part not in seen:
                seen.add(part)
                problem = _one(part)
                if problem:
                    return problem
    return None


def _one(path: str) -> str | None:
    try:
        info = os.lstat(path)
    except OSError as error:
        return f"{path} cannot be checked: {error.strerror}"
    if info.st_uid != 0:
        return f"{path} belongs to uid {info.st_uid}"
    if stat.S_ISLNK(info.st_mode):
        return None  # its mode means nothing, and what it leads to is checked where it counts
    if info.st_mode & 0o022 and not (stat.S_ISDIR(info.st_mode) and info.st_mode & stat.S_ISVTX):
        return f"{path} can be written by others (mode {stat.S_IMODE(info.st_mode):04o})"
    return None
