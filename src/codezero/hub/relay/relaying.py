"""Which machines are connected, and how whoever asks reaches theirs: each user their own ones alone."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from codezero.hub.context import Hub
from codezero.hub.relay.answers import Answer, away
from codezero.hub.relay.connections import FAREWELL_SECONDS, Connection, Question
from codezero.hub.relay.replicas import Connected, Replicas, displaced
from codezero.model import problems
from codezero.model.problems import CodezeroError

# Kept by each replica of the Hub: there to keep one from taking all, not to count.
MOST_EACH: Final = 20
MOST_IN_ALL: Final = 2048


class Relay:
    """The machines at this Hub process, and the way to those at others."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._here: dict[tuple[str, str], Connection] = {}
        self._of_user: Counter[str] = Counter()
        self._is_ending = False
        self._others = Replicas(hub, self._here) if hub.database.is_postgresql else None

    async def run(self) -> None:
        """Pass on what goes to other replicas and comes from there, for as long as the Hub runs."""
        if self._others is None or not self._hub.has_relay:
            await asyncio.Event().wait()
        else:
            await self._others.run()

    def check_on(self) -> None:
        """Raise `CodezeroError` (RELAY_OFF) where whoever runs the Hub wants none of this."""
        if not self._hub.has_relay:
            raise CodezeroError(
                problems.RELAY_OFF,
                "this Hub has its relay switched off",
                fix="use the page on the machine itself: czctl ui",
            )

    async def end(self) -> None:
        """Let go of machines and pages, because the Hub ends: machines are told to come again, elsewhere, and no answer is waited for."""
        self._is_ending = True
        here = tuple(self._here.values())
        for connection in here:
            connection.end(_ends())
        if self._others is not None:
            self._others.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                for connection in here:
                    await connection.gone.wait()

    async def keep(self, connection: Connection) -> None:
        """Let the user of `connection` ask it until it ends. Raises `CodezeroError` (TOO_MANY_REQUESTS) where there are many."""
        if self._is_ending:
            raise _ends()
        before = self._here.get(connection.key)
        if before is None and (self._of_user[connection.user] >= MOST_EACH or len(self._here) >= MOST_IN_ALL):
            raise CodezeroError(problems.TOO_MANY_REQUESTS, "many machines are connected already")
        self._begin(connection)
        try:
            if self._others is not None:
                await self._others.announce(connection)
            await connection.welcome()
            await connection.run()
        finally:
            connection.end(away())
            self._end(connection)
            if self._others is not None:
                await self._others.withdraw(connection)

    async def machines(self, user: str) -> Sequence[Connected]:
        """The machines of `user` that can be asked."""
        found = [Connected(one.machine, one.name, one.connected_at) for one in self._here.values() if one.user == user]
        if self._others is not None:
            here = {one.machine for one in found}
            found += [one for one in await self._others.machines(user) if one.machine not in here]
        return sorted(found, key=lambda one: (one.name, one.machine))

    @asynccontextmanager
    async def asked(self, user: str, machine: str, question: Question) -> AsyncGenerator[Answer]:
        """The answer of the user's machine; leaving the block ends it. Raises `CodezeroError` (MACHINE_AWAY, TOO_MANY_REQUESTS)."""
        if self._is_ending:
            raise _ends()
        connection = self._here.get((user, machine))
        if connection is not None:
            async with connection.asked(question) as answer:
                yield answer
        elif self._others is not None:
            async with self._others.asked(user, machine, question) as answer:
                yield answer
        else:
            raise away()

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


def _ends() -> CodezeroError:
    return CodezeroError(problems.MACHINE_AWAY, "this replica of the Hub ends", fix="try again in a few seconds")
