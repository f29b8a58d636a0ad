"""Chooses where a laptop's stream goes: from a catalog id to addresses that may be dialled (T17).

Whoever may write a Service or an EndpointSlice must not lead a laptop to nodes, the Kubernetes API or the cloud's metadata, so every address is
judged after it is resolved, and is handed on as exactly the address to dial: there is no second resolution that could say something else.
"""

import asyncio
import hashlib
import ipaddress
import random
import re
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, Protocol, Service, ServiceKind
from codezero.system.backends import Backend
from codezero.system.inventory import API_SERVICE, Inventory

MOST_CANDIDATES = 4
RESOLVE_SECONDS = 3.0
RESOLVED_FOR_SECONDS = 5.0
MOST_RESOLVED = 256
MOST_ROTATIONS = 4096
MOST_JUDGED = 4096
MOST_RESOLUTIONS_AT_ONCE = 8

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str], Awaitable[Sequence[str]]]

# Never reached, whatever a setting says: no service stands there, only machinery of the host or the cloud.
_NEVER: tuple[tuple[Network, str], ...] = (
    (IPv4Network("0.0.0.0/8"), "an unspecified address"),
    (IPv4Network("169.254.169.254/32"), "the cloud's metadata service"),
    (IPv4Network("169.254.170.0/24"), "the cloud's metadata service"),
    (IPv4Network("100.100.100.200/32"), "the cloud's metadata service"),
    (IPv4Network("168.63.129.16/32"), "the cloud's metadata service"),
    (IPv4Network("192.0.0.0/24"), "an address reserved for protocols"),
    (IPv4Network("224.0.0.0/4"), "a multicast address"),
    (IPv4Network("255.255.255.255/32"), "the broadcast address"),
    (IPv6Network("fd00:ec2::/32"), "the cloud's metadata service"),
    (IPv6Network("fd20:ce::254/128"), "the cloud's metadata service"),
    (IPv6Network("::/128"), "an unspecified address"),
    (IPv6Network("ff00::/8"), "a multicast address"),
    # Forms that carry an IPv4 address inside would slip past the rules for IPv4.
    (IPv6Network("::ffff:0:0/96"), "an IPv4 address in IPv6 form"),
    (IPv6Network("::ffff:0:0:0/96"), "an IPv4 address in IPv6 form"),
    (IPv6Network("64:ff9b::/96"), "an IPv4 address in IPv6 form"),
    (IPv6Network("64:ff9b:1::/48"), "an IPv4 address in IPv6 form"),
    (IPv6Network("2001::/32"), "an IPv4 address in IPv6 form"),
    (IPv6Network("2002::/16"), "an IPv4 address in IPv6 form"),
)
_UNLESS_ALLOWED: tuple[tuple[Network, str], ...] = (
    (IPv4Network("127.0.0.0/8"), "a loopback address"),
    (IPv4Network("169.254.0.0/16"), "a link-local address"),
    (IPv6Network("::1/128"), "a loopback address"),
    (IPv6Network("fe80::/10"), "a link-local address"),
    (IPv6Network("fec0::/10"), "a site-local address"),
)
_USABLE_IPV6 = (IPv6Network("2000::/3"), IPv6Network("fc00::/7"))
_DOMAIN = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to dial as it stands, and its port."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class AllowedDomain:
    """Names that ExternalName services may lead to: one name, or all below it for `*.name`; private addresses only with `private`."""

    pattern: str
    private: bool = False

    def admits(self, name: str) -> bool:
        """Whether the lower-case `name` is one of these."""
        if self.pattern.startswith("*."):
            return name.endswith(self.pattern[1:]) and len(name) >= len(self.pattern)
        return name == self.pattern


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Where streams may go beyond the pods of the cluster.

    `domains` are for ExternalName services. `networks` lets addresses in that are refused otherwise: nodes (services of `hostNetwork` pods),
    loopback, link-local. Metadata services and disguised addresses stay refused. `api_hosts` are further addresses of the Kubernetes API.
    """

    domains: tuple[AllowedDomain, ...] = ()
    networks: tuple[Network, ...] = ()
    api_hosts: frozenset[str] = frozenset()


def parse_allowed_domains(text: str) -> tuple[AllowedDomain, ...]:
    """The domains that a setting lists, by commas or spaces, each `name`, `*.name`, `name=private` or `*.name=private`; raises `CodezeroError`."""
    return tuple(_parse_allowed_domain(entry) for entry in text.replace(",", " ").split())


def parse_networks(text: str) -> tuple[Network, ...]:
    """The networks that a setting lists, by commas or spaces, like `10.0.0.0/24`; raises `CodezeroError`."""
    try:
        return tuple(ipaddress.ip_network(entry) for entry in text.replace(",", " ").split())
    except ValueError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"not a network: {error}", fix="write it like 10.0.0.0/24") from None


def refusal(address: Address, rules: AddressRules) -> str | None:
    """What `address` is when it must not be reached, None when its class is fine; says nothing of nodes and the API server."""
    for network, what in _NEVER:
        if address in network:
            return what
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "an address with a scope"
    if any(address in network for network in rules.networks):
        return None
    for network, what in _UNLESS_ALLOWED:
        if address in network:
            return what
    if isinstance(address, IPv6Address) and not any(address in network for network in _USABLE_IPV6):
        return "a reserved address"
    return None


async def resolve_by_system(name: str) -> Sequence[str]:
    """The addresses of a fully qualified name, by this machine's resolver, IPv4 first; empty when there are none."""
    loop = asyncio.get_running_loop()
    try:
        # The dot at the end keeps search domains of the pod out.
        found = await loop.getaddrinfo(f"{name}.", None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    addresses = [str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET)]
    return tuple(dict.fromkeys(addresses))


@dataclass(frozen=True, slots=True)
class _Judged:
    """What the rules alone say of an address, in its one spelling: they do not change while the System runs, what stands in the cluster does."""

    verdict: str | None
    address: str
    is_let_in: bool = False


class EndpointChooser:
    """Turns catalog ids into endpoints, by turns, within the rules."""

    def __init__(
        self,
        inventory: Inventory,
        rules: AddressRules | None = None,
        *,
        resolve: Resolve = resolve_by_system,
        clock: Callable[[], float] = time.monotonic,
        source: random.Random | None = None,
    ) -> None:
        self._inventory = inventory
        self._rules = rules or AddressRules()
        self._api_hosts = frozenset(_one_spelling(host) for host in self._rules.api_hosts)
        self._resolve = resolve
        self._clock = clock
        self._random = source or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._turns: OrderedDict[tuple[CatalogId, Protocol], int] = OrderedDict()
        self._resolved: OrderedDict[str, tuple[float, Sequence[str]]] = OrderedDict()
        self._judged: dict[str, _Judged] = {}
        self._resolving = asyncio.Semaphore(MOST_RESOLUTIONS_AT_ONCE)

    async def choose(
        self, wanted: CatalogId, *, protocol: Protocol = Protocol.TCP, client: str | None = None
    ) -> tuple[Endpoint, ...]:
        """Up to `MOST_CANDIDATES` endpoints to try in this order, at least one; suspends for ExternalName services only.

        `client` names whose connections a service with affinity keeps on one pod. Raises `CodezeroError`: SERVICE_UNKNOWN, NO_ENDPOINT or
        ADDRESS_REFUSED.
        """
        service = self._find(wanted, protocol)
        if wanted.service == API_SERVICE:
            raise _refused(wanted, "the Kubernetes API itself")
        if not self._inventory.knows_nodes:
            raise CodezeroError(
                problems.NO_ENDPOINT,
                f"{wanted} cannot be reached yet: the System has not seen the cluster's nodes since it started",
                fix="try again in a moment; if it stays so, an administrator checks that the System may list nodes",
            )
        if service.kind is ServiceKind.EXTERNAL_NAME:
            return await self._external(wanted, service)
        return self._within_cluster(wanted, protocol=protocol, client=client)

    def _find(self, wanted: CatalogId, protocol: Protocol) -> Service:
        service = self._inventory.get(wanted.service)
        if service is None:
            raise self._unknown(
                f"there is no service {wanted.service}"
                if self._inventory.has_namespace(wanted.service.namespace)
                else f"there is no namespace {wanted.service.namespace}"
            )
        if protocol is Protocol.SCTP or not any(
            port.port == wanted.port and port.protocol is protocol for port in service.ports
        ):
            offered = ", ".join(f"{port.port}/{port.protocol}" for port in service.ports[:20]) or "none"
            raise self._unknown(f"{wanted.service} has no port {wanted.port}/{protocol}; its ports: {offered}")
        if wanted.pod is not None and not (
            service.kind is ServiceKind.HEADLESS and self._inventory.has_pod(wanted.service, wanted.pod)
        ):
            raise self._unknown(f"{wanted.service} has no pod {wanted.pod}")
        return service

    def _unknown(self, detail: str) -> CodezeroError:
        since = self._inventory.stale_since
        if since is not None:
            detail += "; the System cannot see the cluster at the moment and may have missed it"
        return CodezeroError(problems.SERVICE_UNKNOWN, detail, fix="`czctl services list` shows what there is")

    # --- pods -----------------------------------------------------------------------------------------------------------------------------

    def _within_cluster(self, wanted: CatalogId, *, protocol: Protocol, client: str | None) -> tuple[Endpoint, ...]:
        backends = self._inventory.backends(wanted.service, wanted.port, protocol)
        if wanted.pod is not None:
            backends = tuple(backend for backend in backends if backend.pod == wanted.pod)
        if not backends:
            which = f"pod {wanted.pod} of {wanted.service}" if wanted.pod else f"{wanted.service} has no pod that"
            raise CodezeroError(
                problems.NO_ENDPOINT,
                f"{which} is not ready" if wanted.pod else f"{which} is ready",
                fix=f"whoever runs it sees why with `kubectl -n {wanted.service.namespace} get pods`",
            )
        ordered = self._in_order(backends, wanted, protocol=protocol, client=client)
        # Kubernetes forbids ClusterIPs as endpoints; a slice that has one leads to a service the policy was not asked about.
        endpoints = (Endpoint(backend.address, backend.port) for backend in ordered)
        return self._admitted(wanted, endpoints, virtual=False)

    def _in_order(
        self, backends: tuple[Backend, ...], wanted: CatalogId, *, protocol: Protocol, client: str | None
    ) -> Iterable[Backend]:
        if len(backends) == 1:
            return backends
        if client is not None and self._inventory.keeps_clients_together(wanted.service):
            # Highest random weight: a pod that comes or goes moves only the clients it must.
            return sorted(backends, key=lambda backend: hashlib.sha256(f"{client} {backend.address}".encode()).digest())
        turn = self._turns.pop((wanted, protocol), None)
        if turn is None:
            turn = self._random.randrange(len(backends))
        self._turns[wanted, protocol] = turn + 1
        if len(self._turns) > MOST_ROTATIONS:
            self._turns.popitem(last=False)
        start = turn % len(backends)
        return backends[start:] + backends[:start]

    def _admitted(
        self, wanted: CatalogId, endpoints: Iterable[Endpoint], *, virtual: bool = True
    ) -> tuple[Endpoint, ...]:
        admitted: list[Endpoint] = []
        reason = "no address"
        for endpoint in endpoints:
            verdict, address = self._judge(endpoint.address, virtual=virtual)
            if verdict is None:
                admitted.append(Endpoint(address, endpoint.port))
                if len(admitted) == MOST_CANDIDATES:
                    break
            else:
                reason = f"{endpoint.address}, {verdict}"
        if not admitted:
            raise _refused(wanted, reason)
        return tuple(admitted)

    def _judge(self, text: str, *, virtual: bool) -> tuple[str | None, str]:
        """Why that address is refused, or None; and its one spelling. ClusterIPs are fine only where `virtual` says so."""
        judged = self._judged.get(text)
        if judged is None:
            if len(self._judged) >= MOST_JUDGED:
                self._judged.clear()
            judged = self._judged[text] = self._judge_by_rules(text)
        verdict, normal = judged.verdict, judged.address
        if verdict is None and self._inventory.is_api_address(normal):
            verdict = "the Kubernetes API itself"
        if verdict is None and not judged.is_let_in:
            node = self._inventory.node_of(normal)
            verdict = None if node is None else f"an address of node {node}"
            if verdict is None and not virtual and self._inventory.virtual_of(normal) is not None:
                verdict = "the ClusterIP of a service"
        return verdict, normal

    def _judge_by_rules(self, text: str) -> "_Judged":
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return _Judged("which is not an address", text)
        verdict = refusal(address, self._rules)
        if verdict is None and str(address) in self._api_hosts:
            verdict = "the Kubernetes API itself"
        return _Judged(verdict, str(address), any(address in network for network in self._rules.networks))

    # --- ExternalName ---------------------------------------------------------------------------------------------------------------------

    async def _external(self, wanted: CatalogId, service: Service) -> tuple[Endpoint, ...]:
        name = (service.external_name or "").lower().removesuffix(".")
        allowed = [domain for domain in self._rules.domains if domain.admits(name)]
        if _DOMAIN.fullmatch(name) is None or not allowed:
            raise CodezeroError(
                problems.ADDRESS_REFUSED,
                f"{wanted.service} leads out of the cluster to {name[:253]!r}, which is not on the list of allowed domains",
                fix="an administrator of the Teamspace can add the domain to the System's settings",
            )
        addresses = await self._addresses_of(name)
        if not addresses:
            raise CodezeroError(
                problems.NO_ENDPOINT,
                f"{wanted.service} leads to {name}, which the cluster's DNS does not know or did not answer in time",
                fix="check the externalName of the service",
            )
        if not any(domain.private for domain in allowed):
            addresses = tuple(address for address in addresses if _is_public(address))
            if not addresses:
                raise _refused(wanted, f"{name}, which has private addresses only, and the list allows public ones")
        return self._admitted(wanted, (Endpoint(address, wanted.port) for address in addresses))

    async def _addresses_of(self, name: str) -> Sequence[str]:
        now = self._clock()
        known = self._resolved.get(name)
        if known is not None and known[0] > now:
            return known[1]
        try:
            async with asyncio.timeout(RESOLVE_SECONDS), self._resolving:
                addresses = await self._resolve(name)
        except TimeoutError:
            return ()
        self._resolved[name] = (now + RESOLVED_FOR_SECONDS, addresses)
        if len(self._resolved) > MOST_RESOLVED:
            self._resolved.popitem(last=False)
        return addresses


def _refused(wanted: CatalogId, what: str) -> CodezeroError:
    return CodezeroError(
        problems.ADDRESS_REFUSED,
        f"{wanted} leads to {what}",
        fix="consume a service whose pods have addresses of their own (no hostNetwork)",
    )


def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _one_spelling(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host


def _parse_allowed_domain(entry: str) -> AllowedDomain:
    pattern, equals, scope = entry.lower().partition("=")
    pattern = pattern.removesuffix(".")
    bare = pattern.removeprefix("*.")
    if _DOMAIN.fullmatch(bare) is None or (equals and scope != "private") or ("*" in bare):
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{entry[:253]!r} is not an allowed domain",
            fix="write name, *.name, name=private or *.name=private",
        )
    return AllowedDomain(pattern, private=bool(equals))
