"""The CONNECT door beside the tunnel: real TLS on loopback, good and hostile heads, every refusal in its own status."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from codezero.kit import certificates
from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all
from codezero.model.ids import new_ulid
from codezero.testing.kubernetes import service_json
from codezero.testing.teamspace import RealTeamspace, echo_server, free_port

TARGET = "orders.shop:80"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        return json.loads(self.body)


class Door:
    """A client of the door of one running Teamspace."""

    def __init__(self, teamspace: RealTeamspace) -> None:
        self.teamspace = teamspace
        self.device = teamspace.authorities.device()
        self.token = teamspace.authorities.token(self.device)

    async def open(
        self, *, protocols: tuple[str, ...] = ("http/1.1",)
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = certificates.client_context(
            roots=self.teamspace.authorities.parts.certificate_pem, protocols=protocols
        )
        return await asyncio.open_connection(
            "127.0.0.1", self.teamspace.port, ssl=context, server_hostname=self.teamspace.authorities.server_name
        )

    async def ask(self, data: bytes, *, protocols: tuple[str, ...] = ("http/1.1",)) -> Answer:
        """Send bytes and read the whole answer, until the door closes."""
        reader, writer = await self.open(protocols=protocols)
        try:
            writer.write(data)
            answer = await asyncio.wait_for(reader.read(), 15)
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert int(headers["content-length"]) == len(body)
        return Answer(int(first.split(" ")[1]), headers, body)

    def head(self, target: str = TARGET, *, authorization: str | None = None) -> bytes:
        shown = self.token if authorization is None else authorization
        return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {shown}\r\n\r\n".encode()

    async def connect(self, head: bytes | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Go through the door."""
        reader, writer = await self.open()
        writer.write(head or self.head())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 15)
        assert answer.startswith(b"HTTP/1.1 200 ")
        return reader, writer


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with RealTeamspace(tmp_path).system_alone() as teamspace:
        yield Door(teamspace)


@pytest.fixture
async def port(door: Door) -> AsyncIterator[int]:
    async with echo_server(b"hello ") as port:
        door.teamspace.offer("orders", port)
        yield port


@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}", "Bearer  {}"])
@pytest.mark.parametrize("target", [TARGET, "orders.shop.svc:80", "orders.shop.svc.cluster.local:80"])
async def test_a_token_leads_to_the_service(door: Door, port: int, form: str, target: str) -> None:
    """The bytes are the service's from there on, whichever of its names the client uses."""
    reader, writer = await door.connect(door.head(target, authorization=form.format(door.token)))
    writer.write(b"world")

    assert await asyncio.wait_for(reader.readexactly(11), 10) == b"hello world"
    writer.close()


async def test_bytes_sent_right_after_the_head_are_not_lost(door: Door, port: int) -> None:
    """A client that does not wait for the 200."""
    reader, writer = await door.open()
    early = bytes(range(256)) * 150  # all within what a stranger may send
    writer.write(door.head() + early)
    await reader.readuntil(b"\r\n\r\n")

    assert await asyncio.wait_for(reader.readexactly(6 + len(early)), 20) == b"hello " + early
    writer.close()


async def test_the_end_of_the_service_is_the_end_of_the_connection(door: Door) -> None:
    """With all its bytes before."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 3_000_000)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    door.teamspace.offer("orders", server.sockets[0].getsockname()[1])
    reader, writer = await door.connect()

    assert len(await asyncio.wait_for(reader.read(), 20)) == 3_000_000
    writer.close()
    server.close()


async def test_the_end_of_the_client_reaches_the_service(door: Door) -> None:
    """No connection is left behind in the cluster."""
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    door.teamspace.offer("orders", server.sockets[0].getsockname()[1])
    _, writer = await door.connect()
    writer.write(b"all")
    writer.close()

    assert await asyncio.wait_for(ended, 10) == b"all"
    server.close()


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "Proxy-Authorization: \r\n",
        "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n",
        "Proxy-Authorization: Bearer\r\n",
        "Proxy-Authorization: Bearer a.b.c d\r\n",
        "Authorization: Bearer {token}\r\n",
        "Proxy-Authorization: {token}\r\nProxy-Authorization: {token}\r\n",
        "Proxy-Authorization: {expired}\r\n",
        "Proxy-Authorization: {elsewhere}\r\n",
        "Proxy-Authorization: eyJhbGciOiJub25lIiwidHlwIjoiSldUIiwia2lkIjoia2V5LTEifQ.e30.\r\n",
    ],
)
async def test_without_a_good_token_the_answer_is_407(door: Door, port: int, lines: str) -> None:
    """The client knows that it has to fetch a new one; nobody learns whether the service exists."""
    authorities = door.teamspace.authorities
    shown = lines.format(
        token=door.token,
        expired=authorities.token(door.device, iat=1000, exp=1600),
        elsewhere=authorities.token(door.device, aud=new_ulid()),
    )
    answers = [
        await door.ask(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{shown}\r\n".encode())
        for target in (TARGET, "nothing.nowhere:1")
    ]

    for answer in answers:
        assert answer.status == 407
        assert answer.headers["proxy-authenticate"].startswith("bearer ")
        assert answer.problem["code"] == problems.TOKEN_REFUSED.code
    assert answers[0].body == answers[1].body


async def test_every_refusal_has_its_status(door: Door, port: int) -> None:
    """What programs see: 403, 404, 502, 503, each with the code of its problem."""
    teamspace = door.teamspace
    teamspace.offer("silent", free_port())
    teamspace.offer("unready", port, ready=False)
    teamspace.offer("metadata", 80, address="169.254.169.254")
    teamspace.inventory.put(service_json("outside", type="ExternalName", externalName="evil.example", clusterIP=""))

    expected = {
        "nothing.shop:80": (404, problems.SERVICE_UNKNOWN),
        "nothing.nowhere:80": (404, problems.SERVICE_UNKNOWN),
        # To some clients an address; here a service in a namespace, both of strange names.
        "127.1:80": (404, problems.SERVICE_UNKNOWN),
        "orders.shop:81": (404, problems.SERVICE_UNKNOWN),
        "silent.shop:80": (502, problems.DIAL_FAILED),
        "unready.shop:80": (503, problems.NO_ENDPOINT),
        "metadata.shop:80": (403, problems.ADDRESS_REFUSED),
        "outside.shop:80": (403, problems.ADDRESS_REFUSED),
        "kubernetes.default:443": (404, problems.SERVICE_UNKNOWN),
    }
    for target, (status, problem) in expected.items():
        answer = await door.ask(door.head(target))
        assert (answer.status, answer.problem["code"], answer.problem["status"]) == (status, problem.code, status), (
            target
        )
        assert door.token not in answer.body.decode()


async def test_the_policy_holds_here_too(door: Door, port: int) -> None:
    """Also for what does not exist, with the same answer; and it ends connections it no longer allows."""
    reader, writer = await door.connect()
    organization = door.teamspace.authorities.organization
    deny = PolicyRule(Effect.DENY, (Operation.CONSUME,), services=("orders", "nothing"), name="closed")
    door.teamspace.write_policy(Policy(organization, (*allow_all(organization).rules, deny)))

    assert await asyncio.wait_for(reader.read(), 10) == b"hello "
    writer.close()
    denied = await door.ask(door.head("orders.shop:80"))
    absent = await door.ask(door.head("nothing.shop:80"))
    assert (denied.status, denied.problem["code"]) == (403, problems.FORBIDDEN.code)
    assert absent.body.replace(b"nothing", b"orders") == denied.body

    door.teamspace.write_policy(None)

    async def closed() -> bool:
        return (await door.ask(door.head())).problem["code"] == problems.NO_POLICY.code

    async with asyncio.timeout(10):
        while not await closed():
            await asyncio.sleep(0.05)


HOSTILE = {
    "nothing but an end": b"\r\n\r\n",
    "empty line first": b"\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"CONNECT orders.shop:80\r\nHost: a\r\n\r\n",
    "HTTP/1.0": b"CONNECT orders.shop:80 HTTP/1.0\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.11": b"CONNECT orders.shop:80 HTTP/1.11\r\nHost: a\r\n\r\n",
    "small http": b"CONNECT orders.shop:80 http/1.1\r\nHost: a\r\n\r\n",
    "two blanks": b"CONNECT  orders.shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "tab": b"CONNECT\torders.shop:80\tHTTP/1.1\r\nHost: a\r\n\r\n",
    "bare line feed": b"CONNECT orders.shop:80 HTTP/1.1\nHost: a\r\n\r\n",
    "bare line feed in a header": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare carriage return": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "NUL in a header": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\0b\r\n\r\n",
    "folded header": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "blank before the colon": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost : a\r\n\r\n",
    "no colon": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost\r\n\r\n",
    "empty header name": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "strange bytes in a header": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\n\r\n",
    "strange bytes in the target": b"CONNECT \xffrders.shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no Host": b"CONNECT orders.shop:80 HTTP/1.1\r\n\r\n",
    "two Hosts": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "the same Host twice": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "Host with userinfo": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "Host with a path": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "body length": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "two body lengths": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "negative body length": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "chunked": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
    "hidden chunked": b"CONNECT orders.shop:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
    "TLS inside": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "SOCKS": b"\x05\x01\x00\r\n\r\n",
    "absolute form": b"GET http://orders.shop/ HTTP/1.1\r\nHost: orders.shop\r\n\r\n",
    "absolute form of https": b"POST https://orders.shop/ HTTP/1.1\r\nHost: orders.shop\r\n\r\n",
    "asterisk form": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with a scheme": b"CONNECT http://orders.shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with a path": b"CONNECT orders.shop:80/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with userinfo": b"CONNECT user@orders.shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with a query": b"CONNECT orders.shop:80?x HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT without a port": b"CONNECT orders.shop HTTP/1.1\r\nHost: a\r\n\r\n",
    "port 0": b"CONNECT orders.shop:0 HTTP/1.1\r\nHost: a\r\n\r\n",
    "port 65536": b"CONNECT orders.shop:65536 HTTP/1.1\r\nHost: a\r\n\r\n",
    "port 080": b"CONNECT orders.shop:080 HTTP/1.1\r\nHost: a\r\n\r\n",
    "port +80": b"CONNECT orders.shop:+80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "port in other digits": "CONNECT orders.shop:٨٠ HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "two ports": b"CONNECT orders.shop:80:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "address": b"CONNECT 10.96.0.1:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "address of IPv6": b"CONNECT [::1]:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "address in one number": b"CONNECT 2130706433:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "metadata": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "one label": b"CONNECT localhost:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "capital letters": b"CONNECT Orders.shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "dot at the end": b"CONNECT orders.shop.:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "other domain": b"CONNECT orders.shop.svc.evil.example:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "dashes outside": b"CONNECT -orders.shop-:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "long label": b"CONNECT " + b"a" * 64 + b".shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "percent": b"CONNECT orders%2eshop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "way up": b"CONNECT ../shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "small method": b"connect orders.shop:80 HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("form", HOSTILE)
async def test_hostile_heads_are_refused(door: Door, port: int, form: str) -> None:
    """Each is read differently by some other server on the way; here none is read at all, whatever the token."""
    data = HOSTILE[form].replace(b"\r\n\r\n", f"\r\nProxy-Authorization: {door.token}\r\n\r\n".encode(), 1)
    for sent in {HOSTILE[form], data}:
        answer = await door.ask(sent)
        expected = (505,) if form == "HTTP/1.0" else (400, 505)
        assert answer.status in expected, answer
        assert answer.problem["code"] == problems.BAD_REQUEST.code


async def test_an_endless_head_is_refused(door: Door) -> None:
    """16 KB and not a byte more are kept for a stranger."""
    answer = await door.ask(b"CONNECT orders.shop:80 HTTP/1.1\r\n" + b"X: y\r\n" * 5000)

    assert answer.status == 431


async def test_a_head_may_come_byte_by_byte(door: Door) -> None:
    """Packets have no meaning."""
    reader, writer = await door.open()
    for byte in b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n":
        writer.write(bytes((byte,)))
        await writer.drain()

    assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200 ")
    writer.close()


@pytest.mark.parametrize("protocols", [("http/1.1",), ()])
async def test_probes_need_no_token_and_reveal_nothing(door: Door, protocols: tuple[str, ...]) -> None:
    """Load balancers ask too; everything else is nothing here, in the same words for all."""
    for path in ("/healthz", "/readyz"):
        answer = await door.ask(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), protocols=protocols)
        assert (answer.status, answer.body) == (200, b"ok\n")
        assert "server" not in answer.headers
    bodies = {
        (await door.ask(f"{request} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), protocols=protocols)).body
        for request in ("GET /", "GET /metrics", "POST /healthz", "GET /healthz?x", "GET //healthz", "GET /../healthz")
    }
    assert len(bodies) == 1


async def test_not_ready_before_the_cluster_was_seen(door: Door) -> None:
    """So that no laptop is sent to a System that knows no service yet."""
    teamspace = door.teamspace
    teamspace.inventory._sources.clear()

    answer = await door.ask(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (answer.status, answer.body) == (503, b"not ready\n")


async def test_a_laptop_of_another_authority_is_not_let_in(door: Door) -> None:
    """Also where no certificate would do: one that is shown has to be good."""
    authorities = door.teamspace.authorities
    forged = authorities.parts.issue("laptop", uris=[str(door.device)], client=True)
    context = certificates.client_context(
        roots=authorities.parts.certificate_pem, credentials=forged, protocols=("http/1.1",)
    )
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", door.teamspace.port, ssl=context, server_hostname=authorities.server_name
        )
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(reader.readexactly(1), 10)
