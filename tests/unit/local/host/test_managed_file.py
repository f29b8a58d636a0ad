"""Files of the machine that we change: stopped at any step, they are old or new, and undo gives back the original."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from codezero.local.host import resolv_conf
from codezero.local.host import undo as undo_module
from codezero.local.host.files import Disk, FileKind, FileState
from codezero.local.host.journal import Entry, Journal
from codezero.local.host.managed_file import ManagedFile
from codezero.local.host.undo import undo
from codezero.model import problems
from codezero.model.problems import CodezeroError

ORIGINAL = b"nameserver 10.0.0.1\nsearch shop.example"
OURS = resolv_conf.insert(ORIGINAL)


class KilledError(BaseException):
    """The process dies here."""


class Killer:
    """Dies before the step of that number."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.steps: list[str] = []

    def __call__(self, step: str) -> None:
        self.steps.append(step)
        if self.left == 0:
            raise KilledError(step)
        self.left -= 1


class UnrenamableDisk(Disk):
    """A disk on which one file is a mount point, as containers' resolv.conf is."""

    def __init__(self, path: Path, *, before: Callable[[str], None] = lambda _step: None) -> None:
        super().__init__(before=before)
        self._path = path

    def replace(self, path: Path, state: FileState) -> bool:
        return False if path == self._path else super().replace(path, state)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def _write(path: Path, content: bytes = ORIGINAL) -> None:
    path.write_bytes(content)
    path.chmod(0o640)
    os.utime(path, ns=(1_000_000_001, 1_000_000_001))


def _facts(path: Path) -> tuple[object, ...]:
    info = path.lstat()
    content = str(path.readlink()) if path.is_symlink() else path.read_bytes()
    return content, info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns, sorted(path.parent.iterdir())


def _managed(machine: Path, disk: Disk | None = None) -> tuple[ManagedFile, Journal]:
    journal = Journal(machine / "state", disk=disk)
    return ManagedFile(machine / "etc/resolv.conf", strip=resolv_conf.strip, journal=journal), journal


def _undo(machine: Path) -> tuple[str, ...]:
    return undo(
        state_folder=machine / "state",
        resolv_conf_path=machine / "etc/resolv.conf",
        hosts_path=machine / "etc/hosts",
    )


@pytest.mark.parametrize("kind", ["file", "link", "dangling link", "absent", "empty"])
def test_undo_gives_back_exactly_what_was_there(machine: Path, kind: str) -> None:
    """Content, kind, target, mode, owner and time: the machine is as before (R40)."""
    path = machine / "etc/resolv.conf"
    match kind:
        case "file":
            _write(path)
        case "empty":
            _write(path, b"")
        case "link":
            _write(machine / "stub.conf")
            path.symlink_to("../stub.conf")
        case "dangling link":
            path.symlink_to("../run/systemd/resolve/stub-resolv.conf")
        case _:
            pass
    before = None if kind == "absent" else _facts(path)
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(resolv_conf.insert)
        assert file.is_ours()
        assert not path.is_symlink()
    assert _undo(machine) == (str(path),)
    assert (None if not os.path.lexists(path) else _facts(path)) == before
    assert _undo(machine) == ()
    assert not list((machine / "state/journal").glob("*.json"))


def _killed_at(machine: Path, step: int, *, in_place: bool, act: Callable[[ManagedFile], object]) -> list[str] | None:
    """Run `act` and die before the step of that number; the steps so far, or None when there was no such step."""
    killer = Killer(step)
    disk = UnrenamableDisk(machine / "etc/resolv.conf", before=killer) if in_place else Disk(before=killer)
    file, journal = _managed(machine, disk)
    with journal.locked():
        try:
            act(file)
        except KilledError:
            return killer.steps
    return None


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in place"])
def test_killed_at_any_step_of_a_change_undo_gives_back_the_original(machine: Path, in_place: bool) -> None:
    """Power fails between two steps: the file is old or new, and the next start finds its way back (R16)."""
    path = machine / "etc/resolv.conf"
    step = 0
    while True:
        _write(path)
        steps = _killed_at(machine, step, in_place=in_place, act=lambda file: file.apply(resolv_conf.insert))
        if steps is None:
            break
        if not in_place:
            assert path.read_bytes() in (ORIGINAL, OURS), steps
        _undo(machine)
        assert path.read_bytes() == ORIGINAL, steps
        assert list((machine / "etc").iterdir()) == [path], steps
        step += 1
    assert step >= 9


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed", "in place"])
def test_killed_at_any_step_of_an_undo_the_next_undo_completes_it(machine: Path, in_place: bool) -> None:
    """Undo is repeated until it is done, and never makes things worse."""
    path = machine / "etc/resolv.conf"
    step = 0
    while True:
        _write(path)
        before = _facts(path)
        assert _killed_at(machine, 10_000, in_place=in_place, act=lambda file: file.apply(resolv_conf.insert)) is None
        steps = _killed_at(machine, step, in_place=in_place, act=lambda file: file.undo())
        _undo(machine)
        assert path.read_bytes() == ORIGINAL, steps
        assert _facts(path) == before, steps
        if steps is None:
            break
        step += 1
    assert step >= 5


def test_the_journal_is_on_the_disk_before_the_file_changes(machine: Path) -> None:
    """Written later, a crash in between would leave a change that nobody knows how to undo."""
    path = machine / "etc/resolv.conf"
    _write(path)
    killer = Killer(10_000)
    file, journal = _managed(machine, Disk(before=killer))
    with journal.locked():
        file.apply(resolv_conf.insert)
    first_change = next(number for number, step in enumerate(killer.steps) if step == "rename resolv.conf")
    journal_synced = next(number for number, step in enumerate(killer.steps) if step.startswith("sync folder of"))
    assert journal_synced < first_change
    assert killer.steps.index("sync .resolv.conf.codezero-new") < first_change


class FullDisk(UnrenamableDisk):
    """Once `is_full`, the disk of the journal takes nothing more; the machine's own files are on another."""

    is_full = False

    def replace(self, path: Path, state: FileState) -> bool:
        if self.is_full and path.parent.name == "journal" and state.kind is not FileKind.ABSENT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().replace(path, state)


def test_on_a_full_disk_nothing_is_changed_that_could_not_be_undone(machine: Path) -> None:
    """And it is an error to tell, not one that ends the Supervisor."""
    path = machine / "etc/resolv.conf"
    _write(path)
    disk = FullDisk(path)
    file, journal = _managed(machine, disk)
    disk.is_full = True
    with journal.locked(), pytest.raises(CodezeroError, match="No space left"):
        file.apply(resolv_conf.insert)
    assert path.read_bytes() == ORIGINAL


def test_a_full_disk_does_not_keep_a_file_from_being_put_back(machine: Path) -> None:
    """Disks fill up while Codezero runs, and the user then stops what can be stopped."""
    path = machine / "etc/resolv.conf"
    _write(path)
    disk = FullDisk(path)
    file, journal = _managed(machine, disk)
    with journal.locked():
        file.apply(resolv_conf.insert)
        disk.is_full = True
        file.undo()
    assert path.read_bytes() == ORIGINAL
    assert list((machine / "state/journal").glob("*.json")) == []


def test_an_interrupted_write_in_place_is_restored_whatever_it_left(machine: Path) -> None:
    """A power loss may leave any mixture in a bind-mounted file; the journal knows that it was being written."""
    path = machine / "etc/resolv.conf"
    _write(path)
    _, journal = _managed(machine)
    with journal.locked():
        original = journal.disk.read(path)
        journal.put(Entry(str(path), original, unfinished=True))
    path.write_bytes(b"\0\0\0garbage")
    _undo(machine)
    assert path.read_bytes() == ORIGINAL


def test_a_foreign_rewrite_is_the_new_original(machine: Path) -> None:
    """DHCP changes the servers while we run: stopping must not bring back those of yesterday's network."""
    path = machine / "etc/resolv.conf"
    _write(path)
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(resolv_conf.insert)
        path.write_bytes(b"nameserver 192.168.7.1\n")
        assert file.apply(resolv_conf.insert)
        assert file.original() == b"nameserver 192.168.7.1\n"
        assert path.read_bytes() == resolv_conf.insert(b"nameserver 192.168.7.1\n")
    _undo(machine)
    assert path.read_bytes() == b"nameserver 192.168.7.1\n"


def test_a_rewrite_after_our_death_is_left_alone(machine: Path) -> None:
    path = machine / "etc/resolv.conf"
    _write(path)
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(resolv_conf.insert)
    path.write_bytes(b"nameserver 192.168.7.1\n")
    assert _undo(machine) == ()
    assert path.read_bytes() == b"nameserver 192.168.7.1\n"


def test_a_link_put_back_by_others_is_followed(machine: Path) -> None:
    """systemd-resolved or NetworkManager put their link back: it is the original again, and so is what it leads to."""
    path = machine / "etc/resolv.conf"
    _write(path)
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(resolv_conf.insert)
        path.unlink()
        (machine / "stub.conf").write_bytes(b"nameserver 127.0.0.53\n")
        path.symlink_to("../stub.conf")
        file.apply(resolv_conf.insert)
        (machine / "stub.conf").write_bytes(b"nameserver 127.0.0.53\nsearch new\n")
        assert file.watched() == (path, machine / "etc/../stub.conf")
        assert file.apply(resolv_conf.insert)
        assert file.original() == b"nameserver 127.0.0.53\nsearch new\n"
        assert not file.apply(resolv_conf.insert)
    _undo(machine)
    assert str(path.readlink()) == "../stub.conf"


def test_with_the_journal_lost_the_markers_are_enough(machine: Path) -> None:
    path = machine / "etc/resolv.conf"
    _write(path)
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(resolv_conf.insert)
    for entry in (machine / "state/journal").glob("*.json"):
        entry.write_bytes(b"{ not json")
    _undo(machine)
    assert path.read_bytes() == ORIGINAL


def test_only_one_process_may_change_the_machine(machine: Path) -> None:
    """Two in charge would take each other's changes for originals (R41); the second learns who is first."""
    _, journal = _managed(machine)
    _, second = _managed(machine)
    with journal.locked(), pytest.raises(CodezeroError) as caught, second.locked():
        pass
    assert caught.value.problem is problems.ALREADY_RUNNING
    assert f"process {os.getpid()} " in caught.value.detail


def test_who_died_in_charge_is_known_to_the_next(machine: Path) -> None:
    """A revived Supervisor goes on only if nobody ended things in order meanwhile."""
    _, journal = _managed(machine)
    with journal.locked() as nobody:
        pass
    with journal.locked() as in_order:
        pass
    with pytest.raises(KilledError), journal.locked():
        raise KilledError
    with journal.locked() as died:
        assert journal.holder() == os.getpid()
    assert (nobody, in_order, died) == (None, None, os.getpid())


def test_undo_first_ends_the_process_in_charge(machine: Path) -> None:
    """`czctl cleanup` must win over whatever still runs, and then put the file back."""
    path = machine / "etc/resolv.conf"
    _write(path)
    script = (
        "import signal, sys; from pathlib import Path; from codezero.local.host.journal import Journal\n"
        "with Journal(Path(sys.argv[1])).locked(): print('in charge', flush=True); signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(machine / "state")], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "in charge\n"
        assert _undo(machine) == ()
        assert running.wait() == -signal.SIGTERM


def _in_charge(machine: Path, *, first: str) -> "subprocess.Popen[str]":
    script = (
        "import signal, sys; from pathlib import Path; from codezero.local.host.journal import Journal\n"
        f"{first}\n"
        "with Journal(Path(sys.argv[1])).locked():\n    print('in charge', flush=True)\n    while True: signal.pause()"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", script, str(machine / "state")], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "in charge\n"
    return running


def test_undo_ends_a_process_in_charge_that_is_suspended(machine: Path) -> None:
    """A stopped process takes no signal before it goes on; cleanup must not wait for that in vain."""
    with _in_charge(machine, first="") as running:
        running.send_signal(signal.SIGSTOP)
        _undo(machine)
        assert running.wait() == -signal.SIGTERM


def test_undo_kills_a_process_in_charge_that_hangs(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cleanup is the last resort: "it is in charge, run `czctl stop`" would be no answer there."""
    monkeypatch.setattr(undo_module, "ASK_SECONDS", 0.2)
    with _in_charge(machine, first="signal.signal(signal.SIGTERM, signal.SIG_IGN)") as running:
        _undo(machine)
        assert running.wait() == -signal.SIGKILL


def test_undo_ends_nobody_whose_number_merely_stands_in_the_lock(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The holder may live in another process namespace, where its number is somebody else's here."""
    monkeypatch.setattr(undo_module, "STOP_SECONDS", 0.3)
    with _in_charge(machine, first="") as running, subprocess.Popen(["sleep", "60"]) as bystander:
        (machine / "state/journal/lock").write_text(f"{bystander.pid}\n")
        with pytest.raises(CodezeroError):
            _undo(machine)
        assert bystander.poll() is None
        bystander.kill()
        running.kill()


def test_a_journal_that_others_can_write_is_refused(machine: Path) -> None:
    """Undo writes what the journal says, as root: its folder must be root's alone (T06)."""
    (machine / "state/journal").mkdir(parents=True)
    (machine / "state/journal").chmod(0o777)
    with pytest.raises(CodezeroError) as caught:
        _undo(machine)
    assert caught.value.problem is problems.UNSAFE_INSTALL


def test_a_link_squatting_beside_the_file_is_never_followed(machine: Path) -> None:
    """The new file is made exclusively, so a planted link cannot redirect root's write (T06)."""
    path = machine / "etc/resolv.conf"
    _write(path)
    (machine / "victim").write_bytes(b"precious")
    (machine / "etc/.resolv.conf.codezero-new").symlink_to("../victim")
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(resolv_conf.insert)
    assert (machine / "victim").read_bytes() == b"precious"
    assert path.read_bytes() == OURS


def test_a_device_in_place_of_the_file_is_refused(machine: Path) -> None:
    os.mkfifo(machine / "etc/resolv.conf")
    file, journal = _managed(machine)
    with journal.locked(), pytest.raises(CodezeroError) as caught:
        file.apply(resolv_conf.insert)
    assert caught.value.problem is problems.HOST_CHANGE_FAILED


def test_a_change_that_does_nothing_touches_nothing(machine: Path) -> None:
    """Without names there is no block: the file keeps its inode and time."""
    path = machine / "etc/resolv.conf"
    _write(path)
    before = path.lstat()
    file, journal = _managed(machine)
    with journal.locked():
        file.apply(lambda original: original)
    after = path.lstat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert journal.disk.read(path).kind is FileKind.FILE
