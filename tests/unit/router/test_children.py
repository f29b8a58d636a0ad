"""When a child that died is started again. Real children are in the process tests, but for those that cannot be started."""

import asyncio
import sys
from pathlib import Path

from codezero.kit.tasks import task_group
from codezero.router.children import Child, Restarts


def test_a_child_is_started_again_at_once_until_it_keeps_dying() -> None:
    restarts = Restarts()

    pauses = [restarts.died(float(second)) for second in range(9)]

    assert pauses[:4] == [0, 0, 0, 0]
    assert pauses[4] > 0
    assert pauses == sorted(pauses)
    assert max(pauses) == 1


def test_deaths_of_long_ago_are_forgiven() -> None:
    restarts = Restarts()
    for second in range(8):
        restarts.died(float(second))

    assert restarts.died(30.0) == 0


async def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """Its brother must not end with it: a machine that is full for a moment has room again later."""
    program, began = tmp_path / "program", tmp_path / "began"
    child = Child("late", [str(program)])
    async with asyncio.timeout(30), task_group("test") as tasks:
        tasks.start_service("child", child.keep())
        while not child.deaths:
            await asyncio.sleep(0)
        partly = tmp_path / "partly"
        partly.write_text(f"#!{sys.executable}\nopen({str(began)!r}, 'w')\n")
        partly.chmod(0o700)
        partly.rename(program)
        while not began.exists():
            await asyncio.sleep(0.01)


async def test_a_child_that_does_not_want_to_end_is_asked_first(tmp_path: Path) -> None:
    asked, ready = tmp_path / "asked", tmp_path / "ready"
    program = (
        "import pathlib, signal, sys\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (pathlib.Path({str(asked)!r}).touch(), sys.exit()))\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "signal.pause()\n"
    )
    deaths: list[bool] = []
    child = Child("polite", [sys.executable, "-c", program], died=lambda: deaths.append(asked.exists()))
    async with asyncio.timeout(30), task_group("test") as tasks:
        tasks.start_service("child", child.keep())
        while not ready.exists():
            await asyncio.sleep(0.01)

    assert deaths == [True]
