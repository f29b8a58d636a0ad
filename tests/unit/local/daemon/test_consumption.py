"""The consumption engine against a naive computation of the whole, and its promises one by one."""

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from codezero.local.daemon.consumption import Consumption, Endpoint, HostChange
from codezero.local.daemon.naming import names_of, pod_names_of
from codezero.model.addresses import AddressPlan
from codezero.model.consume import Rules, parse_rules
from codezero.model.services import CatalogId, Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.wire.local_api import ConsumeState

TEAMSPACE = "01HZZZZZZZZZZZZZZZZZZZZZZZ"
ORDERS = ServiceRef("shop", "orders")


def service(
    ref: ServiceRef = ORDERS, *, ready: int = 1, ports: tuple[int, ...] = (80,), pods: tuple[str, ...] = ()
) -> Service:
    kind = ServiceKind.HEADLESS if pods else ServiceKind.CLUSTER_IP
    return Service(ref, kind, tuple(ServicePort(port) for port in ports), ready, max(ready, 1), pods)


@pytest.fixture
def consumption() -> Consumption:
    """Consumes everything of an empty Teamspace."""
    return Consumption(AddressPlan(TEAMSPACE), parse_rules(["*"]))


def admit_all(consumption: Consumption) -> None:
    consumption.decide(consumption.wanted(), {})


def test_consumed_service_gets_names_and_ports(consumption: Consumption) -> None:
    consumption.change_catalog([service(ports=(80, 443))], [])
    admit_all(consumption)

    change = consumption.take_change()

    address = consumption.plan.address_of(ORDERS)
    assert change.add_names == dict.fromkeys(
        ("orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local"), address
    )
    assert change.add_tcp == {(address, 80): CatalogId(ORDERS, 80), (address, 443): CatalogId(ORDERS, 443)}
    assert not consumption.take_change()


def test_nothing_is_named_before_admission_has_answered(consumption: Consumption) -> None:
    """A name that a policy withdraws a moment later would confuse every client that cached it."""
    consumption.change_catalog([service()], [])

    assert not consumption.take_change()
    assert consumption.view()[0].state is ConsumeState.PENDING


def test_refused_service_has_no_name_and_says_why(consumption: Consumption) -> None:
    consumption.change_catalog([service()], [])
    consumption.decide([ORDERS], {ORDERS: "not for you"})

    assert not consumption.take_change()
    assert (consumption.view()[0].state, consumption.view()[0].reason) == (ConsumeState.REFUSED, "not for you")


def test_service_without_ready_pods_keeps_its_name_and_refuses(consumption: Consumption) -> None:
    """As in the cluster: the name resolves, the connection is refused; connections that live are not cut."""
    consumption.change_catalog([service()], [])
    admit_all(consumption)
    consumption.take_change()

    consumption.change_catalog([service(ready=0)], [])
    change = consumption.take_change()

    assert change.remove_tcp == {(consumption.plan.address_of(ORDERS), 80)}
    assert not change.remove_names
    assert not change.released
    assert consumption.view()[0].state is ConsumeState.UNREADY


def test_service_dropped_by_the_user_is_released(consumption: Consumption) -> None:
    consumption.change_catalog([service()], [])
    admit_all(consumption)
    consumption.take_change()

    consumption.replace_rules(Rules(), primary_namespace=None)

    assert consumption.take_change().released == {ORDERS}


def test_service_that_went_and_came_back_keeps_its_address(consumption: Consumption) -> None:
    """Clients cache addresses; a redeployed service must not become another one's."""
    consumption.change_catalog([service()], [])
    admit_all(consumption)
    address = consumption.view()[0].address

    consumption.change_catalog([], [ORDERS])
    consumption.change_catalog([service()], [])

    assert consumption.view()[0].address == address


def test_flapping_between_two_steps_costs_the_machine_nothing(consumption: Consumption) -> None:
    consumption.change_catalog([service()], [])
    admit_all(consumption)
    consumption.take_change()

    consumption.change_catalog([service(ready=0)], [])
    consumption.change_catalog([service()], [])

    assert not consumption.take_change()


def test_port_held_by_another_process_withdraws_the_name(consumption: Consumption) -> None:
    """A name that leads to a squatter would hand it the traffic (T15)."""
    consumption.change_catalog([service()], [])
    admit_all(consumption)
    consumption.take_change()

    consumption.set_conflicts({ORDERS: "port 80 is held by nginx (pid 7)"})

    assert "orders.shop" in consumption.take_change().remove_names
    assert consumption.view()[0].state is ConsumeState.CONFLICT
    consumption.set_conflicts({})
    assert "orders.shop" in consumption.take_change().add_names


def test_pods_of_a_headless_service_have_addresses_of_their_own(consumption: Consumption) -> None:
    consumption.change_catalog([service(pods=("orders-0", "orders-1"))], [])
    admit_all(consumption)

    change = consumption.take_change()

    pod = change.add_names["orders-1.orders.shop"]
    assert pod != change.add_names["orders.shop"]
    assert change.add_tcp[pod, 80] == CatalogId(ORDERS, 80, "orders-1")


def test_udp_and_tcp_ports_of_one_number_are_apart(consumption: Consumption) -> None:
    dns = Service(
        ORDERS,
        ServiceKind.CLUSTER_IP,
        (ServicePort(53), ServicePort(53, Protocol.UDP), ServicePort(9, Protocol.SCTP)),
        1,
        1,
    )
    consumption.change_catalog([dns], [])
    admit_all(consumption)

    change = consumption.take_change()

    assert len(change.add_tcp) == len(change.add_udp) == 1
    assert consumption.view()[0].ports == (53,)


def test_after_the_machine_lost_everything_all_is_added_again(consumption: Consumption) -> None:
    consumption.change_catalog([service()], [])
    admit_all(consumption)
    first = consumption.take_change()

    consumption.forget_applied()

    assert consumption.take_change() == first


# --- against an oracle --------------------------------------------------------------------------------------------------------------------

refs = st.builds(
    ServiceRef, st.sampled_from(["shop", "dev", "svc", "kube-system"]), st.sampled_from(["a", "b", "wpad", "svc"])
)
ports = st.lists(
    st.builds(ServicePort, st.sampled_from([53, 80, 443]), st.sampled_from([Protocol.TCP, Protocol.UDP])),
    max_size=3,
    unique=True,
).map(lambda found: tuple(sorted(found)))
services = st.builds(
    Service,
    refs,
    st.just(ServiceKind.HEADLESS),
    ports,
    st.integers(0, 2),
    st.just(2),
    st.lists(st.sampled_from(["p", "q"]), max_size=2, unique=True).map(lambda pods: tuple(sorted(pods))),
).map(lambda made: made if made.ready else replace(made, pods=()))
rule_lines = st.lists(
    st.sampled_from(["*", "*.shop", "a.dev", "!b.shop", "a.shop:80", "!*:53", "*.kube-system", "!*"]), max_size=4
)


@dataclass
class Machine:
    """A machine that does what it is told."""

    names: dict[str, str] = field(default_factory=dict)
    tcp: dict[Endpoint, CatalogId] = field(default_factory=dict)
    udp: dict[Endpoint, CatalogId] = field(default_factory=dict)

    def do(self, change: HostChange) -> None:
        for have, add, remove in (
            (self.names, change.add_names, change.remove_names),
            (self.tcp, change.add_tcp, change.remove_tcp),
            (self.udp, change.add_udp, change.remove_udp),
        ):
            assert not set(add) & set(remove)
            for key in remove:
                del have[key]
            have.update(add)


class EngineFollowsTheTruth(RuleBasedStateMachine):
    """Any order of changes and steps leaves the machine as a computation of the whole says."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = Consumption(AddressPlan(TEAMSPACE))
        self.machine = Machine()
        self.catalog: dict[ServiceRef, Service] = {}
        self.rules = Rules()
        self.primary: str | None = None
        self.decided: set[ServiceRef] = set()
        self.refused: dict[ServiceRef, str] = {}
        self.conflicts: dict[ServiceRef, str] = {}

    @rule(upserts=st.lists(services, max_size=4), removes=st.lists(refs, max_size=3))
    def catalog_changes(self, upserts: list[Service], removes: list[ServiceRef]) -> None:
        for ref in removes:
            self.catalog.pop(ref, None)
        self.catalog.update({made.ref: made for made in upserts})
        self.engine.change_catalog(upserts, removes)

    @rule(lines=rule_lines, primary=st.sampled_from([None, "shop", "dev"]))
    def rules_change(self, lines: list[str], primary: str | None) -> None:
        self.rules, self.primary = parse_rules(lines), primary
        self.engine.replace_rules(self.rules, primary_namespace=primary)

    @rule(refused=st.dictionaries(refs, st.sampled_from(["x", "y"]), max_size=3))
    def admission_answers(self, refused: dict[ServiceRef, str]) -> None:
        self.decided, self.refused = set(self.engine.wanted()), refused
        self.engine.decide(self.engine.wanted(), refused)

    @rule(conflicts=st.dictionaries(refs, st.just("held"), max_size=2))
    def ports_are_taken(self, conflicts: dict[ServiceRef, str]) -> None:
        self.conflicts = conflicts
        self.engine.set_conflicts(conflicts)

    @rule()
    def machine_is_lost(self) -> None:
        self.machine = Machine()
        self.engine.forget_applied()

    @rule()
    def step(self) -> None:
        self.machine.do(self.engine.take_change())
        assert self.machine == self.truth()

    def truth(self) -> Machine:
        truth = Machine()
        for ref, made in self.catalog.items():
            numbers = [port.port for port in made.ports]
            consumed = self.rules.admits(ref, numbers, primary_namespace=self.primary)
            if not consumed or ref in self.refused or ref not in self.decided:
                continue
            addresses = {None: self.engine.plan.address_of(ref)}
            addresses |= {pod: self.engine.plan.address_of(ref, pod) for pod in made.pods if made.ready}
            for pod, address in addresses.items():
                names = names_of(ref, primary_namespace=self.primary) if pod is None else pod_names_of(ref, pod)
                if made.ready == 0 or ref not in self.conflicts:
                    truth.names.update(dict.fromkeys(names, address))
                for port in made.ports:
                    if port.port in consumed and made.ready:
                        have = truth.tcp if port.protocol is Protocol.TCP else truth.udp
                        have[address, port.port] = CatalogId(ref, port.port, pod)
        return truth

    @invariant()
    def wanted_is_what_the_rules_admit(self) -> None:
        assert self.engine.wanted() == tuple(
            sorted(
                ref
                for ref, made in self.catalog.items()
                if self.rules.admits(ref, [port.port for port in made.ports], primary_namespace=self.primary)
            )
        )


EngineFollowsTheTruth.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestEngineFollowsTheTruth = EngineFollowsTheTruth.TestCase


@given(st.lists(services, max_size=12))
@settings(max_examples=50, deadline=None)
def test_no_name_is_claimed_by_two_services(found: list[Service]) -> None:
    """Otherwise the order of changes would decide who answers."""
    engine = Consumption(AddressPlan(TEAMSPACE), parse_rules(["*"]), primary_namespace="shop")
    engine.change_catalog(found, [])
    admit_all(engine)

    names = [name for placement in engine.placements.values() for name in placement.names]

    assert len(names) == len(set(names))
