"""Writes what this System knows into Serve objects: for each service one write at a time, the newest state only, again until it is done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from codezero.kit.backoff import Backoff
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.model.services import ServiceRef
from codezero.system.kubernetes.client import ApiError

MOST_AT_ONCE: Final = 8
_LONGEST_WAIT: Final = 10.0

_log = get_logger("status")


class StatusWriter:
    """Calls `write` for each service marked, which finds out itself what there is to be written. It may raise `ApiError`."""

    def __init__(self, name: str, write: Callable[[ServiceRef], Awaitable[object]]) -> None:
        self._name = name
        self._write = write
        self._marked: set[ServiceRef] = set()
        self._busy: set[ServiceRef] = set()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    def mark(self, service: ServiceRef) -> None:
        """There may be something to write for this service."""
        self._marked.add(service)
        self._settled.clear()
        self._changed.set()

    async def settled(self) -> None:
        """Return once nothing is left to write."""
        await self._settled.wait()

    async def run(self) -> None:
        """Write until cancelled."""
        slots = asyncio.Semaphore(MOST_AT_ONCE)
        async with task_group(self._name) as tasks:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for service in self._marked - self._busy:
                    self._busy.add(service)
                    tasks.start(str(service), self._keep(service, slots))

    async def _keep(self, service: ServiceRef, slots: asyncio.Semaphore) -> None:
        backoff = Backoff(first=0.1, most=_LONGEST_WAIT)
        try:
            while service in self._marked:
                try:
                    async with slots:
                        # Marked again while this goes on means to look again.
                        self._marked.discard(service)
                        await self._write(service)
                except ApiError as error:
                    self._marked.add(service)
                    _log.warning("status not written", what=self._name, service=str(service), reason=str(error))
                    await asyncio.sleep(backoff.next())
        finally:
            self._busy.discard(service)
            if not (self._marked or self._busy):
                self._settled.set()
