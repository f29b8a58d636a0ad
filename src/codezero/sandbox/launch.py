"""Becomes a container's process: enters the pod's network, makes a file system view of its own, changes user, runs the command.

Run as `python -I -m codezero.sandbox.launch FD`: the descriptor is a memory file with a `Launch` as JSON. The answer is written behind it: the
mount namespace, by which the container's processes can be found, or what went wrong.
"""

import json
import os
import signal
import socket
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codezero.sandbox import files, namespaces

_ANSWER = "\n"


@dataclass(frozen=True, slots=True)
class Launch:
    """What to become. `mounts` are source, target, read-only; `settings` are files of `/etc` with their content."""

    network: str
    host_name: str
    command: list[str]
    environment: dict[str, str]
    mounts: list[tuple[str, str, bool]]
    settings: dict[str, str]
    folder: str
    user: int | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """What came of it: the mount namespace, or why the command does not run."""

    mounts: str = ""
    error: str = ""


def written(launch: Launch) -> int:
    """A memory file that holds `launch`; the caller closes it."""
    descriptor = os.memfd_create("launch", os.MFD_CLOEXEC)
    os.write(descriptor, json.dumps(asdict(launch)).encode() + _ANSWER.encode())
    return descriptor


def answer(descriptor: int) -> Launched:
    """What the launched process wrote behind its task; empty while it has not got that far."""
    content = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()
    lines = content.split(_ANSWER)
    return Launched(**json.loads(lines[-2])) if len(lines) > 2 else Launched()


def main() -> None:
    """Read the task, do it, become the command."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    task: dict[str, Any] = json.loads(os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode())
    launch = Launch(**task)
    try:
        _prepare(launch)
        _tell(descriptor, Launched(mounts=os.readlink("/proc/self/ns/mnt")))  # noqa: PTH115 - not a path
        _change_user(launch)
        # Python ignores these; containers expect nobody to have done so.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(launch.folder)
        os.execvpe(launch.command[0], launch.command, launch.environment)  # noqa: S606 - the container's command
    except OSError as error:
        what = f"{launch.command[0]}: " if isinstance(error, FileNotFoundError) else ""
        _tell(descriptor, Launched(error=f"{what}{error}"))
        sys.exit(128)


def _prepare(launch: Launch) -> None:
    namespaces.enter_file(launch.network, namespaces.NEW_NETWORK)
    namespaces.unshare(namespaces.NEW_MOUNTS | namespaces.NEW_HOST_NAME | namespaces.NEW_IPC)
    namespaces.make_private()
    socket.sethostname(launch.host_name)
    files.prepare_container(
        [(Path(source), Path(target), read_only) for source, target, read_only in launch.mounts], launch.settings
    )


def _change_user(launch: Launch) -> None:
    if launch.group is not None:
        os.setgroups([launch.group])
        os.setgid(launch.group)
    if launch.user is not None:
        os.setuid(launch.user)


def _tell(descriptor: int, launched: Launched) -> None:
    os.lseek(descriptor, 0, os.SEEK_END)
    os.write(descriptor, json.dumps(asdict(launched)).encode() + _ANSWER.encode())


if __name__ == "__main__":
    main()
