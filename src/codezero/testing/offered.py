"""Waits until a service of this laptop's catalog offers a port: `python -m codezero.testing.offered crowd0/s0 4242`.

Begins at a line (or the end) of stdin, so that Python is there when it has to be quick. Prints when it was seen, in UNIX seconds.
"""

import argparse
import sys
import time

from codezero.cli.context import client

_PAUSE = 0.02


def main() -> None:
    """Look until it is there."""
    parser = argparse.ArgumentParser(prog="python -m codezero.testing.offered")
    parser.add_argument("service", metavar="NAMESPACE/NAME")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    daemon = client(deadline=60.0)
    sys.stdin.readline()
    while True:
        view = daemon.services()
        if any(
            str(one.ref) == options.service and options.port in {port.port for port in one.ports}
            for one in view.services
        ):
            break
        time.sleep(_PAUSE)
    print(time.time(), flush=True)


if __name__ == "__main__":
    main()
