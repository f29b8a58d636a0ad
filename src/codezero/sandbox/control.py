"""Start a sandbox, run commands in its places, cut its network, stop it. Light to import; everything is synchronous.

    with Sandbox.up(name="demo", progress=print) as sandbox:
        sandbox.run("laptop", ["curl", "http://www.example/"])

A sandbox belongs to the user who started it. All there is of it outside its namespaces is one folder (`Sandbox.folder`) with a control socket and
logs. Whether it runs, and as which process, is asked of the kernel through that socket, so nothing here can be out of date.
"""

import contextlib
import fcntl
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout, support

Hub = Literal["sqlite", "postgresql"]

DEFAULT_NAME = "default"
# As `czctl auth login` shows it.
_USER_CODE = re.compile(r"\b[A-Z0-9]{4}-[A-Z0-9]{4}\b")
START_DEADLINE = 120.0
_STOP_DEADLINE = 15.0
_MADE = "made"
_ANSWER_DEADLINE = 30.0
_LARGEST_ANSWER = 8 * 1024 * 1024


class PodView(msgspec.Struct, frozen=True):
    """A pod as `status` shows it; `phase` as kubectl shows it."""

    namespace: str
    name: str
    ready: bool
    phase: str
    address: str = ""
    restarts: int = 0


class Status(msgspec.Struct, frozen=True):
    """How a sandbox is. `since` is UNIX seconds; `places` are the places commands can be run in, with their addresses.

    `cut` names the laptops that are cut off from the cluster.
    """

    name: str
    ready: bool
    since: float
    teamspace: str
    address: str
    cut: tuple[str, ...]
    places: dict[str, str]
    keeper: int = 0
    pods: tuple[PodView, ...] = ()
    api_requests: dict[str, int] = {}


class Person(msgspec.Struct, frozen=True):
    """Somebody in the sandbox's Hub. The password is a secret, as long as the sandbox lasts."""

    email: str
    password: str

    def __repr__(self) -> str:
        return f"Person({self.email!r})"


class HubView(msgspec.Struct, frozen=True):
    """The sandbox's Hub: where it is and whom to believe (a file on the laptops), its organization and Teamspace (ULIDs; empty without one), its people.

    `data_folder` is where commands in the place `internet` find what it keeps.
    """

    url: str
    ca: str
    organization: str
    space: str
    people: dict[str, Person]
    data_folder: str
    running: bool = True


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of what a starting sandbox tells: a step, that it is ready, or the problem that ends it."""

    step: str | None = None
    ready: bool = False
    problem: str | None = None
    detail: str = ""
    fix: str | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a request over the control socket."""

    result: msgspec.Raw = msgspec.Raw(b"null")
    problem: str | None = None
    detail: str = ""
    fix: str | None = None


class Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request over the control socket: what to do, to whom. No `place` stands for all laptops, no `container` for all of a pod."""

    do: str
    name: str = ""
    namespace: str = ""
    container: str = ""
    place: str = ""
    text: str = ""


class Sandbox:
    """A running sandbox of this user. As a context manager it is stopped at the end of the block."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        process: subprocess.Popen[bytes] | None = None,
        lifeline: int | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self._process = process
        self._lifeline = lifeline

    @staticmethod
    def up(
        *,
        name: str = DEFAULT_NAME,
        sample: bool = True,
        tied: bool = False,
        bound_files: bool = False,
        cluster: bool = True,
        hub: Hub | None = None,
        teamspace: bool = True,
        progress: Callable[[str], None] = lambda _: None,
        deadline: float = START_DEADLINE,
    ) -> "Sandbox":
        """Start a sandbox and wait until all in it is ready.

        With `sample`, the sample project is installed too. A `tied` sandbox ends when this process does. With `bound_files`, the laptop's hosts
        and resolv.conf are bind mounts, as in containers. Without `cluster` there are the laptops, the LAN and the internet alone, and a way to a
        cluster that somebody else brings. With a `hub`, its Teamspace belongs to a real Hub on that database, and people sign in there;
        without one, the sandbox gives access by itself. Without `teamspace` the cluster is bare, for somebody to install one. `progress` is told each step. Raises `CodezeroError` (SANDBOX_*).
        """
        folder = layout.state_folder(name)
        with _start_lock(name, folder):
            if _answers(folder):
                raise CodezeroError(
                    problems.SANDBOX_RUNNING,
                    f"a sandbox named {name!r} runs already",
                    fix="czctl sandbox status, or czctl sandbox down",
                )
            progress("checking what this machine allows")
            isolate = support.isolating_command()
            options = ["--name", name]
            options += [*(["--no-sample"] if not sample else []), *(["--bound"] if bound_files else [])]
            options += [] if cluster else ["--no-cluster"]
            options += ["--hub", hub] if hub is not None else []
            options += [] if teamspace else ["--no-teamspace"]
            return _start(name, folder, isolate, options=options, tied=tied, progress=progress, deadline=deadline)

    @staticmethod
    def find(name: str = DEFAULT_NAME) -> "Sandbox":
        """The running sandbox of that name; raises `CodezeroError` (SANDBOX_NOT_RUNNING) where there is none."""
        sandbox = Sandbox(name, layout.state_folder(name))
        sandbox.keeper  # noqa: B018 - asks
        return sandbox

    @staticmethod
    def forget(name: str = DEFAULT_NAME) -> bool:
        """Remove what a sandbox that was killed left behind; false when it left nothing. Raises when it runs."""
        folder = layout.state_folder(name)
        if _answers(folder):
            raise CodezeroError(problems.SANDBOX_RUNNING, f"the sandbox {name!r} runs", fix="czctl sandbox down")
        return _remove(folder)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def keeper(self) -> int:
        """The process whose end is the sandbox's end, as seen from here; raises where there is none."""
        connection = _connect(self.folder)
        if connection is None:
            raise _not_running(self.name)
        with connection:
            return _peer(connection)

    @property
    def log(self) -> Path:
        """The log of keeper and runtime. Those of pods are in the folder `pods` beside it."""
        return self.folder / "log" / "sandbox.log"

    def command(self, place: str, arguments: Sequence[str], *, folder: str | None = None) -> list[str]:
        """The command that runs `arguments` in a place: for exec, with `environment(place)`."""
        enter = [sys.executable, "-I", "-m", "codezero.sandbox.enter", "--keeper", str(self.keeper), "--place", place]
        return [*enter, "--folder", folder or str(Path.cwd()), "--", *arguments]

    def environment(self, place: str) -> dict[str, str]:
        """The environment of commands in a place: the programs of this Python first, a home of its own, nothing of the caller's."""
        own = str(Path(sys.executable).parent)
        return {
            **support.environment(),
            "PATH": ":".join(["/usr/local/bin/codezero", own, *layout.PROGRAM_FOLDERS]),
            "HOME": f"/var/home/{place}",
            "SHELL": "/bin/sh",
            "CODEZERO_SANDBOX": place,
            **({"KUBECONFIG": str(layout.KUBECONFIG)} if place == layout.CLUSTER else {}),
        }

    def popen(
        self,
        place: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - handed to Popen as they are
    ) -> subprocess.Popen[Any]:
        """Start a command in a place (`layout.PLACES`), without input unless `stdin` is given.

        `env` is added to the place's environment; other options are Popen's.
        """
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(self.command(place, arguments), env={**self.environment(place), **(env or {})}, **given)

    def run(
        self,
        place: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float | None = 60.0,
        **options: Any,  # noqa: ANN401 - handed to subprocess.run as they are
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a place to its end and return what it printed, as text. Raises like subprocess.run unless `check` is off."""
        given: dict[str, Any] = {"capture_output": True, "text": True}
        if "input" not in options:
            given["stdin"] = subprocess.DEVNULL
        given |= {"env": {**self.environment(place), **(env or {})}, "timeout": timeout, **options}
        ended = subprocess.run(self.command(place, arguments), check=check, **given)  # pyright: ignore[reportUnknownVariableType]
        return cast("subprocess.CompletedProcess[str]", ended)

    def status(self) -> Status:
        """How it is now."""
        # Only from here is the keeper's process id the one people see.
        return msgspec.structs.replace(self._ask(Request("status"), Status), keeper=self.keeper)

    def cut(self, place: str | None = None) -> None:
        """Lose every packet between a laptop (all of them) and the cluster from now on, silently: nothing is refused or reset."""
        self._ask(Request("cut", place=place or ""), None)

    def mend(self, place: str | None = None) -> None:
        """Undo `cut`."""
        self._ask(Request("mend", place=place or ""), None)

    def reset(self, place: str | None = None) -> None:
        """Reset all connections between a laptop (all of them) and the cluster on which something is said within a second and a half.

        Returns when that is over.
        """
        self._ask(Request("reset", place=place or ""), None)

    def kill(self, pod: str, *, namespace: str, container: str | None = None) -> int:
        """Kill the processes of a pod's containers (or of one) with SIGKILL, as a crash would; how many. They are started again."""
        return self._ask(Request("kill", name=pod, namespace=namespace, container=container or ""), int)

    def access_file(self, user: str = "dev1") -> str:
        """Where a developer's Teamspace access file is, as seen from the laptop: of `dev1` or `dev2`."""
        return self._ask(Request("access-file", name=user), str)

    def token(self, user: str = "dev1") -> str:
        """A fresh token of a developer for the CONNECT door. A secret, good for some minutes."""
        return self._ask(Request("token", name=user), str)

    def hub(self) -> HubView:
        """Its Hub; raises `CodezeroError` (NOT_FOUND) where it was started without one."""
        return self._ask(Request("hub"), HubView)

    def stop_hub(self, *, kill: bool = False) -> None:
        """End the Hub's process, or with `kill` as a crash would."""
        self._ask(Request("hub-kill" if kill else "hub-stop"), None)

    def start_hub(self) -> None:
        """Start the Hub again; it answers when this returns."""
        self._ask(Request("hub-start"), None)

    def approve(self, code: str, user: str = "dev1") -> None:
        """Do in a browser what `czctl auth login` asks for: type the code that it shows, as that person (`admin` owns the organization)."""
        self._ask(Request("approve", name=user, text=code), None)

    def sign_in(self, place: str, user: str | None = None) -> str:
        """Sign in to its Hub at a place, as people do who have no browser there: czctl shows a code, and it is typed in elsewhere. What czctl said.

        Raises `CodezeroError` (SIGN_IN_REFUSED) where that came to nothing.
        """
        hub = self.hub()
        command = ("czctl", "auth", "login", "--force", "--hub", hub.url, "--hub-ca", hub.ca)
        said = ""
        with self.popen(place, command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as waiting:
            assert waiting.stdout is not None
            for line in waiting.stdout:
                said += line
                if (code := _USER_CODE.search(line)) is not None:
                    self.approve(code[0], user or layout.OWNERS[place])
        if waiting.returncode != 0:
            raise CodezeroError(problems.SIGN_IN_REFUSED, said.strip())
        return said

    def down(self) -> bool:
        """Stop it and leave nothing behind; false when it was not running."""
        connection = _connect(self.folder)
        if connection is not None:
            with connection:
                keeper = _peer(connection)
            _end(keeper)
        if self._process is not None:
            self._process.wait(timeout=_STOP_DEADLINE)
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        _remove(self.folder)
        return connection is not None

    def _ask(self, request: Request, kind: Any) -> Any:  # noqa: ANN401 - the type asked for is the type returned
        connection = _connect(self.folder)
        if connection is None:
            raise _not_running(self.name)
        with connection:
            connection.settimeout(_ANSWER_DEADLINE)
            try:
                connection.sendall(msgspec.json.encode(request) + b"\n")
                content = _read_all(connection)
                answer = msgspec.json.decode(content, type=Answer)
            except (OSError, msgspec.DecodeError) as error:
                raise CodezeroError(
                    problems.SANDBOX_FAILED,
                    f"the sandbox {self.name!r} did not answer: {error}",
                    fix=f"look into {self.log}",
                ) from None
        if answer.problem is not None:
            raise CodezeroError(
                problems.ALL.get(answer.problem, problems.SANDBOX_FAILED), answer.detail, fix=answer.fix
            )
        return msgspec.json.decode(answer.result, type=kind)


@contextlib.contextmanager
def _start_lock(name: str, folder: Path) -> Generator[None, None, None]:
    """Two starts of one name do not mix."""
    _make_private(folder)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CodezeroError(
                problems.SANDBOX_RUNNING, f"a sandbox named {name!r} is being started", fix="czctl sandbox status"
            ) from None
        yield
    finally:
        os.close(lock)


def _make_private(folder: Path) -> None:
    missing = [str(above) for above in folder.parents if not above.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not folder.is_dir() or found.st_uid != os.geteuid():
        raise CodezeroError(
            problems.SANDBOX_FAILED, f"{folder} does not belong to you", fix="set XDG_STATE_HOME to a folder of yours"
        )
    folder.chmod(0o700)
    if missing:
        # So that they can go with it.
        (folder / _MADE).write_text("\n".join(missing))


def _start(
    name: str,
    folder: Path,
    isolate: Sequence[str],
    *,
    options: Sequence[str],
    tied: bool,
    progress: Callable[[str], None],
    deadline: float,
) -> Sandbox:
    shutil.rmtree(folder / "log", ignore_errors=True)
    (folder / "log").mkdir()
    report_reader, report_writer = os.pipe()
    lifeline_reader, lifeline_writer = os.pipe()
    keep = [sys.executable, "-I", "-m", "codezero.sandbox.keeper", "--state", str(folder)]
    keep += ["--report", str(report_writer), *(["--lifeline", str(lifeline_reader)] if tied else [])]
    with (folder / "log" / "sandbox.log").open("ab") as log:
        process = subprocess.Popen(
            [*isolate, *keep, *options],
            cwd=folder,
            env={**support.environment(), "PATH": ":".join([str(Path(sys.executable).parent), support.program_path()])},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(report_writer, *((lifeline_reader,) if tied else ())),
            start_new_session=True,
        )
    os.close(report_writer)
    os.close(lifeline_reader)
    try:
        _follow(report_reader, progress, folder=folder, deadline=deadline)
    except BaseException:
        process.kill()
        process.wait()
        os.close(lifeline_writer)
        raise
    finally:
        os.close(report_reader)
    if tied:
        return Sandbox(name, folder, process=process, lifeline=lifeline_writer)
    os.close(lifeline_writer)
    return Sandbox(name, folder, process=process)


def _follow(reader: int, progress: Callable[[str], None], *, folder: Path, deadline: float) -> None:
    """Relay what a starting sandbox reports until it is ready; raises what ended it."""
    until = time.monotonic() + deadline
    rest = b""
    last = "start"
    while True:
        if not select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
            raise _failed(folder, f"not ready after {deadline:.0f} s; the last step was: {last}")
        content = os.read(reader, 65536)
        if not content:
            raise _failed(folder, f"ended during this step: {last}")
        *lines, rest = (rest + content).split(b"\n")
        for line in lines:
            report = msgspec.json.decode(line, type=Report)
            if report.problem is not None:
                raise CodezeroError(
                    problems.ALL.get(report.problem, problems.SANDBOX_FAILED), report.detail, fix=report.fix
                )
            if report.ready:
                return
            last = report.step or last
            progress(last)


def _failed(folder: Path, detail: str) -> CodezeroError:
    log = folder / "log" / "sandbox.log"
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError:
        lines = []
    return CodezeroError(
        problems.SANDBOX_FAILED, f"{detail}{f' ({lines[-1].strip()})' if lines else ''}", fix=f"look into {log}"
    )


def _connect(folder: Path) -> socket.socket | None:
    """A connection to the sandbox's control socket; `None` where nobody listens."""
    try:
        descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_ANSWER_DEADLINE)
        connection.connect(f"/proc/self/fd/{descriptor}/control.sock")
    except OSError:
        connection.close()
        return None
    finally:
        os.close(descriptor)
    return connection


def _answers(folder: Path) -> bool:
    connection = _connect(folder)
    if connection is None:
        return False
    connection.close()
    return True


def _peer(connection: socket.socket) -> int:
    return struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def _read_all(connection: socket.socket) -> bytes:
    content = bytearray()
    while part := connection.recv(65536):
        content += part
        if len(content) > _LARGEST_ANSWER:
            raise OSError("the answer is too long")
    return bytes(content)


def _end(keeper: int) -> None:
    """Ask the keeper to end, and end it where it does not."""
    try:
        process = os.pidfd_open(keeper)
    except ProcessLookupError:
        return
    try:
        for number, deadline in ((signal.SIGTERM, _STOP_DEADLINE), (signal.SIGKILL, 5.0)):
            signal.pidfd_send_signal(process, number)
            if select.select([process], [], [], deadline)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(process)


def _remove(folder: Path) -> bool:
    """Remove the folder, and those above it that were made for it and hold nothing else."""
    existed = folder.exists()
    made: list[str] = []
    with contextlib.suppress(OSError):
        made = (folder / _MADE).read_text().splitlines()
    shutil.rmtree(folder, ignore_errors=True)
    # The folder of all sandboxes is ours alone.
    for above in dict.fromkeys([*map(str, folder.parents[:2]), *made]):
        with contextlib.suppress(OSError):
            Path(above).rmdir()
    return existed


def _not_running(name: str) -> CodezeroError:
    return CodezeroError(problems.SANDBOX_NOT_RUNNING, f"no sandbox named {name!r} runs", fix="czctl sandbox up")
