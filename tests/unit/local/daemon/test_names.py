"""Which questions are ours, their answers, and that no bytes upset us."""

import random

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codezero.local.daemon.names import LOOP_DOMAIN, Foreign, NameTable, Responder, failure, read_question

ADDRESS = "127.73.1.2"
NAMES = ("orders", "orders.shop", "orders.shop.svc", "orders.shop.svc.cluster.local")


@pytest.fixture
def table() -> NameTable:
    found = NameTable()
    found.add(dict.fromkeys(NAMES, ADDRESS))
    found.is_complete = True
    return found


@pytest.fixture
def responder(table: NameTable) -> Responder:
    return Responder(table)


def ask(responder: Responder, name: str, kind: str = "A", **options: object) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    answer = responder.answer(query.to_wire())
    assert isinstance(answer, bytes)
    response = dns.message.from_wire(answer)
    assert query.is_response(response)
    return response


@pytest.mark.parametrize("name", [*NAMES, "Orders.SHOP", "oRdErS.shop.SVC.cluster.local"])
def test_every_form_of_a_name_answers_the_address(responder: Responder, name: str) -> None:
    """Names are compared without case, and the question comes back as it was spelled (some resolvers check that)."""
    response = ask(responder, name)

    assert response.rcode() == dns.rcode.NOERROR
    assert response.flags & dns.flags.AA
    assert response.answer[0][0].to_text() == ADDRESS
    assert response.answer[0].ttl <= 5
    assert str(response.question[0].name) == f"{name}."


@pytest.mark.parametrize("kind", ["AAAA", "MX", "TXT", "SRV", "HTTPS", "DS", "CNAME", "PTR", "SOA"])
def test_other_types_of_our_names_are_no_data(responder: Responder, kind: str) -> None:
    """NXDOMAIN for AAAA would make clients give the name up altogether."""
    response = ask(responder, "orders.shop", kind)

    assert response.rcode() == dns.rcode.NOERROR
    assert not response.answer
    assert response.authority[0].rdtype == dns.rdatatype.SOA
    assert response.authority[0][0].minimum <= 5


@pytest.mark.parametrize(
    "options", [{}, {"use_edns": 0}, {"use_edns": 0, "want_dnssec": True}, {"use_edns": 1}, {"flags": 0}]
)
def test_the_second_query_of_a_form_is_answered_as_by_the_library(
    responder: Responder, table: NameTable, options: dict[str, int]
) -> None:
    """Answers that are put together from an earlier one must not differ from those that are packed anew."""
    table.add({"cart.shop": "127.73.9.8"})
    first = responder.answer(dns.message.make_query("orders.shop", "A", **options).to_wire())
    query = dns.message.make_query("CaRT.shop", "A", **options).to_wire()

    assert responder.answer(query) == Responder(table).answer(query)
    assert first != responder.answer(query)


def test_an_address_that_changed_is_answered(responder: Responder, table: NameTable) -> None:
    ask(responder, "orders.shop")
    table.add({"orders.shop": "127.73.9.8"})

    assert ask(responder, "orders.shop").answer[0][0].to_text() == "127.73.9.8"


def test_any_gets_the_address(responder: Responder) -> None:
    assert ask(responder, "orders.shop", "ANY").answer[0][0].to_text() == ADDRESS


def test_names_of_the_cluster_that_are_not_consumed_do_not_exist(responder: Responder) -> None:
    """The cluster's domain never leaks to the name servers of the internet."""
    response = ask(responder, "payments.shop.svc.cluster.local")

    assert response.rcode() == dns.rcode.NXDOMAIN
    assert response.authority[0].rdtype == dns.rdatatype.SOA


def test_before_the_picture_is_there_nothing_is_denied(responder: Responder, table: NameTable) -> None:
    """A denial would be remembered by clients that start together with us."""
    table.is_complete = False

    assert ask(responder, "payments.shop.svc.cluster.local").rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize("name", ["cluster.local", "svc.cluster.local", "shop.svc.cluster.local"])
def test_domains_above_our_names_are_not_denied(responder: Responder, name: str) -> None:
    """Resolvers that believe RFC 8020 would deny everything below too."""
    assert ask(responder, name).rcode() == dns.rcode.NOERROR


def test_reverse_names_of_our_addresses(responder: Responder) -> None:
    assert ask(responder, "2.1.73.127.in-addr.arpa", "PTR").answer[0][0].to_text() == "orders.shop.svc.cluster.local."
    assert ask(responder, "2.1.73.127.in-addr.arpa", "A").rcode() == dns.rcode.NOERROR
    assert ask(responder, "9.9.73.127.in-addr.arpa", "PTR").rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize(
    "name",
    [
        "example.com",
        "payments.shop",
        "x.orders.shop",
        "shop",
        ".",
        "1.0.0.127.in-addr.arpa",
        "fakecluster.local",
        r"orders\.shop",
    ],
)
def test_everything_else_is_foreign(responder: Responder, name: str) -> None:
    """Also a single label with a dot inside, which is not our name of two labels."""
    assert isinstance(responder.answer(dns.message.make_query(name, "A").to_wire()), Foreign)


def test_names_taken_away_are_gone_at_once(responder: Responder, table: NameTable) -> None:
    """Answers are packed once and kept; a kept one must not outlive its name."""
    ask(responder, "orders.shop")

    table.remove(["orders.shop"])

    assert isinstance(responder.answer(dns.message.make_query("orders.shop", "A").to_wire()), Foreign)


def test_kept_answers_carry_the_id_of_each_query(responder: Responder) -> None:
    first, second = ask(responder, "orders.shop", id=1), ask(responder, "orders.shop", id=2)

    assert (first.id, second.id) == (1, 2)


def test_edns_is_answered_with_edns(responder: Responder) -> None:
    assert ask(responder, "orders.shop", use_edns=0, payload=4096, want_dnssec=True).edns == 0
    assert ask(responder, "orders.shop", use_edns=5).rcode() == dns.rcode.BADVERS
    assert ask(responder, "orders.shop", use_edns=False).edns == -1


@pytest.mark.parametrize("kind", ["AXFR", "MAILB"])
def test_transfers_are_refused(responder: Responder, kind: str) -> None:
    assert ask(responder, "cluster.local", kind).rcode() == dns.rcode.REFUSED


def test_other_classes_are_refused(responder: Responder) -> None:
    assert ask(responder, "orders.shop", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED


def test_answers_sent_to_us_are_dropped(responder: Responder) -> None:
    """Answering an answer would let two servers talk for ever."""
    query = dns.message.make_query("orders.shop", "A")

    assert responder.answer(dns.message.make_response(query).to_wire()) is None


HOSTILE = {
    "a bare header": b"\x12\x34\x01\0\0\1\0\0\0\0\0\0",
    "no question": b"\x12\x34\x01\0\0\0\0\0\0\0\0\0",
    "two questions": b"\x12\x34\x01\0\0\2\0\0\0\0\0\0" + b"\1a\0\0\1\0\1" * 2,
    "a name that points to itself": b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
    "a label longer than the packet": b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x3fabc",
    "a label of an unknown kind": b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x41abc\0\0\1\0\1",
    "a name of 300 bytes": b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + b"\x0babcdefghijk" * 25 + b"\0\0\1\0\1",
    "our name, cut type": b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\6orders\0\0",
    "our name, rubbish behind": b"\x12\x34\x01\0\0\1\0\0\0\0\0\1\6orders\0\0\1\0\1\xff\xff\xff",
    "our name, counts that lie": b"\x12\x34\x01\0\0\1\xff\xff\xff\xff\xff\xff\6orders\0\0\1\0\1",
    "our name, a broken OPT": b"\x12\x34\x01\0\0\1\0\0\0\0\0\1\6orders\0\0\1\0\1\0\0\x29\x10\0\0\0\0\0\0\7\0",
    "our name, two OPTs": b"\x12\x34\x01\0\0\1\0\0\0\0\0\2\6orders\0\0\1\0\1" + b"\0\0\x29\x10\0\0\0\0\0\0\0" * 2,
    "our name, a signature": b"\x12\x34\x01\0\0\1\0\0\0\0\0\1\6orders\0\0\1\0\1\0\0\xfa\0\xff\0\0\0\0\0\0",
}


@pytest.mark.parametrize("packet", HOSTILE.values(), ids=HOSTILE.keys())
def test_malformed_queries_get_a_format_error(responder: Responder, packet: bytes) -> None:
    answer = responder.answer(packet)

    assert isinstance(answer, bytes)
    assert answer[:2] == packet[:2]
    assert answer[3] & 0x0F == dns.rcode.FORMERR


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_other_operations_are_not_implemented(responder: Responder, opcode: int) -> None:
    packet = b"\x12\x34" + bytes([opcode << 3]) + b"\0\0\1\0\0\0\0\0\0\6orders\0\0\1\0\1"

    assert responder.answer(packet)[3] & 0x0F == dns.rcode.NOTIMP  # type: ignore[index]


def test_short_packets_are_dropped(responder: Responder) -> None:
    assert all(responder.answer(bytes(length)) is None for length in range(12))


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise(packet: bytes) -> None:
    table = NameTable()
    table.add({"orders": ADDRESS})
    check(Responder(table), packet)


@given(
    st.sampled_from((*NAMES, "example.com", f"0.{LOOP_DOMAIN}", "2.1.73.127.in-addr.arpa")),
    st.integers(0, 65535),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.integers(0, 100),
)
@settings(max_examples=500, deadline=None)
def test_no_damaged_query_raises(name: str, kind: int, edns: bool, damage: list[tuple[int, int]], cut: int) -> None:
    table = NameTable()
    table.add(dict.fromkeys(NAMES, ADDRESS))
    packet = bytearray(dns.message.make_query(name, kind, use_edns=edns).to_wire())
    for at, value in damage:
        packet[at % len(packet)] = value
    check(Responder(table), bytes(packet[: max(0, len(packet) - cut)] if cut < 60 else packet))


def check(responder: Responder, packet: bytes) -> None:
    for _ in range(2):  # the second answer comes from the kept ones
        answer = responder.answer(packet)
        if isinstance(answer, bytes):
            assert answer[:2] == packet[:2]
            assert answer[2] & 0x80
            dns.message.from_wire(answer)
        elif isinstance(answer, Foreign):
            refusal = dns.message.from_wire(failure(packet, dns.rcode.SERVFAIL, answer.question))
            assert refusal.rcode() == dns.rcode.SERVFAIL


def test_questions_are_read_as_dnspython_reads_them() -> None:
    """Two readers that disagree about a name are a way past every check on it."""
    source = random.Random(7)
    alphabet = b"aZ-09\xff.\0\\ "
    for _ in range(500):
        labels = [bytes(source.choices(alphabet, k=source.randint(1, 20))) for _ in range(source.randint(0, 6))]
        name = dns.name.Name([*labels, b""])
        question = read_question(dns.message.make_query(name, "A").to_wire())

        assert question is not None
        read = [part for part in (question.name or "").encode().split(b".") if part]
        if question.name is not None:
            assert read == [label.lower() for label in name.labels[:-1]]
        else:
            assert any(b"." in label or not label.isascii() for label in labels)
