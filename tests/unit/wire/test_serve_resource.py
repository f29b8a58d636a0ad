"""Serve objects are written by anybody with the right to: only what the System sealed for that very Service is followed (T25)."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import Header, Path, Variant, condition_of
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror, PortPair
from codezero.wire.serve_resource import Route, RouteCondition, RoutePort, RouteStatus, ServeSpec, is_sealed, sealed

ORDERS = ServiceRef("shop", "orders")
ALICE = "01J0000000000000000000000A"
KEY, UID = b"k" * 32, "6f0f8d0e-6c1a-4b65-9f7e-0d7c8f3f4b11"
ROUTE = Route(
    user=ALICE, condition=RouteCondition("header", "x-team", "blue"), ports=(RoutePort(3000, 80), RoutePort(5432, 5433, "db.local")),
    id="01JV0000000000000000000001", also=(RouteCondition("path", None, "/api"),), user_name="alice", device="spiffe://hub/device/1",
    session="01JS0000000000000000000001", since=1_790_000_000_123, expires=1_790_003_600.0, mirror=Mirror.SAFE,
)  # fmt: skip
_WORDS = st.text(max_size=5)
_CONDITION = st.builds(RouteCondition, _WORDS, st.none() | _WORDS, st.none() | _WORDS)
_PORT = st.builds(RoutePort, st.integers(1, 65535), st.integers(1, 65535), st.none() | _WORDS)
OTHER: dict[str, st.SearchStrategy[Any]] = {
    "user": _WORDS, "condition": _CONDITION, "ports": st.lists(_PORT, min_size=1, max_size=3).map(tuple), "id": _WORDS,
    "also": st.lists(_CONDITION, max_size=3).map(tuple), "user_name": _WORDS, "device": _WORDS, "session": _WORDS, "since": st.integers(0, 2**60),
    "expires": st.floats(0, 1e12), "mirror": st.sampled_from([None, *Mirror]),
}  # fmt: skip


def test_the_system_knows_its_own_seal() -> None:
    route = sealed(ROUTE, service_uid=UID, key=KEY)
    stored = msgspec.json.decode(msgspec.json.encode(route), type=Route)

    assert is_sealed(stored, service_uid=UID, key=KEY)
    assert sealed(stored, service_uid=UID, key=KEY) == route
    assert not is_sealed(ROUTE, service_uid=UID, key=KEY)


def test_every_field_is_tried() -> None:
    """A new field that the next test does not know would go unsealed without anybody's notice."""
    assert set(OTHER) == set(Route.__struct_fields__) - {"seal"}


@given(st.sampled_from(sorted(OTHER)), st.data())
def test_a_change_to_any_field_breaks_the_seal(field: str, data: st.DataObject) -> None:
    """Whoever moves a port, a user or an expiry by hand must not be followed."""
    route = sealed(ROUTE, service_uid=UID, key=KEY)
    changed = msgspec.structs.replace(route, **{field: data.draw(OTHER[field])})

    assert is_sealed(changed, service_uid=UID, key=KEY) == (changed == route)


@given(st.text(max_size=40), st.binary(min_size=1, max_size=40), st.text(max_size=70))
def test_a_seal_for_another_service_or_of_another_key_is_none(uid: str, key: bytes, seal: str) -> None:
    """A route copied to another Service, or to one deleted and made anew, serves nothing there."""
    route = sealed(ROUTE, service_uid=UID, key=KEY)

    assert is_sealed(route, service_uid=uid, key=KEY) == (uid == UID)
    assert is_sealed(route, service_uid=UID, key=key) == (key == KEY)
    assert not is_sealed(msgspec.structs.replace(route, seal=seal), service_uid=UID, key=KEY)


def test_a_route_describes_a_variant() -> None:
    assert ROUTE.variant(ORDERS) == Variant(
        ROUTE.id, ORDERS, ALICE, "alice", condition_of([Header("x-team", "blue"), Path("/api")]),
        (PortPair(80, 3000), PortPair(5433, 5432, "db.local")), ROUTE.since, Mirror.SAFE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "mine"}, problems.BAD_SERVE),
        ({"id": ""}, problems.BAD_SERVE),
        ({"user": "alice"}, problems.BAD_SERVE),
        ({"condition": RouteCondition("regex", None, ".*")}, problems.BAD_CONDITION),
        ({"condition": RouteCondition("header", "x-team")}, problems.BAD_CONDITION),
        ({"condition": RouteCondition("header", "Authorization", "x")}, problems.HEADER_REFUSED),
        ({"condition": RouteCondition("default")}, problems.BAD_CONDITION),
    ],
)
def test_a_route_made_by_hand_is_refused_with_the_reason(changes: dict[str, Any], problem: problems.Problem) -> None:
    with pytest.raises(CodezeroError) as caught:
        msgspec.structs.replace(ROUTE, **changes).variant(ORDERS)

    assert caught.value.problem is problem


def test_the_original_s_routes_are_read() -> None:
    """`codezero.md` 1.3: user, condition and ports are all they have."""
    content = b'{"service":"orders","routes":[{"user":"u","condition":{"type":"header","key":"k","value":"v"},"ports":[{"localPort":1,"remotePort":2}]}]}'
    spec = msgspec.json.decode(content, type=ServeSpec)

    assert spec.routes == (Route("u", RouteCondition("header", "k", "v"), (RoutePort(1, 2),)),)


@pytest.mark.parametrize(
    "content",
    [
        b'{"user":"u","condition":{"type":"user"},"ports":[]}',
        b'{"user":"u","condition":{"type":"user"},"ports":[{"localPort":0,"remotePort":2}]}',
        b'{"user":"u","condition":{"type":"user"},"ports":[{"localPort":1,"remotePort":2}],"mirror":"some"}',
        b'{"condition":{"type":"user"},"ports":[{"localPort":1,"remotePort":2}]}',
    ],
)
def test_a_route_of_another_shape_is_no_route(content: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(content, type=Route)


def test_what_is_empty_is_left_out() -> None:
    """`kubectl get -o yaml` is read by people."""
    assert msgspec.json.encode(RouteStatus("01J", away_since=5.0)) == b'{"id":"01J","awaySince":5.0}'
