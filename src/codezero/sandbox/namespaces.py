"""The kernel's namespaces and mounts as plain functions, for single-threaded programs. Linux; standard library only.

A namespace is entered through the file that stands for it (`/proc/<pid>/ns/net`, `/run/netns/laptop`).
"""

import contextlib
import ctypes
import os
import signal
from collections.abc import Generator
from pathlib import Path

NEW_MOUNTS = 0x0002_0000
NEW_HOST_NAME = 0x0400_0000
NEW_IPC = 0x0800_0000
NEW_USER = 0x1000_0000
NEW_PROCESSES = 0x2000_0000
NEW_NETWORK = 0x4000_0000

READ_ONLY = 1
NO_SUID = 2
NO_DEVICES = 4
REMOUNT = 32
BIND = 4096
RECURSIVE = 16384
MOVE = 8192
PRIVATE = 1 << 18

_DETACH = 2
_PARENT_DEATH_SIGNAL = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(kinds: int) -> None:
    """Move this process into new namespaces of `kinds`."""
    _check(_libc.unshare(kinds), "unshare")


def enter(descriptor: int, kinds: int) -> None:
    """Move this process into the namespaces of `kinds` that the descriptor (a namespace file or a pidfd) stands for."""
    _check(_libc.setns(descriptor, kinds), "setns")


def enter_file(path: str | Path, kind: int) -> None:
    """Move this process into the namespace that a file stands for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(descriptor, kind)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def network(path: str | Path) -> Generator[None, None, None]:
    """Sockets made in the block belong to the network namespace at `path`. No await in the block: it is the whole thread that moves."""
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_file(path, NEW_NETWORK)
        try:
            yield
        finally:
            enter(back, NEW_NETWORK)
    finally:
        os.close(back)


def mount(source: str | Path, target: str | Path, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system. `kind` is the file system; binds and propagation changes have none."""
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    _check(result, f"mount {target}")


def bind(source: str | Path, target: str | Path, *, read_only: bool = False) -> None:
    """Make `source` appear at `target` as well, with all that is mounted below it."""
    mount(source, target, flags=BIND | RECURSIVE)
    if read_only:
        mount("none", target, flags=BIND | REMOUNT | READ_ONLY | NO_SUID | NO_DEVICES)


def unmount(target: str | Path) -> None:
    """Take a mount away; what still uses it keeps it until done."""
    _check(_libc.umount2(os.fsencode(target), _DETACH), f"umount {target}")


def make_private() -> None:
    """Let no mount of this namespace show elsewhere."""
    mount("none", "/", flags=RECURSIVE | PRIVATE)


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    _check(_libc.prctl(_PARENT_DEATH_SIGNAL, number, 0, 0, 0), "prctl")


def same(process: int | str, other: int | str, kind: str) -> bool:
    """Whether two processes share a namespace (`net`, `mnt`, `user`, ...); false when one has ended."""
    try:
        return Path(f"/proc/{process}/ns/{kind}").readlink() == Path(f"/proc/{other}/ns/{kind}").readlink()
    except OSError:
        return False


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
