"""The laptop: the sandbox's place with files of its own, where the agent changes names and addresses as it would on a real machine."""

import argparse
import socket
import sys
from collections.abc import Sequence

from codezero.sandbox import files, layout, namespaces
from codezero.sandbox.processes import run


async def make_laptop(*, bound: bool) -> None:
    """Make the laptop's mount and host-name namespaces and keep them by their files."""
    prepare = [sys.executable, "-I", "-m", "codezero.sandbox.laptop", *(["--bound"] if bound else [])]
    await run(
        [
            "unshare",
            f"--mount={layout.LAPTOP_MOUNTS}",
            f"--uts={layout.LAPTOP_HOST_NAME}",
            "--propagation",
            "private",
            "--",
            *prepare,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the namespaces this process was started in."""
    parser = argparse.ArgumentParser(prog="codezero.sandbox.laptop", allow_abbrev=False)
    parser.add_argument("--bound", action="store_true")
    options = parser.parse_args(arguments)
    namespaces.enter_file(layout.network_file(layout.LAPTOP), namespaces.NEW_NETWORK)
    socket.sethostname(layout.LAPTOP)
    files.prepare_laptop(bound=options.bound)


if __name__ == "__main__":
    main()
