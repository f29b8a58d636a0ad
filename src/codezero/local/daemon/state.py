"""What outlives the Daemon: rules, primary namespace, virtual addresses, the selected Teamspace, its session and serves. Files in the state folder, 0600.

Each file is replaced as a whole, so it is old or new and never half. A file that cannot be read is moved aside and reported, and the Daemon goes on
without it: it holds nothing that the user cannot give again.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from codezero.kit import logs
from codezero.local.host.files import Disk, FileKind, FileState
from codezero.model.addresses import AddressPlan
from codezero.model.consume import MAX_LENGTH, Rules, parse_rules
from codezero.model.ids import SessionId, TeamspaceId
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.wire import access_file
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.local_api import HealthWarning, Severity

RULES_FILE = "consume.json"
TEAMSPACE_FILE = "teamspace.json"
SESSION_FILE = "session.json"
ADDRESSES_FILE = "addresses.json"
SERVES_FILE = "serves.json"

MAX_SIZE = 16 * 1024 * 1024
# Addresses come from a hash of the names; what is kept are collisions, and above this number keeping them all is not worth it.
MAX_ADDRESSES = 50_000

T = TypeVar("T")
_log = logs.get_logger("state")


class SavedRules(msgspec.Struct, frozen=True):
    """The consume rules as written, and the primary namespace."""

    rules: tuple[Annotated[str, msgspec.Meta(max_length=MAX_LENGTH)], ...] = ()
    primary_namespace: str | None = None


class SavedSession(msgspec.Struct, frozen=True):
    """The session to resume, in the Teamspace that gave it."""

    teamspace: TeamspaceId
    session: SessionId


class SavedAddresses(msgspec.Struct, frozen=True):
    """The virtual addresses of one Teamspace's services."""

    teamspace: str
    addresses: dict[str, str]


class SavedServe(msgspec.Struct, frozen=True):
    """A variant of this laptop; `seen` is whether the catalog has shown it."""

    service: ServiceRef
    variant: VariantView
    seen: bool = False


class ServeWish(msgspec.Struct, frozen=True):
    """A serve that was asked for, before the answer: the variant that comes of it is ours. `at` is UNIX seconds."""

    service: ServiceRef
    condition: tuple[ConditionPart, ...]
    ports: tuple[PortPair, ...]
    mirror: Mirror | None
    at: float


class SavedServes(msgspec.Struct, frozen=True):
    """What this laptop, by its SPIFFE id, serves in one Teamspace."""

    teamspace: str
    device: str
    serves: tuple[SavedServe, ...] = ()
    wishes: tuple[ServeWish, ...] = ()


class StateFolder:
    """The Daemon's state in one folder, made (0700) if it is not there. `warnings` says what had to be left behind."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError when the folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._disk = Disk()
        self.warnings: list[HealthWarning] = []

    def rules(self) -> tuple[Rules, str | None]:
        """The consume rules and the primary namespace."""
        saved = self._load(RULES_FILE, SavedRules) or SavedRules()
        try:
            return parse_rules(saved.rules, primary_namespace=saved.primary_namespace), saved.primary_namespace
        except CodezeroError as error:
            self._set_aside(RULES_FILE, error.detail)
            return Rules(), None

    def save_rules(self, rules: Rules, *, primary_namespace: str | None) -> None:
        """Keep the rules; raises OSError."""
        self._save(RULES_FILE, SavedRules(rules.lines, primary_namespace))

    def teamspace(self) -> TeamspaceAccess | None:
        """The Teamspace selected last."""
        return self._load(TEAMSPACE_FILE, TeamspaceAccess)

    def save_teamspace(self, access: TeamspaceAccess | None) -> None:
        """Keep the selected Teamspace with its key, or forget it; raises OSError."""
        if access is None:
            self._remove(TEAMSPACE_FILE)
        else:
            self._save(TEAMSPACE_FILE, access)

    def session(self, teamspace: str) -> SessionId | None:
        """The session to resume in that Teamspace."""
        saved = self._load(SESSION_FILE, SavedSession)
        return saved.session if saved is not None and saved.teamspace == teamspace else None

    def save_session(self, teamspace: str, session: SessionId | None) -> None:
        """Keep the session, or forget it; raises OSError."""
        if session is None:
            self._remove(SESSION_FILE)
        else:
            self._save(SESSION_FILE, SavedSession(TeamspaceId(teamspace), session))

    def serves(self, teamspace: str, device: str) -> SavedServes:
        """What that laptop serves in that Teamspace."""
        saved = self._load(SERVES_FILE, SavedServes)
        is_ours = saved is not None and (saved.teamspace, saved.device) == (teamspace, device)
        return saved if saved is not None and is_ours else SavedServes(teamspace, device)

    def save_serves(self, serves: SavedServes | None) -> None:
        """Keep the serves, or forget them; raises OSError."""
        if serves is None or not (serves.serves or serves.wishes):
            self._remove(SERVES_FILE)
        else:
            self._save(SERVES_FILE, serves)

    def plan(self, teamspace: str) -> AddressPlan:
        """The virtual addresses of that Teamspace."""
        saved = self._load(ADDRESSES_FILE, SavedAddresses)
        known = saved.addresses if saved is not None and saved.teamspace == teamspace else {}
        return AddressPlan(teamspace, known)

    def save_addresses(self, teamspace: str, addresses: dict[str, str]) -> None:
        """Keep the virtual addresses; raises OSError. May be called in another thread."""
        self._save(ADDRESSES_FILE, SavedAddresses(teamspace, addresses if len(addresses) <= MAX_ADDRESSES else {}))

    def _load(self, name: str, kind: type[T]) -> T | None:
        path = self._folder / name
        try:
            state = self._disk.read(path)
            if state.kind is FileKind.ABSENT:
                return None
            if state.kind is not FileKind.FILE or len(state.content) > MAX_SIZE:
                raise ValueError("not a regular file, or too large")
            if kind is TeamspaceAccess:
                return access_file.decode(state.content)  # type: ignore[return-value]
            return msgspec.json.decode(state.content, type=kind)
        except (OSError, ValueError, RecursionError, CodezeroError) as error:
            # msgspec names path and type of what is wrong, never its value.
            self._set_aside(name, str(error))
            return None

    def _save(self, name: str, value: object) -> None:
        content = msgspec.json.encode(value)
        state = FileState(FileKind.FILE, content=content, mode=0o600, uid=os.getuid(), gid=os.getgid())
        if not self._disk.replace(self._folder / name, state):
            self._disk.overwrite(self._folder / name, state)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).unlink()

    def _set_aside(self, name: str, why: str) -> None:
        aside = self._folder / f"{name}.unusable-{time.time_ns()}"
        _log.warning("a state file cannot be read and is set aside", file=name, reason=why)
        try:
            for older in sorted(self._folder.glob(f"{name}.unusable-*"))[:-2]:
                older.unlink()
            (self._folder / name).rename(aside)
            text = f"{name} in {self._folder} could not be read ({why}); it was kept as {aside.name}"
        except OSError as error:
            text = f"{name} in {self._folder} cannot be read ({why}), nor set aside ({error.strerror})"
        self.warnings.append(HealthWarning("STATE_FILE_UNUSABLE", Severity.WARNING, text))
