"""From catalog, rules and admission to what the machine must have: names, captured ports, and how each service is. Pure and incremental.

A service is looked at again only when something that concerns it changed, so thousands of changes in a large catalog stay cheap. Changes gather
until `take_change` is called, so a burst costs the machine one step. Whoever does the step adds captures before names and withdraws names before
captures: no name ever leads nowhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from codezero.local.daemon.naming import is_top_level_domain, names_of, pod_names_of
from codezero.model.addresses import AddressPlan
from codezero.model.consume import Rules
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, Protocol, Service, ServiceRef
from codezero.wire.local_api import ConsumedService, ConsumeState

Endpoint = tuple[str, int]
"""A virtual address and a port on it."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What one consumed service means for the machine: the address of each name, and what to ask the Teamspace for at each endpoint."""

    state: ConsumeState
    ports: tuple[int, ...]
    address: str | None = None
    names: Mapping[str, str] = field(default_factory=dict[str, str])
    tcp: Mapping[Endpoint, CatalogId] = field(default_factory=dict[Endpoint, CatalogId])
    udp: Mapping[Endpoint, CatalogId] = field(default_factory=dict[Endpoint, CatalogId])
    reason: str | None = None


_NOTHING = Placement(ConsumeState.PENDING, ())


@dataclass(frozen=True, slots=True)
class HostChange:
    """What to take away from the machine and what to add. A name whose address changed is only in `add_names`.

    `released` are services no longer consumed by choice or policy, whose connections end; one that merely lost its pods is not among them.
    """

    add_names: Mapping[str, str] = field(default_factory=dict[str, str])
    remove_names: frozenset[str] = frozenset()
    add_tcp: Mapping[Endpoint, CatalogId] = field(default_factory=dict[Endpoint, CatalogId])
    remove_tcp: frozenset[Endpoint] = frozenset()
    add_udp: Mapping[Endpoint, CatalogId] = field(default_factory=dict[Endpoint, CatalogId])
    remove_udp: frozenset[Endpoint] = frozenset()
    released: frozenset[ServiceRef] = frozenset()

    def __bool__(self) -> bool:
        return any(
            (
                self.add_names,
                self.remove_names,
                self.add_tcp,
                self.remove_tcp,
                self.add_udp,
                self.remove_udp,
                self.released,
            )
        )


class Consumption:
    """What one laptop consumes of one Teamspace. `plan` gives the virtual addresses and is kept by the caller."""

    def __init__(self, plan: AddressPlan, rules: Rules | None = None, *, primary_namespace: str | None = None) -> None:
        self.plan = plan
        self._rules = rules or Rules()
        self._primary_namespace = primary_namespace
        self._catalog: dict[ServiceRef, Service] = {}
        self._decided: frozenset[ServiceRef] = frozenset()
        self._refused: Mapping[ServiceRef, str] = {}
        self._conflicts: Mapping[ServiceRef, str] = {}
        self._placements: dict[ServiceRef, Placement] = {}
        self._applied: dict[ServiceRef, Placement] = {}
        self._changed: set[ServiceRef] = set()
        self.wanted_version = 0

    @property
    def rules(self) -> Rules:
        """The rules in force."""
        return self._rules

    @property
    def primary_namespace(self) -> str | None:
        """The namespace whose services answer to their bare names."""
        return self._primary_namespace

    @property
    def catalog(self) -> Mapping[ServiceRef, Service]:
        """The services known."""
        return self._catalog

    @property
    def placements(self) -> Mapping[ServiceRef, Placement]:
        """What is consumed now."""
        return self._placements

    def wanted(self) -> tuple[ServiceRef, ...]:
        """The services the rules let in, sorted: what admission is to be asked about. `wanted_version` changes with it."""
        return tuple(sorted(self._placements))

    def change_catalog(self, upserts: Iterable[Service], removes: Iterable[ServiceRef]) -> None:
        """Services that came or changed, and services that went."""
        for ref in removes:
            gone = self._catalog.pop(ref, None)
            if gone is not None:
                self._place(ref)
                self._forget_addresses(gone)
        for service in upserts:
            before = self._catalog.get(service.ref)
            if before == service:
                continue
            self._catalog[service.ref] = service
            self._place(service.ref)
            if before is not None:
                for pod in set(before.pods) - set(service.pods):
                    self.plan.forget(service.ref, pod)

    def replace_rules(self, rules: Rules, *, primary_namespace: str | None) -> None:
        """New rules or another primary namespace."""
        self._rules = rules
        self._primary_namespace = primary_namespace
        for ref in self._catalog:
            self._place(ref)

    def decide(self, asked: Iterable[ServiceRef], refused: Mapping[ServiceRef, str]) -> None:
        """The admission's answer about the services `asked`; those not in `refused` (with reasons) are admitted."""
        decided = frozenset(asked)
        concerned = decided ^ self._decided
        concerned |= {ref for ref in {*refused, *self._refused} if refused.get(ref) != self._refused.get(ref)}
        self._decided = decided
        self._refused = dict(refused)
        for ref in concerned:
            self._place(ref)

    def set_conflicts(self, conflicts: Mapping[ServiceRef, str]) -> bool:
        """Services whose ports another process holds, each with a line for people; they lose their names until that ends (T15).

        Tells whether that is news.
        """
        concerned = {ref for ref in {*conflicts, *self._conflicts} if conflicts.get(ref) != self._conflicts.get(ref)}
        self._conflicts = dict(conflicts)
        for ref in concerned:
            self._place(ref)
        return bool(concerned)

    def preview(self, rules: Rules, *, primary_namespace: str | None) -> "Consumption":
        """What these rules would do; a copy, with the decisions known so far."""
        copy = Consumption(self.plan, rules, primary_namespace=primary_namespace)
        copy.change_catalog(self._catalog.values(), ())
        copy.decide(self._decided, self._refused)
        return copy

    def take_change(self) -> HostChange:
        """Everything that changed since the last call, as one step; the caller does it."""
        add_names: dict[str, str] = {}
        remove_names: set[str] = set()
        add_tcp: dict[Endpoint, CatalogId] = {}
        add_udp: dict[Endpoint, CatalogId] = {}
        remove_tcp: set[Endpoint] = set()
        remove_udp: set[Endpoint] = set()
        released: set[ServiceRef] = set()
        for ref in self._changed:
            before = self._applied.get(ref, _NOTHING)
            now = self._placements.get(ref, _NOTHING)
            add_names.update(
                (name, address) for name, address in now.names.items() if before.names.get(name) != address
            )
            add_tcp.update((at, target) for at, target in now.tcp.items() if before.tcp.get(at) != target)
            add_udp.update((at, target) for at, target in now.udp.items() if before.udp.get(at) != target)
            remove_names.update(before.names.keys() - now.names.keys())
            remove_tcp.update(before.tcp.keys() - now.tcp.keys())
            remove_udp.update(before.udp.keys() - now.udp.keys())
            if before.address is not None and now.address is None and ref in self._catalog:
                released.add(ref)
            if ref in self._placements:
                self._applied[ref] = now
            else:
                self._applied.pop(ref, None)
        self._changed.clear()
        return HostChange(
            add_names,
            # An address freed by one service may go to another within one step, so what is added wins.
            frozenset(remove_names - add_names.keys()),
            add_tcp,
            frozenset(remove_tcp - add_tcp.keys()),
            add_udp,
            frozenset(remove_udp - add_udp.keys()),
            frozenset(released),
        )

    def forget_applied(self) -> None:
        """The machine has nothing of ours any more: the next change adds everything."""
        self._applied.clear()
        self._changed = set(self._placements)

    def view(self) -> tuple[ConsumedService, ...]:
        """What is consumed, sorted, for people."""
        return tuple(
            ConsumedService(
                ref,
                placement.state,
                placement.address,
                names_of(ref, primary_namespace=self._primary_namespace) if placement.names else (),
                placement.ports,
                reason=placement.reason,
            )
            for ref, placement in sorted(self._placements.items(), key=lambda item: item[0])
        )

    def shadowed_namespaces(self) -> tuple[str, ...]:
        """Namespaces consumed from whose names are top-level domains, so that their services lack the short form."""
        return tuple(sorted({ref.namespace for ref in self._placements if is_top_level_domain(ref.namespace)}))

    def _place(self, ref: ServiceRef) -> None:
        placement = self._placement_of(ref)
        if placement == self._placements.get(ref):
            return
        if placement is None:
            del self._placements[ref]
            self.wanted_version += 1
        else:
            self.wanted_version += ref not in self._placements
            self._placements[ref] = placement
        self._changed.add(ref)

    def _placement_of(self, ref: ServiceRef) -> Placement | None:
        service = self._catalog.get(ref)
        if service is None:
            return None
        offered = sorted({port.port for port in service.ports if port.protocol in {Protocol.TCP, Protocol.UDP}})
        ports = self._rules.admits(ref, offered, primary_namespace=self._primary_namespace)
        if not ports:
            return None
        if ref in self._refused:
            return Placement(ConsumeState.REFUSED, ports, reason=self._refused[ref])
        if ref not in self._decided:
            return Placement(ConsumeState.PENDING, ports)
        try:
            return self._admitted(service, ports)
        except CodezeroError as error:
            return Placement(ConsumeState.CONFLICT, ports, reason=error.detail)

    def _admitted(self, service: Service, ports: tuple[int, ...]) -> Placement:
        ref = service.ref
        address = self.plan.address_of(ref)
        names = dict.fromkeys(names_of(ref, primary_namespace=self._primary_namespace), address)
        if service.ready == 0:
            # The name answers and the connection is refused, as in the cluster.
            return Placement(ConsumeState.UNREADY, ports, address, names)
        targets: dict[str, str | None] = {address: None}
        for pod in service.pods:
            pod_address = self.plan.address_of(ref, pod)
            targets[pod_address] = pod
            names.update(dict.fromkeys(pod_names_of(ref, pod), pod_address))
        tcp, udp = (
            {
                (at, port.port): CatalogId(ref, port.port, pod)
                for at, pod in targets.items()
                for port in service.ports
                if port.protocol is protocol and port.port in ports
            }
            for protocol in (Protocol.TCP, Protocol.UDP)
        )
        conflict = self._conflicts.get(ref)
        if conflict is not None:
            return Placement(ConsumeState.CONFLICT, ports, address, {}, tcp, udp, conflict)
        return Placement(ConsumeState.ENABLED, ports, address, names, tcp, udp)

    def _forget_addresses(self, service: Service) -> None:
        self.plan.forget(service.ref)
        for pod in service.pods:
            self.plan.forget(service.ref, pod)
