"""The root-owned installation: it runs by itself, refuses to run what others could have changed, and goes without a trace."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from codezero import __version__
from codezero.local.host import install
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.machine import Machine
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own the files")]


@pytest.fixture(scope="module")
def installed() -> Generator[Path]:
    prefix = Path(tempfile.mkdtemp(prefix="cz-install-"))
    prefix.chmod(0o755)
    install.install(prefix=prefix, unit=None)
    yield prefix
    shutil.rmtree(prefix)


def _run(prefix: Path, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [prefix / "bin/codezero" / program, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd="/",
        timeout=30,
        check=False,
    )


def _library(prefix: Path) -> Path:
    return prefix / "lib/codezero" / __version__


@pytest.mark.parametrize(
    ("program", "argument"), [("czsupervisor", "--help"), ("czdaemon", "--version"), ("czctl", "version")]
)
def test_the_programs_run_from_the_installation_alone(installed: Path, program: str, argument: str) -> None:
    """Nothing of the environment it was made from is needed, and nothing of the caller's is believed (T05)."""
    trap = installed.parent / f"{installed.name}-trap"
    trap.mkdir()
    try:
        (trap / "click.py").write_text("raise SystemExit('trapped')")
        (trap / "argparse.py").write_text("raise SystemExit('trapped')")
        done = _run(installed, program, argument, PYTHONPATH=str(trap), PYTHONHOME=str(trap), HOME=str(trap))
    finally:
        shutil.rmtree(trap)
    assert done.returncode == 0, done.stderr
    assert "trapped" not in done.stdout + done.stderr


def test_a_pth_file_beside_the_packages_is_not_executed(installed: Path) -> None:
    """Python runs lines of .pth files in site folders; the library is none (T05)."""
    planted = _library(installed) / "evil.pth"
    planted.write_text("import sys; sys.exit('trapped')")
    try:
        assert _run(installed, "czdaemon", "--version").returncode == 0
    finally:
        planted.unlink()


@pytest.mark.parametrize(
    "where", ["lib/codezero", f"lib/codezero/{__version__}/codezero/kit/logs.py", "bin/codezero/czdaemon", "."]
)
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_what_others_can_change_is_not_run(installed: Path, where: str, how: str) -> None:
    """T05: a module, a launcher, or any folder above them in other hands, and root starts none of it."""
    path = installed / where
    mode = path.stat().st_mode & 0o7777
    os.chown(path, 1234, -1) if how == "owner" else path.chmod(mode | 0o002)
    try:
        done = _run(installed, "czdaemon", "--version")
        with pytest.raises(CodezeroError) as caught:
            install.check(prefix=installed)
    finally:
        os.chown(path, 0, -1)
        path.chmod(mode)
    assert done.returncode == 3
    assert f"codezero: {path.resolve()}" in done.stderr
    assert "[CZ-AGENT-006]" in done.stderr
    assert caught.value.problem is problems.UNSAFE_INSTALL
    assert str(path.resolve()) in caught.value.detail
    install.check(prefix=installed)


def test_a_module_planted_by_another_user_is_noticed(installed: Path) -> None:
    planted = _library(installed) / "planted.py"
    planted.write_text("")
    os.chown(planted, 1234, 1234)
    try:
        assert "planted.py belongs to uid 1234" in _run(installed, "czsupervisor", "--help").stderr
    finally:
        planted.unlink()


def test_all_files_are_roots_and_no_script_of_dependencies_came_along(installed: Path) -> None:
    files = [path for path in installed.rglob("*") if path.is_file()]
    assert {path.stat().st_uid for path in files} == {0}
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o644", "0o755"}
    assert sorted(path.name for path in files if path.stat().st_mode & 0o111) == ["czctl", "czdaemon", "czsupervisor"]
    names = {path.name for path in _library(installed).iterdir()}
    assert {"codezero", "structlog", "uvicorn", "h11", "_cffi_backend.cpython-311-x86_64-linux-gnu.so"} & names
    assert not {"pytest", "grpc", "lightkube", "asyncpg"} & names


def test_another_release_replaces_and_uninstall_leaves_nothing_but_what_others_put_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R40: exactly what was written goes; a file of somebody else stays, and so does its folder."""
    prefix = Path(tempfile.mkdtemp(prefix="cz-install-"))
    prefix.chmod(0o755)
    try:
        (prefix / "bin").mkdir()
        (prefix / "bin/foreign").write_text("x")
        before = sorted(prefix.rglob("*"))
        with monkeypatch.context() as earlier:
            earlier.setattr(install, "__version__", "0.0.1")
            written = install.install(prefix=prefix, unit=None)
        assert [Path(name).name for name in written] == ["czctl", "czdaemon", "czsupervisor"]
        assert (prefix / "lib/codezero/0.0.1").exists()
        assert install.install(prefix=prefix, unit=None) == written
        assert {path.name for path in (prefix / "lib/codezero").iterdir()} == {__version__, "installation.json"}
        install.check(prefix=prefix)
        assert install.uninstall(prefix=prefix)
        assert sorted(prefix.rglob("*")) == before
        assert install.uninstall(prefix=prefix) == ()
        with pytest.raises(CodezeroError) as caught:
            install.check(prefix=prefix)
        assert caught.value.problem is problems.NOT_FOUND
    finally:
        shutil.rmtree(prefix)


@pytest.mark.netns
def test_the_installed_supervisor_runs_the_installed_daemon(installed: Path) -> None:
    """End to end from root-owned files: the real Daemon answers, its guard included, and stop restores the machine."""
    folder = Path(tempfile.mkdtemp(prefix="cz-"))
    try:
        with Machine(folder) as machine:
            before = machine.fingerprint()
            folders = ("--run-folder", str(machine.run_folder), "--state-folder", str(machine.state_folder))
            supervisor = machine.start(
                str(installed / "bin/codezero/czsupervisor"), *folders, errors=folder / "supervisor.log"
            )
            state = eventually(lambda: (now := machine.supervisor_state()).get("phase") == "running" and now)
            for process in (state["pid"], state["daemon"], state["guard"]):
                command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
                assert command[1] == b"-IBS"
                assert str(installed).encode() in command[2]
            os.kill(state["pid"], 15)
            assert supervisor.wait(timeout=20) == 0
            assert machine.fingerprint() == before
    finally:
        shutil.rmtree(folder, ignore_errors=True)
