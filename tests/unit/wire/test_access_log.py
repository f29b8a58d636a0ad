"""What is told about a request comes from one line of the Router's log: it must name the right variant and carry nothing private."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.serve import DEFAULT, Header, Path, condition_of
from codezero.model.services import ServiceRef
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule
from codezero.wire.access_log import trace_record
from codezero.wire.tracing import Direction, TraceRecord

ALICE = "01J0000000000000000000000A"
MINE, ALL, ENDED = "01JV0000000000000000000001", "01JV0000000000000000000002", "01JV0000000000000000000003"
ORDERS = ServiceRef("shop", "orders")
PLAN = RoutePlan(
    ORDERS,
    (
        PortPlan(
            8080,
            PortKind.UNKNOWN,
            Address("10.96.0.10", 80),
            (
                Rule(MINE, 80, condition_of([Header("x-c6o-userid", ALICE), Path("/api")]), None),
                Rule(ALL, 80, DEFAULT, None),
            ),
        ),
    ),
)
# As Envoy 1.40 writes them.
REQUEST = {
    "details": "via_upstream", "flags": "-", "host": {"rule": f"variant:{MINE}:80", "variant": MINE}, "method": "POST",
    "microseconds": 45888, "milliseconds": 45, "path": "/api/x", "protocol": "HTTP/1.1", "received": 5, "rule": f"variant:{MINE}:80",
    "sent": 58, "start": "1795663050.270021", "status": 234,
}  # fmt: skip
CONNECTION = {
    "flags": "UF", "host": {"fallback": "unreachable", "rule": f"variant:{ALL}:80"}, "milliseconds": 13, "received": 1, "sent": 21,
    "start": "1795663081.912336", "status": 0,
}  # fmt: skip


def test_a_request_is_told_with_its_variant_and_the_reason() -> None:
    assert trace_record(json.dumps(REQUEST).encode(), PLAN) == TraceRecord(
        at=1795663050.270021, direction=Direction.SERVE, service=ORDERS, port=80, protocol="HTTP/1.1", user=ALICE, variant=MINE,
        why="user and path /api", method="POST", path="/api/x", status=234, sent=58, received=5, milliseconds=45.888,
    )  # fmt: skip


def test_a_connection_is_told_with_why_the_origin_took_it() -> None:
    assert trace_record(json.dumps(CONNECTION).encode(), PLAN) == TraceRecord(
        at=1795663081.912336, direction=Direction.SERVE, service=ORDERS, port=80, protocol="TCP", variant=ALL, why="default", sent=21,
        received=1, milliseconds=13, fallback="unreachable", error="UF",
    )  # fmt: skip


def test_what_a_request_died_of_is_told() -> None:
    """Where neither laptop nor origin answered there is no host, and only Envoy's own words are left."""
    line = {
        **REQUEST,
        "host": None,
        "status": 503,
        "flags": "UF,URX",
        "details": "upstream_reset_before_response_started",
    }
    record = trace_record(json.dumps(line).encode(), PLAN)

    assert record is not None
    assert (record.variant, record.status, record.fallback) == (MINE, 503, "")
    assert record.error == "UF,URX upstream_reset_before_response_started"


def test_a_variant_that_ended_meanwhile_is_still_told() -> None:
    """The line comes after the request's end, which may be hours after its beginning."""
    record = trace_record(json.dumps({**REQUEST, "rule": f"variant:{ENDED}:80"}).encode(), PLAN)

    assert record is not None
    assert (record.variant, record.user, record.why) == (ENDED, "", "")


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"[2026-11-26 03:15:34.366][1][warning] something", b'{"start":"x","rule":"variant:01JV0000000000000000000001:80"}', b'{"start":"1.5"}',
        b'{"start":"1.5","rule":"origin"}', b'{"start":"1.5","rule":"variant:01JV0000000000000000000001:eighty"}', b'{"start":"1.5","rule":"variant:01JV0000000000000000000001:80","path":"\xff"}',
        b'{"start":"nan","rule":"variant:01JV0000000000000000000001:80"}', b'{"start":"1.5","rule":"variant:01JV0000000000000000000001:80","status":"many"}',
    ],
)  # fmt: skip
def test_lines_that_tell_of_no_request_tell_nothing(line: bytes) -> None:
    assert trace_record(line, PLAN) is None


@given(
    st.binary(max_size=100)
    | st.dictionaries(st.sampled_from(list(REQUEST)), st.text(max_size=400)).map(lambda one: json.dumps(one).encode())
)
def test_hostile_lines_never_fail(line: bytes) -> None:
    """Methods and paths are an outsider's text."""
    record = trace_record(line, PLAN)

    assert record is None or len(record.path) <= 300
