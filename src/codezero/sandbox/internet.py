"""The sandbox's little internet: a name server that knows `*.example`, and one web page. Stand-ins for everything that is not the cluster.

`www.example` is the web page, `hub.example` the Hub, where there is one, `dual.example` has an IPv6 address too, `large.example` more TXT than fits into a datagram; `nowhere.example` and
what is below it do not exist, nor does any other zone.
"""

import asyncio
import ipaddress
import socket
import zlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from codezero.sandbox import layout, name_server, namespaces

_ZONE = dns.name.from_text("example.")
_NOWHERE = dns.name.from_text("nowhere.example.")
_SOA = "ns.example. admin.example. 1 60 60 60 5"
_TTL = 60
_REQUEST_DEADLINE = 10.0
_PAGE = b"<!doctype html><title>www.example</title><p>A page on the sandbox's stand-in for the internet.\n"


@asynccontextmanager
async def serving() -> AsyncGenerator[None, None]:
    """The internet's servers, in its network namespace, while the block lasts."""
    with namespaces.network(layout.network_file(layout.INTERNET)):
        datagrams, listener = name_server.bound_sockets(layout.INTERNET_DNS)
        web = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        web.bind((layout.INTERNET_WEB, 80))
        web.listen(128)
    web.setblocking(False)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(name_server.serving(_answer, datagrams=datagrams, listener=listener))
        server = await asyncio.start_server(_show_page, sock=web)
        stack.callback(server.close)
        yield


def address_of(name: str) -> str:
    """The address of a name of the zone: the web server's for `www.example`, the Hub's for its own, else one out of a documentation range."""
    if name == "www.example.":
        return layout.INTERNET_WEB
    if name == f"{layout.HUB_NAME}.":
        return layout.HUB_ADDRESS
    return str(ipaddress.ip_address("192.0.2.128") + zlib.crc32(name.encode()) % 120)


async def _answer(query: dns.message.Message) -> dns.message.Message:
    question = query.question[0]
    reply = dns.message.make_response(query, recursion_available=True)
    if not question.name.is_subdomain(_ZONE) or question.name.is_subdomain(_NOWHERE):
        reply.set_rcode(dns.rcode.NXDOMAIN)
        reply.authority.append(dns.rrset.from_text(dns.name.root, _TTL, "IN", "SOA", _SOA))
        return reply
    name = str(question.name).lower()
    content = _content(name, question.rdtype)
    if content is not None:
        reply.answer.append(dns.rrset.from_text(question.name, _TTL, "IN", question.rdtype, content))
    else:
        reply.authority.append(dns.rrset.from_text(_ZONE, _TTL, "IN", "SOA", _SOA))
    return reply


def _content(name: str, kind: dns.rdatatype.RdataType) -> str | None:
    match kind:
        case dns.rdatatype.A:
            return address_of(name)
        case dns.rdatatype.AAAA if name.startswith("dual."):
            return "2001:db8::80"
        case dns.rdatatype.TXT if name.startswith("large."):
            return " ".join(f'"{number:03} {"x" * 200}"' for number in range(30))
        case dns.rdatatype.TXT:
            return f'"the sandbox internet knows {name}"'
        case _:
            return None


async def _show_page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_REQUEST_DEADLINE):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {len(_PAGE)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + _PAGE)
            await writer.drain()
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
        return
    finally:
        writer.close()
