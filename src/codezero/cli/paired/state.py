"""What this machine knows of pages: those that are paired with it, the one it waits for, and what waits to be confirmed. A file of the user's (0600).

czctl and the process in the background both change it, one at a time and whole or not at all. What has expired is not in what is read.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec

from codezero.cli import hub_context, private_files
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.wire.paired import PAIRING_DAYS, PageKey, PairingView

FILE: Final = "paired.json"
_LOCK_FILE: Final = "paired.lock"
MAX_SIZE: Final = 2 * 1024 * 1024

OFFER_SECONDS: Final = 300.0
TRIES: Final = 5
MOST_PAIRINGS: Final = 20
MOST_QUESTIONS: Final = 5  # of one page
MOST_SERVED: Final = 100  # remembered of one page, the latest
QUESTION_SECONDS: Final = 600.0
# A refusal is told to the page that repeats its request, and then forgotten: it may be asked again.
REFUSAL_SECONDS: Final = 60.0
# When a page asked last is for people, who ask for no seconds.
USED_SECONDS: Final = 600.0

_Text = Annotated[str, msgspec.Meta(max_length=4096)]
T = TypeVar("T")


class Offer(msgspec.Struct, frozen=True):
    """`czctl pair` waits for a page of `origin` that has `code`; `name` is what it is to be called, if not what it calls itself."""

    code: _Text
    origin: _Text
    acts: bool
    expires_at: float
    tries: int = TRIES
    name: _Text | None = None

    def __repr__(self) -> str:
        return f"Offer({self.origin!r})"


class Served(msgspec.Struct, frozen=True):
    """Requests to `service` (`namespace/name`) of that Teamspace are answered from `port` of this machine's loopback."""

    service: _Text
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]
    teamspace: _Text


class Pairing(msgspec.Struct, frozen=True):
    """A page that is paired: `id` is the thumbprint of its `key`, `served` what it has served and was confirmed, the latest last."""

    id: _Text
    key: PageKey
    name: _Text
    origin: _Text
    acts: bool
    created_at: float
    expires_at: float
    used_at: float | None = None
    served: tuple[Served, ...] = ()

    def with_served(self, served: tuple[Served, ...]) -> "Pairing":
        """With that remembered; what was served longest ago is forgotten where it is too much."""
        before = tuple(one for one in self.served if one not in served)
        return msgspec.structs.replace(self, served=(*before, *served)[-MOST_SERVED:])

    def view(self) -> PairingView:
        """As pages and people see it."""
        return PairingView(
            self.id, self.name, self.origin, self.acts, self.created_at, self.expires_at, used_at=self.used_at
        )


class Answer(StrEnum):
    """What was said to a question."""

    WAITING = "waiting"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


class Question(msgspec.Struct, frozen=True):
    """What a page asked for that is to be confirmed: exactly that request. `lines` say it to people, `answer` is good until `expires_at`.

    `serves` is remembered of its page once it was confirmed and done.
    """

    id: _Text
    pairing: _Text
    method: _Text
    target: _Text
    body_hash: _Text
    lines: tuple[_Text, ...]
    asked_at: float
    expires_at: float
    answer: Answer = Answer.WAITING
    serves: tuple[Served, ...] = ()

    def is_about(self, pairing: str, method: str, target: str, body_hash: str) -> bool:
        """Whether it is that request."""
        return (self.pairing, self.method, self.target, self.body_hash) == (pairing, method, target, body_hash)


class State(msgspec.Struct, frozen=True):
    """All of it. `port` is where this user's pages find this machine, 0 before the first time; `relays` whether they may come through the Hub."""

    machine: _Text
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    relays: bool = True
    pairings: tuple[Pairing, ...] = ()
    offer: Offer | None = None
    questions: tuple[Question, ...] = ()

    @property
    def is_needed(self) -> bool:
        """Whether there is anybody to answer."""
        return bool(self.pairings) or self.offer is not None

    @property
    def origins(self) -> frozenset[str]:
        """Where pages may come from."""
        offered = (self.offer.origin,) if self.offer is not None else ()
        return frozenset((*offered, *(one.origin for one in self.pairings)))

    def pairing(self, name: str) -> Pairing | None:
        """The pairing of that id."""
        return next((one for one in self.pairings if one.id == name), None)

    def without(self, ended: frozenset[str]) -> "State":
        """As it is when those pairings have ended; what they asked is forgotten."""
        return msgspec.structs.replace(
            self,
            pairings=tuple(one for one in self.pairings if one.id not in ended),
            questions=tuple(one for one in self.questions if one.pairing not in ended),
        )

    def with_served(self, pairing: str, served: tuple[Served, ...]) -> "State":
        """As it is when that page has served that."""
        pairings = tuple(one.with_served(served) if one.id == pairing else one for one in self.pairings)
        return msgspec.structs.replace(self, pairings=pairings)

    def at(self, now: float) -> "State":
        """Without what has expired."""
        ended = frozenset(one.id for one in self.pairings if one.expires_at <= now)
        kept = self.without(ended) if ended else self
        offer = kept.offer if kept.offer is not None and kept.offer.expires_at > now and kept.offer.tries > 0 else None
        questions = tuple(one for one in kept.questions if one.expires_at > now)
        return msgspec.structs.replace(kept, offer=offer, questions=questions)


def path() -> Path:
    """Where it is."""
    return hub_context.folder() / FILE


def load() -> State | None:
    """How it is now; None before anything was ever paired. Raises `CodezeroError` for a file that cannot be used."""
    state = _load()
    return None if state is None else state.at(time.time())


def change(work: Callable[[State], tuple[State, T]]) -> T:
    """Let `work` make another state of the present one, alone; gives what it gives beside. Raises `CodezeroError`, and then nothing is changed."""
    with _locked():
        before = _load()
        present = State(new_ulid()) if before is None else before.at(time.time())
        after, given = work(present)
        if after != before:
            private_files.write(path(), msgspec.json.encode(after), replace=True)
    return given


def pair(state: State, pairing: Pairing) -> State:
    """With a page that is paired in place of the one that was waited for, and nothing of an earlier pairing of it; raises `CodezeroError` where there are
    too many.
    """
    others = state.without(frozenset((pairing.id,)))
    if len(others.pairings) >= MOST_PAIRINGS:
        raise CodezeroError(
            problems.PAIRING_CLOSED,
            f"{MOST_PAIRINGS} pages are paired with this machine already",
            fix="czctl pairing list, then: czctl pairing revoke ID",
        )
    return msgspec.structs.replace(others, pairings=(*others.pairings, pairing), offer=None)


def expiry(now: float) -> float:
    """When a pairing that is made now ends."""
    return now + PAIRING_DAYS * 86400.0


def machine_name() -> str:
    """What this machine is called."""
    return socket.gethostname()[:100] or "this machine"


class Live:
    """The state as the process in the background sees it: read again where the file is another one."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: tuple[int, int, int] | None = None
        self._state = State("")

    @property
    def now(self) -> State:
        """How it is. Raises `CodezeroError` for a file that cannot be used."""
        seen = _stamp()
        if seen != self._seen:
            self._state = _load() or State("")
            self._seen = seen
        return self._state.at(self._clock())


def _stamp() -> tuple[int, int, int] | None:
    try:
        found = path().stat()
    except OSError:
        return None
    # Each change is another file, renamed into this place.
    return (found.st_ino, found.st_mtime_ns, found.st_size)


def _load() -> State | None:
    file = path()
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{file} cannot be read: {error.strerror}",
            fix=f"give it back to yourself: ls -l {file}",
        ) from None
    try:
        if len(content) > MAX_SIZE:
            raise ValueError("it is too large")
        return msgspec.json.decode(content, type=State)
    except (ValueError, RecursionError) as error:
        # msgspec names path and type of what is wrong, never its value.
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{file} cannot be used: {error}",
            fix=f"put it aside, and pair anew: mv {file} {file}.broken && czctl pair",
        ) from None


@contextmanager
def _locked() -> Generator[None]:
    folder = hub_context.folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CodezeroError(problems.OUTPUT_FAILED, f"{folder / _LOCK_FILE} cannot be made: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
