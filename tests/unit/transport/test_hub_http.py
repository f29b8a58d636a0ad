"""The address of a Hub, and what is said when something else answers there."""

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from codezero.kit.certificates import Authority
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.hub_http import HubEndpoint, environment_proxy, hub_url


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://hub.example.org", "https://hub.example.org"),
        ("hub.example.org", "https://hub.example.org"),
        (" https://Hub.example.org/ ", "https://hub.example.org"),
        ("https://hub.example.org:443", "https://hub.example.org"),
        ("https://hub.example.org:8443/", "https://hub.example.org:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_an_address_has_one_form(text: str, url: str) -> None:
    assert hub_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "http://hub.example.org",
        "http://10.0.0.1:8080",
        "ftp://hub.example.org",
        "https://",
        "https://hub.example.org/path",
        "https://hub.example.org?x=1",
        "https://a:secret@hub.example.org",
        "https://hub.example.org:999999",
        "https://hub\n.example.org",
        "",
    ],
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(CodezeroError) as refused:
        hub_url(text)

    assert refused.value.problem is problems.BAD_HUB_URL
    assert "secret" not in refused.value.detail


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers every request with a status, a type and a content; gives its address. `seen` gets the requests' heads."""
    running: list[http.server.HTTPServer] = []

    def start(
        status: int,
        kind: str,
        content: bytes,
        *,
        date: str | None = None,
        tls: ssl.SSLContext | None = None,
        seen: list[str] | None = None,
    ) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if seen is not None:
                    seen.append(str(self.headers))
                self.send_response_only(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                if date is not None:
                    self.send_header("Date", date)
                if 300 <= status < 400:
                    self.send_header("Location", "http://portal.example/login")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def refusal(endpoint: HubEndpoint) -> CodezeroError:
    with pytest.raises(CodezeroError) as refused:
        endpoint.checked(endpoint.request("GET", "/x", headers={"Authorization": "Bearer secret"}))
    assert "secret" not in str(refused.value) + (refused.value.fix or "")
    return refused.value


def test_an_answer_is_given_back(serve: Serve) -> None:
    endpoint = HubEndpoint(serve(200, "application/json", b'{"a": 1}'))

    assert endpoint.checked(endpoint.request("GET", "/x")) == b'{"a": 1}'


def test_a_problem_is_the_hubs_own(serve: Serve) -> None:
    body = (
        b'{"type":"","title":"t","status":404,"detail":"there is no such space","code":"CZ-GENERAL-003","fix":"look"}'
    )

    error = refusal(HubEndpoint(serve(404, "application/problem+json", body)))

    assert (error.problem, error.detail, error.fix) == (problems.NOT_FOUND, "there is no such space", "look")


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (200, "text/html", "no Hub: it answers text/html"),
        (302, "text/html", "no Hub: it sends on to http://portal.example/login"),
        (404, "text/html; charset=utf-8", "no Hub: HTTP 404"),
        (502, "text/html", "cannot be reached: what stands before it says 502"),
    ],
)
def test_a_sign_in_page_of_a_network_is_named(serve: Serve, status: int, kind: str, words: str) -> None:
    error = refusal(HubEndpoint(serve(status, kind, b"<html>")))

    assert error.problem is problems.HUB_UNREACHABLE
    assert words in error.detail


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = refusal(HubEndpoint(f"http://127.0.0.1:{taken.getsockname()[1]}"))

    assert error.problem is problems.HUB_UNREACHABLE
    assert "the connection was refused" in error.detail


def test_a_name_that_can_be_none_is_not_known() -> None:
    assert "its name is not known" in refusal(HubEndpoint("https://hub..example")).detail


def test_a_proxy_s_name_that_can_be_none_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy..example:8080")

    assert "its name is not known" in refusal(HubEndpoint("https://hub.example.org")).detail


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n"


@pytest.mark.parametrize("at_once", [b"", HEAD], ids=["headers", "content"])
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
def test_an_answer_that_drips_is_not_waited_for(tls: tuple[ssl.SSLContext, str], at_once: bytes, has_tls: bool) -> None:
    """Each byte comes in time, and the whole does not: czctl holds a lock meanwhile, the Daemon a thread."""
    gone, given = threading.Event(), threading.Event()
    whole = HEAD + b" " * 28 + b"{}"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with tls[0].wrap_socket(connection, server_side=True) if has_tls else connection as stream:
                stream.recv(65536)
                try:
                    stream.sendall(at_once)
                    for byte in whole[len(at_once) :]:
                        stream.sendall(bytes([byte]))
                        time.sleep(0.1)
                    given.set()
                except OSError:
                    gone.set()

        thread = threading.Thread(target=drip)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        endpoint = HubEndpoint(f"https://{address}", tls[1]) if has_tls else HubEndpoint(f"http://{address}")
        with pytest.raises(CodezeroError, match="did not answer within") as refused:
            endpoint.request("GET", "/x", deadline=0.5)
        assert not given.is_set()
        thread.join()

    assert refused.value.problem is problems.HUB_UNREACHABLE
    assert gone.is_set()


LONG = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson; charset=utf-8\r\n"


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"Content-Length: 9\r\n\r\n[1]\n", "cut"),
        (b"Transfer-Encoding: chunked\r\n\r\n4\r\n[1]\n\r\n", "cut"),
        (b"Transfer-Encoding: chunked\r\n\r\n4\r\n[1]\n\r\n", "did not answer within"),
    ],
    ids=["by length", "in chunks", "silent"],
)
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "TLS"])
def test_something_long_that_ends_too_early_is_not_taken_for_whole(
    tls: tuple[ssl.SSLContext, str], head: bytes, said: str, has_tls: bool
) -> None:
    """What came is given all the same: its reader goes on behind it."""
    read = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with tls[0].wrap_socket(connection, server_side=True) if has_tls else connection as stream:
                stream.recv(65536)
                stream.sendall(LONG + head)
                if said != "cut":
                    read.wait(30)

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        endpoint = HubEndpoint(f"https://{address}", tls[1]) if has_tls else HubEndpoint(f"http://{address}")
        came: list[bytes] = []
        with (
            pytest.raises(CodezeroError, match=said) as refused,
            endpoint.opened("/x", "application/x-ndjson", deadline=5 if said == "cut" else 0.3) as (_, pieces),
        ):
            came.extend(pieces)
        read.set()
        thread.join()

    assert refused.value.problem is problems.HUB_UNREACHABLE
    assert came == [b"[1]\n"]


def test_nothing_is_sent_by_a_connection_that_stands_too_late(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking up a name cannot be ended; whoever asked has gone on, and may have asked again."""
    seen: list[str] = []
    looked_up, real = threading.Event(), socket.getaddrinfo

    def slow(*args: object, **more: object) -> object:
        looked_up.wait()
        return real(*args, **more)  # type: ignore[arg-type]

    endpoint = HubEndpoint(serve(200, "application/json", b"{}", seen=seen))
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    with pytest.raises(CodezeroError, match="did not answer within"):
        endpoint.request("GET", "/x", deadline=0.2)
    asking = [one for one in threading.enumerate() if one.name == "hub-request"]
    looked_up.set()
    for one in asking:
        one.join()

    assert len(asking) == 1
    assert seen == []


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    """A server's side of TLS for 127.0.0.1, and whom to believe."""
    authority = Authority.create("test", path_length=0)
    own = authority.issue("hub", addresses=["127.0.0.1"], server=True)
    file = tmp_path / "server.pem"
    file.write_text(own.certificate_pem + own.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, authority.certificate_pem


def test_a_hub_with_an_authority_of_its_own_is_believed(serve: Serve, tls: tuple[ssl.SSLContext, str]) -> None:
    context, authority = tls
    endpoint = HubEndpoint(serve(200, "application/json", b"{}", tls=context), authority)

    assert endpoint.checked(endpoint.request("GET", "/x")) == b"{}"


@pytest.mark.parametrize("ca", [None, "other"])
def test_nothing_is_sent_to_who_cannot_prove_to_be_the_hub(
    serve: Serve, tls: tuple[ssl.SSLContext, str], ca: str | None
) -> None:
    """As a network's sign-in page, or a proxy that looks into TLS (R22)."""
    seen: list[str] = []
    believed = Authority.create("other").certificate_pem if ca else None

    error = refusal(HubEndpoint(serve(200, "application/json", b"{}", tls=tls[0], seen=seen), believed))

    assert error.problem is problems.HUB_NOT_BELIEVED
    assert "nothing was sent" in error.detail
    assert seen == []


def test_an_authority_that_is_none_is_named() -> None:
    assert refusal(HubEndpoint("https://127.0.0.1:1", "nonsense")).problem is problems.BAD_REQUEST


def test_plain_http_where_tls_should_be_is_named(serve: Serve) -> None:
    url = serve(200, "application/json", b"{}").replace("http:", "https:")

    assert "it speaks no TLS" in refusal(HubEndpoint(url)).detail


def test_a_clock_that_is_off_is_noticed(serve: Serve) -> None:
    """R27: proofs are made by the Hub's time."""
    endpoint = HubEndpoint(serve(200, "application/json", b"{}", date="Sun, 06 Nov 2094 08:49:37 GMT"))
    endpoint.request("GET", "/x")

    assert endpoint.is_skewed
    assert abs(endpoint.now() - datetime(2094, 11, 6, 8, 49, 37, tzinfo=UTC).timestamp()) < 60


@pytest.mark.parametrize(
    "date", ["soon", "Sun, 06 Nov 2094 08:49:37 +99999999999999999999", "Sat, 01 Jan 0001 00:00:00 -0000"]
)
def test_a_time_that_is_none_is_not_heard(serve: Serve, date: str) -> None:
    endpoint = HubEndpoint(serve(200, "application/json", b"{}", date=date))

    assert endpoint.checked(endpoint.request("GET", "/x")) == b"{}"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http://:1", "http://127.0.0.1:x"])
def test_a_proxy_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)

    assert "https_proxy" in refusal(HubEndpoint("https://hub.example.org")).detail


def test_a_proxy_is_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees the Hub's name and never what is said."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://ann:pass%20word@127.0.0.1:{listener.getsockname()[1]}")
        error = refusal(HubEndpoint("https://hub.example.org"))
        thread.join()

    assert heard[0].startswith(b"CONNECT hub.example.org:443 ")
    assert b"Basic YW5uOnBhc3Mgd29yZA==" in heard[0]
    assert "407" in error.detail


def test_a_proxy_that_is_given_goes_before_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Daemon has another environment than whoever signed in."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:2")
    monkeypatch.setenv("no_proxy", "hub.example.org")
    assert environment_proxy("https://hub.example.org") is None
    assert environment_proxy("https://other.example.org") == "http://127.0.0.1:2"
    assert environment_proxy("http://127.0.0.1:8700") is None
    endpoint = HubEndpoint("https://hub.example.org", proxy="http://ann:canary@127.0.0.1:x")

    assert "proxy" in refusal(endpoint).detail
    assert "canary" not in repr(endpoint)
