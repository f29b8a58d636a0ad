"""A root-owned copy of what we run from, so that the root processes execute nothing that others can change (T05); and its removal.

    <prefix>/lib/codezero/<release>/    our package and its dependencies
    <prefix>/lib/codezero/installation.json    everything that was written
    <prefix>/bin/codezero/{czctl,czdaemon,czsupervisor}    check first, then run

Where systemd runs, a service that starts with the machine. Nothing is fetched: the packages are copied from the running environment.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import msgspec

import codezero
from codezero import __version__
from codezero.local.host import trust
from codezero.local.host.child import ENVIRONMENT, program
from codezero.local.host.files import Disk, FileKind, FileState
from codezero.local.host.programs import INTERPRETER_FLAGS, LIBRARIES, MANIFEST, PROGRAMS
from codezero.model import problems
from codezero.model.problems import CodezeroError

DEFAULT_PREFIX = Path("/usr/local")
UNIT = Path("/etc/systemd/system/codezero.service")
_SYSTEMD_RUNS = Path("/run/systemd/system")
_ENTRY_POINTS = {
    "czctl": "codezero.cli.main",
    "czdaemon": "codezero.local.daemon.main",
    "czsupervisor": "codezero.local.supervisor.main",
}
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")
_EXTRA_MARKER = re.compile(r"extra\s*==\s*[\"']([^\"']+)[\"']")


class Manifest(msgspec.Struct, frozen=True):
    """What an installation wrote: folders wholly ours (`trees`), files, and parents it had to make. `trusted` is what must stay root's alone."""

    release: str
    trees: tuple[str, ...]
    files: tuple[str, ...]
    parents: tuple[str, ...]
    trusted: tuple[str, ...]


def install(*, prefix: Path = DEFAULT_PREFIX, unit: Path | None = UNIT, owner: int | None = None) -> tuple[str, ...]:
    """Install this release, in place of another; gives the programs and the service written.

    `owner` is the user whose agent the service is, by default the one behind sudo; `unit` None makes no service. Raises `CodezeroError`
    UNSAFE_INSTALL when no interpreter or a folder on the way cannot be trusted.
    """
    interpreter, standard_library = _trusted_interpreter()
    libraries, programs = prefix / LIBRARIES, prefix / PROGRAMS
    earlier = _read(prefix)
    parents = _make_parents(libraries, programs)
    _require_trust([str(libraries), str(programs)])
    library, staged, replaced = (
        libraries / name for name in (__version__, f".{__version__}.new", f".{__version__}.old")
    )
    unit = unit if unit is not None and _SYSTEMD_RUNS.is_dir() else None
    launchers = [programs / name for name in _ENTRY_POINTS]
    manifest = Manifest(
        release=__version__,
        trees=(str(library),),
        files=(*map(str, launchers), *((str(unit),) if unit else ())),
        parents=(*(earlier.parents if earlier else ()), *parents),
        trusted=(interpreter, *standard_library, str(library), *map(str, launchers)),
    )
    # Written down before anything is made: an installation that was interrupted can be removed like a whole one.
    _write(prefix, _joined(manifest, earlier, more_trees=(str(staged), str(replaced))))
    for folder in (staged, replaced):
        shutil.rmtree(folder, ignore_errors=True)
    _copy_packages(staged)
    _compile(interpreter, staged)
    if library.exists():
        library.rename(replaced)
    staged.rename(library)
    for launcher in launchers:
        _put(launcher, _launcher(launcher.name, interpreter, manifest.trusted, library), mode=0o755)
    if unit is not None:
        _put(unit, _service(programs, _owner() if owner is None else owner), mode=0o644)
        _systemctl("daemon-reload")
        _systemctl("enable", unit.name)
    _remove_tree(replaced)
    if earlier is not None:
        _remove(earlier, besides=manifest)
    _write(prefix, manifest)
    return manifest.files


def uninstall(*, prefix: Path = DEFAULT_PREFIX) -> tuple[str, ...]:
    """Remove exactly what `install` wrote, and stop the service; gives what was removed, nothing when there is no installation."""
    manifest = _read(prefix)
    if manifest is None:
        return ()
    for file in manifest.files:
        if file.endswith(".service"):
            _systemctl("disable", "--now", Path(file).name)
    removed = _remove(manifest)
    (prefix / LIBRARIES / MANIFEST).unlink()
    for parent in sorted(manifest.parents, key=len, reverse=True):
        try:
            Path(parent).rmdir()
        except OSError:
            continue  # somebody else uses it too
    if any(file.endswith(".service") for file in manifest.files):
        _systemctl("daemon-reload")
    return removed


def check(*, prefix: Path = DEFAULT_PREFIX) -> None:
    """Raise `CodezeroError` when the installation is missing (NOT_FOUND), or somebody other than root can change it (UNSAFE_INSTALL)."""
    manifest = _read(prefix)
    if manifest is None:
        raise CodezeroError(
            problems.NOT_FOUND, f"there is no installation in {prefix / LIBRARIES}", fix="sudo czctl daemon install"
        )
    _require_trust([*manifest.trusted, str(prefix / LIBRARIES / MANIFEST)])


def _require_trust(paths: list[str]) -> None:
    problem = trust.untrusted(paths)
    if problem is not None:
        raise CodezeroError(
            problems.UNSAFE_INSTALL, problem, fix="sudo czctl daemon uninstall && sudo czctl daemon install"
        )


# --- what to copy --------------------------------------------------------------------------------------------------------------------------


def _copy_packages(target: Path) -> None:
    target.mkdir(mode=0o755)
    source = Path(codezero.__file__).parent
    for file in sorted(source.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            _copy(file, target / "codezero" / file.relative_to(source))
    for distribution in _distributions("codezero", {"daemon"}):
        for file in distribution.files or ():
            is_ours = file.parts[0] in ("codezero", "..") or file.suffix in (".pth", ".pyc")
            if not is_ours and file.name not in ("RECORD", "direct_url.json"):
                _copy(Path(str(distribution.locate_file(file))), target / file)


def _copy(source: Path, target: Path) -> None:
    for folder in reversed(target.parents):
        if not folder.exists():
            folder.mkdir(mode=0o755)
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _distributions(name: str, extras: set[str]) -> list[metadata.Distribution]:
    """The distribution and all it needs, as installed here. A requirement with a marker that is not installed does not apply here."""
    found: dict[str, metadata.Distribution] = {}
    due: list[tuple[str, frozenset[str], bool]] = [(name, frozenset(extras), True)]
    visited: set[tuple[str, frozenset[str]]] = set()
    while due:
        wanted, with_extras, is_needed = due.pop()
        if (wanted, with_extras) in visited:
            continue
        visited.add((wanted, with_extras))
        try:
            distribution = metadata.distribution(wanted)
        except metadata.PackageNotFoundError:
            if is_needed:
                raise CodezeroError(
                    problems.HOST_CHANGE_FAILED,
                    f"{wanted} is not installed beside czctl",
                    fix="pip install 'codezero[daemon]'",
                ) from None
            continue
        found[wanted] = distribution
        due += [
            (requirement, more, not marker)
            for requirement, more, marker in map(_parsed, distribution.requires or ())
            if _applies(marker, with_extras)
        ]
    return list(found.values())


def _parsed(requirement: str) -> tuple[str, frozenset[str], str]:
    text, _, marker = requirement.partition(";")
    match = _REQUIREMENT.match(text.strip())
    assert match is not None, requirement
    more = frozenset(part.strip() for part in (match[2] or "").split(",") if part.strip())
    return re.sub(r"[-_.]+", "-", match[1]).lower(), more, marker.strip()


def _applies(marker: str, extras: frozenset[str]) -> bool:
    wanted = _EXTRA_MARKER.findall(marker)
    return not wanted or any(extra in extras for extra in wanted)


def _trusted_interpreter() -> tuple[str, tuple[str, ...]]:
    """An interpreter of this version that only root can change, and where its standard library is."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    own = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    reasons: list[str] = []
    for candidate in dict.fromkeys([own, f"/usr/bin/python{version}"]):
        if not os.access(candidate, os.X_OK):
            continue
        problem = trust.untrusted([candidate])
        paths = () if problem else _standard_library(candidate)
        problem = problem or trust.untrusted(list(paths))
        if problem is None and paths:
            return candidate, paths
        reasons.append(problem or f"{candidate} lacks a part of the standard library")
    raise CodezeroError(
        problems.UNSAFE_INSTALL,
        f"no Python {version} that only root can change: {'; '.join(reasons)}",
        fix=f"sudo apt install python{version}, or run czctl with another Python of the system",
    )


def _standard_library(interpreter: str) -> tuple[str, ...]:
    script = "import sys, asyncio, ctypes, ssl; print(*sys.path, sep=chr(10))"
    asked = subprocess.run(
        [interpreter, INTERPRETER_FLAGS, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    return tuple(path for path in asked.stdout.splitlines() if Path(path).exists()) if asked.returncode == 0 else ()


def _compile(interpreter: str, folder: Path) -> None:
    """Bytecode beside the sources, so that a start need not make it; without it all works, slower."""
    subprocess.run(
        [interpreter, INTERPRETER_FLAGS, "-m", "compileall", "-q", "-s", str(folder), str(folder)],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )


# --- what to write -------------------------------------------------------------------------------------------------------------------------


def _launcher(name: str, interpreter: str, trusted: Iterable[str], library: Path) -> str:
    check = Path(trust.__file__).read_text(encoding="utf-8")
    return f"""#!{interpreter} {INTERPRETER_FLAGS}
{check}

import sys

if os.geteuid() == 0:
    _problem = untrusted({list(trusted)!r})
    if _problem is not None:
        print(f"codezero: {{_problem}} [{problems.UNSAFE_INSTALL.code}]", file=sys.stderr)
        print("fix: sudo czctl daemon uninstall && sudo czctl daemon install", file=sys.stderr)
        sys.exit({problems.UNSAFE_INSTALL.exit_code})
sys.path.insert(0, {str(library)!r})

from {_ENTRY_POINTS[name]} import main

if __name__ == "__main__":
    sys.exit(main())
"""


def _service(programs: Path, owner: int) -> str:
    """The unit. CAP_SYS_ADMIN and CAP_SETPCAP are for confining the Daemon, which keeps neither."""
    return f"""[Unit]
Description=Codezero: the cluster's services by their names
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=300
StartLimitBurst=3

[Service]
Type=notify
ExecStart={programs}/czsupervisor --owner {owner}
ExecStopPost=-{programs}/czctl cleanup
Restart=on-failure
RestartSec=1
WatchdogSec=30
TimeoutStopSec=20
KillMode=mixed
RuntimeDirectory=codezero
RuntimeDirectoryMode=0755
StateDirectory=codezero
StateDirectoryMode=0700
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_SETPCAP CAP_SYS_ADMIN
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths=/etc
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictNamespaces=mnt
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def _owner() -> int:
    user = os.environ.get("SUDO_UID") or os.environ.get("PKEXEC_UID") or ""
    return int(user) if user.isdigit() else os.getuid()


def _systemctl(*arguments: str) -> None:
    """Ask systemd where it runs; its refusal must not keep files from being written or removed."""
    path = program("systemctl")
    if path is not None and _SYSTEMD_RUNS.is_dir():
        subprocess.run(
            [path, "--quiet", *arguments],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )


def _make_parents(*folders: Path) -> list[str]:
    made: list[str] = []
    for folder in folders:
        for part in (*reversed(folder.parents), folder):
            if not part.exists():
                part.mkdir(mode=0o755)
                part.chmod(0o755)
                made.append(str(part))
    return made


def _put(path: Path, text: str, *, mode: int) -> None:
    Disk().replace(path, FileState(FileKind.FILE, text.encode(), mode=mode, uid=os.geteuid(), gid=os.getegid()))


def _read(prefix: Path) -> Manifest | None:
    path = prefix / LIBRARIES / MANIFEST
    if not path.is_file():
        return None
    # What it lists is removed as root.
    _require_trust([str(path)])
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise CodezeroError(
            problems.UNSAFE_INSTALL, f"{path} cannot be read: {error}", fix=f"sudo rm -r {path.parent}"
        ) from None


def _write(prefix: Path, manifest: Manifest) -> None:
    _put(prefix / LIBRARIES / MANIFEST, msgspec.json.encode(manifest).decode(), mode=0o644)


def _joined(new: Manifest, earlier: Manifest | None, *, more_trees: tuple[str, ...]) -> Manifest:
    trees, files = [*new.trees, *more_trees], list(new.files)
    if earlier is not None:
        trees += earlier.trees
        files += earlier.files
    return msgspec.structs.replace(new, trees=tuple(dict.fromkeys(trees)), files=tuple(dict.fromkeys(files)))


def _remove(manifest: Manifest, *, besides: Manifest | None = None) -> tuple[str, ...]:
    """Remove what the manifest lists and `besides` does not; gives what there was."""
    kept = {*besides.trees, *besides.files} if besides is not None else set[str]()
    removed: list[str] = []
    for name in (*manifest.files, *manifest.trees):
        path = Path(name)
        if name in kept or not path.exists():
            continue
        _remove_tree(path) if path.is_dir() else path.unlink()
        removed.append(name)
    return tuple(removed)


def _remove_tree(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)
