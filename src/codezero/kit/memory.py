"""Memory of programs that run for weeks: what is looked through for cycles, and what goes back to the machine."""

import asyncio
import ctypes
import gc
import resource
from pathlib import Path
from typing import Final

# Python's own is 700, which a burst of connections reaches several times in each turn of the loop.
_YOUNG: Final = 5_000
_WORTH_IT: Final = 8 * 1024 * 1024
_STATM: Final = Path("/proc/self/statm")


def settle() -> None:
    """Leave alone for good what is there now, modules above all, and look for cycles seldom from here on. For entry points, after their imports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the kernel does not say."""
    try:
        return int(_STATM.read_bytes().split()[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return 0


async def give_back(*, pause: float = 10.0) -> None:
    """Hand memory that a burst has left free back to the kernel, looking every `pause` seconds, for as long as it runs.

    A C library keeps it otherwise, as long as one object above it lives. Costs some milliseconds for 100 MB, and nothing while little has grown.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have their own ways
    lean = resident()
    while True:
        await asyncio.sleep(pause)
        now = resident()
        if trim is not None and now > lean + _WORTH_IT:
            trim(0)
            lean = resident()
        lean = min(lean, now)
