"""`czhub` as a process on loopback, for tests: one Hub, or replicas that share a database and a master key."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser
from codezero.testing.teamspace import free_port
from codezero.testing.waiting import eventually
from codezero.transport.hub_http import HubEndpoint

OWNER = {"name": "Olga", "email": "olga@example.com", "password": "correct horse battery staple"}


@dataclass
class HubProcess:
    """One `czhub` with a data folder; replicas have folders of their own. `public_port` is that of the URL by which all of them are known."""

    folder: Path
    port: int = field(default_factory=free_port)
    public_port: int | None = None
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def public_url(self) -> str:
        """How it is known."""
        return f"http://127.0.0.1:{self.public_port or self.port}"

    @property
    def endpoint(self) -> HubEndpoint:
        """For requests to this very process."""
        return HubEndpoint(self.url)

    @property
    def log(self) -> Path:
        """What it has logged, over all its starts."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def start(self) -> "HubProcess":
        """Start it, and return when it is ready."""
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command("serve"),
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            eventually(self._is_ready)
        except TimeoutError:
            raise AssertionError(self.log.read_text()) from None
        return self

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of `czhub` with its settings."""
        command = self.command(*arguments)
        return subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=60, check=False)

    def command(self, *arguments: str) -> Sequence[str]:
        """The command line."""
        return [sys.executable, "-m", "codezero.hub.main", *arguments]

    def environment(self) -> dict[str, str]:
        """Its settings."""
        return {
            "PATH": os.environ["PATH"],
            "CODEZERO_HUB_DATA_FOLDER": str(self.folder),
            "CODEZERO_HUB_LISTEN": f"127.0.0.1:{self.port}",
            "CODEZERO_HUB_METRICS_LISTEN": "127.0.0.1:0",
            "CODEZERO_HUB_PUBLIC_URL": self.public_url,
            "CODEZERO_HUB_LOG_FORMAT": "json",
            **self.variables,
        }

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def close(self) -> None:
        """End it where it still runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def owner(self) -> Browser:
        """The first owner, newly signed up, with organization `Shop`."""
        link = self.run("owner-link")
        assert link.returncode == 0, link.stderr
        browser = Browser(self.endpoint, self.public_url)
        browser.become_first_owner(link.stdout.strip(), organization="Shop", **OWNER)
        return browser

    def _is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.endpoint.request("GET", "/readyz", deadline=2.0).status == 200
        except CodezeroError:
            return False
