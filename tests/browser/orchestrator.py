"""The Orchestrator of a Teamspace at a Hub that is a process: it joins by its token, and what it knows of its cluster the test says."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from threading import Thread
from typing import Final

import msgspec
from cryptography import x509
from tests.browser.conftest import BrowsedHub

from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model.ids import TeamspaceId, Workload
from codezero.model.services import Service
from codezero.orchestrator.events import Events
from codezero.orchestrator.hub_link import HubLink
from codezero.orchestrator.server import Coordinator
from codezero.testing.waiting import eventually
from codezero.transport.hub import HubAddress
from codezero.transport.identity import Identity
from codezero.wire.coordination import CatalogReport
from codezero.wire.hub_channel import JOIN_PATH, Certified, JoinRequest

# Of the one System that reports.
_SYSTEM: Final = 0


class Orchestrator:
    """The real one's picture and channel, in a thread: the test's own has Playwright's loop. What it is told, it tells the Hub."""

    def __init__(self, hub: BrowsedHub, identity: Identity) -> None:
        self._hub = hub
        self._identity = identity
        self._loop = asyncio.new_event_loop()
        self._coordinator = Coordinator()
        self._coordinator.activity.set(True)
        self._coordinator.entry.set(("teamspace.example.com", 443))
        self._coordinator.board.system_joined(_SYSTEM)
        self._link = HubLink(HubAddress(hub.url), self._coordinator, Watched[Identity | None](identity), Events())

    @property
    def space(self) -> str:
        """The id of its Teamspace."""
        return self._identity.teamspace

    def has(self, services: Sequence[Service]) -> None:
        """The cluster has these, and no others."""
        self._do(lambda: self._report(CatalogReport(tuple(services), reset=True)))

    def changed(self, *services: Service) -> None:
        """These are otherwise than before."""
        self._do(lambda: self._report(CatalogReport(services)))

    def _report(self, report: CatalogReport) -> None:
        self._coordinator.board.catalog_reported(_SYSTEM, report, at=0.0)

    def _do(self, work: Callable[[], None]) -> None:
        done = asyncio.run_coroutine_threadsafe(_called(work), self._loop)
        done.result(60)

    @contextmanager
    def running(self) -> Generator[None]:
        """For the time of the block it has its channel."""
        stop = asyncio.Event()
        thread = Thread(target=self._loop.run_until_complete, args=(self._run(stop),))
        thread.start()
        try:
            eventually(lambda: self._link.connected)
            yield
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            self._loop.close()

    async def _run(self, stop: asyncio.Event) -> None:
        async with task_group("orchestrator") as tasks:
            tasks.start_service("link", self._link.run())
            await stop.wait()


async def _called(work: Callable[[], None]) -> None:
    work()


@contextmanager
def orchestrator(hub: BrowsedHub, name: str) -> Generator[Orchestrator]:
    """A new Teamspace of that name, whose cluster has joined and is connected."""
    invited = hub.owner.ask("POST", f"/organizations/{hub.organization}/spaces", {"name": name})
    key = certificates.new_key()
    body = msgspec.json.encode(JoinRequest(invited["join_token"], certificates.certificate_request(key), "test"))
    answer = hub.process.endpoint.request("POST", JOIN_PATH, body=body, headers={"Content-Type": "application/json"})
    assert answer.status == 200, answer.content
    certified = msgspec.json.decode(answer.content, type=Certified)
    own = Workload(TeamspaceId(certified.space), "orchestrator")
    authority = Authority(Credentials(key, tuple(x509.load_pem_x509_certificates(certified.certificate.encode()))))
    leaf = authority.issue("orchestrator", uris=[str(own)], client=True)
    made = Orchestrator(hub, Identity(leaf, own, certified.certificate))
    with made.running():
        yield made
