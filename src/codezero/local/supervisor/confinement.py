"""What the Daemon may not do although it is root: applied in its process, after fork and before exec.

It keeps one capability (ports below 1024), never gains another, sees the system read-only but for its state folder, and dies with the Supervisor.
Sources: capabilities(7), prctl(2), mount_setattr(2).
"""

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

_CAP_NET_BIND_SERVICE = 10
_LAST_CAPABILITY = 63

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAPABILITY_VERSION_3 = 0x20080522

_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19
_SYS_MOUNT_SETATTR = 442  # the same number on every architecture
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1

# Loaded before any fork: the child then only makes system calls.
_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def confined(*, writable: Path, read_only_inside: Path) -> Callable[[], None]:
    """A function for the child before exec; it raises OSError, so that the program never starts, when a right could not be given up.

    `writable` is the one folder that stays writable, except `read_only_inside`. A kernel that gives us no mount namespace is accepted: the
    rights given up do not depend on it.
    """

    def confine() -> None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _mount_read_only(writable, read_only_inside)
        _give_up_capabilities()
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)

    return confine


def _prctl(option: int, second: int, third: int = 0) -> None:
    if _libc.prctl(option, ctypes.c_ulong(second), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        _fail(f"prctl {option}")


def _give_up_capabilities() -> None:
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for capability in range(_LAST_CAPABILITY + 1):
        if capability == _CAP_NET_BIND_SERVICE:
            continue
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), *[ctypes.c_ulong(0)] * 3) != 0:
            if ctypes.get_errno() == errno.EINVAL:
                break  # the kernel knows no higher one
            _fail(f"drop of capability {capability}")
    # Root regains at exec what is inheritable or in the bounding set: empty the former too.
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; low words, then high words
    if _libc.capget(header, sets) != 0:
        _fail("capget")
    sets[2] = sets[5] = 0
    if _libc.capset(header, sets) != 0:
        _fail("capset")


def _mount_read_only(writable: Path, read_only_inside: Path) -> None:
    if _libc.unshare(_CLONE_NEWNS) != 0:
        if ctypes.get_errno() in (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOSPC):
            return
        _fail("unshare")
    _mount(None, "/", _MS_REC | _MS_SLAVE)
    for folder in (writable, read_only_inside):
        _mount(str(folder), str(folder), _MS_BIND)
    try:
        _set_attributes("/", _AT_RECURSIVE, set_=_MOUNT_ATTR_RDONLY)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return  # Linux before 5.12
        raise
    _set_attributes(str(writable), 0, clear=_MOUNT_ATTR_RDONLY)


def _mount(source: str | None, target: str, flags: int) -> None:
    name = None if source is None else os.fsencode(source)
    if _libc.mount(name, os.fsencode(target), None, ctypes.c_ulong(flags), None) != 0:
        _fail(f"mount {target}")


def _set_attributes(path: str, flags: int, *, set_: int = 0, clear: int = 0) -> None:
    attributes = _MountAttributes(set_, clear, 0, 0)
    if _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(_AT_FDCWD),
        os.fsencode(path),
        ctypes.c_long(flags),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    ):
        _fail(f"mount_setattr {path}")


def _fail(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")
