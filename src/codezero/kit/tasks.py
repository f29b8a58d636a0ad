"""Named background tasks in a group: none outlives its block, and one that ends unexpectedly ends the group.

The only place that spawns tasks.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class TaskEndedError(RuntimeError):
    """A task meant to run for as long as its group ended by itself."""


class Tasks:
    """Starts tasks in one group; made by `task_group`."""

    def __init__(self, name: str, group: asyncio.TaskGroup) -> None:
        self._name = name
        self._group = group
        self._services: set[asyncio.Task[Any]] = set()
        self._open = True

    @property
    def is_open(self) -> bool:
        """Whether the group still takes tasks; false once its block is being left."""
        return self._open

    def start(self, name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` until it ends; its exception ends the group."""
        return self._group.create_task(work, name=f"{self._name}/{name}")

    def start_service(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` for as long as the group lives; it is cancelled with the block, and ending earlier ends the group with an error."""
        task = self.start(name, _never_ending(f"{self._name}/{name}", work))
        self._services.add(task)
        task.add_done_callback(self._services.discard)
        # One that was cancelled before it began has never touched its work, which Python would report.
        task.add_done_callback(lambda _: work.close())
        return task

    def close(self) -> None:
        """Take no more tasks and cancel the services."""
        self._open = False
        for task in tuple(self._services):
            task.cancel()


async def _never_ending(name: str, work: Coroutine[Any, Any, None]) -> None:
    await work
    raise TaskEndedError(f"task {name} ended by itself")


@asynccontextmanager
async def task_group(name: str) -> AsyncGenerator[Tasks, None]:
    """A group of tasks named `name/<task>`.

    Leaving the block waits for tasks started with `start` and cancels those of `start_service`. A single failure is raised as itself, several
    as an exception group. Whoever is cancelled from outside meanwhile is so at its next await, as Python does it from 3.13 on.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = Tasks(name, group)
            try:
                yield tasks
            finally:
                tasks.close()
    except BaseExceptionGroup as failures:
        if sys.version_info < (3, 13):
            _cancel_again()
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from None
        raise


def _cancel_again() -> None:
    """Deliver a cancellation from outside that the group has taken for its own: with what the group raises, it is lost else."""
    task = asyncio.current_task()
    assert task is not None
    if task.cancelling():
        # Not at once: a timeout around the group takes its cancellation back, but before 3.13 not what is on its way.
        asyncio.get_running_loop().call_soon(_deliver, task)


def _deliver(task: asyncio.Task[Any]) -> None:
    if task.cancelling() and task.cancel():
        # It was counted when it came.
        task.uncancel()
