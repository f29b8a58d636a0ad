"""Watched values: the newest state, never a backlog."""

import asyncio
from contextlib import aclosing

from codezero.kit.watched import Watched


async def test_a_watcher_sees_the_value_now_and_then_only_the_newest() -> None:
    watched = Watched(1)
    async with aclosing(watched.changes()) as changes:
        first = await anext(changes)
        watched.set(2)
        watched.set(3)
        second = await anext(changes)

    assert (first, second) == (1, 3)


async def test_an_equal_value_wakes_nobody() -> None:
    watched = Watched("same")
    async with aclosing(watched.changes()) as changes:
        await anext(changes)
        waiting = asyncio.ensure_future(anext(changes))
        await asyncio.sleep(0)
        watched.set("same")
        await asyncio.sleep(0)
        undisturbed = not waiting.done()
        watched.touch()
        value = await waiting

    assert undisturbed
    assert value == "same"
