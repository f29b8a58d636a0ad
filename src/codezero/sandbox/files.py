"""The file system the sandbox sees: the machine's own, with fresh memory file systems over what its programs write to.

Run inside a new mount namespace. Afterwards nothing written to `/etc`, `/run`, `/tmp`, `/var` or `/dev/shm` reaches the machine.
"""

import errno
import os
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import codezero
from codezero.sandbox import layout, namespaces

COVERED = ("/run", "/tmp", "/var", "/dev/shm")  # noqa: S108 - the places themselves, not files in them
_LARGEST_COPIED = 4 * 1024 * 1024

HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
RESOLV_CONF = f"# the sandbox's internet\nnameserver {layout.INTERNET_DNS}\n"
# Others ask daemons of the machine that do not know the sandbox.
NSSWITCH_CONF = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nservices: files\n"


def prepare_machine(state: Path) -> None:
    """Give this mount namespace folders of its own, and the sandbox its own folder (`layout.INSIDE`)."""
    namespaces.make_private()
    _cover(COVERED, keep=[*program_folders(), state])
    for folder in (layout.INSIDE, layout.ACCESS_FOLDER, layout.KUBECONFIG.parent, layout.PODS_FOLDER):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    layout.PLACES_FOLDER.mkdir(exist_ok=True)
    layout.KUBECONFIG.parent.chmod(0o700)
    layout.PODS_FOLDER.chmod(0o711)
    _own_settings(layout.NODE_NAME)


def prepare_laptop(place: str, *, bound: bool) -> None:
    """Make the current mount namespace that of a laptop: its own settings, and room to install into.

    With `bound`, `/etc/hosts` and `/etc/resolv.conf` are bind mounts, as in containers, so that they cannot be replaced by renaming.
    """
    namespaces.make_private()
    access = os.open(layout.ACCESS_FOLDER, os.O_PATH | os.O_CLOEXEC)
    _cover(COVERED, keep=program_folders())
    layout.ACCESS_FOLDER.mkdir(parents=True)
    namespaces.bind(f"/proc/self/fd/{access}", layout.ACCESS_FOLDER, read_only=True)
    os.close(access)
    _own_settings(place)
    _overlay("/usr/local", ("bin", "lib", "sbin", "share"))
    if bound:
        for name in ("hosts", "resolv.conf"):
            namespaces.bind(f"/etc/{name}", f"/etc/{name}")


def prepare_container(mounts: Sequence[tuple[Path, Path, bool]], settings: Mapping[str, str]) -> None:
    """Make the current mount namespace a container's. `mounts` are source, target, read-only; `settings` are files of `/etc` with their content."""
    sources = [(os.open(source, os.O_PATH | os.O_CLOEXEC), target, read_only) for source, target, read_only in mounts]
    _cover(COVERED, keep=program_folders())
    stage = Path("/run/settings")
    stage.mkdir()
    for name, content in settings.items():
        (stage / name).write_text(content)
        namespaces.bind(stage / name, f"/etc/{name}")
    # A volume at /tmp must not hide a Python that is installed below it.
    programs = _opened(program_folders(), below=[target for _, target, _ in sources])
    for source, target, read_only in sorted(sources, key=lambda one: len(one[1].parts)):
        _make_mount_point(target, folder=stat.S_ISDIR(os.fstat(source).st_mode))
        namespaces.bind(f"/proc/self/fd/{source}", target, read_only=read_only)
        os.close(source)
    _bring_back(programs)


def _make_mount_point(target: Path, *, folder: bool) -> None:
    """A place to mount at. Never on a file system of the machine's: there it must exist already."""
    if target.exists():
        return
    above = next(parent for parent in target.parents if parent.exists()).resolve()
    if not any(above.is_relative_to(place) for place in (*COVERED, "/etc")):
        raise OSError(
            errno.EROFS,
            f"{target} does not exist on this machine; the sandbox mounts new places below /etc, /run, /tmp and /var only",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir() if folder else target.touch()


def program_folders() -> list[Path]:
    """What this Python needs to run, wherever it is installed."""
    package = Path(codezero.__file__).resolve().parents[1]
    return [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parent.parent, package]


def _cover(folders: Sequence[str], *, keep: Sequence[Path]) -> None:
    """Mount fresh memory file systems over `folders`; paths of `keep` below them stay."""
    kept = _opened(keep, below=[Path(folder) for folder in folders])
    for folder in folders:
        if Path(folder).is_dir() and not Path(folder).is_symlink():
            mode = "1777" if folder in {"/tmp", "/dev/shm"} else "0755"  # noqa: S108
            namespaces.mount("tmpfs", folder, kind="tmpfs", flags=namespaces.NO_SUID, options=f"mode={mode}")
    for folder in ("cache", "lib", "log", "home", "spool"):
        Path("/var", folder).mkdir(exist_ok=True)
    Path("/var/tmp").mkdir(exist_ok=True)  # noqa: S108
    Path("/var/tmp").chmod(0o1777)  # noqa: S108
    Path("/var/run").symlink_to("/run")
    Path("/run/lock").mkdir(exist_ok=True)
    _bring_back(kept)


def _opened(keep: Sequence[Path], *, below: Sequence[Path]) -> dict[Path, int]:
    """Descriptors of those paths of `keep` that mounts on `below` hide; a path below another that is kept comes with it."""
    return {
        path: os.open(path, os.O_PATH | os.O_CLOEXEC)
        for path in sorted(set(keep))
        if any(path.is_relative_to(folder) for folder in below)
        and not any(path != other and path.is_relative_to(other) for other in keep)
    }


def _bring_back(kept: Mapping[Path, int]) -> None:
    """Mount opened paths where they were; closes the descriptors."""
    for path, descriptor in kept.items():
        path.mkdir(parents=True, exist_ok=True)
        namespaces.bind(f"/proc/self/fd/{descriptor}", path)
        os.close(descriptor)


def _own_settings(host_name: str) -> None:
    """A private copy of `/etc` with name resolution of the sandbox's."""
    stage = Path("/run/settings")
    stage.mkdir()
    namespaces.mount("tmpfs", stage, kind="tmpfs", flags=namespaces.NO_SUID, options="mode=0755")
    _copy(Path("/etc"), stage)
    for name, content in (
        ("hosts", f"{HOSTS}127.0.1.1 {host_name}\n"),
        ("resolv.conf", RESOLV_CONF),
        ("nsswitch.conf", NSSWITCH_CONF),
        ("hostname", f"{host_name}\n"),
    ):
        (stage / name).unlink(missing_ok=True)
        (stage / name).write_text(content)
        (stage / name).chmod(0o644)
    namespaces.mount(stage, "/etc", flags=namespaces.MOVE)
    stage.rmdir()


def _copy(source: Path, target: Path) -> None:
    """Copy what can be read of a folder; of no interest: devices, sockets, huge files."""
    for entry in os.scandir(source):
        copy = target / entry.name
        try:
            if entry.is_symlink():
                copy.symlink_to(Path(entry.path).readlink())
            elif entry.is_dir():
                copy.mkdir()
                shutil.copystat(entry.path, copy)
                _copy(Path(entry.path), copy)
            elif entry.is_file() and entry.stat().st_size <= _LARGEST_COPIED:
                shutil.copy2(entry.path, copy)
        except OSError:
            continue  # another user's file; programs of the sandbox could not read it either


def _overlay(folder: str, writable: Sequence[str]) -> None:
    """Let programs write to `folder` and the named folders in it without changing them."""
    stage = Path("/run/overlay")
    stage.mkdir()
    namespaces.mount("tmpfs", stage, kind="tmpfs", flags=namespaces.NO_SUID, options="mode=0755")
    # In a user namespace the machine's folders belong to nobody; ours on top belong to us.
    for name in ("work", "upper", *(f"upper/{name}" for name in writable)):
        (stage / name).mkdir()
    try:
        namespaces.mount(
            "overlay",
            folder,
            kind="overlay",
            options=f"lowerdir={folder},upperdir={stage}/upper,workdir={stage}/work",
        )
    except OSError:
        pass  # no overlay in this kernel: the folder stays as it is, and installing fails where it would need root anyway
    namespaces.unmount(stage)
    stage.rmdir()
