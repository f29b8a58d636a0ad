"""Ports of 127.0.0.1 for what nftables sends to us: privileged ones, so that no other user's program can take their place while we are away (T15)."""

import errno
import os
import random
from collections.abc import Callable
from typing import TypeVar

# Above those that services of a machine have (IPP, rsync, LDAPS ... are below or known by name), below the first that anybody may take.
FIRST, LAST = 700, 1023

T = TypeVar("T")


def at_own_port(bind: Callable[[int], T]) -> T:
    """What `bind` makes of the first privileged port that is free, tried in random order.

    A process that is not root gets any free port: it has no machine to capture packets on. Raises the `OSError` of the last try.
    """
    if os.geteuid() != 0:
        return bind(0)
    ports = random.sample(range(FIRST, LAST + 1), LAST + 1 - FIRST)
    for port in ports[:-1]:
        try:
            return bind(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return bind(ports[-1])
