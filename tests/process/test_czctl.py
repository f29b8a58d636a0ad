"""czctl as a process: what a shell, a pipe and a script see of it, and what it loads."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.testing.czctl import CZCTL
from codezero.testing.scripted_daemon import SILENCE, ScriptedDaemon
from codezero.testing.views import CONSUME, SERVICES, STATUS
from codezero.testing.waiting import eventually
from codezero.wire.local_api import ServicesView

MANY = ServicesView(
    tuple(
        Service(ServiceRef("shop", f"service-{number}"), ServiceKind.CLUSTER_IP, (ServicePort(80),), 1, 1)
        for number in range(3000)
    )
)
# What costs time to import and is of no use to a plain answer.
HEAVY = {
    "asyncio", "codezero.local", "codezero.sandbox", "codezero.system", "cryptography", "dns", "email",
    "http.client", "httpx2", "json", "lightkube", "rich", "shutil", "ssl", "starlette", "structlog", "subprocess",
    "tempfile", "traceback", "ulid", "urllib.request", "uvicorn", "uvloop", "yaml",
}  # fmt: skip


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path) as running:
        running.replies.update(
            {
                "GET /v1/status": STATUS,
                "GET /v1/services": SERVICES,
                "GET /v1/consume": CONSUME,
                "PUT /v1/consume": CONSUME,
            }
        )
        yield running


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "CODEZERO_RUN_FOLDER": str(tmp_path), "TMPDIR": str(tmp_path)}


def run(environment: dict[str, str], *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        [CZCTL, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False, **options
    )
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr
    return ended


def shell(environment: dict[str, str], line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, where `czctl` is ours; a pipe fails with its first failing part."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'czctl() {{ {CZCTL} "$@"; }}; {line}'],
        env=environment, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def loaded(environment: dict[str, str], arguments: Sequence[str]) -> set[str]:
    """The modules in memory after a run of czctl."""
    program = "import sys; from codezero.cli import main; code = main.run(sys.argv[1:]); print(*sys.modules, file=sys.stderr); sys.exit(code)"
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(ended.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [("status",), ("status", "-o", "json"), ("consume", "list", "-o", "name")])
def test_a_plain_answer_loads_nothing_heavy(
    daemon: ScriptedDaemon, environment: dict[str, str], arguments: tuple[str, ...]
) -> None:
    """`czctl status` is in prompts and loops; its time is nearly all imports."""
    # Consuming may keep text in files, so those commands load tempfile and its shutil.
    allowed = {"tempfile", "shutil"} if arguments[0] == "consume" else set[str]()

    assert loaded(environment, arguments) & HEAVY <= allowed


def test_the_daemons_truth_is_its_exit_code(tmp_path: Path, environment: dict[str, str]) -> None:
    with ScriptedDaemon(tmp_path, {"GET /v1/status": STATUS}):
        assert run(environment, "status").returncode == 0
    ended = run(environment, "status", "-o", "json")

    assert (ended.returncode, ended.stdout) == (1, "")
    assert json.loads(ended.stderr)["code"] == "CZ-AGENT-001"


def test_a_module_run_is_the_same_program(daemon: ScriptedDaemon, environment: dict[str, str]) -> None:
    """Where it is elevated, it is run by its interpreter."""
    ended = subprocess.run(
        [sys.executable, "-m", "codezero.cli", "statsu"], env=environment, capture_output=True, text=True, check=False
    )

    assert ended.returncode == 2
    assert "fix:  czctl status" in ended.stderr


@pytest.mark.parametrize(
    "line",
    [
        "czctl services list | head -1",
        "czctl services list -o json | head -1",
        "czctl services list -o yaml | head -1",
        "czctl services list -o name | true",
        "czctl status | true",
        "czctl explain | true",
        "czctl completion bash | true",
        "czctl --help | true",
    ],
)
def test_a_reader_that_leaves_early_is_no_failure(
    daemon: ScriptedDaemon, environment: dict[str, str], line: str
) -> None:
    """Whether the answer fits into the pipe's buffer or not."""
    daemon.replies["GET /v1/services"] = MANY

    ended = shell(environment, line)

    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("line", ["czctl services list -o json", "czctl status"])
def test_a_full_disk_is_told_once(daemon: ScriptedDaemon, environment: dict[str, str], line: str) -> None:
    """A script that writes to a file must hear that the file is not whole."""
    daemon.replies["GET /v1/services"] = MANY

    ended = shell(environment, f"{line} > /dev/full")

    assert ended.returncode == 1
    assert ended.stderr.count("CZ-GENERAL-006") in (1, 2)  # with its line `more:`
    assert ended.stderr.count("No space left on device") == 1
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_do_no_harm(daemon: ScriptedDaemon, environment: dict[str, str], closed: str) -> None:
    """Started by a badly behaved parent, it must neither crash nor write into a file that got the free number."""
    assert shell(environment, f"czctl status {closed}").returncode == 0
    assert shell(environment, f"czctl statsu {closed}").returncode == 2
    assert not list(Path(environment["TMPDIR"]).glob("czctl-*.log"))


def test_a_terminal_without_unicode_shows_escapes(daemon: ScriptedDaemon, environment: dict[str, str]) -> None:
    daemon.replies["GET /v1/services"] = ServicesView((Service(ServiceRef("shop", "grün"), ServiceKind.HEADLESS, ()),))

    ended = run({**environment, "PYTHONIOENCODING": "ascii"}, "services", "list", "-o", "name")

    assert (ended.returncode, ended.stdout) == (0, "shop/gr\\xfcn\n")


def test_an_interrupt_ends_it_quietly_with_130(daemon: ScriptedDaemon, environment: dict[str, str]) -> None:
    daemon.replies["GET /v1/status"] = SILENCE
    with subprocess.Popen(
        [CZCTL, "status"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        eventually(lambda: daemon.requests, pause=0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err.strip()) == (130, "", "interrupted")


def test_rules_come_through_a_pipe(daemon: ScriptedDaemon, environment: dict[str, str]) -> None:
    ended = shell(environment, "printf '*.shop\\n' | czctl consume apply --append -o json")

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["rules"] == ["*.shop"]
    assert daemon.requests[-1].json() == {"rules": ["*.shop"], "append": True}


def test_no_terminal_no_colour(daemon: ScriptedDaemon, environment: dict[str, str]) -> None:
    for arguments in (("status",), ("statsu",), ("--help",), ("services", "list", "-o", "wide")):
        ended = run({**environment, "TERM": "xterm-256color"}, *arguments)
        assert "\x1b" not in ended.stdout + ended.stderr


def test_bash_completes_names_of_the_teamspace(daemon: ScriptedDaemon, environment: dict[str, str]) -> None:
    """The script of `czctl completion bash`, run as bash runs it on TAB."""
    line = (
        "source <(czctl completion bash); COMP_WORDS=(czctl consume test shop/o); COMP_CWORD=3; "
        f'_czctl_completion {CZCTL}; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )

    ended = shell(environment, line)

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "shop/orders\n", "")


@pytest.mark.parametrize(("program", "option"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_other_shells_accept_their_scripts(
    environment: dict[str, str], tmp_path: Path, program: str, option: str
) -> None:
    from shutil import which

    if which(program) is None:
        pytest.skip(f"expected: {program} is not on this machine")
    script = tmp_path / f"czctl.{program}"
    script.write_text(run(environment, "completion", program).stdout)

    subprocess.run([program, option, script], check=True, timeout=30)
