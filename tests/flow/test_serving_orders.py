"""Orders against a real API server: decided on the object that is written, however many give them at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.sandbox.api import Fault
from codezero.system.inventory import Inventory
from codezero.system.serving.enabled import parse_namespaces
from codezero.system.serving.observing import serve_of
from codezero.system.serving.orders import LONGEST_SECONDS, Orders
from codezero.system.serving.serves import Serves
from codezero.testing.serving import SEAL_KEY, SERVES, TEAM, ServingCluster, serving_cluster
from codezero.wire.coordination import EndVariants, OrderDone, PutVariant

ORDERS = ServiceRef("shop", "orders")
HEADER = (ConditionPart("header", "x-who", "ann"),)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("shop")
        cluster.add_service(ORDERS)
        await cluster.settle_pods(ORDERS)
        yield cluster


def orders_of(cluster: ServingCluster, *, key: bytes | None = SEAL_KEY, enabled: str = "*") -> Orders:
    """A replica of the System."""
    serves = Serves(Inventory(), cluster.api, clock=cluster.clock)
    serves.set_key(key)
    return Orders(cluster.api, serves, namespace="codezero", enabled=parse_namespaces(enabled), clock=cluster.clock)


def view(cluster: ServingCluster, **changes: Any) -> VariantView:
    content: dict[str, Any] = {
        "variant_id": new_ulid(),
        "user": new_ulid(),
        "user_name": "Ann",
        "device": str(Device("hub.test", new_ulid(), new_ulid(), new_ulid())),
        "session": SessionId("session"),
        "condition": HEADER,
        "ports": (PortPair(80, 3000),),
        "since": int(cluster.now * 1000),
        "expires": cluster.now + 3600,
        **changes,
    }
    return VariantView(**content)


async def put(
    cluster: ServingCluster, variant: VariantView, service: ServiceRef = ORDERS, **options: bool
) -> OrderDone:
    return await orders_of(cluster).execute(PutVariant(7, service, variant, **options))


def routes(cluster: ServingCluster) -> list[str]:
    """The ids of the routes that the System follows."""
    found = cluster.store.find(SERVES, "shop", "orders")
    if found is None:
        return []
    serve = serve_of(found.content, cluster.service(ORDERS), key=SEAL_KEY)
    return [route.id for route, _ in serve.followed]


async def test_an_order_makes_a_route_that_is_followed(cluster: ServingCluster) -> None:
    variant = view(cluster)
    done = await put(cluster, variant)

    assert (done.order, done.code, done.variant) == (7, "", variant)
    assert any("address of its Router" in effect for effect in done.effects)
    assert routes(cluster) == [variant.variant_id]
    metadata = cluster.store.get(SERVES, "shop", "orders").content["metadata"]
    assert metadata["finalizers"] == ["codezero.io/restore"]
    assert metadata["ownerReferences"][0]["uid"] == cluster.service(ORDERS)["metadata"]["uid"]
    assert metadata["labels"]["app.kubernetes.io/managed-by"] == "codezero"


async def test_a_condition_that_is_taken_is_refused_with_its_owner(cluster: ServingCluster) -> None:
    first = view(cluster, user_name="Ann")
    await put(cluster, first)
    second = view(cluster, user_name="Bob")
    done = await put(cluster, second)

    assert done.code == problems.CONDITION_TAKEN.code
    assert "Ann" in done.detail
    assert routes(cluster) == [first.variant_id]


async def test_a_takeover_replaces_and_tells_whom(cluster: ServingCluster) -> None:
    first, second = view(cluster, user_name="Ann"), view(cluster, user_name="Bob")
    await put(cluster, first)
    done = await put(cluster, second, takeover=True)

    assert [one.variant_id for one in done.taken] == [first.variant_id]
    assert routes(cluster) == [second.variant_id]
    annotations = cluster.store.get(SERVES, "shop", "orders").content["metadata"]["annotations"]
    assert first.variant_id in annotations["codezero.io/ended-by-order"]


async def test_of_two_at_once_one_gets_the_condition(cluster: ServingCluster) -> None:
    """Two replicas, one object: the API server's versions decide, and nobody's route is lost."""
    variants = [view(cluster) for _ in range(6)]
    others = [view(cluster, condition=(ConditionPart("header", "x-n", str(n)),)) for n in range(4)]
    answers = await asyncio.gather(*(put(cluster, one) for one in (*variants, *others)))

    codes = [one.code for one in answers]
    assert sorted(codes[:6]) == ["", *[problems.CONDITION_TAKEN.code] * 5]
    assert codes[6:] == [""] * 4
    winner = variants[codes.index("")]
    assert set(routes(cluster)) == {winner.variant_id, *(one.variant_id for one in others)}


async def test_ones_own_variant_is_changed_and_stays_the_same(cluster: ServingCluster) -> None:
    """Its id is in people's hands, and its age decides precedence."""
    first = view(cluster)
    await put(cluster, first)
    second = view(cluster, user=first.user, ports=(PortPair(80, 4000),), since=first.since + 5)
    done = await put(cluster, second)

    assert done.variant is not None
    assert (done.variant.variant_id, done.variant.since) == (first.variant_id, first.since)
    assert done.variant.ports == (PortPair(80, 4000),)
    assert done.taken == ()
    assert routes(cluster) == [first.variant_id]


async def test_a_mirror_takes_nothing_from_a_variant(cluster: ServingCluster) -> None:
    first = view(cluster)
    await put(cluster, first)
    done = await put(cluster, view(cluster, user=first.user, mirror=Mirror.SAFE))

    assert done.code == ""
    assert len(routes(cluster)) == 2


async def test_a_preview_answers_and_does_nothing(cluster: ServingCluster) -> None:
    variant = view(cluster)
    done = await put(cluster, variant, preview=True)

    assert (done.code, done.variant) == ("", variant)
    assert done.effects
    assert routes(cluster) == []
    await put(cluster, variant)
    assert (await put(cluster, view(cluster), preview=True)).code == problems.CONDITION_TAKEN.code


async def test_no_serve_lasts_longer_than_allowed(cluster: ServingCluster) -> None:
    """Whatever the Orchestrator says."""
    done = await put(cluster, view(cluster, expires=cluster.now + 10**6))
    past = await put(cluster, view(cluster, expires=cluster.now, condition=()))

    assert done.variant is not None
    assert done.variant.expires == cluster.now + LONGEST_SECONDS
    assert past.code == problems.BAD_SERVE.code


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ports": (PortPair(81, 3000),)}, problems.BAD_SERVE),
        ({"ports": ()}, problems.BAD_SERVE),
        ({"condition": (ConditionPart("header", "authorization", "x"),)}, problems.HEADER_REFUSED),
        ({"condition": (ConditionPart("color", "x", "y"),)}, problems.BAD_CONDITION),
        ({"variant_id": "no-ulid"}, problems.BAD_SERVE),
    ],
)
async def test_nonsense_is_refused_whoever_sends_it(
    cluster: ServingCluster, changes: dict[str, Any], problem: problems.Problem
) -> None:
    done = await put(cluster, view(cluster, **changes))

    assert done.code == problem.code
    assert done.detail
    assert routes(cluster) == []


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"internalTrafficPolicy": "Local"}, "internalTrafficPolicy"),
        ({"clusterIP": "None"}, "headless"),
        ({"publishNotReadyAddresses": True}, "not ready"),
        ({"ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}, "UDP"),
    ],
)
async def test_services_that_cannot_be_served_are_refused(
    cluster: ServingCluster, spec: dict[str, Any], reason: str
) -> None:
    other = ServiceRef("shop", "other")
    cluster.store.create("services", "shop", cluster.manifest(other, **spec), TEAM)
    done = await put(cluster, view(cluster), other)

    assert done.code == problems.NOT_SERVABLE.code
    assert reason in done.detail


async def test_an_unknown_service_is_told_so(cluster: ServingCluster) -> None:
    assert (await put(cluster, view(cluster), ServiceRef("shop", "nowhere"))).code == problems.SERVICE_UNKNOWN.code
    assert (await put(cluster, view(cluster), ServiceRef("default", "kubernetes"))).code == problems.NOT_SERVABLE.code


async def test_single_requests_cannot_be_taken_from_raw_protocols(cluster: ServingCluster) -> None:
    database = ServiceRef("shop", "database")
    ports = [{"name": "postgres", "port": 5432}]
    cluster.store.create("services", "shop", cluster.manifest(database, ports=ports), TEAM)
    whole = (PortPair(5432, 5432),)

    refused = await put(cluster, view(cluster, ports=whole), database)
    assert refused.code == problems.BAD_CONDITION.code
    assert "postgres" in refused.detail
    mirrored = await put(
        cluster, view(cluster, ports=whole, condition=(ConditionPart("default"),), mirror=Mirror.ALL), database
    )
    assert mirrored.code == problems.BAD_SERVE.code
    assert (await put(cluster, view(cluster, ports=whole, condition=(ConditionPart("default"),)), database)).code == ""


async def test_an_object_that_is_being_deleted_takes_no_route(cluster: ServingCluster) -> None:
    await put(cluster, view(cluster))
    cluster.store.delete(SERVES, "shop", "orders")
    done = await put(cluster, view(cluster))

    assert done.code == problems.SERVE_FAILED.code
    assert done.fix == "try again in a moment"


async def test_routes_by_hand_stay_beside_ours(cluster: ServingCluster) -> None:
    """They are refused and reported, which is all there is to do about them."""
    by_hand = {"user": new_ulid(), "condition": {"type": "default"}, "ports": [{"localPort": 1, "remotePort": 80}]}
    cluster.serve(ORDERS, by_hand, finalizers=[], ownerReferences=[])
    variant = view(cluster, condition=(ConditionPart("default"),))
    done = await put(cluster, variant)

    assert done.code == ""
    assert routes(cluster) == [variant.variant_id]
    content = cluster.store.get(SERVES, "shop", "orders").content
    assert len(content["spec"]["routes"]) == 2
    assert content["metadata"]["finalizers"] == ["codezero.io/restore"]


async def test_ending_names_what_ended_and_minds_no_other(cluster: ServingCluster) -> None:
    first, second = view(cluster), view(cluster, condition=(ConditionPart("default"),))
    await put(cluster, first)
    await put(cluster, second)
    done = await orders_of(cluster).execute(EndVariants(8, ORDERS, (first.variant_id, new_ulid()), "bye"))

    assert [one.variant_id for one in done.ended] == [first.variant_id]
    assert routes(cluster) == [second.variant_id]
    again = await orders_of(cluster).execute(EndVariants(9, ORDERS, (first.variant_id,)))
    assert (again.code, again.ended) == ("", ())
    nowhere = await orders_of(cluster).execute(EndVariants(9, ServiceRef("shop", "nowhere"), (first.variant_id,)))
    assert (nowhere.code, nowhere.ended) == ("", ())


async def test_nobody_is_told_twice_of_an_end_by_order(cluster: ServingCluster) -> None:
    """The answer told it; the leading System must not tell it again."""
    variant = view(cluster)
    await put(cluster, variant)
    reconciler = cluster.reconciler()
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    await orders_of(cluster).execute(EndVariants(8, ORDERS, (variant.variant_id,)))
    await reconciler.settle(ORDERS)

    assert cluster.ended == []


async def test_without_a_key_nothing_is_written(cluster: ServingCluster) -> None:
    done = await orders_of(cluster, key=None).execute(PutVariant(1, ORDERS, view(cluster)))

    assert done.code == problems.SERVE_FAILED.code
    assert "seal.key" in (done.fix or "")


async def test_a_restart_is_noted_for_the_time_after_the_switch(cluster: ServingCluster) -> None:
    done = await put(cluster, view(cluster), restart=True)

    assert "restarts orders" in done.effects
    reconciler = cluster.reconciler()
    await cluster.drive(reconciler, ORDERS, lambda: cluster.is_active(ORDERS))
    await reconciler.settle(ORDERS)
    template = cluster.store.get("deployments.apps", "shop", "orders").content["spec"]["template"]
    assert "kubectl.kubernetes.io/restartedAt" in template["metadata"]["annotations"]


async def test_an_api_that_fails_is_told_as_such(cluster: ServingCluster) -> None:
    cluster.server.faults.add(Fault(kind="500", resource="networkpolicies", phase="list"))
    done = await put(cluster, view(cluster))

    assert done.code == problems.SERVE_FAILED.code
    assert (await put(cluster, view(cluster))).code == ""


def requests(cluster: ServingCluster) -> int:
    return sum(one["count"] for one in cluster.server.requests.counts())


async def test_only_in_enabled_namespaces_is_served(cluster: ServingCluster) -> None:
    """The System has no rights elsewhere, and whoever serves is told who can change that; the API server hears nothing of it."""
    asked = requests(cluster)
    order = PutVariant(7, ORDERS, view(cluster))

    refused = await orders_of(cluster, enabled="billing stage").execute(order)

    assert refused.code == problems.NOT_ENABLED.code
    assert "namespace shop" in refused.detail
    assert "enabled: billing, stage" in refused.detail
    assert "czctl teamspace upgrade --serve-namespace shop" in (refused.fix or "")
    assert requests(cluster) == asked
    assert (await orders_of(cluster, enabled="billing,shop").execute(order)).variant is not None


async def test_what_is_served_can_be_ended_where_serving_is_not_enabled_any_more(cluster: ServingCluster) -> None:
    done = await put(cluster, view(cluster))
    assert done.variant is not None

    ended = await orders_of(cluster, enabled="").execute(EndVariants(8, ORDERS, (done.variant.variant_id,), ""))

    assert [one.variant_id for one in ended.ended] == [done.variant.variant_id]
