"""Serve objects are read route by route: what the System sealed is followed, everything else is told about and followed by nobody."""

from typing import Any

import msgspec
import pytest

from codezero.model import problems
from codezero.model.ids import SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.variants import ServingState, VariantState
from codezero.routing.plan import Address
from codezero.system.kubernetes.objects import ServeResource
from codezero.system.serving import naming
from codezero.system.serving.serves import Serves, read_key, read_status
from codezero.testing.kubernetes import FilledInventory, Json, service_json
from codezero.wire.serve_resource import (
    Route,
    RouteCondition,
    RoutePort,
    RouteStatus,
    ServeStatus,
    sealed,
    selector_seal,
)

ORDERS = ServiceRef("shop", "orders")
KEY = b"k" * 32
UID = "uid-of-orders"
NOW = 1_000_000.0


def service(uid: str = UID, **spec: object) -> Json:
    content = service_json("orders", ports=[{"port": 80, "targetPort": "http", "name": "web"}], **spec)
    content["metadata"]["uid"] = uid
    return content


def origin(address: str = "10.96.0.50") -> Json:
    content = service_json(naming.origin_of(ORDERS).name, clusterIP=address)
    content["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "codezero"}
    return content


def route(*, uid: str = UID, key: bytes = KEY, **changes: Any) -> Route:
    content: dict[str, Any] = {
        "user": new_ulid(),
        "condition": RouteCondition("header", "x-who", "me"),
        "ports": (RoutePort(3000, 80),),
        "id": new_ulid(),
        "session": "session-1",
        "since": 5,
        "expires": NOW + 60,
        **changes,
    }
    return sealed(Route(**content), service_uid=uid, key=key)


def resource(
    *routes: Route | Json | str, status: ServeStatus | Json | None = None, name: str = "orders", version: int = 1
) -> ServeResource:
    content = {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": "serve",
            "resourceVersion": str(version),
            "generation": 3,
        },
        "spec": {"service": "orders", "routes": routes},
        "status": status,
    }
    return msgspec.json.decode(msgspec.json.encode(content), type=ServeResource)


def serves_of(*resources: ServeResource) -> Serves:
    inventory = FilledInventory().synced()
    inventory.put(service(), origin())
    serves = Serves(inventory, clock=lambda: NOW, coalesce=0.0)
    serves.set_key(KEY)
    for one in resources:
        serves.changed(None, one)
    return serves


RECORDED = ServeStatus(
    state="active",
    original={"selector": {"app": "orders"}, "ports": [{"port": 80, "targetPort": "http", "name": "web"}]},
    selector_seal=selector_seal({"app": "orders"}, service_uid=UID, key=KEY),
    targets={"http": 8080},
)


def test_a_sealed_route_is_followed_and_found_by_its_id() -> None:
    one = route()
    serves = serves_of(resource(one))

    found = serves.variant(one.id)

    assert found is not None
    assert found[:2] == (ORDERS, one)
    assert [ref for ref, _, _ in serves.routes_of_session(SessionId("session-1"))] == [ORDERS]
    assert serves.routes_of_session(SessionId("other")) == ()


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (route(key=b"x" * 32), problems.FORGED),
        (route(uid="of another service"), problems.FORGED),
        (msgspec.structs.replace(route(), expires=NOW + 9999), problems.FORGED),
        (msgspec.structs.replace(route(), seal=""), problems.FORGED),
        (route(id="no-ulid"), problems.BAD_SERVE),
        (route(condition=RouteCondition("header", "authorization", "x")), problems.HEADER_REFUSED),
        ({"id": "01J", "user": 5}, problems.BAD_SERVE),
        ({"id": 5}, problems.BAD_SERVE),
        ("nonsense", problems.BAD_SERVE),
    ],
)
def test_a_route_by_hand_is_not_followed_and_spoils_no_other(bad: Route | Json | str, code: problems.Problem) -> None:
    """T25: who may write Serve objects still cannot send a colleague's requests anywhere."""
    good = route()
    serves = serves_of(resource(bad, good, status=RECORDED))

    found = serves.get(ORDERS)

    assert found is not None
    assert [one.id for one, _ in found.followed] == [good.id]
    assert code.code in found.routes[0].problem
    plan = serves.plan(ORDERS)
    assert plan is not None
    assert [rule.variant_id for rule in plan[1].ports[0].rules] == [good.id]


def test_an_id_counts_once() -> None:
    """A copy of a route is as old as the route, and nobody could tell which one a connection means."""
    one = route()
    serves = serves_of(resource(one, one))

    found = serves.get(ORDERS)

    assert found is not None
    assert len(found.followed) == 1
    assert "twice" in found.routes[1].problem


def test_a_route_of_another_object_is_not_followed() -> None:
    one = route()
    serves = serves_of(resource(one, name="cart"))

    assert serves.variant(one.id) is None


def test_routes_end_with_their_service() -> None:
    """A Service made anew may be another application: nothing of the old one holds for it."""
    one = route()
    inventory = FilledInventory().synced()
    inventory.put(service())
    serves = Serves(inventory, clock=lambda: NOW)
    serves.set_key(KEY)
    serves.changed(None, resource(one))
    assert serves.variant(one.id) is not None

    inventory.put(service(uid="another"))
    assert serves.variant(one.id) is None
    inventory.put(service())
    assert serves.variant(one.id) is not None
    inventory.remove(service())
    assert serves.variant(one.id) is None


def test_expired_routes_are_followed_no_more() -> None:
    one = route(expires=NOW)
    serves = serves_of(resource(one, status=RECORDED))

    assert serves.variant(one.id) is None
    plan = serves.plan(ORDERS)
    assert plan is not None
    assert plan[1].ports[0].rules == ()


def test_a_plan_falls_back_to_the_origin_and_knows_the_holders() -> None:
    here, away = route(), route(condition=RouteCondition("user"))
    status = msgspec.convert(
        {**msgspec.to_builtins(RECORDED), "routes": [{"id": here.id, "holder": "10.0.0.7:8801"}, {"id": away.id}]},
        ServeStatus,
    )
    serves = serves_of(resource(away, here, status=status))

    revision, plan = serves.plan(ORDERS) or (0, None)

    assert revision == 3
    assert plan is not None
    (port,) = plan.ports
    assert (port.listen, port.origin) == (8080, Address("10.96.0.50", 80))
    assert [(rule.variant_id, rule.holder) for rule in port.rules] == [
        (here.id, Address("10.0.0.7", 8801)),
        (away.id, None),
    ]


def test_there_is_no_plan_without_an_origin() -> None:
    assert serves_of(resource(route())).plan(ORDERS) is None
    assert serves_of().plan(ORDERS) is None


def test_a_router_is_known_by_its_account() -> None:
    serves = serves_of(resource(route()))
    account = naming.router_of(ORDERS).name

    assert serves.by_router("shop", account) == ORDERS
    assert serves.by_router("lab", account) is None
    assert serves.by_router("shop", "cz-router-0123456789") is None
    assert serves.by_router("shop", "default") is None


def test_a_broken_status_keeps_what_can_be_read() -> None:
    """Without the original selector nothing could be put back."""
    status = read_status({"original": {"selector": {"app": "a"}}, "routes": "nonsense", "state": "active"})

    assert (status.original, status.state, status.routes) == ({"selector": {"app": "a"}}, "active", ())
    assert read_status("nonsense") == ServeStatus()


@pytest.mark.parametrize("content", [None, b"", b"00" * 31, b"secret" * 20, b"\xff" * 64])
def test_a_key_that_is_none_seals_nothing(content: bytes | None) -> None:
    """An empty file must not become a key that everybody knows."""
    assert read_key(content) is None
    assert read_key(b"0f" * 32 + b"\n") == b"\x0f" * 32


def test_the_catalog_shows_variants_by_precedence() -> None:
    first, second = route(), route(condition=RouteCondition("user"))
    status = msgspec.structs.replace(
        RECORDED,
        routes=(
            RouteStatus(first.id, holder="10.0.0.7:8801", applied=True),
            RouteStatus(second.id, away_since=7.0),
        ),
    )
    serves = serves_of(resource(second, first, status=status))
    serving = serves._inventory.get(ORDERS).serving

    assert serving.state is ServingState.ACTIVE
    assert [(one.variant_id, one.state) for one in serving.variants] == [
        (first.id, VariantState.ACTIVE),
        (second.id, VariantState.AWAY),
    ]


def test_a_contested_service_with_a_new_route_is_about_to_be_tried_again() -> None:
    """Whoever serves now must not be told of a fight that is over."""
    for seen, state in ((3, ServingState.CONTESTED), (2, ServingState.PREPARING)):
        status = msgspec.structs.replace(RECORDED, state="contested", message="a fight", observed_generation=seen)
        serving = serves_of(resource(route(), status=status)).serving(ORDERS)
        assert serving is not None
        assert serving.state is state
        assert ("a fight" in serving.detail) == (state is ServingState.CONTESTED)


def test_our_own_services_are_not_in_the_catalog() -> None:
    serves = serves_of()

    assert [str(one.ref) for one in serves._inventory.services()] == ["shop/orders"]


async def test_subscribers_hear_of_objects_services_and_origins() -> None:
    serves = serves_of(resource(route()))
    other = ServiceRef("shop", "cart")
    with serves.subscribe() as subscription, serves.subscribe(ORDERS) as same, serves.subscribe(other) as another:
        serves.changed(None, resource(version=2))
        assert await subscription.next() == {ORDERS}
        serves._inventory.put(origin("10.96.0.51"))
        assert await subscription.next() == {ORDERS}
        assert await same.next() == {ORDERS}
        # A Router is not woken by what happens to other services.
        assert not another._changed.is_set()
    assert serves._subscriptions_of == {}


def test_what_connections_and_tunnels_ask_costs_no_look_at_all_that_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to one variant must not become slower by everybody else's."""
    routes = [route(condition=RouteCondition("header", "x-who", str(number))) for number in range(50)]
    serves = serves_of(resource(*routes, status=RECORDED))
    monkeypatch.setattr("codezero.system.serving.serves.precedence", lambda _: pytest.fail("sorted again"))
    monkeypatch.setattr(serves, "_objects", _Unlisted(serves._objects))

    assert serves.variant(routes[-1].id) is not None
    assert serves.variant("01J00000000000000000000000") is None
    assert len(serves.routes_of_session(SessionId("session-1"))) == 50
    assert serves.routes_of_session(SessionId("other")) == ()


class _Unlisted(dict[Any, Any]):
    """Objects that are found one by one only."""

    def __iter__(self) -> Any:
        pytest.fail("all objects were looked at")

    values = items = keys = __iter__


def test_sessions_and_variants_are_forgotten_with_their_routes() -> None:
    one = route()
    serves = serves_of(resource(one, status=RECORDED))
    serves.changed(resource(one, status=RECORDED), resource(status=RECORDED, version=2))

    assert serves.variant(one.id) is None
    assert serves.routes_of_session(SessionId("session-1")) == ()
    assert (serves._variants, serves._sessions) == ({}, {})


def test_a_record_without_the_systems_seal_is_none() -> None:
    """Whoever may write a status must not choose by it where a plan, or the Service, leads."""
    forged = msgspec.structs.replace(RECORDED, original={"selector": {"app": "evil"}, "ports": [{"port": 80}]})
    found = serves_of(resource(route(), status=forged))

    assert found.plan(ORDERS) is None
    assert (served := found.get(ORDERS)) is not None
    assert (served.status.original, served.status.origin_selector) == (None, None)
