"""What this machine remembers of its Hub: which one, as whom, and what is selected there. Each device has its own; the Hub keeps no selection of people.

`hub.json` holds no secret; `credentials.json` (0600) holds the device's key and the tokens, or an API key. Both are in `~/.config/codezero`. What the
environment says goes before both and is written nowhere: CODEZERO_HUB, CODEZERO_HUB_CA, CODEZERO_TOKEN, CODEZERO_API_KEY, CODEZERO_ORGANIZATION,
CODEZERO_SPACE. With an API key of the environment the device that the agent is has its key in `machine-key.json` (0600), with which alone the Hub gives
nothing.
"""

import contextlib
import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from codezero.cli import private_files
from codezero.model import problems
from codezero.model.problems import CodezeroError

HUB_VARIABLE: Final = "CODEZERO_HUB"
CA_VARIABLE: Final = "CODEZERO_HUB_CA"
TOKEN_VARIABLE: Final = "CODEZERO_TOKEN"  # noqa: S105 - a name
API_KEY_VARIABLE: Final = "CODEZERO_API_KEY"
ORGANIZATION_VARIABLE: Final = "CODEZERO_ORGANIZATION"
SPACE_VARIABLE: Final = "CODEZERO_SPACE"

CONTEXT_FILE: Final = "hub.json"
CREDENTIALS_FILE: Final = "credentials.json"
NAMES_FILE: Final = "names.json"
MACHINE_KEY_FILE: Final = "machine-key.json"
_LOCK_FILE: Final = "credentials.lock"
_FOLDER_VARIABLE: Final = "XDG_CONFIG_HOME"
_MAX_SIZE: Final = 256 * 1024
# Of a file of authorities: what an access file takes.
MAX_CA: Final = 16 * 1024

_Text = Annotated[str, msgspec.Meta(max_length=4096)]
T = TypeVar("T")


class Named(msgspec.Struct, frozen=True):
    """A thing of the Hub: its id, and its name when it was last seen."""

    id: _Text
    name: _Text


class HubContext(msgspec.Struct, frozen=True):
    """Which Hub, as whom, and what is selected. `ca` (PEM) is believed instead of what this machine believes."""

    url: _Text
    ca: str | None = None
    user: Named | None = None
    email: _Text | None = None
    organization: Named | None = None
    space: Named | None = None


class Credentials(msgspec.Struct, frozen=True):
    """What this machine shows to the Hub at `url`, and to no other. `key` is the device's (PEM); `expires` is the access token's end in UNIX seconds."""

    url: _Text
    device: _Text | None = None
    key: str | None = None
    access_token: str | None = None
    expires: float = 0.0
    refresh_token: str | None = None
    api_key: str | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.url!r})"

    def is_of_sign_in(self, other: "Credentials | None") -> bool:
        """Whether both are of one sign-in, at most refreshed in between."""
        if other is None or (self.url, self.device, self.api_key) != (other.url, other.device, other.api_key):
            return False
        return self.refresh_token is not None or self.access_token == other.access_token


class MachineKey(msgspec.Struct, frozen=True):
    """The key (PEM) of a device that came to the Hub at `url` with an API key of the environment."""

    url: _Text
    device: _Text
    key: str

    def __repr__(self) -> str:
        return f"MachineKey({self.device!r})"


class Names(msgspec.Struct, frozen=True):
    """Names that the Hub told last, for completion: of organizations, and of the Teamspaces of each organization (by id)."""

    url: _Text = ""
    organizations: tuple[_Text, ...] = ()
    spaces: dict[str, tuple[_Text, ...]] = {}


def folder() -> Path:
    """Where it is."""
    above = os.environ.get(_FOLDER_VARIABLE, "")
    # The specification has relative ones ignored.
    home = Path(above) if above.startswith("/") else Path.home() / ".config"
    return home / "codezero"


def load() -> HubContext | None:
    """The context of this machine; None where nobody has signed in. Raises `CodezeroError` for a file that cannot be used."""
    return _load(CONTEXT_FILE, HubContext)


def save(context: HubContext) -> None:
    """Keep the context; raises `CodezeroError` where it cannot be."""
    _save(CONTEXT_FILE, context)


def load_credentials() -> Credentials | None:
    """What this machine shows to its Hub; None where it is not signed in."""
    return _load(CREDENTIALS_FILE, Credentials)


def save_credentials(credentials: Credentials | None) -> None:
    """Keep the credentials, or forget them."""
    if credentials is None:
        (folder() / CREDENTIALS_FILE).unlink(missing_ok=True)
    else:
        _save(CREDENTIALS_FILE, credentials)


def load_machine_key() -> MachineKey | None:
    """The key of the last device by an API key of the environment; None where it cannot be read: there are more."""
    try:
        return _load(MACHINE_KEY_FILE, MachineKey)
    except CodezeroError:
        return None


def save_machine_key(kept: MachineKey) -> None:
    """Keep the device's key where that is possible, as it is not where a machine has no home; the next start is another device then."""
    with contextlib.suppress(CodezeroError):
        _save(MACHINE_KEY_FILE, kept)


def load_names() -> Names:
    """The names that the Hub told last; none where they cannot be read: nothing depends on them."""
    try:
        return _load(NAMES_FILE, Names) or Names()
    except CodezeroError:
        return Names()


def save_names(names: Names) -> None:
    """Keep names for completion, where that is possible."""
    try:
        _save(NAMES_FILE, names)
    except CodezeroError:
        # Nothing depends on them.
        return


def forget() -> None:
    """Drop tokens, key and what is selected; the Hub's address stays."""
    # A refresh under way ends first, and what it got is dropped, too.
    with locked():
        save_credentials(None)
        for name in (NAMES_FILE, MACHINE_KEY_FILE):
            (folder() / name).unlink(missing_ok=True)
        known = load()
        if known is not None:
            save(HubContext(known.url, known.ca))


@contextmanager
def locked() -> Generator[None, None, None]:
    """Be the only process of this user that changes context or credentials, for the length of a block (R28). Not to be entered twice: it waits for itself."""
    _make_folder()
    try:
        descriptor = os.open(folder() / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CodezeroError(
            problems.OUTPUT_FAILED, f"{folder() / _LOCK_FILE} cannot be made: {error.strerror}"
        ) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def says_who_asks() -> bool:
    """Whether the environment says who asks, and not what is kept here."""
    return any(os.environ.get(name) for name in (TOKEN_VARIABLE, API_KEY_VARIABLE))


def read_ca(file: Path) -> str:
    """The authorities of a file (PEM); raises `CodezeroError`."""
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_CA + 1)
    except OSError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MAX_CA:
        raise CodezeroError(
            problems.TOO_LARGE, f"{file} has more than {MAX_CA} bytes", fix="give the Hub's own authority alone"
        )
    begin = content.find(b"-----BEGIN CERTIFICATE-----")
    if begin < 0 or not content.isascii():
        raise CodezeroError(problems.BAD_REQUEST, f"{file} holds no certificate in PEM")
    return content[begin:].decode()


def _load(name: str, kind: type[T]) -> T | None:
    file = folder() / name
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CodezeroError(
            problems.NO_HUB, f"{file} cannot be read: {error.strerror}", fix=f"give it back to yourself: ls -l {file}"
        ) from None
    try:
        if len(content) > _MAX_SIZE:
            raise ValueError("it is too large")
        return msgspec.json.decode(content, type=kind)
    except (ValueError, RecursionError) as error:
        # msgspec names path and type of what is wrong, never its value.
        raise CodezeroError(
            problems.NO_HUB, f"{file} cannot be used: {error}", fix="czctl auth login --force"
        ) from None


def _save(name: str, value: msgspec.Struct) -> None:
    _make_folder()
    private_files.write(folder() / name, msgspec.json.encode(value), replace=True)


def _make_folder() -> None:
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{folder()} cannot be made: {error.strerror}") from None
