"""Split DNS, the deciding half: which questions are ours, and their answers. No sockets.

Ours are the names of consumed services, all of `cluster.local`, and the reverse names of our virtual addresses; every other question is foreign
and goes unchanged to the machine's own name servers. What we do not have is NODATA where the name exists (never NXDOMAIN for AAAA, which would
make clients give up on the name), and answers live 5 s at most, so a change of the cluster is seen at once.
"""

import ipaddress
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from codezero.local.daemon.naming import CLUSTER_DOMAIN
from codezero.model.addresses import NETWORK

TTL_SECONDS = 5
HEADER = 12
# Unanswered by anybody else: a question under it that reaches us was sent by us and came back over a name server that asks us (T14).
LOOP_DOMAIN = "loop-check.codezero.test"

_MAX_NAME = 255
_PAYLOAD = 1232  # EDNS buffer that avoids fragments (DNS flag day 2020)
_MAX_CACHED = 4096
_MAX_KEPT = 512  # bytes of a query whose answer is kept; by TCP one may have 64 KB
_MAX_FORMS = 64
_BARE_OPT = 11  # RFC 6891: an OPT record without options
_RECORD_START = b"\xc0\x0c\0\1\0\1"  # the name at the question's, A, IN
_SOA = f"ns.dns.{CLUSTER_DOMAIN}. hostmaster.{CLUSTER_DOMAIN}. 1 7200 1800 86400 {TTL_SECONDS}"
_TRANSFERS = frozenset({dns.rdatatype.AXFR, dns.rdatatype.IXFR, dns.rdatatype.MAILA, dns.rdatatype.MAILB})

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Question:
    """The question of a query: name in lower case (None where a label holds a dot or is not ASCII), numbers, and where it ends in the bytes."""

    name: str | None
    kind: int
    kind_class: int
    end: int


def read_question(query: bytes) -> Question | None:
    """The first question of a DNS message; None when it cannot be read. Compressed names are not accepted."""
    labels: list[bytes] = []
    at = HEADER
    while at < len(query):
        length = query[at]
        if length > 63:
            return None
        if length == 0:
            break
        labels.append(query[at + 1 : at + 1 + length])
        at += 1 + length
    if at + 5 > len(query) or at + 1 - HEADER > _MAX_NAME:
        return None
    spelled = all(label.isascii() and b"." not in label for label in labels)
    return Question(
        b".".join(labels).decode("ascii").lower() if spelled else None,
        int.from_bytes(query[at + 1 : at + 3], "big"),
        int.from_bytes(query[at + 3 : at + 5], "big"),
        at + 5,
    )


def failure(query: bytes, code: dns.rcode.Rcode, question: Question | None = None) -> bytes:
    """An answer without records that says `code`. `query` has at least a header."""
    flags = 0x8080 | (query[2] << 8 & 0x7900) | int(code)  # QR and RA, with the query's opcode and RD
    asked = query[HEADER : question.end] if question else b""
    return query[:2] + flags.to_bytes(2, "big") + (b"\0\1" if question else b"\0\0") + bytes(6) + asked


@dataclass(frozen=True, slots=True)
class Foreign:
    """A query that is not ours to answer."""

    question: Question


class NameTable:
    """The names that are ours now, and whether we know the cluster well enough to deny one."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}
        self._full_names: dict[str, str] = {}
        self.version = 0
        self._is_complete = False

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def is_complete(self) -> bool:
        """Whether a name of the cluster that is not in here does not exist. False while the picture is still on its way."""
        return self._is_complete

    @is_complete.setter
    def is_complete(self, is_complete: bool) -> None:
        if is_complete != self._is_complete:
            self._is_complete = is_complete
            self.version += 1

    def add(self, names: Mapping[str, str]) -> None:
        """Names with their addresses, from now on."""
        self._addresses.update(names)
        self._full_names.update((at, name) for name, at in names.items() if name.endswith(CLUSTER_DOMAIN))
        self.version += 1

    def remove(self, names: Iterable[str]) -> None:
        """Names that are ours no longer."""
        for name in names:
            address = self._addresses.pop(name, None)
            if address is not None and self._full_names.get(address) == name:
                del self._full_names[address]
        self.version += 1

    def clear(self) -> None:
        """No name is ours any more."""
        self._addresses.clear()
        self._full_names.clear()
        self.version += 1

    def address_of(self, name: str) -> str | None:
        """The address of a name in lower case."""
        return self._addresses.get(name)

    def name_of(self, address: str) -> str | None:
        """The full name at an address."""
        return self._full_names.get(address)

    def items(self) -> Iterable[tuple[str, str]]:
        """All names with their addresses."""
        return self._addresses.items()


@dataclass(frozen=True, slots=True)
class _Form:
    """An answer without what differs: the header after the id, the record until its address, and what follows."""

    head: bytes
    record: bytes
    rest: bytes


class Responder:
    """Answers queries out of a `NameTable`."""

    def __init__(self, table: NameTable) -> None:
        self._table = table
        self._packed: dict[bytes, bytes] = {}
        self._packed_version = -1
        self._forms: dict[bytes, _Form] = {}

    def answer(self, query: bytes) -> bytes | Foreign | None:
        """The packed answer; `Foreign` when others are to be asked; None when the sender deserves no answer."""
        if self._packed_version != self._table.version:
            self._packed.clear()
            self._packed_version = self._table.version
        packed = self._packed.get(query[2:])
        if packed is not None:
            return query[:2] + packed
        # An answer sent to us could only start a ping-pong.
        if len(query) < HEADER or query[2] & 0x80:
            return None
        if query[2] & 0x78:
            return failure(query, dns.rcode.NOTIMP)
        question = read_question(query)
        if query[4:6] != b"\0\1" or question is None:
            return failure(query, dns.rcode.FORMERR)
        if question.name is None or not self._is_ours(question.name):
            return Foreign(question)
        address = self._table.address_of(question.name)
        if address is not None and question.kind == dns.rdatatype.A and question.kind_class == dns.rdataclass.IN:
            answer = self._answer_address(query, question, question.name, address)
        else:
            answer = self._answer_ours(query, question, question.name)
        if len(query) <= _MAX_KEPT:
            _keep(self._packed, query[2:], answer[2:], most=_MAX_CACHED)
        return answer

    def _answer_address(self, query: bytes, question: Question, name: str, address: str) -> bytes:
        """What programs mostly ask: answers to queries of one form differ in id, name and address only, so dnspython packs one of each form."""
        key = query[2:HEADER] + query[question.end - 4 :]
        form = self._forms.get(key)
        if form is not None:
            return b"".join(
                (query[:2], form.head, query[HEADER : question.end], form.record, _packed(address), form.rest)
            )
        answer = self._answer_ours(query, question, name)
        form = _form_of(answer, query, question, address)
        if form is not None and len(query) <= _MAX_KEPT:
            _keep(self._forms, key, form, most=_MAX_FORMS)
        return answer

    def _is_ours(self, name: str) -> bool:
        return (
            self._table.address_of(name) is not None
            or name == CLUSTER_DOMAIN
            or name.endswith((f".{CLUSTER_DOMAIN}", f".{LOOP_DOMAIN}"))
            or _virtual_address(name) is not None
        )

    def _answer_ours(self, query: bytes, question: Question, name: str) -> bytes:
        try:
            message = dns.message.from_wire(query)
        except dns.exception.DNSException:
            return failure(query, dns.rcode.FORMERR, question)
        response = dns.message.make_response(message, recursion_available=True, our_payload=_PAYLOAD)
        if message.edns > 0:
            response.set_rcode(dns.rcode.BADVERS)
        elif question.kind_class not in {dns.rdataclass.IN, dns.rdataclass.ANY} or question.kind in _TRANSFERS:
            response.set_rcode(dns.rcode.REFUSED)
        else:
            self._fill(response, message.question[0].name, dns.rdatatype.RdataType(question.kind), name)
        return response.to_wire()

    def _fill(
        self, response: dns.message.Message, asked: dns.name.Name, kind: dns.rdatatype.RdataType, name: str
    ) -> None:
        response.flags |= dns.flags.AA
        address = self._table.address_of(name)
        reverse = _virtual_address(name)
        pointed = self._table.name_of(reverse) if reverse else None
        if address and kind in {dns.rdatatype.A, dns.rdatatype.ANY}:
            response.answer.append(dns.rrset.from_text(asked, TTL_SECONDS, "IN", "A", address))
        elif pointed and kind in {dns.rdatatype.PTR, dns.rdatatype.ANY}:
            response.answer.append(dns.rrset.from_text(asked, TTL_SECONDS, "IN", "PTR", f"{pointed}."))
        else:
            is_cluster_name = name.endswith(CLUSTER_DOMAIN)
            if not (address or pointed or _is_inner_name(name)):
                response.set_rcode(
                    dns.rcode.SERVFAIL if is_cluster_name and not self._table.is_complete else dns.rcode.NXDOMAIN
                )
            zone = f"{CLUSTER_DOMAIN}." if is_cluster_name else asked
            response.authority.append(dns.rrset.from_text(zone, TTL_SECONDS, "IN", "SOA", _SOA))


def _form_of(answer: bytes, query: bytes, question: Question, address: str) -> _Form | None:
    """The form of a packed answer; None unless it is the question and one record, which refers to the question's name."""
    at = question.end + len(_RECORD_START) + 6  # TTL and length
    is_plain = (
        answer[6:8] == b"\0\1"
        and answer[HEADER : question.end] == query[HEADER : question.end]
        and answer[question.end :].startswith(_RECORD_START)
        and answer[at : at + 4] == _packed(address)
        and len(answer) - at - 4 in {0, _BARE_OPT}  # options may depend on the length of the name, as padding does
    )
    return _Form(answer[2:HEADER], answer[question.end : at], answer[at + 4 :]) if is_plain else None


def _packed(address: str) -> bytes:
    return socket.inet_aton(address)


def _keep(kept: dict[bytes, Kept], key: bytes, value: Kept, *, most: int) -> None:
    if len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value


def _is_inner_name(name: str) -> bool:
    """`cluster.local`, `svc.cluster.local` and `NAMESPACE.svc.cluster.local`: denying those would deny all below (RFC 8020)."""
    labels = name.split(".")
    return labels[-2:] == CLUSTER_DOMAIN.split(".") and (
        len(labels) == 2 or (len(labels) in {3, 4} and labels[-3] == "svc")
    )


def _virtual_address(name: str) -> str | None:
    """The virtual address that a reverse name speaks of."""
    if not name.endswith(".127.in-addr.arpa"):
        return None
    parts = name.removesuffix(".in-addr.arpa").split(".")
    try:
        address = ipaddress.IPv4Address(".".join(reversed(parts)))
    except ValueError:
        return None
    return str(address) if address in NETWORK else None
