"""The keys that sign for Teamspaces without a Hub, kept by whoever installed them: a file each, in a folder of the user's configuration.

Whoever has such a file can be any laptop of its Teamspace, and nobody can give access without it. Keep a copy in a safe place.
"""

import fcntl
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path

from codezero.cli import private_files
from codezero.deploy import identity
from codezero.deploy.identity import Issuers
from codezero.model import problems
from codezero.model.problems import CodezeroError

_FOLDER_VARIABLE = "XDG_CONFIG_HOME"


def folder() -> Path:
    """Where they are."""
    above = os.environ.get(_FOLDER_VARIABLE, "")
    # The specification has relative ones ignored.
    home = Path(above) if above.startswith("/") else Path.home() / ".config"
    return home / "codezero" / "authorities"


def path(teamspace: str) -> Path:
    """The file of a Teamspace."""
    return folder() / f"{teamspace}.json"


def save(issuers: Issuers) -> None:
    """Write the file; raises `CodezeroError` where it cannot be."""
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{folder()} cannot be made: {error.strerror}") from None
    private_files.write(path(issuers.teamspace), identity.encode(issuers), replace=True)


def with_users(teamspace: str, users: Iterable[str]) -> Issuers:
    """Those of a Teamspace, from now on knowing these users; raises `CodezeroError`.

    Whoever is given access in the same moment by another process stays known too.
    """
    with _locked():
        found = required(teamspace)
        for user in users:
            found = found.with_user(user)
        save(found)
    return found


@contextmanager
def _locked() -> Generator[None, None, None]:
    try:
        descriptor = os.open(folder(), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        # There is nothing to keep from anybody.
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find(teamspace: str) -> Issuers | None:
    """Those of a Teamspace, None where they are not on this machine; raises `CodezeroError` for a file that cannot be used."""
    file = path(teamspace)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CodezeroError(problems.NO_ISSUER, f"{file} cannot be read: {error.strerror}") from None
    try:
        found = identity.decode(content)
    except CodezeroError as error:
        raise CodezeroError(problems.NO_ISSUER, f"{file}: {error.detail}", fix="put its copy back") from None
    if found.teamspace != teamspace:
        raise CodezeroError(problems.NO_ISSUER, f"{file} is of another Teamspace", fix="put its copy back")
    return found


def required(teamspace: str) -> Issuers:
    """As `find`; raises `CodezeroError` (NO_ISSUER) where there are none."""
    found = find(teamspace)
    if found is None:
        raise CodezeroError(
            problems.NO_ISSUER,
            f"{path(teamspace)} is not on this machine",
            fix="run this where the Teamspace was installed, or copy the file from there",
        )
    return found


def remove(teamspace: str) -> bool:
    """Remove the file of a Teamspace that is no more; false where there is none. Raises `CodezeroError` where it cannot be."""
    try:
        path(teamspace).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{path(teamspace)} cannot be deleted: {error.strerror}") from None
    return True
