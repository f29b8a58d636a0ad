"""The collector of reference cycles, set for programs that run for weeks and hold much."""

import gc

_YOUNG = 5_000  # Python's own is 700, which a burst of connections reaches several times in each turn of the loop


def settle() -> None:
    """Leave alone for good what is there now, modules above all, and look for cycles seldom from here on. For entry points, after their imports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
