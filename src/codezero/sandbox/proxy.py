"""Cluster addresses of Services: nftables rules in the node's namespace that spread connections over ready pods, and refuse where there are none.

One table for all. A Service port is a chain with one rule, found through a map; changes touch only what changed.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from codezero.kit import logs
from codezero.sandbox import layout
from codezero.sandbox.api.documents import as_objects, at
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.services import NODE_PORTS
from codezero.sandbox.api.storage import Event, Stored
from codezero.sandbox.api.store import Options, Store
from codezero.sandbox.endpoints import ServiceKey, SliceIndex, usable
from codezero.sandbox.processes import CommandError, run
from codezero.sandbox.queues import WorkQueue

# Changes that come together are made together.
_GATHER = 0.02
_RETRY = 1.0
_PROTOCOLS = {"TCP": "tcp", "UDP": "udp", "SCTP": "sctp"}
_log = logs.get_logger("proxy")
_OPTIONS = Options(manager="codezero-sandbox-proxy")

_TABLE = f"""
table ip services
delete table ip services
table ip services {{
  map cluster-addresses {{ type ipv4_addr . inet_proto . inet_service : verdict; }}
  map node-ports {{ type inet_proto . inet_service : verdict; }}
  set hairpins {{ type ipv4_addr . ipv4_addr; }}
  chain translate {{
    ip daddr . meta l4proto . th dport vmap @cluster-addresses
    ip daddr {layout.NODE_ADDRESS} meta l4proto . th dport vmap @node-ports
  }}
  chain incoming {{
    type nat hook prerouting priority dstnat;
    meta l4proto {{ tcp, udp, sctp }} jump translate
  }}
  chain own {{
    type nat hook output priority -100;
    meta l4proto {{ tcp, udp, sctp }} jump translate
  }}
  chain outgoing {{
    type nat hook postrouting priority srcnat;
    ct status dnat ip saddr . ip daddr @hairpins masquerade
    ip saddr {layout.POD_NETWORK} oifname "uplink0" masquerade
  }}
  chain refuse {{
    type filter hook forward priority filter;
    ip daddr {layout.SERVICE_NETWORK} reject
  }}
  chain refuse-own {{
    type filter hook output priority filter;
    ip daddr {layout.SERVICE_NETWORK} reject
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """The translation of one Service port: by which addresses it is reached, and what stands behind it."""

    chain: str
    protocol: str
    cluster_address: str
    port: int
    node_ports: tuple[int, ...]
    backends: tuple[tuple[str, int], ...]
    sticky: bool = False

    def statement(self) -> str:
        """The rule in the port's chain."""
        elements = ", ".join(f"{number} : {address} . {port}" for number, (address, port) in enumerate(self.backends))
        choose = "jhash ip saddr" if self.sticky else "numgen random"
        return f"meta l4proto {self.protocol} dnat ip to {choose} mod {len(self.backends)} map {{ {elements} }}"

    def elements(self) -> list[tuple[str, str]]:
        """The entries of the maps that lead to the chain: map and key."""
        entries = [("cluster-addresses", f"{self.cluster_address} . {self.protocol} . {self.port}")]
        return entries + [("node-ports", f"{self.protocol} . {port}") for port in self.node_ports]


def balanced_ports(services: Iterable[Stored]) -> dict[tuple[str, int], str]:
    """Which load balancer (by UID) has which port of the node, by protocol and number: of several that want one, the oldest."""
    wanting = [service for service in services if at(service.content, "spec", "type") == "LoadBalancer"]
    owners: dict[tuple[str, int], str] = {}
    for service in sorted(wanting, key=lambda one: (one.content["metadata"]["creationTimestamp"], one.uid)):
        for port in as_objects(service.content["spec"].get("ports")):
            if port["port"] in NODE_PORTS:
                continue  # those belong to whom the API server gave them
            owners.setdefault((port.get("protocol", "TCP"), port["port"]), service.uid)
    return owners


def rules_of(service: Stored, index: SliceIndex, owners: Mapping[tuple[str, int], str]) -> list[Rule]:
    """The rules a Service needs now: none for ports without a pod that serves, so that they are refused.

    `owners` says which load balancer has which of the node's ports.
    """
    spec = service.content["spec"]
    address = spec.get("clusterIP")
    if spec.get("type") == "ExternalName" or address in {None, "", "None"}:
        return []
    found: list[Rule] = []
    for port in as_objects(spec.get("ports")):
        protocol = port.get("protocol", "TCP")
        backends = usable(index.backends((service.namespace, service.name), port.get("name", ""), protocol))
        if not backends:
            continue
        balanced = owners.get((protocol, port["port"])) == service.uid
        node_ports = (port.get("nodePort"), port["port"] if balanced else None)
        found.append(
            Rule(
                chain=_chain_name(service, port["port"], protocol),
                protocol=_PROTOCOLS[protocol],
                cluster_address=address,
                port=port["port"],
                node_ports=tuple(number for number in node_ports if isinstance(number, int)),
                backends=tuple((backend.address, backend.port) for backend in backends),
                sticky=spec.get("sessionAffinity") == "ClientIP",
            )
        )
    return found


def _chain_name(service: Stored, port: int, protocol: str) -> str:
    text = f"{service.namespace}/{service.name}/{protocol}/{port}"
    return f"port-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


class Plan:
    """What is installed, and the nft commands from there to what is wanted (pure)."""

    def __init__(self) -> None:
        self.owners: dict[tuple[str, int], str] = {}
        self._installed: dict[ServiceKey, list[Rule]] = {}
        self._hairpins: Counter[str] = Counter()

    def change(self, key: ServiceKey, rules: list[Rule]) -> list[str]:
        """The commands that put `rules` in the place of those before; they count as installed from now on."""
        before = {rule.chain: rule for rule in self._installed.get(key, [])}
        after = {rule.chain: rule for rule in rules}
        if before == after:
            return []
        if rules:
            self._installed[key] = rules
        else:
            self._installed.pop(key, None)
        commands = self._hairpin_commands(before.values(), after.values())
        for chain in before.keys() | after.keys():
            commands += _commands(before.get(chain), after.get(chain))
        return commands

    def _hairpin_commands(self, before: Iterable[Rule], after: Iterable[Rule]) -> list[str]:
        old = Counter(address for rule in before for address, _ in rule.backends)
        new = Counter(address for rule in after for address, _ in rule.backends)
        had = {address for address in old | new if self._hairpins[address]}
        self._hairpins += new
        self._hairpins -= old
        commands: list[str] = []
        for address in sorted(old | new):
            if bool(self._hairpins[address]) != (address in had):
                verb = "add" if self._hairpins[address] else "delete"
                commands.append(f"{verb} element ip services hairpins {{ {address} . {address} }}")
        return commands


def _commands(before: Rule | None, after: Rule | None) -> list[str]:
    gone = [] if before is None else [one for one in before.elements() if after is None or one not in after.elements()]
    new = [] if after is None else [one for one in after.elements() if before is None or one not in before.elements()]
    commands = [f"delete element ip services {name} {{ {key} }}" for name, key in gone]
    if after is not None:
        commands += [
            f"add chain ip services {after.chain}",
            f"flush chain ip services {after.chain}",
            f"add rule ip services {after.chain} {after.statement()}",
        ]
        commands += [f"add element ip services {name} {{ {key} : goto {after.chain} }}" for name, key in new]
    elif before is not None:
        commands += [f"flush chain ip services {before.chain}", f"delete chain ip services {before.chain}"]
    return commands


async def keep_services_reachable(store: Store, index: SliceIndex) -> None:
    """Keep the node's translation table, and the addresses of load balancers, for as long as this runs."""
    queue: WorkQueue[ServiceKey] = WorkQueue()

    def hear(event: Event) -> None:
        queue.add((event.stored.namespace, event.stored.name))

    end = store.listen(hear, "services")
    index.listen(queue.add)
    try:
        plan = await _install(store, queue)
        while True:
            keys = await queue.take_all()
            try:
                await _apply(plan, keys, store, index)
            except (CommandError, TimeoutError) as error:
                _log.error("table is made anew", error=str(error))
                await asyncio.sleep(_RETRY)
                plan = await _install(store, queue)
            await asyncio.sleep(_GATHER)
    finally:
        end()


async def _install(store: Store, queue: WorkQueue[ServiceKey]) -> Plan:
    await run(["nft", "-f", "-"], given=_TABLE)
    for service in store.list("services"):
        queue.add((service.namespace, service.name))
    return Plan()


async def _apply(plan: Plan, keys: Iterable[ServiceKey], store: Store, index: SliceIndex) -> None:
    services = store.list("services")
    owners = balanced_ports(services)
    commands: list[str] = []
    # A port that one load balancer gives up may be for another.
    others = (
        [(one.namespace, one.name) for one in services if one.uid in owners.values()] if owners != plan.owners else []
    )
    plan.owners = owners
    for namespace, name in dict.fromkeys([*keys, *others]):
        service = store.find("services", namespace, name)
        rules = rules_of(service, index, owners) if service is not None else []
        commands += plan.change((namespace, name), rules)
        if service is not None:
            _tell_address(store, service, owners)
    if commands:
        await run(["nft", "-f", "-"], given="\n".join(_ordered(commands)) + "\n")


def _ordered(commands: list[str]) -> list[str]:
    """Map elements lead to chains: they go before, and come after."""
    removed = [one for one in commands if one.startswith("delete element")]
    added = [one for one in commands if one.startswith("add element")]
    chains_gone = [one for one in commands if one.startswith("delete chain")]
    chains = [one for one in commands if one not in {*removed, *added, *chains_gone}]
    return [*removed, *chains, *chains_gone, *added]


def _tell_address(store: Store, service: Stored, owners: Mapping[tuple[str, int], str]) -> None:
    """A load balancer's address is the node's; one that got no port there waits for it, as `kubectl get` shows."""
    if service.uid not in owners.values():
        return
    status = {"loadBalancer": {"ingress": [{"ip": layout.NODE_ADDRESS, "ipMode": "VIP"}]}}
    if service.content.get("status") == status:
        return
    content = service.copy()
    content["status"] = status
    try:
        store.update("services", service.namespace, content, _OPTIONS, subresource="status")
    except ApiError as error:
        _log.warning("address not told", service=service.name, error=str(error))
