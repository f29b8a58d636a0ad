"""The cluster's name server: Services, pods of headless Services, ExternalNames, everything else from the internet.

Names as in the Kubernetes DNS specification 1.1.0.
"""

import asyncio
import socket

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from codezero.sandbox import layout
from codezero.sandbox.api.documents import as_objects, at
from codezero.sandbox.api.storage import Stored
from codezero.sandbox.api.store import Store
from codezero.sandbox.endpoints import SliceIndex, usable

TTL = 5
_ZONE = dns.name.from_text(f"{layout.DOMAIN}.")
_SOA = f"ns.dns.{layout.DOMAIN}. hostmaster.{layout.DOMAIN}. 1 7200 1800 86400 5"
_UPSTREAM_DEADLINE = 2.0
_UPSTREAM_TRIES = 2


class ClusterNames:
    """Answers queries as the cluster's name server."""

    def __init__(self, store: Store, index: SliceIndex) -> None:
        self._store = store
        self._index = index

    async def answer(self, query: dns.message.Message) -> dns.message.Message:
        """The answer to a query with one question."""
        question = query.question[0]
        if not question.name.is_subdomain(_ZONE):
            return await _forwarded(query)
        reply = dns.message.make_response(query, recursion_available=True)
        labels = [label.decode("ascii", "replace").lower() for label in question.name.relativize(_ZONE).labels]
        target = self._external(labels)
        if target is not None:
            return await _aliased(query, reply, target)
        records = self._records(labels, question.rdtype)
        if records is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        if records:
            reply.answer.append(dns.rrset.from_text(question.name, TTL, "IN", question.rdtype, *records))
        else:
            reply.authority.append(dns.rrset.from_text(_ZONE, TTL, "IN", "SOA", _SOA))
        return reply

    def _external(self, labels: list[str]) -> dns.name.Name | None:
        if len(labels) != 3 or labels[2] != "svc":
            return None
        service = self._store.find("services", labels[1], labels[0])
        if service is None or at(service.content, "spec", "type") != "ExternalName":
            return None
        return dns.name.from_text(service.content["spec"]["externalName"])

    def _records(self, labels: list[str], kind: dns.rdatatype.RdataType) -> list[str] | None:
        """The records of a name of the zone; empty where it has none of that kind, `None` where there is no such name."""
        match labels:
            case [] | ["svc"] | ["pod"]:
                return []
            case [namespace, "svc" | "pod"]:
                return [] if self._store.find("namespaces", "", namespace) is not None else None
            case [address, _, "pod"]:
                return _of_kind(kind, [address.replace("-", ".")]) if _is_address(address.replace("-", ".")) else None
            case [name, namespace, "svc"]:
                addresses = self._service_addresses(namespace, name)
                return None if addresses is None else _of_kind(kind, addresses)
            case [host, name, namespace, "svc"]:
                addresses = self._host_addresses(namespace, name, host)
                return _of_kind(kind, addresses) if addresses else None
            case [port, protocol, name, namespace, "svc"] if port[:1] == "_" and protocol[:1] == "_":
                return self._service_records(namespace, name, (port[1:], protocol[1:].upper()), kind)
            case _:
                return None

    def _service_addresses(self, namespace: str, name: str) -> list[str] | None:
        service = self._store.find("services", namespace, name)
        if service is None:
            return None
        address = at(service.content, "spec", "clusterIP")
        if address != "None":
            return [address] if address else []
        return sorted({address for addresses in self._hosts(service).values() for address in addresses})

    def _host_addresses(self, namespace: str, name: str, host: str) -> list[str]:
        service = self._store.find("services", namespace, name)
        if service is None or at(service.content, "spec", "clusterIP") != "None":
            return []
        return sorted(self._hosts(service).get(host, ()))

    def _hosts(self, service: Stored) -> dict[str, set[str]]:
        """The ready addresses of a headless Service by their names."""
        found: dict[str, set[str]] = {}
        for endpoint in self._index.endpoints((service.namespace, service.name)):
            if at(endpoint, "conditions", "ready") is False:
                continue
            for address in endpoint.get("addresses") or ():
                found.setdefault(endpoint.get("hostname") or address.replace(".", "-"), set()).add(address)
        return found

    def _service_records(
        self, namespace: str, name: str, wanted: tuple[str, str], kind: dns.rdatatype.RdataType
    ) -> list[str] | None:
        service = self._store.find("services", namespace, name)
        if service is None:
            return None
        full = f"{name}.{namespace}.svc.{layout.DOMAIN}."
        found: list[str] = []
        for port in as_objects(at(service.content, "spec", "ports")):
            if (port.get("name", ""), port.get("protocol", "TCP")) != wanted:
                continue
            if at(service.content, "spec", "clusterIP") != "None":
                found.append(f"0 100 {port['port']} {full}")
                continue
            backends = usable(self._index.backends((namespace, name), *wanted))
            found += [f"0 100 {one.port} {one.host_name or one.address.replace('.', '-')}.{full}" for one in backends]
        if not found:
            return None
        return found if kind == dns.rdatatype.SRV else []


def _of_kind(kind: dns.rdatatype.RdataType, addresses: list[str]) -> list[str]:
    return addresses if kind == dns.rdatatype.A else []


def _is_address(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, text)
    except OSError:
        return False
    return True


async def _aliased(
    query: dns.message.Message, reply: dns.message.Message, target: dns.name.Name
) -> dns.message.Message:
    question = query.question[0]
    reply.answer.append(dns.rrset.from_text(question.name, TTL, "IN", "CNAME", str(target)))
    if question.rdtype not in {dns.rdatatype.A, dns.rdatatype.AAAA} or target.is_subdomain(_ZONE):
        return reply
    further = await _forwarded(dns.message.make_query(target, question.rdtype))
    reply.answer += further.answer
    return reply


async def _forwarded(query: dns.message.Message) -> dns.message.Message:
    """What the internet's name server says; over TCP where a datagram is too small. Raises TimeoutError when it is silent."""
    own = dns.message.make_query(query.question[0].name, query.question[0].rdtype, use_edns=0, payload=1232)
    reply = await _ask_by_datagram(own)
    if reply.flags & dns.flags.TC:
        reply = await _ask_by_stream(own)
    answer = dns.message.make_response(query, recursion_available=True)
    answer.set_rcode(reply.rcode())
    answer.answer, answer.authority = reply.answer, reply.authority
    return answer


async def _ask_by_datagram(query: dns.message.Message) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    for attempt in range(_UPSTREAM_TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setblocking(False)
            asking.connect((layout.INTERNET_DNS, 53))
            await loop.sock_sendall(asking, query.to_wire())
            try:
                async with asyncio.timeout(_UPSTREAM_DEADLINE):
                    while True:
                        reply = dns.message.from_wire(await loop.sock_recv(asking, 65535))
                        if query.is_response(reply):
                            return reply
            except TimeoutError:
                if attempt + 1 == _UPSTREAM_TRIES:
                    raise
    raise TimeoutError


async def _ask_by_stream(query: dns.message.Message) -> dns.message.Message:
    async with asyncio.timeout(_UPSTREAM_DEADLINE):
        reader, writer = await asyncio.open_connection(layout.INTERNET_DNS, 53)
        try:
            content = query.to_wire()
            writer.write(len(content).to_bytes(2) + content)
            await writer.drain()
            size = int.from_bytes(await reader.readexactly(2))
            return dns.message.from_wire(await reader.readexactly(size))
        finally:
            writer.close()
