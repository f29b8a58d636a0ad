"""Writes to Serve objects: one at a time for each service, the newest state, until they are done."""

import asyncio

import pytest

from codezero.kit.tasks import task_group
from codezero.model.services import ServiceRef
from codezero.system import status_writer
from codezero.system.kubernetes.client import ApiError
from codezero.system.status_writer import StatusWriter
from codezero.testing.tunnels import until

ORDERS, CART = ServiceRef("shop", "orders"), ServiceRef("shop", "cart")


class Writes:
    """Writes that take as long as the test wants, and fail as often."""

    def __init__(self) -> None:
        self.begun: list[ServiceRef] = []
        self.failures = 0
        self.going_on = 0
        self.most = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, service: ServiceRef) -> None:
        self.begun.append(service)
        self.going_on += 1
        self.most = max(self.most, self.going_on)
        try:
            await self.gate.wait()
        finally:
            self.going_on -= 1
        if self.failures:
            self.failures -= 1
            raise ApiError("the API server is away")


async def test_marks_while_a_write_goes_on_become_one_more() -> None:
    """The write itself looks at the newest state, so any number of changes needs one look after the last."""
    writes = Writes()
    writes.gate.clear()
    writer = StatusWriter("test", writes)
    async with task_group("test") as tasks:
        tasks.start_service("writer", writer.run())
        writer.mark(ORDERS)
        await until(lambda: writes.begun)
        for _ in range(10):
            writer.mark(ORDERS)
        assert writes.begun == [ORDERS]
        writes.gate.set()
        await writer.settled()

    assert writes.begun == [ORDERS, ORDERS]


async def test_what_fails_is_tried_again_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_writer, "_LONGEST_WAIT", 0.01)
    writes = Writes()
    writes.failures = 3
    writer = StatusWriter("test", writes)
    async with task_group("test") as tasks:
        tasks.start_service("writer", writer.run())
        writer.mark(ORDERS)
        writer.mark(CART)
        await asyncio.wait_for(writer.settled(), 10)

    assert set(writes.begun) == {ORDERS, CART}
    assert len(writes.begun) == 5


async def test_few_writes_go_on_at_once() -> None:
    """A System that comes back with a thousand laptops is no storm for the API server."""
    writes = Writes()
    writes.gate.clear()
    writer = StatusWriter("test", writes)
    async with task_group("test") as tasks:
        tasks.start_service("writer", writer.run())
        for number in range(50):
            writer.mark(ServiceRef("shop", f"service-{number}"))
        await until(lambda: writes.going_on == status_writer.MOST_AT_ONCE)
        writes.gate.set()
        await writer.settled()

    assert len(writes.begun) == 50
    assert writes.most == status_writer.MOST_AT_ONCE


async def test_nothing_to_write_is_settled() -> None:
    await asyncio.wait_for(StatusWriter("test", Writes()).settled(), 10)
