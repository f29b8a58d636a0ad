"""A machine of its own for tests that change the machine: network and mount namespaces with a private, writable /etc. Needs root."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import codezero

# The overlay makes /etc writable here only; rename works in it as on a real disk.
_SETUP = """
set -e
ip link set lo up
# Without any other address glibc asks for none (AI_ADDRCONFIG).
ip addr add 10.1.1.1/32 dev lo
mkdir -p "$1/etc"
mount -t tmpfs tmpfs "$1/etc"
mkdir "$1/etc/upper" "$1/etc/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$1/etc/upper,workdir=$1/etc/work" /etc
rm -f /etc/resolv.conf
printf 'search corp.example\\nnameserver 127.0.0.99\\n' > /etc/resolv.conf
printf '127.0.0.1 localhost\\n10.0.0.9 printer' > /etc/hosts
printf 'hosts: files dns\\n' > /etc/nsswitch.conf
chmod 644 /etc/resolv.conf /etc/hosts
touch -d '2020-02-02 02:02:02.020202' /etc/resolv.conf /etc/hosts
echo ready
exec cat
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a command in the machine ended."""

    status: int
    output: str
    errors: str


class Machine:
    """The machine; a context manager. `folder` is short enough for sockets and seen from inside and outside alike."""

    def __init__(self, folder: Path, *, user_namespace: bool = False) -> None:
        self._namespaces = ("--user", "--net", "--mount") if user_namespace else ("--net", "--mount")
        self.folder = folder
        self.run_folder = folder / "run"
        self.state_folder = folder / "state"
        self._started: list[subprocess.Popen[bytes]] = []
        self._holder: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._holder = subprocess.Popen(
            [
                *("unshare", *self._namespaces, *(("--map-root-user",) if "--user" in self._namespaces else ())),
                *("--propagation", "private", "sh", "-c", _SETUP, "setup", str(self.folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self._holder.kill()
            raise RuntimeError("the machine's namespaces could not be set up")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Supervisors' guards are in the machine's process list as well: end all that lives in its network namespace.
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self._started:
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        if self._holder is not None:
            assert self._holder.stdin is not None
            assert self._holder.stdout is not None
            self._holder.stdin.close()
            self._holder.stdout.close()
            self._holder.wait()

    @property
    def pid(self) -> int:
        """The process that holds the namespaces."""
        assert self._holder is not None
        return self._holder.pid

    def processes(self) -> list[int]:
        """The processes in the machine, without its holder."""
        ours = Path(f"/proc/{self.pid}/ns/net").readlink()
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                try:
                    if (entry / "ns/net").readlink() == ours:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def inside(self, *command: str) -> list[str]:
        """The command, to be run in the machine."""
        return ["nsenter", "--target", str(self.pid), "--preserve-credentials", *self._namespaces, "--", *command]

    def do(self, *command: str, timeout: float = 30) -> Result:
        """Run a command in the machine to its end."""
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=timeout, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def shell(self, script: str) -> str:
        """What a shell script in the machine prints; raises when it fails."""
        result = self.do("sh", "-ec", script)
        if result.status != 0:
            raise RuntimeError(f"{script}: {result.errors}")
        return result.output

    def start(self, *command: str, errors: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a command in the machine; it is ended with the machine."""
        with (errors or Path(os.devnull)).open("ab") as stream:
            process = subprocess.Popen(self.inside(*command), stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        self._started.append(process)
        return process

    def start_supervisor(self, *arguments: str, daemon: Path | None = None) -> subprocess.Popen[bytes]:
        """Start a Supervisor in the machine; its log is `folder/supervisor.log`. `daemon` replaces the Daemon."""
        return self.start(
            *(sys.executable, "-m", "codezero.local.supervisor.main"),
            *("--run-folder", str(self.run_folder), "--state-folder", str(self.state_folder), "--log-level", "debug"),
            *(("--daemon", str(daemon)) if daemon else ()),
            *arguments,
            errors=self.folder / "supervisor.log",
        )

    def start_name_server(self, address: str, **answers: str) -> subprocess.Popen[bytes]:
        """Start a small name server (UDP) at `address`:53; `answers` are names, with _ for each dot, and their addresses."""
        records = [f"{name.replace('_', '.')}={value}" for name, value in answers.items()]
        return self.start(sys.executable, "-m", "codezero.testing.name_server", address, "53", *records)

    def ask(self, command: str) -> dict[str, Any]:
        """Ask the stand-in Daemon over its API socket; raises OSError when nobody answers."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(self.run_folder / "daemon.sock"))
            client.sendall(command.encode() + b"\n")
            with client.makefile("rb") as answers:
                line = answers.readline()
        if not line:
            raise ConnectionError("no answer")
        return json.loads(line)

    def supervisor_state(self) -> dict[str, Any]:
        """The Supervisor's state file; empty when there is none."""
        try:
            return json.loads((self.run_folder / "supervisor.json").read_bytes())
        except FileNotFoundError:
            return {}

    def fingerprint(self) -> str:
        """Everything of the machine that must be as before when we are gone (R40)."""
        return self.shell(
            "stat -c '%n %f %u %g %Y %y %N' /etc/resolv.conf /etc/hosts; cat /etc/resolv.conf /etc/hosts; "
            "find /etc -mindepth 1 -newer /etc/nsswitch.conf -o -name '*codezero*' 2>/dev/null || true; "
            "nft -s list ruleset; ip -d route show table all; ip -d rule; ip -o addr"
        )


STAND_IN_DAEMON = Path(codezero.__file__).parent / "testing" / "stand_in_daemon.py"
