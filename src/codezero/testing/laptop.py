"""A laptop of a sandbox as acceptance tests use it: czctl, curl, getent and dig there, with answers that are easy to assert on."""

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from codezero.sandbox import layout
from codezero.sandbox.control import Sandbox
from codezero.testing.waiting import eventually

SAMPLE = layout.SAMPLE_NAMESPACE
CORE_URL = f"http://sample-project-core.{SAMPLE}:3000/api"


@runtime_checkable
class NodeElsewhere(Protocol):
    """A lab whose cluster is not in the sandbox: its processes are found and signalled by itself."""

    def processes(self, program: str) -> list[int]:
        """The ids, on the node, of the processes that run `program`."""
        ...

    def signal(self, processes: Sequence[int], signal: str) -> None:
        """Send a signal to processes of the node."""
        ...


@dataclass(frozen=True, slots=True)
class Laptop:
    """Runs commands on a laptop of `sandbox`: the one at `place`, which belongs to a developer of its own."""

    sandbox: Sandbox
    place: str = layout.LAPTOP

    @property
    def user(self) -> str:
        """The developer whose laptop it is."""
        return layout.OWNERS[self.place]

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 60.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the laptop; a failure shows what it printed."""
        ended = self.sandbox.run(self.place, arguments, check=False, timeout=timeout, **options)
        if check and ended.returncode != 0:
            raise AssertionError(f"{arguments} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")
        return ended

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a command on the laptop."""
        return self.sandbox.popen(self.place, arguments, **options)

    def czctl(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run czctl on the laptop."""
        return self.run("czctl", *arguments, check=check, **options)

    def status(self) -> dict[str, Any]:
        """`czctl status` as values."""
        return json.loads(self.czctl("status", "-o", "json").stdout)

    def is_connected(self) -> bool:
        """Whether agent, tunnel and live picture are there."""
        asked = self.czctl("status", "-o", "json", check=False)
        if asked.returncode != 0:
            return False
        now = json.loads(asked.stdout)
        return now["tunnel"]["state"] == "connected" and now["orchestrator"]["connected"]

    def start(self, *options: str, user: str | None = None) -> None:
        """Start the agent, connected to the sandbox's Teamspace, as the laptop's owner or as another developer."""
        self.czctl("start", "--teamspace", self.sandbox.access_file(user or self.user), *options)
        eventually(self.is_connected)

    def sign_in(self, user: str | None = None) -> str:
        """Sign in to the sandbox's Hub, as the laptop's owner or as another person; what czctl said."""
        return self.sandbox.sign_in(self.place, user or self.user)

    def join(self) -> None:
        """Start the agent, connected to the Teamspace that is selected at the Hub."""
        self.czctl("start")
        eventually(self.is_connected)

    def stop(self) -> None:
        """Stop the agent, whatever state it is in, and undo all it did."""
        self.czctl("cleanup", check=False)

    def consume(self, *rules: str, primary_namespace: str | None = None) -> None:
        """Make `rules` the consume rules; none consume nothing."""
        if not rules:
            self.czctl("consume", "clear")
            return
        options = ("--primary-namespace", primary_namespace) if primary_namespace else ()
        self.czctl("consume", "apply", *options, input="\n".join(rules) + "\n")

    def consumed(self) -> dict[str, dict[str, Any]]:
        """`czctl consume list` by `namespace/name`."""
        view = json.loads(self.czctl("consume", "list", "-o", "json").stdout)
        return {f"{one['service']['namespace']}/{one['service']['name']}": one for one in view["consumed"]}

    def serve(self, *arguments: str) -> dict[str, Any]:
        """`czctl serve` with these arguments, and what came of it."""
        return json.loads(self.czctl("serve", *arguments, "-o", "json").stdout)

    def serves(self) -> list[dict[str, Any]]:
        """`czctl serve list`: what this laptop serves."""
        return json.loads(self.czctl("serve", "list", "-o", "json").stdout)["serves"]

    def end(self, *arguments: str) -> dict[str, Any]:
        """`czctl serve end` with these arguments, and what is left."""
        return json.loads(self.czctl("serve", "end", *arguments, "-o", "json").stdout)

    def address_of(self, name: str) -> str | None:
        """What the machine's own resolver says about `name` (IPv4), by getent."""
        ended = self.run("getent", "ahostsv4", name, check=False)
        return ended.stdout.split()[0] if ended.returncode == 0 else None

    def dig(self, *arguments: str) -> str:
        """What dig prints."""
        return self.run("dig", "+time=3", "+tries=1", *arguments).stdout

    def curl(self, url: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run curl, bounded in time."""
        return self.run("curl", "-sS", "--max-time", "10", *options, url, check=check)

    def core(self) -> dict[str, Any]:
        """The sample project's answer."""
        return json.loads(self.curl(CORE_URL).stdout)

    def core_answers(self) -> bool:
        """Whether the sample project answers by name."""
        return self.curl(CORE_URL, "--max-time", "4", check=False).returncode == 0

    def processes(self, program: str) -> list[int]:
        """The ids of the processes that run `program` (as in a command line): the laptop's and the cluster's. To be counted, and killed by `kill`."""
        return [*self._processes_here(program), *self._processes_of_node(program)]

    def kill(self, program: str, *, signal: str = "KILL") -> None:
        """Kill what runs `program`."""
        here, elsewhere = self._processes_here(program), self._processes_of_node(program)
        assert here or elsewhere, f"nothing runs {program}"
        if here:
            self.run("kill", f"-{signal}", *map(str, here))
        if elsewhere and isinstance(self.sandbox, NodeElsewhere):
            self.sandbox.signal(elsewhere, signal)

    def _processes_here(self, program: str) -> list[int]:
        """Those inside the sandbox, where all places share one process namespace. Those of other places are told apart by the network they are in."""
        places = [place for place in layout.PLACES if place not in {self.place, layout.CLUSTER}]
        # By its environment, because the shell's own command line would be found too.
        script = 'pgrep -f -- "$PROGRAM"; echo others; for place in "$@"; do ip netns pids "$place"; done'
        listing = ["sh", "-c", script, "sh", *places]
        printed = self.sandbox.run(layout.INTERNET, listing, env={"PROGRAM": program}).stdout.split()
        divider = printed.index("others")
        found, others = printed[:divider], set(printed[divider:])
        return [int(process) for process in found if process not in others]

    def _processes_of_node(self, program: str) -> list[int]:
        return self.sandbox.processes(program) if isinstance(self.sandbox, NodeElsewhere) else []

    def machine(self) -> dict[str, str]:
        """Everything of the machine that the agent may change, as text to compare."""
        commands: dict[str, Sequence[str]] = {
            "hosts": ("sha256sum", "/etc/hosts"),
            "resolv.conf": ("sha256sum", "/etc/resolv.conf"),
            "files": ("stat", "-c", "%n %f %u %g %s", "/etc/hosts", "/etc/resolv.conf"),
            "names": ("ls", "-A", "/etc"),
            "nftables": ("nft", "list", "ruleset"),
            "addresses": ("ip", "-o", "address"),
            "routes": ("ip", "route", "show", "table", "all"),
            "rules": ("ip", "rule"),
        }
        return {name: self.run(*command).stdout for name, command in commands.items()}
