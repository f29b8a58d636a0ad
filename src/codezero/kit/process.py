"""How a process of a cluster begins and ends: settings of the environment, logs by them, and work until it is told to end."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

import uvloop

from codezero.kit import logs
from codezero.kit.settings import SettingsError


class _Logging(Protocol):
    @property
    def log_level(self) -> str: ...
    @property
    def log_json(self) -> bool: ...


Settings = TypeVar("Settings", bound=_Logging)


def begin(name: str, read: Callable[[Mapping[str, str]], Settings]) -> Settings:
    """The settings that `read` finds in the environment, by which logs are written from now on. Ends the process with 2 where they cannot be used, and says all that is wrong."""
    try:
        wanted = read(os.environ)
    except SettingsError as error:
        for mistake in error.mistakes:
            print(f"{name}: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None
    logs.configure(level=wanted.log_level, json=wanted.log_json)
    return wanted


def run(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `work` to its end; it gets the event of `told_to_end`."""

    async def until_told() -> None:
        await work(told_to_end())

    uvloop.run(until_told())


def told_to_end() -> asyncio.Event:
    """Set once this process is told to end, by SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
