"""What a burst took goes back to the machine."""

import asyncio
import ctypes

import pytest

from codezero.kit import memory
from codezero.testing.tunnels import until

PIECE = 64 * 1024
PIECES = 1500


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="expected: the C library is not glibc")
async def test_memory_that_a_burst_left_free_goes_back() -> None:
    """A developer's agent is not to stay large because somebody's download stalled once."""
    giving = asyncio.create_task(memory.give_back(pause=0.01))
    await asyncio.sleep(0)
    burst = [bytes(PIECE) for _ in range(PIECES)]
    later = [bytes(PIECE) for _ in range(10)]  # above it, so that the C library alone gives nothing back
    full = memory.resident()
    burst.clear()
    try:
        await until(lambda: memory.resident() < full - PIECE * PIECES // 2)
    finally:
        giving.cancel()
    assert len(later) == 10
