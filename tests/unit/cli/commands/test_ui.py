"""czctl ui, where it does not come up: everything else is told in tests/process/test_czctl_ui.py."""

import os
import subprocess
import sys

import pytest

from codezero.testing.czctl import Czctl


@pytest.mark.skipif(os.geteuid() != 0, reason="expected: only root can have come by sudo")
def test_by_sudo_it_is_refused(czctl: Czctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_UID", "1000")

    ended = czctl("ui", "--no-open")

    assert ended.code == 2
    assert "not root's" in ended.err
    assert "fix:  czctl ui" in ended.err


def test_without_the_packages_it_needs_it_says_which_extra_has_them() -> None:
    script = "import sys; sys.modules['uvicorn'] = None; from codezero.cli import main; sys.exit(main.run(['ui']))"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert ended.returncode == 2
    assert "needs uvicorn" in ended.stderr
    assert "fix:  pip install 'codezero[daemon]'" in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("port", ["0", "80", "65536", "x"])
def test_a_port_that_is_none_of_a_users_is_refused(czctl: Czctl, port: str) -> None:
    assert czctl("ui", "--port", port).code == 2


def test_help_has_examples_and_loads_no_server(czctl: Czctl) -> None:
    ended = czctl("ui", "--help")

    assert ended.code == 0
    assert "czctl ui --no-open" in ended.out
    script = "import sys; from codezero.cli import main; main.run(['ui', '--help']); sys.exit('uvicorn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False).returncode == 0
