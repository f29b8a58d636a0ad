"""The API's outermost layer, by requests as a server hands them on: the one form that is let in, and what each answer carries."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from starlette.types import Message, Receive, Scope, Send

from codezero.hub.api import guard
from codezero.hub.api.guard import MAX_BODY, MAX_DEPTH, MAX_FORM, Guard
from codezero.hub.api.limits import Buckets, Limits
from codezero.model import problems
from codezero.model.problems import CodezeroError

JSON = (b"content-type", b"application/json")


class Inside:
    """What lies behind the guard: remembers the bodies that came through, and answers with `status`."""

    def __init__(self, status: int = 200) -> None:
        self.bodies: list[bytes] = []
        self.status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"ok"})


class Answer:
    def __init__(self, sent: list[Message]) -> None:
        self.status: int = sent[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        self.body: bytes = sent[1]["body"]

    @property
    def code(self) -> str:
        return str(msgspec.json.decode(self.body)["code"])


async def asked(
    app: Guard,
    *,
    method: str = "GET",
    path: str = "/api/v1/version",
    query: bytes = b"",
    headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"hub.test"),),
    body: Iterable[bytes] = (b"",),
    address: str = "192.0.2.1",
) -> Answer:
    parts = list(body)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(headers),
        "client": (address, 1),
        "extensions": {},
    }
    await app(scope, receive, send)
    return Answer(sent)


def made(inside: Inside | None = None, *, url: str = "https://hub.test", limits: Limits | None = None) -> Guard:
    return Guard(inside or Inside(), public_url=url, limits=limits or Limits())


async def test_an_answer_has_an_id_and_what_keeps_browsers_from_misusing_it() -> None:
    answer = await asked(made())

    assert answer.status == 200
    assert len(answer.headers["x-request-id"]) == 26
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert answer.headers["cache-control"] == "public", "what an answer says of itself stays"


async def test_a_plain_hub_does_not_speak_of_https() -> None:
    assert "strict-transport-security" not in (await asked(made(url="http://hub.test"))).headers


@pytest.mark.parametrize(
    ("url", "hosts", "status"),
    [
        ("https://hub.test", [b"hub.test"], 200),
        ("https://hub.test", [b"HUB.test:443"], 200),
        ("https://hub.test:8443", [b"hub.test:8443"], 200),
        ("https://hub.test", [], 400),
        ("https://hub.test", [b"hub.test", b"hub.test"], 400),
        ("https://hub.test", [b"hub.test.evil.example"], 400),
        ("https://hub.test", [b"hub.test@evil.example"], 400),
        ("https://hub.test", [b"evil.example/hub.test"], 400),
        ("https://hub.test", [b"hub.test, evil.example"], 400),
        ("https://hub.test", [b"hub.test:443:1"], 400),
        ("https://hub.test", [b""], 400),
        ("https://hub.test", [b"127.0.0.1"], 400),
        ("https://hub.test", [b"hub.test."], 400),
        ("http://127.0.0.1:8700", [b"localhost:8700"], 200),
        ("http://127.0.0.1:8700", [b"[::1]:8700"], 200),
        ("http://127.0.0.1:8700", [b"127.0.0.1.evil.example"], 400),
        ("http://127.0.0.1:8700", [b"rebound.example"], 400),
    ],
)
async def test_a_request_is_for_this_hub(url: str, hosts: list[bytes], status: int) -> None:
    """A page whose name was made to lead here must not speak with us as if it were ours."""
    assert (await asked(made(url=url), headers=[(b"host", host) for host in hosts])).status == status


@pytest.mark.parametrize(
    "path", ["/api/%2e%2fv1", "/api/v1%5c", "/api/%00", "/api/\u00e9", "api", "/api/<", "/" + "a" * 3000, ""]
)
async def test_a_path_that_others_might_read_differently_is_refused(path: str) -> None:
    assert (await asked(made(), path=path)).code == problems.BAD_REQUEST.code


@pytest.mark.parametrize("query", [b"a=%00", b"a=<", b"a" * 5000, b"a=\xff"])
async def test_a_query_that_is_none_is_refused(query: bytes) -> None:
    assert (await asked(made(), query=query)).code == problems.BAD_REQUEST.code


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "get", "QUERY"])
async def test_other_methods_are_refused(method: str) -> None:
    assert (await asked(made(), method=method)).status == 405


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a": {"b": 1, "\\u0062": 2}}',
        b"NaN",
        b'{"a": -Infinity}',
        b"[" * 100_000,
        b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1),
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'"\\u0000"',
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b"\xff\xfe",
        '{"a": 1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"{",
        b"1" * 10_000,
        b"{} {}",
    ],
)
async def test_json_that_could_be_read_in_two_ways_or_only_makes_work_is_refused(body: bytes) -> None:
    inside = Inside()

    answer = await asked(made(inside), method="POST", headers=[(b"host", b"hub.test"), JSON], body=[body])

    assert (answer.status, answer.code) == (400, problems.BAD_REQUEST.code)
    assert inside.bodies == []
    assert len(answer.body) < 500, "nothing of what was sent comes back"


async def test_ordinary_json_comes_through_as_it_was_sent() -> None:
    inside = Inside()
    body = json.dumps({"name": "Ünïcode \U0001f600", "deep": [[[{"a": [None, True, 1.5, -2]}]]]}).encode()

    answer = await asked(
        made(inside), method="POST", headers=[(b"host", b"hub.test"), JSON], body=[body[:7], body[7:], b""]
    )

    assert answer.status == 200
    assert inside.bodies == [body]


@pytest.mark.parametrize(
    ("kind", "limit"), [(b"application/json", MAX_BODY), (b"application/x-www-form-urlencoded", MAX_FORM)]
)
async def test_a_body_is_bounded_by_what_it_says_and_by_what_it_is(kind: bytes, limit: int) -> None:
    headers = [(b"host", b"hub.test"), (b"content-type", kind)]
    claimed = await asked(made(), method="POST", headers=[*headers, (b"content-length", str(limit + 1).encode())])
    real = await asked(made(), method="POST", headers=headers, body=[b"x" * (limit // 2)] * 3)

    assert (claimed.status, real.status) == (413, 413)


@pytest.mark.parametrize(
    "header",
    [(b"content-encoding", b"gzip"), (b"content-length", b"-1"), (b"content-length", b"1e3"), (b"content-length", b"")],
)
async def test_a_body_comes_as_it_is(header: tuple[bytes, bytes]) -> None:
    assert (await asked(made(), method="POST", headers=[(b"host", b"hub.test"), header])).status == 400


async def test_who_asks_too_much_waits_and_others_do_not() -> None:
    limits = Limits(address=Buckets(rate=1, burst=2, clock=lambda: 0.0))
    app = made(limits=limits)
    answers = [await asked(app) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "1"
    assert (await asked(app, address="192.0.2.2")).status == 200


async def test_refused_sign_ins_cost_more() -> None:
    """A token is not found by trying."""
    limits = Limits(address=Buckets(rate=1, burst=10, clock=lambda: 0.0), refused_cost=4)
    app = made(Inside(401), limits=limits)

    assert [(await asked(app)).status for _ in range(3)] == [401, 401, 429]


async def test_a_websocket_is_refused_as_the_server_can() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing is read of a stranger")

    scope: dict[str, Any] = {
        "type": "websocket",
        "path": "/api/v1/events",
        "raw_path": b"/api/v1/events",
        "query_string": b"",
        "headers": [(b"host", b"evil.example")],
        "client": None,
        "extensions": {"websocket.http.response": {}},
    }
    await made()(scope, receive, send)
    assert sent[0]["status"] == 400

    sent.clear()
    await made()({**scope, "extensions": {}}, receive, send)
    assert sent == [{"type": "websocket.close", "code": 1008, "reason": problems.BAD_REQUEST.code}]


def test_depth_is_counted_not_guessed() -> None:
    guard.check_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    with pytest.raises(CodezeroError):
        guard.check_json(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
