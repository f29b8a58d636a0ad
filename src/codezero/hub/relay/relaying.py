"""Which machines are connected, and how whoever asks reaches theirs: each user their own ones alone."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from codezero.hub.context import Hub
from codezero.hub.relay.answers import Answer, away
from codezero.hub.relay.connections import Connection, Question
from codezero.model import problems
from codezero.model.problems import CodezeroError

# Kept by each replica of the Hub: there to keep one from taking all, not to count.
MOST_EACH: Final = 20
MOST_IN_ALL: Final = 2048


@dataclass(frozen=True, slots=True)
class Connected:
    """A machine that can be asked."""

    machine: str
    name: str
    connected_at: datetime


class Relay:
    """The machines at this Hub process."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._here: dict[tuple[str, str], Connection] = {}
        self._of_user: Counter[str] = Counter()

    def check_on(self) -> None:
        """Raise `CodezeroError` (RELAY_OFF) where whoever runs the Hub wants none of this."""
        if not self._hub.has_relay:
            raise CodezeroError(
                problems.RELAY_OFF,
                "this Hub has its relay switched off",
                fix="use the page on the machine itself: czctl ui",
            )

    async def keep(self, connection: Connection) -> None:
        """Let the user of `connection` ask it until it ends. Raises `CodezeroError` (TOO_MANY_REQUESTS) where there are many."""
        before = self._here.get(connection.key)
        if before is None and (self._of_user[connection.user] >= MOST_EACH or len(self._here) >= MOST_IN_ALL):
            raise CodezeroError(problems.TOO_MANY_REQUESTS, "many machines are connected already")
        await connection.welcome()
        self._begin(connection)
        try:
            await connection.run()
        finally:
            self._end(connection)

    async def machines(self, user: str) -> Sequence[Connected]:
        """The machines of `user` that can be asked."""
        found = [Connected(one.machine, one.name, one.connected_at) for one in self._here.values() if one.user == user]
        return sorted(found, key=lambda one: (one.name, one.machine))

    @asynccontextmanager
    async def asked(self, user: str, machine: str, question: Question) -> AsyncGenerator[Answer]:
        """The answer of the user's machine; leaving the block ends it. Raises `CodezeroError` (MACHINE_AWAY, TOO_MANY_REQUESTS)."""
        connection = self._here.get((user, machine))
        if connection is None:
            raise away()
        async with connection.asked(question) as answer:
            yield answer

    def _begin(self, connection: Connection) -> None:
        before = self._here.get(connection.key)
        if before is not None:
            # The machine has not noticed yet that the one before is broken.
            before.end(displaced())
            self._end(before)
        self._here[connection.key] = connection
        self._of_user[connection.user] += 1

    def _end(self, connection: Connection) -> None:
        if self._here.get(connection.key) is not connection:
            return
        del self._here[connection.key]
        self._of_user[connection.user] -= 1
        if not self._of_user[connection.user]:
            del self._of_user[connection.user]


def displaced() -> CodezeroError:
    """What a connection is told in whose place a newer one came."""
    return CodezeroError(problems.ALREADY_THERE, "a newer connection of this machine took the place of this one")
