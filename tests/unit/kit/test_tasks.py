"""Task groups: nothing outlives its block, and a service that ends is a failure."""

import asyncio
import inspect

import pytest

from codezero.kit.tasks import TaskEndedError, task_group


async def test_leaving_waits_for_tasks_and_cancels_services() -> None:
    seen: list[str] = []

    async def service() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("service ended")

    async def work() -> None:
        await asyncio.sleep(0)
        seen.append("work done")

    async with task_group("group") as tasks:
        running = tasks.start_service("service", service())
        tasks.start("work", work())
        await asyncio.sleep(0)

    assert sorted(seen) == ["service ended", "work done"]
    assert running.get_name() == "group/service"
    assert not tasks.is_open


async def test_a_service_that_ends_by_itself_ends_the_group() -> None:
    """A watch loop that returns must not leave a process that only looks alive."""

    async def service() -> None:
        return

    with pytest.raises(TaskEndedError, match="group/service"):
        async with task_group("group") as tasks:
            tasks.start_service("service", service())
            await asyncio.Event().wait()


async def test_a_single_failure_is_raised_as_itself() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with task_group("group") as tasks:
            tasks.start("fails", fails())


async def test_several_failures_are_raised_together() -> None:
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ExceptionGroup) as caught:
        async with task_group("group") as tasks:
            tasks.start("one", fails())
            tasks.start("two", fails())

    assert len(caught.value.exceptions) == 2


async def test_a_service_that_is_cancelled_before_it_begins_is_forgotten_quietly() -> None:
    """Whatever fails at once in a block takes services along that have had no turn yet; warnings are errors here."""
    work = asyncio.sleep(3600)
    with pytest.raises(ValueError, match="at once"):
        async with task_group("test") as tasks:
            tasks.start_service("late", work)
            raise ValueError("at once")

    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


@pytest.mark.parametrize("order", ["cancelled, then failed", "both at once", "failed, then cancelled"])
async def test_who_is_cancelled_while_a_task_fails_is_cancelled(order: str) -> None:
    """Else a loop that takes a failure for the end of one attempt goes on for ever, and who ends it waits as long."""
    begun, failing, ending, may_end = (asyncio.Event() for _ in range(4))
    seen: list[str] = []

    async def fails() -> None:
        try:
            await failing.wait()
        finally:
            raise ValueError("broken")

    async def ends_late() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ending.set()
            await may_end.wait()

    async def work() -> None:
        try:
            async with task_group("group") as tasks:
                tasks.start("fails", fails())
                tasks.start("ends-late", ends_late())
                await asyncio.Event().wait()
        except ValueError:
            seen.append("failed")
        await asyncio.sleep(0)
        seen.append("went on")

    task = asyncio.create_task(work())
    await begun.wait()
    if order != "cancelled, then failed":
        failing.set()
    if order == "failed, then cancelled":
        await ending.wait()
    task.cancel()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == ["failed"]
    assert task.cancelling() == 1


async def test_a_failure_that_nobody_takes_is_what_a_cancelled_task_ends_with() -> None:
    begun = asyncio.Event()

    async def fails() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("broken")

    async def work() -> None:
        async with task_group("group") as tasks:
            tasks.start("fails", fails())

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()

    with pytest.raises(ValueError, match="broken"):
        await task
    await asyncio.sleep(0)
    assert task.cancelling() == 1


async def test_a_timeout_that_ends_while_a_task_fails_cancels_nothing_after_itself() -> None:
    failing = asyncio.Event()

    async def fails() -> None:
        await failing.wait()
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        async with asyncio.timeout(None) as limit, task_group("group") as tasks:
            tasks.start("fails", fails())
            limit.reschedule(0)
            failing.set()
            await asyncio.Event().wait()

    assert limit.expired()
    for _ in range(3):
        await asyncio.sleep(0)
