from collections.abc import MutableMapping
from typing import Any

import httpx2
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox.sample.propagation import (
    PropagationMiddleware,
    add_carried_headers,
    carried_headers,
    propagating_client,
    to_carry,
)

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Headers = list[tuple[bytes, bytes]]


def test_routing_headers_are_carried_and_no_others() -> None:
    """Cookies and credentials belong to one hop; the choice of a variant belongs to all."""
    headers = [
        (b"X-C6O-UserID", b"me"),
        (b"Cookie", b"secret"),
        (b"baggage", b"a=1"),
        (b"Authorization", b"secret"),
        (b"traceparent", TRACE.encode()),
    ]

    assert dict(to_carry(headers)) == {"x-c6o-userid": "me", "baggage": "a=1", "traceparent": TRACE}


def test_several_baggage_headers_become_one() -> None:
    """W3C Baggage allows several; losing one would lose a condition."""
    assert to_carry([(b"baggage", b"a=1"), (b"Baggage", b"b=2")]) == (("baggage", "a=1, b=2"),)


def test_two_trace_parents_are_none() -> None:
    """W3C Trace Context: a trace with two parents is broken and must be started anew."""
    assert to_carry([(b"traceparent", TRACE.encode()), (b"traceparent", TRACE.encode())]) == ()


@given(st.lists(st.tuples(st.sampled_from([b"baggage", b"x-c6o-", b"\xff", b""]), st.binary(max_size=50))))
def test_no_header_breaks_it(headers: Headers) -> None:
    """Header values are bytes of strangers."""
    for name, value in to_carry(headers):
        assert name.encode("latin-1")
        assert value.encode("latin-1") is not None


async def call(application: Any, scope_type: str, headers: Headers) -> None:
    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError

    async def send(_message: MutableMapping[str, Any]) -> None:
        raise AssertionError

    await PropagationMiddleware(application)({"type": scope_type, "headers": headers}, receive, send)


async def test_requests_made_for_a_request_carry_its_headers() -> None:
    """This is all an application has to do to take part."""
    sent: list[httpx2.Request] = []

    async def application(_scope: object, _receive: object, _send: object) -> None:
        request = httpx2.Request("GET", "http://leaf/")
        await add_carried_headers(request)
        sent.append(request)

    await call(application, "http", [(b"x-c6o-userid", b"me"), (b"baggage", b"k=\xe4")])

    assert sent[0].headers["x-c6o-userid"] == "me"
    assert (b"baggage", b"k=\xe4") in sent[0].headers.raw
    assert carried_headers() == ()


async def test_what_the_caller_sets_itself_wins() -> None:
    """An application that extends the baggage must not have it replaced."""
    sent: list[httpx2.Request] = []

    async def application(_scope: object, _receive: object, _send: object) -> None:
        request = httpx2.Request("GET", "http://leaf/", headers={"Baggage": "a=1, b=2"})
        await add_carried_headers(request)
        sent.append(request)

    await call(application, "websocket", [(b"baggage", b"a=1")])

    assert sent[0].headers.get_list("baggage") == ["a=1, b=2"]


async def test_outside_a_request_nothing_is_carried() -> None:
    """A background job is nobody's request."""
    request = httpx2.Request("GET", "http://leaf/")

    async with propagating_client():
        await add_carried_headers(request)

    assert carried_headers() == ()
    assert "baggage" not in request.headers
