"""The command that reaches a variant: what it sends meets the variant's condition, however the condition is spelled."""

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from codezero.local.daemon.reaching import curl_to
from codezero.model.ids import SessionId, new_ulid
from codezero.model.serve import Request, condition_from_parts, condition_parts, matches, parse_condition
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.variants import ConditionPart, PortPair, VariantView

ORDERS = ServiceRef("shop", "orders")
USER = new_ulid()


def variant(condition: Sequence[ConditionPart], *ports: int) -> VariantView:
    pairs = tuple(PortPair(port, 3000 + port) for port in ports or (80,))
    return VariantView(new_ulid(), USER, "alice", "device", SessionId("s"), tuple(condition), pairs, 1, 2.0)


def service(*ports: ServicePort) -> Service:
    return Service(ORDERS, ServiceKind.CLUSTER_IP, ports, 1, 1)


class Listener:
    """Keeps the requests that it gets."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline:
                    self.close_connection = True
                    return
                if self.parse_request():
                    words = self.requestline.split()
                    requests.append(Request(words[0], words[1], tuple(self.headers.items())))
                    self.send_response(204)
                    self.end_headers()

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> "Listener":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


CONDITIONS: dict[str, list[tuple[str, str | None]]] = {
    "default": [("default", None)],
    "user": [("user", None)],
    "header": [("header", "X-Feature: it's \"new\" $HOME; `id`")],
    "baggage": [("baggage", "tenant: a b,c;d=é%")],
    "two members and two cookies": [
        ("baggage", "a:1"), ("baggage", "b:2"), ("cookie", "c:3"), ("cookie", "d:4"),
    ],
    "query": [("query", "q: a b&c=d+e%é#")],
    "path": [("path", "/api/v1")],
    "path with patterns of curl": [("path", "/a[1-3]/x")],
    "path with dots": [("path", "/a/../b/./c")],
    "method": [("method", "delete")],
    "head": [("method", "HEAD")],
    "everything": [("user", None), ("header", "x-a:b"), ("path", "/p"), ("query", "q:1"), ("method", "PUT")],
}  # fmt: skip


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("parts", CONDITIONS.values(), ids=CONDITIONS.keys())
def test_what_curl_sends_meets_the_condition(parts: list[tuple[str, str | None]]) -> None:
    """Through a real shell and a real curl."""
    condition = parse_condition(parts)
    view = variant(condition_parts(condition))
    with Listener() as listener:
        command = curl_to(ORDERS, view, None)
        assert command is not None
        assert command.startswith("curl ")
        there = f"curl -s --noproxy '*' --connect-to orders.shop:80:127.0.0.1:{listener.server.server_port} "
        subprocess.run(["sh", "-c", there + command.removeprefix("curl ")], check=True, timeout=30, capture_output=True)

    (request,) = listener.requests
    assert matches(condition_from_parts(view.condition), request, user=USER)


def test_nothing_is_said_where_no_request_is_sure_to_arrive() -> None:
    assert curl_to(ORDERS, variant([ConditionPart("percent", None, "10")]), None) is None
    assert curl_to(ORDERS, variant([ConditionPart("of-a-later-release")]), None) is None
    assert curl_to(ORDERS, variant([ConditionPart("default")]), service(ServicePort(80, name="mysql"))) is None


def test_a_port_that_speaks_http_is_chosen() -> None:
    ports = (ServicePort(80, name="tcp"), ServicePort(81, app_protocol="http"))

    assert curl_to(ORDERS, variant([ConditionPart("default")], 80, 81), service(*ports)) == (
        "curl http://orders.shop:81/"
    )


def test_a_namespace_like_a_domain_is_asked_by_its_full_name() -> None:
    """`orders.dev` may be somebody's real site."""
    command = curl_to(ServiceRef("dev", "orders"), variant([ConditionPart("default")]), None)

    assert command == "curl http://orders.dev.svc:80/"


def test_the_user_is_the_owner() -> None:
    other = new_ulid()
    command = curl_to(ORDERS, replace(variant([ConditionPart("user")]), user=other), None)

    assert shlex.split(command or "")[1:3] == ["-H", f"x-c6o-userid: {other}"]
