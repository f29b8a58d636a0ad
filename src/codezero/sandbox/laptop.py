"""Laptops: the sandbox's places with files of their own, where agents change names and addresses as they would on real machines."""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from codezero.sandbox import files, layout, namespaces
from codezero.sandbox.processes import CommandError, Process

_DEADLINE = 30.0
_PREPARED = b"prepared"


@asynccontextmanager
async def laptop(place: str, log: Path, *, bound: bool) -> AsyncGenerator[None, None]:
    """The mount and host-name namespaces of the laptop at `place`, kept by this process and found by their files while the block lasts.

    They are kept open rather than bind-mounted: a kernel that numbers namespaces for each processor by itself (6.18) refuses such mounts at
    random, because it takes them for loops.
    """
    own, others = socket.socketpair()
    own.setblocking(False)
    with own, others, log.open("ab") as output:
        command = [
            sys.executable,
            "-I",
            "-m",
            "codezero.sandbox.laptop",
            "--place",
            place,
            "--socket",
            str(others.fileno()),
        ]
        process = Process([*command, *(["--bound"] if bound else [])], output=output, descriptors=[others.fileno()])
        others.close()
        async with asyncio.timeout(_DEADLINE):
            said = await asyncio.get_running_loop().sock_recv(own, len(_PREPARED))
        if said != _PREPARED:
            raise CommandError(f"{place} was not prepared; see {log}")
        kept = [os.open(f"/proc/{process.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("mnt", "uts")]
    await process.wait()
    for descriptor, file in zip(kept, (layout.mounts_file(place), layout.host_name_file(place)), strict=True):
        file.symlink_to(f"/proc/{os.getpid()}/fd/{descriptor}")
    try:
        yield
    finally:
        for descriptor in kept:
            os.close(descriptor)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make and prepare namespaces, and wait until they are kept."""
    parser = argparse.ArgumentParser(prog="codezero.sandbox.laptop", allow_abbrev=False)
    parser.add_argument("--place", choices=layout.LAPTOPS, required=True)
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--bound", action="store_true")
    options = parser.parse_args(arguments)
    namespaces.unshare(namespaces.NEW_MOUNTS | namespaces.NEW_HOST_NAME)
    namespaces.enter_file(layout.network_file(options.place), namespaces.NEW_NETWORK)
    socket.sethostname(options.place)
    files.prepare_laptop(options.place, bound=options.bound)
    with socket.socket(fileno=options.socket) as keeper:
        keeper.sendall(_PREPARED)
        keeper.recv(1)


if __name__ == "__main__":
    main()
