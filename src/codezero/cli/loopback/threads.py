"""Threads for what blocks: czctl's client of the Hub, and what czctl does with the agent."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """At most `most` of them; what comes beyond waits for its turn."""

    def __init__(self, name: str, most: int) -> None:
        self._executor = ThreadPoolExecutor(most, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` gives, or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Begin nothing any more, and wait for nothing: what is under way ends by its own deadlines."""
        self._executor.shutdown(wait=False, cancel_futures=True)
