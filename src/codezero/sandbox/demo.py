"""Shows Codezero at work, on a machine with nothing but Python: `python -m codezero.sandbox.demo [--check]`.

A sandbox is started, with a real Hub. A developer signs in, the agent on the laptop consumes the cluster's services by their names, loses its connection in two ways, and recovers.
Then two laptops serve: one request from outside crosses both, everybody else's are answered as before, also when a local process dies.
At the end an admin takes one of them out of the organization, which ends what they serve.
Every step says what was seen. With `--check` it ends by itself, with exit code 0 only if every step held and nothing is left.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

from codezero.model.problems import CodezeroError
from codezero.sandbox import layout, publishing, support
from codezero.sandbox.control import Sandbox

NAME = "demo"
SAMPLE = layout.SAMPLE_NAMESPACE
CORE = f"sample-project-core.{SAMPLE}"
CORE_URL = f"http://{CORE}:3000/api"
EDGE_URL = f"http://{layout.NODE_ADDRESS}/api"
CORE_SERVICE = f"{SAMPLE}/sample-project-core"
LEAF_SERVICE = f"{SAMPLE}/sample-project-leaf"
# One header for both variants: services pass on what begins with x-c6o-.
TEAM = "x-c6o-team: demo"
CONDITION = ("--condition-type", "header", "--condition", "x-c6o-team:demo")
_DEADLINE = 30.0
# What the status may take to tell the truth about a silent connection, and a little for asking.
_TRUTH_DEADLINE = 8.0


class StepFailedError(Exception):
    """A step did not show what it should have."""


class Demo:
    """The steps, in order, on one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._local: dict[str, subprocess.Popen[Any]] = {}

    def run(self) -> None:
        """All steps up to the state people can play with; raises `StepFailedError`."""
        before = self._laptop_now()
        with step("the developer signs in to the Hub") as told:
            told(self._sign_in())
        with step("the agent starts on the laptop, and its tunnel stands") as told:
            told(self._start())
        with step("the sample project is consumed") as told:
            told(self._consume())
        self._show_names()
        with step("every form of a name gives one address") as told:
            told(self._resolve())
        with step("curl by name is answered by a pod, which reaches its own database and neighbours") as told:
            told(self._curl_core())
        with step("a pod of a headless service answers to its own name") as told:
            told(self._curl_peer())
        with step("the cluster's web page comes by its bare name") as told:
            told(self._curl_frontend())
        with step("names of the internet still resolve") as told:
            told(self._lan())
        with step("all of it is one connection, to the one open port") as told:
            told(self._count_connections())
        with step("the connection is reset, and comes back by itself") as told:
            told(self._reset())
        with step("the network falls silent: status tells it, nothing gets through, and all comes back") as told:
            told(self._cut())
        with step("a local process answers requests with a header, and only those") as told:
            told(self._serve_core())
        with step("a second user serves the next service, and one request from outside crosses both laptops") as told:
            told(self._serve_leaf())
        with step("a local process dies: the cluster answers instead, and says why") as told:
            told(self._lose_process())
        self._before = before

    @contextlib.contextmanager
    def console(self) -> Generator[str]:
        """The first user's local console, on this machine's loopback, for as long as the block lasts: its address."""
        with publishing.free_port() as listener:
            port = str(listener.getsockname()[1])
            console = self._sandbox.popen(
                layout.LAPTOP, ["czctl", "ui", "--no-open", "--port", port], stdout=subprocess.PIPE, text=True
            )
            assert console.stdout is not None
            with console.stdout, publishing.published(self._sandbox, layout.LAPTOP, listener):
                try:
                    with step("the local console's page comes to a browser of this machine") as told:
                        address = console.stdout.readline().strip()
                        told(_title(address))
                    yield address
                finally:
                    console.terminate()
                    console.wait()

    def stop(self) -> None:
        """Stop the agents and see that services and laptop are as they were."""
        with step("the admin takes the second user out of the organization, and what they serve ends") as told:
            told(self._revoke())
        with step("the serves end, and their services select their own pods again") as told:
            told(self._end_serves())
        with step("the agent stops, and the laptop is byte for byte as before") as told:
            self._czctl("stop")
            after = self._laptop_now()
            changed = [name for name, text in self._before.items() if after[name] != text]
            expect(not changed, f"changed: {', '.join(changed)}")
            told(", ".join(self._before))

    def _sign_in(self, place: str = layout.LAPTOP) -> str:
        said = self._sandbox.sign_in(place)
        expect("Teamspace: " in said, said)
        return next(line for line in said.splitlines() if line.startswith("signed in"))

    def _start(self) -> str:
        self._czctl("start")
        until(self._connected, f"no tunnel: {self._status()['tunnel']}")
        view = self._status()
        return f"{view['teamspace']['name']} at {view['teamspace']['address']}, as {view['teamspace']['user']}"

    def _consume(self) -> str:
        self._czctl("consume", "apply", "--primary-namespace", SAMPLE, given=f"*.{SAMPLE}\n")
        until(self._core_answers, "the sample project does not answer")
        return f"{len(self._consumed())} services by the rule *.{SAMPLE}"

    def _show_names(self) -> None:
        for service in self._consumed():
            ports = ", ".join(map(str, service["ports"]))
            say(f"          {service['address']:<16}{service['names'][0]:<44}{ports:<12}{service['state']}")

    def _resolve(self) -> str:
        forms = [CORE, f"{CORE}.svc", f"{CORE}.svc.{layout.DOMAIN}", "sample-project-core"]
        addresses = {self._run("getent", "hosts", form).split()[0] for form in forms}
        expect(len(addresses) == 1, f"{addresses}")
        return f"{addresses.pop()} for {', '.join(forms)}"

    def _curl_core(self) -> str:
        answer = json.loads(self._run("curl", "-sS", "--max-time", "10", CORE_URL))
        expect(answer["leaf"].get("who") == "leaf", f"core does not reach leaf: {answer['leaf']}")
        expect("success" in answer["database"], f"core does not reach its database: {answer['database']}")
        return f"{CORE_URL} -> pod {answer['where']}; {answer['database']['success']}"

    def _curl_peer(self) -> str:
        name = f"sample-project-peers-1.sample-project-peers.{SAMPLE}"
        where = json.loads(self._run("curl", "-sS", "--max-time", "10", f"http://{name}:3010/api"))["where"]
        expect(where == "sample-project-peers-1", f"{where} answered")
        return f"http://{name}:3010/api -> {where}"

    def _curl_frontend(self) -> str:
        page = self._run("curl", "-sS", "--max-time", "10", "http://sample-project-frontend/")
        expect("<title>" in page, f"no page: {page[:80]!r}")
        return f"http://sample-project-frontend/ -> {page.partition('<title>')[2].partition('</title>')[0]!r}"

    def _lan(self) -> str:
        address = self._run("getent", "ahostsv4", "www.example").split()[0]
        expect(address == layout.INTERNET_WEB, f"www.example is {address}")
        return f"www.example is {address}"

    def _count_connections(self) -> str:
        lines = self._run("ss", "-Htn", "state", "established", "dst", layout.NODE_ADDRESS).splitlines()
        expect(len(lines) == 1, f"{len(lines)} connections")
        return " ".join(lines[0].split()[-2:])

    def _reset(self) -> str:
        before = self._status()["tunnel"]
        self._sandbox.reset()
        began = time.monotonic()
        until(lambda: self._status()["tunnel"]["reconnects"] > before["reconnects"], "no reconnect was counted")
        until(self._core_answers, "the sample project does not answer again")
        after = self._status()["tunnel"]
        expect(after["session"] == before["session"], "another session")
        return f"answers again after {time.monotonic() - began:.1f} s, same session"

    def _cut(self) -> str:
        self._sandbox.cut()
        try:
            began = time.monotonic()
            until(lambda: not self._connected(), "the status still says connected", seconds=_TRUTH_DEADLINE)
            told = time.monotonic() - began
            expect(not self._core_answers(), "something got through")
        finally:
            self._sandbox.mend()
        began = time.monotonic()
        until(self._connected, "the tunnel does not come back")
        until(self._core_answers, "the sample project does not answer again")
        return f"told after {told:.1f} s, answers again {time.monotonic() - began:.1f} s after the network was back"

    def _serve_core(self) -> str:
        self._start_core()
        self._czctl("serve", CORE_SERVICE, "3000", *CONDITION)
        until(lambda: self._outside(TEAM)["where"] == layout.LAPTOP, "the laptop does not answer")
        plain = self._outside()["where"]
        expect(plain.startswith("sample-project-core-"), f"without the header, {plain} answered")
        return f"curl -H '{TEAM}' {EDGE_URL} -> core on {layout.LAPTOP}; without the header -> pod {plain}"

    def _serve_leaf(self) -> str:
        self._sign_in(layout.LAPTOP2)
        self._run("czctl", "start", place=layout.LAPTOP2)
        self._run_locally("leaf", layout.LAPTOP2, {"SP_ADDRESS": "127.0.0.1", "SP_PORT": "3010"})
        until(lambda: self._connected(layout.LAPTOP2), "the second laptop has no tunnel")
        self._run("czctl", "serve", LEAF_SERVICE, "3010", *CONDITION, place=layout.LAPTOP2)
        # Connections stay where they were opened; the core's to its leaf was before the serve.
        self._end_locally("core")
        self._start_core()
        until(lambda: self._crossing(TEAM) == (layout.LAPTOP, layout.LAPTOP2), "the request does not cross both")
        core, leaf = self._crossing()
        expect(leaf.startswith("sample-project-leaf-"), f"without the header, {leaf} answered")
        return f"core on {layout.LAPTOP}, its leaf on {layout.LAPTOP2}; without the header -> pods {core}, {leaf}"

    def _start_core(self) -> None:
        leaf = f"http://sample-project-leaf.{SAMPLE}:3010"
        environment = {"SP_ADDRESS": "127.0.0.1", "SP_PORT": "3000", "SP_LEAF_URL": leaf}
        self._run_locally("core", layout.LAPTOP, environment)

    def _lose_process(self) -> str:
        self._end_locally("core")
        until(lambda: self._outside(TEAM)["where"].startswith("sample-project-core-"), "the cluster does not answer")
        show = ("curl", "-sS", "-o", "/dev/null", "-D", "-", "-H", TEAM, self._core_in_cluster())
        head = self._in(layout.CLUSTER, *show)
        reason = [line.strip() for line in head.splitlines() if line.lower().startswith("x-codezero-fallback")]
        expect(bool(reason), f"the answer does not say that it fell back: {head}")
        return f"pod {self._outside(TEAM)['where']} answers; {reason[0]}"

    def _revoke(self) -> str:
        """Whoever owns the organization takes the second developer out of it."""
        self._sandbox.sign_in(layout.CLUSTER, "admin")
        began = time.monotonic()
        self._in(layout.CLUSTER, "czctl", "organization", "remove", "dev2@sandbox.example")
        until(lambda: not self._connected(layout.LAPTOP2), "the second laptop is still connected")
        until(lambda: self._crossing(TEAM)[1].startswith("sample-project-leaf-"), "the second laptop still answers")
        return f"dev2's laptop is out {time.monotonic() - began:.1f} s later, and the pods of leaf answer"

    def _end_serves(self) -> str:
        self._run("czctl", "stop", place=layout.LAPTOP2)
        self._czctl("reset")
        self._end_locally("leaf")
        until(lambda: self._outside(TEAM)["where"].startswith("sample-project-core-"), "the laptop still answers")
        kubectl = ("kubectl", "-n", SAMPLE)
        self._in(layout.CLUSTER, *kubectl, "delete", "serves", "--all", "--timeout=60s")
        found = self._in(
            layout.CLUSTER, *kubectl, "get", "services", "-o", "jsonpath={.items[*].spec.selector.component}"
        )
        expect("cz-" not in found, f"selectors: {found}")
        return f"selectors: {found}"

    def _core_in_cluster(self) -> str:
        """The way into the cluster that shows what core itself answers: the page's own answers hide its headers."""
        kubectl = ("kubectl", "-n", SAMPLE, "get", "service", "sample-project-core")
        return f"http://{self._in(layout.CLUSTER, *kubectl, '-o', 'jsonpath={.spec.clusterIP}')}:3000/api"

    def _outside(self, *headers: str) -> dict[str, Any]:
        """What somebody outside the cluster gets, through the page's load balancer."""
        options = [part for header in headers for part in ("-H", header)]
        return json.loads(self._in(layout.INTERNET, "curl", "-sS", "--max-time", "10", *options, EDGE_URL))

    def _crossing(self, *headers: str) -> tuple[str, str]:
        answer = self._outside(*headers)
        return answer["where"], str(answer["leaf"].get("where"))

    def _run_locally(self, name: str, place: str, environment: dict[str, str]) -> None:
        command = ("python", "-m", f"codezero.sandbox.sample.{name}")
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._local[name] = self._sandbox.popen(place, command, env=environment, **quiet)

    def _end_locally(self, name: str) -> None:
        running = self._local.pop(name, None)
        if running is not None:
            running.kill()
            running.wait()

    # Commands in places

    def _run(self, *arguments: str, given: str | None = None, place: str = layout.LAPTOP) -> str:
        options: dict[str, Any] = {"input": given} if given is not None else {}
        ended = self._sandbox.run(place, arguments, check=False, **options)
        expect(ended.returncode == 0, f"{' '.join(arguments)}: {(ended.stderr or ended.stdout).strip()}")
        return ended.stdout

    def _in(self, place: str, *arguments: str) -> str:
        return self._run(*arguments, place=place)

    def _czctl(self, *arguments: str, given: str | None = None) -> str:
        return self._run("czctl", *arguments, given=given)

    def _status(self, place: str = layout.LAPTOP) -> dict[str, Any]:
        return json.loads(self._run("czctl", "status", "-o", "json", place=place))

    def _connected(self, place: str = layout.LAPTOP) -> bool:
        view = self._status(place)
        return view["tunnel"]["state"] == "connected" and view["orchestrator"]["connected"]

    def _consumed(self) -> list[dict[str, Any]]:
        return json.loads(self._czctl("consume", "list", "-o", "json"))["consumed"]

    def _core_answers(self) -> bool:
        ended = self._sandbox.run(layout.LAPTOP, ["curl", "-sf", "--max-time", "3", CORE_URL], check=False)
        return ended.returncode == 0

    def _laptop_now(self) -> dict[str, str]:
        commands = {
            "hosts": ("cat", "/etc/hosts"),
            "resolv.conf": ("cat", "/etc/resolv.conf"),
            "nftables": ("nft", "list", "ruleset"),
            "addresses": ("ip", "-o", "address", "show"),
            "routes": ("ip", "route", "show", "table", "all"),
        }
        return {name: self._run(*command) for name, command in commands.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demonstration."""
    parser = argparse.ArgumentParser(prog="codezero demo", description="Shows Codezero at work in a sandbox.")
    parser.add_argument("--check", action="store_true", help="end by itself; exit code 0 only if every step held")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        held = _demonstrate(check=options.check)
    except KeyboardInterrupt:
        say("\ninterrupted")
        sys.exit(130)
    except CodezeroError as error:
        say(f"failed    {error}")
        if error.fix:
            say(f"          next: {error.fix}")
        sys.exit(error.problem.exit_code)
    sys.exit(0 if held else 1)


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _demonstrate(*, check: bool) -> bool:
    machine = _machine_now()
    say("A sandbox: a Hub, a small stand-in for a Kubernetes cluster, and a laptop that reaches one port of it.")
    Sandbox.forget(NAME)
    began = time.monotonic()
    sandbox = Sandbox.up(name=NAME, tied=True, hub="sqlite", progress=lambda text: say(f"  ...     {text}"))
    namespace = _process_namespace(sandbox)
    held = False
    try:
        say(f"ok        the sandbox runs, after {time.monotonic() - began:.1f} s")
        demo = Demo(sandbox)
        demo.run()
        with demo.console() as address:
            if not check:
                try:
                    _invite(address)
                    # Not `pause`: an interrupt that comes just before it would be waited for in vain.
                    while True:
                        time.sleep(1.0)
                except KeyboardInterrupt:
                    say("")
        demo.stop()
        held = True
    except StepFailedError:
        _show_logs(sandbox)
    finally:
        sandbox.down()
    return _left_nothing(sandbox, namespace, machine) and held


def _invite(address: str) -> None:
    czctl = _shown(Path(sys.executable).parent / "czctl")
    enter = f"{czctl} sandbox shell --name {NAME}"
    say(
        f"""
Look at it, in the browser of this machine (the address is good once):
  {address}

Try it, in another terminal:
  {enter}                      be on the laptop, then for example:
      curl http://sample-project-core:3000/api     the core, by its bare name
      czctl status                                 agent, tunnel, names
      czctl consume list                           names and addresses
      czctl services list                          what the cluster has
      czctl auth can-i consume sample-project-core.sample-project
  {enter} --as cluster -- kubectl get pods -A
  {czctl} sandbox status --name {NAME}
Ctrl-C ends it and leaves nothing behind."""
    )


def _title(address: str) -> str:
    """What a browser shows of a page, before any of its programs runs."""
    with urllib.request.urlopen(address, timeout=10) as answer:  # noqa: S310 - the console's own address
        page: str = answer.read().decode()
    expect("<title>Codezero</title>" in page, f"no page: {page[:80]!r}")
    return f"{answer.status} {answer.url}"


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _show_logs(sandbox: Sandbox) -> None:
    """The ends of all logs, because they go with the sandbox."""
    agent = sandbox.run(layout.LAPTOP, ["tail", "-n", "20", "/var/lib/codezero/agent.log"], check=False).stdout
    say(f"---- the agent's log\n{agent}")
    for log in (sandbox.log, *sorted((sandbox.log.parent / "pods").glob(f"{layout.TEAMSPACE_NAMESPACE}_*.log"))):
        with contextlib.suppress(OSError):
            lines = log.read_text(errors="replace").splitlines()[-20:]
            say(f"---- {log.name}\n" + "\n".join(lines))


def _left_nothing(sandbox: Sandbox, namespace: str, before: dict[str, str]) -> bool:
    try:
        with step("nothing is left: no process, no file, no change of this machine") as told:
            until(lambda: not _processes_in(namespace), "processes are left", seconds=5.0)
            expect(not sandbox.folder.exists(), f"{sandbox.folder} is left")
            after = _machine_now()
            changed = [name for name in before if before[name] != after[name]]
            expect(not changed, f"changed: {', '.join(changed)}")
            told(f"compared: {', '.join(before)}")
    except StepFailedError:
        return False
    return True


def _machine_now() -> dict[str, str]:
    """What of this machine the agent would have changed, as text to compare. Without root, its packet rules cannot be seen (nor changed)."""
    found = {name: _content(Path("/etc", name)) for name in ("hosts", "resolv.conf")}
    commands = {
        "addresses": ("ip", "-o", "address", "show"),
        "routes": ("ip", "route", "show", "table", "all"),
        "network namespaces": ("ip", "netns", "list"),
        "nftables": ("nft", "list", "ruleset"),
    }
    for name, command in commands.items():
        if shutil.which(command[0], path=support.program_path()) is None:
            continue
        ended = subprocess.run(command, env=support.environment(), capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            found[name] = ended.stdout
    return found


def _content(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""


def _process_namespace(sandbox: Sandbox) -> str:
    return os.readlink(f"/proc/{sandbox.keeper}/ns/pid_for_children")  # noqa: PTH115 - not a path


def _processes_in(namespace: str) -> list[int]:
    found: list[int] = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are all that is needed
        with contextlib.suppress(OSError):
            if entry.isdigit() and os.readlink(f"/proc/{entry}/ns/pid") == namespace:  # noqa: PTH115 - not a path
                found.append(int(entry))
    return found


def say(text: str) -> None:
    """Print a line for people, at once."""
    print(text, flush=True)


@contextlib.contextmanager
def step(name: str) -> Generator[Callable[[str], None], None, None]:
    """One step: says `ok` with the evidence it is given, or `failed` with the reason."""
    evidence: list[str] = []
    try:
        yield evidence.append
    except (StepFailedError, CodezeroError, subprocess.SubprocessError, ValueError, KeyError) as error:
        say(f"failed    {name}\n          {error}")
        raise StepFailedError(str(error)) from error
    say(f"ok        {name}" + "".join(f"\n          {line}" for line in evidence))


def expect(fact: bool, otherwise: str) -> None:
    """Go on if `fact`."""
    if not fact:
        raise StepFailedError(otherwise)


def until(condition: Callable[[], bool], otherwise: str, *, seconds: float = _DEADLINE) -> None:
    """Wait until `condition`."""
    deadline = time.monotonic() + seconds
    while not condition():
        expect(time.monotonic() < deadline, f"{otherwise} (after {seconds:.0f} s)")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
