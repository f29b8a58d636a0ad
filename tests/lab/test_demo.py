"""The demo, as people run it: every step holds, it stays until Ctrl-C, and nothing is left. Also for ordinary users."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

NOBODY = 65534
DEMO = (sys.executable, "-m", "codezero.sandbox.demo")
# Becomes an ordinary user. Where Python lives in a folder that others cannot enter (/root), a view of the files is made in which they can.
AS_NOBODY = f"""
import os, sys
from pathlib import Path
from codezero.sandbox import files, namespaces
namespaces.make_private()
closed = [part for folder in files.program_folders() for part in folder.parents if not part.stat().st_mode & 1]
kept = files._opened(files.program_folders(), below=closed)
for folder in dict.fromkeys(closed):
    namespaces.mount("tmpfs", folder, kind="tmpfs", options="mode=755")
files._bring_back(kept)
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o777)
        monkeypatch.setenv("XDG_STATE_HOME", f"{made}/state")
        monkeypatch.setenv("HOME", made)
        yield Path(made)


@pytest.mark.parametrize("user", ["whoever runs the tests", "an ordinary user"])
def test_the_demo_stays_until_ctrl_c_and_leaves_nothing(user: str, home: Path) -> None:
    command = [*DEMO]
    if user == "an ordinary user" and os.geteuid() == 0:
        command = ["unshare", "--mount", sys.executable, "-c", AS_NOBODY, *DEMO]
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert demo.stdout is not None
    printed: list[str] = []
    for line in demo.stdout:
        printed.append(line.decode())
        if "Ctrl-C ends it" in printed[-1] or printed[-1].startswith("failed"):
            break
    os.kill(demo.pid, signal.SIGINT)
    printed += [line.decode() for line in demo.stdout]
    demo.stdout.close()
    everything = "".join(printed)

    assert demo.wait(timeout=60) == 0, everything
    assert "failed" not in everything
    assert everything.count("\nok ") >= 12
    assert list(home.iterdir()) == []


def test_a_demo_that_is_killed_leaves_no_process(home: Path) -> None:
    """kill -9 of the demo cuts the sandbox's lifeline."""
    demo = subprocess.Popen(DEMO, stdout=subprocess.PIPE)
    assert demo.stdout is not None
    while b"starting the cluster" not in demo.stdout.readline():
        pass
    demo.kill()
    demo.stdout.close()
    demo.wait()

    def left() -> str:
        """The keeper's command line has the state folder."""
        return subprocess.run(["pgrep", "-f", str(home)], capture_output=True, text=True, check=False).stdout

    assert eventually(lambda: left() == "")
