"""The order in which the machine is changed, and what happens when a change fails."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from codezero.kit.tasks import task_group
from codezero.local.daemon import machine as machine_module
from codezero.local.daemon.capture import Capture
from codezero.local.daemon.consumption import Consumption, Endpoint
from codezero.local.daemon.health import Health
from codezero.local.daemon.host_client import HostClient
from codezero.local.daemon.machine import CHANGE_FAILED, Machine
from codezero.local.daemon.names import NameTable
from codezero.model import problems
from codezero.model.addresses import AddressPlan
from codezero.model.consume import Rules, parse_rules
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.testing.tunnels import until
from codezero.wire.host_api import HostMode, ToSupervisor

TEAMSPACE = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
ORDERS = ServiceRef("shop", "orders")


class Host(HostClient):
    """A machine in memory that checks the promise at each step: every name leads to a captured address."""

    def __init__(self, table: NameTable, *, names: str = "resolv.conf") -> None:
        super().__init__()
        self.mode = HostMode("nftables", names)
        self.table = table
        self.captured: set[Endpoint] = set()
        self.datagrams: set[Endpoint] = set()
        self.published: dict[str, str] = {}
        self.steps: list[str] = []
        self.failing = 0

    async def change_capture(
        self,
        *,
        add: Collection[Endpoint] = (),
        remove: Collection[Endpoint] = (),
        reset: bool = False,
        datagrams: bool = False,
    ) -> None:
        self.fail_if_told("reset" if reset else "capture")
        await asyncio.sleep(0)
        pairs = self.datagrams if datagrams else self.captured
        if reset:
            pairs.clear()
        pairs -= set(remove)
        gone = {endpoint[0] for endpoint in remove} - {endpoint[0] for endpoint in self.captured | self.datagrams}
        assert not [name for name, address in self.table.items() if address in gone]
        pairs |= set(add)

    async def publish(self, names: Mapping[str, str]) -> None:
        self.fail_if_told("publish")
        await asyncio.sleep(0)
        self.published = dict(names)

    async def stop(self) -> None:
        raise AssertionError

    async def _send(self, message: ToSupervisor) -> None:
        raise AssertionError

    async def _ask(self, message: ToSupervisor, number: int) -> None:
        raise AssertionError

    def fail_if_told(self, what: str) -> None:
        self.steps.append(what)
        if self.failing:
            self.failing -= 1
            raise CodezeroError(problems.HOST_CHANGE_FAILED, "nft is not in the mood")


class Fixture:
    """A machine at work, with one consumption that admits everything."""

    def __init__(self, *, names: str = "resolv.conf") -> None:
        self.table = NameTable()
        self.host = Host(self.table, names=names)
        self.health = Health()
        self.capture = Capture(lambda: None)
        self.machine = Machine(self.host, self.capture, self.table, health=self.health)
        self.consumption = Consumption(AddressPlan(TEAMSPACE), parse_rules(["*"]))

    def offer(self, *services: Service) -> None:
        self.consumption.change_catalog(services, ())
        self.consumption.decide(self.consumption.wanted(), {})
        self.machine.changed()

    async def settled(self) -> None:
        await until(lambda: self.machine.is_settled)


def service(name: str = "orders", *, ports: tuple[ServicePort, ...] = (ServicePort(80),)) -> Service:
    return Service(ServiceRef("shop", name), ServiceKind.CLUSTER_IP, ports, 1, 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_module, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(machine_module, "HOSTS_PAUSE_SECONDS", 0.0)


async def test_captures_come_before_names_and_go_after_them() -> None:
    """Between the two a name would lead to whoever listens there (T15)."""
    made = Fixture(names="hosts")
    async with task_group("test") as tasks:
        tasks.start_service("machine", made.machine.keep())
        await made.machine.follow(made.consumption)
        await made.settled()
        made.host.steps.clear()
        made.offer(service())
        await made.settled()
        assert made.host.steps == ["capture", "publish"]
        assert made.host.published == dict(made.table.items())
        assert made.host.captured == {(made.table.address_of("orders.shop"), 80)}

        made.host.steps.clear()
        made.consumption.replace_rules(Rules(), primary_namespace=None)
        made.machine.changed()
        await made.settled()
        assert made.host.steps == ["publish", "capture"]
        assert not made.host.captured
        assert not made.host.published


async def test_what_an_earlier_daemon_left_is_taken_away_first() -> None:
    made = Fixture()
    made.host.captured = {("127.73.0.1", 80)}
    async with task_group("test") as tasks:
        tasks.start_service("machine", made.machine.keep())
        made.machine.changed()
        await made.settled()

    assert not made.host.captured


async def test_failed_change_takes_all_away_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No half step stays, the user is told, and it heals by itself."""
    made = Fixture()
    async with task_group("test") as tasks:
        tasks.start_service("machine", made.machine.keep())
        await made.machine.follow(made.consumption)
        made.offer(service("first"))
        await made.settled()

        monkeypatch.setattr(made.machine._backoff, "next", lambda: 0.05)
        made.host.failing = 3
        made.offer(service("second"))
        await until(lambda: CHANGE_FAILED in [one.code for one in made.health.warnings])
        await until(lambda: not made.health.warnings)

        assert made.table.address_of("first.shop")
        assert made.table.address_of("second.shop")
        assert len(made.host.captured) == 2


async def test_another_consumption_takes_over_from_nothing() -> None:
    """Names of one Teamspace never lead into another (R42)."""
    made = Fixture()
    other = Consumption(AddressPlan("01HZZZZZZZZZZZZZZZZZZZZZZX"), parse_rules(["*"]))
    async with task_group("test") as tasks:
        tasks.start_service("machine", made.machine.keep())
        await made.machine.follow(made.consumption)
        made.offer(service())
        await made.settled()

        await made.machine.follow(other)
        assert len(made.table) == 0
        await made.settled()
        assert not made.host.captured
        other.change_catalog([service()], ())
        other.decide(other.wanted(), {})
        made.machine.changed()
        await made.settled()
        assert made.host.captured == {(other.plan.address_of(ORDERS), 80)}


async def test_burst_of_changes_costs_few_steps() -> None:
    made = Fixture()
    async with task_group("test") as tasks:
        tasks.start_service("machine", made.machine.keep())
        await made.machine.follow(made.consumption)
        await made.settled()
        made.host.steps.clear()
        for number in range(500):
            made.offer(service(f"service-{number}"))
        await made.settled()

        assert len(made.table) == 1500
        assert len(made.host.steps) < 10


async def test_idle_machine_takes_no_steps() -> None:
    made = Fixture()
    steps: list[bool] = []
    made.machine = Machine(made.host, made.capture, made.table, health=made.health, stepped=steps.append)
    async with task_group("test") as tasks:
        tasks.start_service("machine", made.machine.keep())
        await made.machine.follow(made.consumption)
        made.offer(service(ports=(ServicePort(80), ServicePort(53, Protocol.UDP))))
        await made.settled()
        taken = len(steps)
        for _ in range(100):
            await asyncio.sleep(0)

        assert len(steps) == taken
        made.capture.close(CodezeroError(problems.TUNNEL_DOWN, "over"))
