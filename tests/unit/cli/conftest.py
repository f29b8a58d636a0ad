"""czctl run in this process as the shell would run it, against a Daemon whose answers are scripted."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.cli import main
from codezero.testing.czctl import Czctl, Ended
from codezero.testing.scripted_daemon import ScriptedDaemon
from codezero.testing.views import CONSUME, SERVICES, STATUS

HUB_VARIABLES = [f"CODEZERO_{name}" for name in ("HUB", "HUB_CA", "TOKEN", "API_KEY", "ORGANIZATION", "SPACE")]


@pytest.fixture(autouse=True)
def run_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test of czctl may find this machine's own Daemon, nor its Hub."""
    folder = tmp_path_factory.mktemp("run")
    monkeypatch.setenv("CODEZERO_RUN_FOLDER", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    for name in ("NO_COLOR", "VISUAL", "EDITOR", "https_proxy", "HTTPS_PROXY", *HUB_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def daemon(run_folder: Path) -> Iterator[ScriptedDaemon]:
    """A Daemon that runs, with one service consumed."""
    replies = {
        "GET /v1/status": STATUS,
        "GET /v1/services": SERVICES,
        "GET /v1/consume": CONSUME,
        "PUT /v1/consume": CONSUME,
        "POST /v1/consume/test": CONSUME,
        "PUT /v1/primary-namespace": CONSUME,
        "POST /v1/reset": CONSUME,
    }
    with ScriptedDaemon(run_folder, dict(replies)) as running:
        yield running


@pytest.fixture
def czctl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Czctl:
    """Run czctl with these arguments, and `stdin` where given."""

    def run(*arguments: str, stdin: bytes = b"") -> Ended:
        capsys.readouterr()
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", io.TextIOWrapper(NamedBytes(stdin), encoding="utf-8"))
            code = main.run(arguments)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Ended(code, out, err)

    return run


class NamedBytes(io.BytesIO):
    # As the real one's.
    name = "<stdin>"
