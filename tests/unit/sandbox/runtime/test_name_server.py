import asyncio
import socket
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox import internet, name_server


async def internet_answer(query: dns.message.Message) -> dns.message.Message:
    if "broken" in str(query.question[0].name):
        raise OSError("upstream is away")
    return await internet._answer(query)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    number = free.getsockname()[1]
    free.close()
    datagrams, listener = name_server.bound_sockets("127.0.0.1", number)
    async with name_server.serving(internet_answer, datagrams=datagrams, listener=listener):
        yield number


async def ask(port: int, name: str, kind: str = "A", *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    ways = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await ways(query, "127.0.0.1", port=port, timeout=5)


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("www.example", "A", ["192.0.2.80"]),
        ("www.example", "AAAA", []),
        ("dual.example", "AAAA", ["2001:db8::80"]),
        ("www.example", "TXT", ['"the sandbox internet knows www.example."']),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
async def test_names_of_the_internet(port: int, name: str, kind: str, answer: list[str], tcp: bool) -> None:
    reply = await ask(port, name, kind, tcp=tcp)

    assert reply.rcode() == dns.rcode.NOERROR
    assert [str(item) for rrset in reply.answer for item in rrset] == answer


@pytest.mark.parametrize("name", ["nowhere.example", "www.other", "a.nowhere.example"])
async def test_names_that_do_not_exist(port: int, name: str) -> None:
    assert (await ask(port, name)).rcode() == dns.rcode.NXDOMAIN


async def test_answers_that_are_too_large_come_over_tcp(port: int) -> None:
    assert (await ask(port, "large.example", "TXT")).flags & dns.flags.TC
    assert len((await ask(port, "large.example", "TXT", tcp=True)).answer[0][0].strings) == 30


async def test_a_failure_is_told_and_the_server_lives_on(port: int) -> None:
    assert (await ask(port, "broken.example")).rcode() == dns.rcode.SERVFAIL
    assert (await ask(port, "www.example")).rcode() == dns.rcode.NOERROR


@given(st.binary(max_size=200))
def test_bytes_that_are_no_query_get_no_answer_and_no_crash(content: bytes) -> None:
    reply = asyncio.run(name_server.answered(internet_answer, content, stream=False))

    assert reply is None or dns.message.from_wire(reply)
