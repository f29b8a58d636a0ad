"""Waiting for something to become true, with a deadline that only bounds a failing test."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(probe: Callable[[], T], *, within: float = 30.0, pause: float = 0.1) -> T:
    """The first truthy answer of `probe`; raises its last error, or `TimeoutError` with its last answer, after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        answer: T | None = None
        try:
            answer = probe()
            if answer:
                return answer
        except AssertionError as error:
            failure = error
        if time.monotonic() >= deadline:
            raise failure or TimeoutError(f"still {answer!r} after {within:.0f} s")
        time.sleep(pause)
