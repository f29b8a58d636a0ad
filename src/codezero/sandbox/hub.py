"""The sandbox's Hub: the real one, `czhub serve` with TLS, somewhere in the internet; on SQLite, or on a PostgreSQL of its own."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from codezero.kit.certificates import Authority
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout, namespaces
from codezero.sandbox.browser import Browser
from codezero.sandbox.control import Hub, HubView, Person
from codezero.sandbox.identities import ORGANIZATION_NAME, USERS
from codezero.sandbox.processes import CommandError, Process, run
from codezero.sandbox.sample import postgres
from codezero.transport.hub_http import HubEndpoint

# Who owns the organization; the developers are those of every sandbox.
OWNER = "admin"
READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_LOOK_SECONDS = 0.1
_AUTHORITY_LIFETIME = timedelta(days=365)
_POSTGRES_PORT = 5432


@dataclass(slots=True)
class HubProcess:
    """`czhub serve` in the internet's network namespace. May be stopped and started again, as on a machine somewhere."""

    log: Path
    database: Hub
    authority: Authority = field(
        default_factory=lambda: Authority.create("sandbox Hub", lifetime=_AUTHORITY_LIFETIME), repr=False
    )
    _process: Process | None = None
    _postgres: Process | None = None

    @property
    def endpoint(self) -> HubEndpoint:
        """Where it answers."""
        return HubEndpoint(layout.HUB_URL, self.authority.certificate_pem)

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return self._process is not None and self._process.running

    def prepare(self) -> None:
        """Make its folder and its certificate, and tell laptops whom to believe."""
        layout.HUB_FOLDER.mkdir(mode=0o700)
        leaf = self.authority.issue(
            layout.HUB_NAME,
            dns=[layout.HUB_NAME],
            addresses=[layout.HUB_ADDRESS],
            lifetime=_AUTHORITY_LIFETIME,
            server=True,
        )
        (layout.HUB_FOLDER / "tls.crt").write_text(leaf.certificate_pem)
        (layout.HUB_FOLDER / "tls.key").write_text(leaf.key_pem)
        layout.HUB_CA.write_text(self.authority.certificate_pem)
        layout.HUB_CA.chmod(0o644)

    async def start(self) -> None:
        """Start it and wait until it answers. Raises `CodezeroError` (SANDBOX_FAILED)."""
        if self.database == "postgresql" and self._postgres is None:
            await self._start_postgres()
        with self.log.open("ab") as output:
            self._process = Process(self._command("serve"), output=output, environment=self._environment())
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await asyncio.to_thread(self._is_ready):
                    if not self._process.running:
                        raise _failed(self.log, f"ended with {await self._process.wait()}")
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise _failed(self.log, f"did not answer within {READY_SECONDS:.0f} s") from None

    async def stop(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.send(signal.SIGKILL)
            await self._process.wait()
        self._process = None

    async def kill(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.send(signal.SIGKILL)
            await self._process.wait()
            self._process = None

    async def close(self) -> None:
        """End it, and its database."""
        await self.stop()
        if self._postgres is not None:
            self._postgres.send(signal.SIGINT)
            await self._postgres.wait()
            self._postgres = None

    async def owner_link(self) -> str:
        """The link by which its first owner signs up. A secret."""
        try:
            return (await run(self._command("owner-link"), environment=self._environment())).split()[-1]
        except CommandError as error:
            raise CodezeroError(problems.SANDBOX_FAILED, f"the Hub has no link for its owner: {error}") from None

    def _is_ready(self) -> bool:
        try:
            return self.endpoint.request("GET", "/readyz", deadline=2.0).status == 200
        except CodezeroError:
            return False

    def _command(self, *arguments: str) -> list[str]:
        return [
            *("ip", "netns", "exec", layout.INTERNET, sys.executable, "-I", "-m", "codezero.hub.main"),
            *arguments,
        ]

    def _environment(self) -> dict[str, str]:
        folder = layout.HUB_FOLDER
        database = {}
        if self.database == "postgresql":
            database = {"CODEZERO_HUB_DATABASE_URL_FILE": str(folder / "database-url")}
        return {
            "PATH": os.environ["PATH"],
            "CODEZERO_HUB_DATA_FOLDER": str(folder / "data"),
            "CODEZERO_HUB_LISTEN": f"{layout.HUB_ADDRESS}:443",
            "CODEZERO_HUB_PUBLIC_URL": layout.HUB_URL,
            "CODEZERO_HUB_TLS_CERT_FILE": str(folder / "tls.crt"),
            "CODEZERO_HUB_TLS_KEY_FILE": str(folder / "tls.key"),
            "CODEZERO_HUB_LOG_FORMAT": "json",
            **database,
        }

    async def _start_postgres(self) -> None:
        folder = layout.HUB_FOLDER.with_name("hub-postgres")
        folder.mkdir()
        password = secrets.token_urlsafe(24)
        cluster = await asyncio.to_thread(postgres.initialize, folder)
        (folder / "data" / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        await asyncio.to_thread(
            postgres.run_sql,
            cluster,
            database="postgres",
            commands=[f"CREATE ROLE hub LOGIN PASSWORD '{password}'", "CREATE DATABASE hub OWNER hub"],
        )
        (layout.HUB_FOLDER / "database-url").write_text(f"postgresql://hub:{password}@127.0.0.1:{_POSTGRES_PORT}/hub")
        command = postgres.server_command(cluster, address="127.0.0.1", port=_POSTGRES_PORT)
        with self.log.open("ab") as output:
            self._postgres = Process(["ip", "netns", "exec", layout.INTERNET, *command], output=output)
        try:
            async with asyncio.timeout(READY_SECONDS):
                # Nobody tells when a server of somebody else's listens.
                while not await asyncio.to_thread(_listens):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            raise _failed(self.log, "has no database") from None


@dataclass(slots=True)
class SandboxHub:
    """The Hub with an organization, its people and a Teamspace, all made as people make them: by its pages and its API."""

    process: HubProcess
    people: dict[str, Person]
    organization: str
    space: str
    # With which the cluster joins, once.
    join_token: str = field(repr=False)

    @staticmethod
    async def set_up(process: HubProcess, *, teamspace: bool) -> "SandboxHub":
        """Make everything in a Hub that was just started. Raises `CodezeroError`."""
        return await asyncio.to_thread(_set_up, process, await process.owner_link(), teamspace=teamspace)

    def view(self) -> HubView:
        """How it is."""
        return HubView(
            url=layout.HUB_URL,
            ca=str(layout.HUB_CA),
            organization=self.organization,
            space=self.space,
            people=self.people,
            data_folder=str(layout.HUB_FOLDER / "data"),
            running=self.process.running,
        )

    def approve(self, user: str, code: str) -> None:
        """Let a machine in that shows `code`, in the browser of that person. Blocks. Raises `CodezeroError`."""
        if user not in self.people:
            known = ", ".join(self.people)
            raise CodezeroError(problems.NOT_FOUND, f"the sandbox's Hub has {known}, and no {user[:40]!r}")
        browser = Browser(self.process.endpoint)
        browser.sign_in(self.people[user].email, self.people[user].password)
        browser.approve_device(code)


def _set_up(process: HubProcess, link: str, *, teamspace: bool) -> SandboxHub:
    people = {name: Person(f"{name}@sandbox.example", secrets.token_urlsafe(24)) for name in (OWNER, *USERS)}
    owner = Browser(process.endpoint)
    owner.become_first_owner(
        link,
        name=OWNER,
        email=people[OWNER].email,
        password=people[OWNER].password,
        organization=ORGANIZATION_NAME,
    )
    organization = owner.ask("GET", "/organizations")["items"][0]["id"]
    for name in USERS:
        wanted = {"email": people[name].email, "role": "developer"}
        invitation = owner.ask("POST", f"/organizations/{organization}/invitations", wanted)
        Browser(process.endpoint).accept_invitation(invitation["link"], name=name, password=people[name].password)
    if not teamspace:
        return SandboxHub(process, people, organization, "", "")
    made = owner.ask("POST", f"/organizations/{organization}/spaces", {"name": layout.TEAMSPACE_NAME})
    return SandboxHub(process, people, organization, made["id"], made["join_token"])


def _listens() -> bool:
    with namespaces.network(layout.network_file(layout.INTERNET)):
        connection = socket.socket()
    with connection:
        return connection.connect_ex(("127.0.0.1", _POSTGRES_PORT)) == 0


def _failed(log: Path, what: str) -> CodezeroError:
    return CodezeroError(problems.SANDBOX_FAILED, f"the sandbox's Hub {what}", fix=f"look into {log}")
