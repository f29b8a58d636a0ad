"""From a laptop's wish to the rewired Service and back, through a real Orchestrator, a real System and a real API server."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import ServiceRef
from codezero.model.sessions import Activity, ActivityKind
from codezero.model.variants import ConditionPart, PortPair, ServingState, VariantState, VariantView
from codezero.system import main as system_main
from codezero.system import settings as system_settings
from codezero.system.serving import naming
from codezero.testing.kubernetes import until
from codezero.testing.serving import SERVES, ServingCluster, serving_cluster
from codezero.testing.teamspace import Coordination, RealTeamspace
from codezero.wire.coordination import Leave, ServeEnding, ServeWanted

ORDERS = ServiceRef("shop", "orders")
OWN = {"app": "orders"}
CONDITION = (ConditionPart("header", "x-who", "ann"),)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        for name in ("codezero", "shop"):
            cluster.add_namespace(name)
        cluster.add_service(ORDERS)
        await cluster.settle_pods(ORDERS)
        yield cluster


@asynccontextmanager
async def system(
    teamspace: RealTeamspace, cluster: ServingCluster, pod: str = "system-0"
) -> AsyncGenerator[asyncio.Event]:
    """A System that follows the cluster, until the event; what is not ours in the cluster goes on meanwhile."""
    environment = teamspace.environment("system") | {
        "CODEZERO_KUBECONFIG": str(cluster.kubeconfig),
        "CODEZERO_POD": pod,
        "CODEZERO_ROUTER_LINGER": "0",
        "CODEZERO_SERVE_NAMESPACES": "*",
        "CODEZERO_ROUTER_DRAIN": "0",
    }
    stop = asyncio.Event()
    async with task_group("test") as tasks:
        tasks.start("system", system_main.run(system_settings.from_environment(environment), stop=stop))
        tasks.start_service("cluster", go_on(cluster))
        try:
            yield stop
        finally:
            stop.set()


async def go_on(cluster: ServingCluster) -> None:
    """Controllers, kubelet and Routers."""
    while True:
        await cluster.catch_up()
        cluster.apply_plans(ORDERS)
        await asyncio.sleep(0.005)


@pytest.fixture
async def teamspace(tmp_path: Path, cluster: ServingCluster) -> AsyncIterator[RealTeamspace]:
    teamspace = RealTeamspace(tmp_path / "teamspace")
    async with teamspace.orchestrator(), system(teamspace, cluster):
        yield teamspace


def move(teamspace: RealTeamspace) -> None:
    """The next System gets other ports, out of the range from which the connections under way have theirs."""
    taken: list[int] = []
    for number in range(20_000 + os.getpid() % 10_000, 32_000):
        if len(taken) == 3:
            break
        try:
            socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        taken.append(number)
    teamspace.port, teamspace.routers_port, probes = taken
    teamspace.probes = {**teamspace.probes, "system": probes}


@asynccontextmanager
async def laptop(
    teamspace: RealTeamspace, device: Device | None = None, *, session: SessionId | None = None
) -> AsyncGenerator[Coordination]:
    """A laptop that knows the catalog."""
    async with asyncio.timeout(30):
        while True:
            try:
                tunnel = await teamspace.connect(device or teamspace.authorities.device(), session=session)
                break
            except (OSError, problems.CodezeroError):
                await asyncio.sleep(0.05)
    try:
        coordination = await teamspace.coordinate(tunnel)
        await coordination.until(lambda picture: "shop/orders" in picture.catalog)
        yield coordination
    finally:
        tunnel.abandon()


def session_of(picture: Coordination) -> SessionId:
    assert picture.welcome is not None
    return picture.welcome.session


def shown(picture: Coordination) -> list[VariantView]:
    serving = picture.catalog["shop/orders"].serving
    return [] if serving is None else list(serving.variants)


def routes(cluster: ServingCluster) -> list[tuple[str, str]]:
    """Id and session of each route in the cluster."""
    return [
        (one["id"], one["session"]) for each in cluster.store.list(SERVES) for one in each.content["spec"]["routes"]
    ]


def state(picture: Coordination) -> ServingState | None:
    serving = picture.catalog["shop/orders"].serving
    return None if serving is None else serving.state


def variants(picture: Coordination) -> list[VariantState]:
    serving = picture.catalog["shop/orders"].serving
    return [] if serving is None else [one.state for one in serving.variants]


async def test_a_laptop_serves_and_ends(teamspace: RealTeamspace, cluster: ServingCluster) -> None:
    async with laptop(teamspace) as picture:
        await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
        await picture.until(lambda picture: 1 in picture.answers)
        answer = picture.answers[1]
        assert (answer.code, answer.detail) == ("", "")
        assert answer.variant is not None
        assert answer.effects
        await picture.until(lambda picture: state(picture) is ServingState.ACTIVE)
        await picture.until(lambda picture: variants(picture) == [VariantState.ACTIVE])
        assert naming.is_switched(cluster.selector(ORDERS), ORDERS)
        assert picture.catalog["shop/orders"].ready == 2, "the service's own pods are counted"
        assert "cz-" not in str(sorted(picture.catalog)), "what we made is nobody's service"

        await picture.stream.send(ServeEnding(2, ORDERS, (answer.variant.variant_id,)))
        await picture.until(lambda picture: 2 in picture.answers)
        assert [one.variant_id for one in picture.answers[2].ended] == [answer.variant.variant_id]
        await picture.until(lambda picture: picture.catalog["shop/orders"].serving is None)
        assert cluster.selector(ORDERS) == OWN
        await until(lambda: cluster.is_gone(ORDERS))


async def test_a_service_that_cannot_be_served_says_why(teamspace: RealTeamspace, cluster: ServingCluster) -> None:
    cluster.store.patch("services", "shop", "orders", {"spec": {"internalTrafficPolicy": "Local"}})
    async with laptop(teamspace) as picture:
        await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
        await picture.until(lambda picture: 1 in picture.answers)

        assert picture.answers[1].code == problems.NOT_SERVABLE.code
        assert "internalTrafficPolicy" in picture.answers[1].detail
        assert cluster.store.list(SERVES) == []


async def test_deleting_the_object_ends_the_variant_for_all(teamspace: RealTeamspace, cluster: ServingCluster) -> None:
    """`kubectl delete serves` is how people without Codezero end it."""
    async with laptop(teamspace) as picture:
        await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
        await picture.until(lambda picture: state(picture) is ServingState.ACTIVE)
        cluster.store.delete(SERVES, "shop", "orders")
        await picture.until(lambda picture: variants(picture) == [])
        await picture.until(lambda picture: any("deleted" in one.detail for one in picture.activities))
        await picture.until(lambda picture: picture.catalog["shop/orders"].serving is None)

    assert cluster.selector(ORDERS) == OWN


async def test_the_next_system_goes_on_where_one_stopped(tmp_path: Path, cluster: ServingCluster) -> None:
    """Nothing is remembered but what stands in the cluster; the catalog of a System that has just begun loses no variant."""
    teamspace = RealTeamspace(tmp_path / "teamspace")
    async with teamspace.orchestrator():
        async with system(teamspace, cluster), laptop(teamspace) as picture:
            await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
            await picture.until(lambda picture: state(picture) is ServingState.ACTIVE)
        move(teamspace)
        async with system(teamspace, cluster, "system-1"), laptop(teamspace) as picture:
            assert picture.catalog["shop/orders"].serving is not None
            assert len(variants(picture)) == 1
            cluster.store.delete(SERVES, "shop", "orders")
            await picture.until(lambda picture: picture.catalog["shop/orders"].serving is None)

    assert cluster.selector(ORDERS) == OWN


async def test_a_system_finds_what_is_left_of_a_lost_object(tmp_path: Path, cluster: ServingCluster) -> None:
    """Somebody removed the finalizer while no System ran."""
    teamspace = RealTeamspace(tmp_path / "teamspace")
    async with teamspace.orchestrator():
        async with system(teamspace, cluster), laptop(teamspace) as picture:
            await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
            await picture.until(lambda picture: state(picture) is ServingState.ACTIVE)
        cluster.store.patch(SERVES, "shop", "orders", {"metadata": {"finalizers": []}})
        cluster.store.delete(SERVES, "shop", "orders")
        assert naming.is_switched(cluster.selector(ORDERS), ORDERS)
        move(teamspace)
        async with system(teamspace, cluster, "system-1"):
            await until(lambda: cluster.is_gone(ORDERS))

    assert cluster.selector(ORDERS) == OWN


async def test_of_two_systems_one_leads_and_the_other_takes_over(tmp_path: Path, cluster: ServingCluster) -> None:
    """A rolling update of the System must not stop what it does for services."""
    teamspace = RealTeamspace(tmp_path / "teamspace")

    def leader() -> str:
        lease = cluster.store.find("leases.coordination.k8s.io", "codezero", "codezero-system")
        return "" if lease is None else lease.content["spec"]["holderIdentity"]

    async with teamspace.orchestrator(), system(teamspace, cluster, "system-0") as first:
        await until(lambda: leader() == "system-0")
        move(teamspace)
        async with system(teamspace, cluster, "system-1"), laptop(teamspace) as picture:
            await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
            await picture.until(lambda picture: state(picture) is ServingState.ACTIVE)
            assert leader() == "system-0"
            first.set()
            await until(lambda: leader() == "system-1")
            cluster.store.delete(SERVES, "shop", "orders")
            await until(lambda: cluster.is_gone(ORDERS))

    assert cluster.selector(ORDERS) == OWN


async def test_the_second_laptop_of_a_user_takes_the_variant_along(
    teamspace: RealTeamspace, cluster: ServingCluster
) -> None:
    """The same user, the same condition: it is one variant, and belongs to whoever asked last."""
    first_device = teamspace.authorities.device()
    second_device = replace(first_device, device=new_ulid())
    async with laptop(teamspace, first_device) as first, laptop(teamspace, second_device) as second:
        one = await first.serve(ORDERS, condition=CONDITION)
        two = await second.serve(ORDERS, condition=CONDITION, ports=(PortPair(80, 4000),))
        assert one.variant is not None
        assert two.variant is not None
        assert one.variant.variant_id == two.variant.variant_id
        await first.until(lambda picture: [view.session for view in shown(picture)] == [session_of(second)])

        # That the first one leaves takes nothing from the second one.
        await first.stream.send(Leave())
        await second.until(lambda picture: any(one.kind is ActivityKind.LEFT for one in picture.activities))
        await second.until(lambda picture: variants(picture) == [VariantState.ACTIVE])
        assert routes(cluster) == [(two.variant.variant_id, session_of(second))]


async def test_a_laptop_that_was_away_learns_who_took_over(teamspace: RealTeamspace, cluster: ServingCluster) -> None:
    device = teamspace.authorities.device()
    async with laptop(teamspace, device) as owner:
        mine = (await owner.serve(ORDERS, condition=CONDITION)).variant
        assert mine is not None
        session = session_of(owner)
        await owner.until(lambda picture: variants(picture) == [VariantState.ACTIVE])
    async with laptop(teamspace) as other:
        await other.until(lambda picture: variants(picture) == [VariantState.AWAY])
        refused = await other.serve(ORDERS, condition=CONDITION)
        assert refused.code == problems.CONDITION_TAKEN.code
        taken = await other.serve(ORDERS, condition=CONDITION, takeover=True)
        assert [one.variant_id for one in taken.taken] == [mine.variant_id]
        assert taken.variant is not None
        assert taken.variant.variant_id != mine.variant_id

        async with laptop(teamspace, device, session=session) as owner:
            assert session_of(owner) == session
            await owner.until(lambda picture: any(one.variant == mine.variant_id for one in told(picture)))
            (end,) = [one for one in told(owner) if one.variant == mine.variant_id]
            assert (end.kind, end.user) == (ActivityKind.TAKEN_OVER, device.user)
            theirs = taken.variant.variant_id
            await owner.until(lambda picture: [one.variant_id for one in shown(picture)] == [theirs])
        assert routes(cluster) == [(theirs, session_of(other))]


def told(picture: Coordination) -> list[Activity]:
    return [one for one in picture.activities if one.kind is ActivityKind.TAKEN_OVER]


async def test_who_starts_again_and_serves_the_same_is_not_ended_with_the_old_session(
    teamspace: RealTeamspace, cluster: ServingCluster
) -> None:
    """The end of the old session and the new serve are ordered at once, and about the same id."""
    device = teamspace.authorities.device()
    for _ in range(5):
        async with laptop(teamspace, device) as before:
            assert (await before.serve(ORDERS, condition=CONDITION)).variant is not None
            await before.until(shown)
            async with laptop(teamspace, device) as after:
                await before.stream.send(Leave())
                answer = await after.serve(ORDERS, condition=CONDITION)
                assert answer.variant is not None
                await after.until(lambda picture: any(one.kind is ActivityKind.LEFT for one in picture.activities))
                # Another order after it, so that all before it have been carried out.
                await after.serve(ORDERS, condition=(ConditionPart("user"),))
                assert (answer.variant.variant_id, session_of(after)) in routes(cluster)
                await after.stream.send(Leave())
                with suppress(EOFError, problems.CodezeroError):
                    await after.hear()
        await until(lambda: cluster.is_gone(ORDERS))


async def test_a_system_that_dies_before_its_answer_has_done_what_it_wrote(
    tmp_path: Path, cluster: ServingCluster
) -> None:
    """Whoever asks again changes the variant that was made, and there is one."""
    teamspace = RealTeamspace(tmp_path / "teamspace")
    device = teamspace.authorities.device()
    async with teamspace.orchestrator():
        async with system(teamspace, cluster) as stop, laptop(teamspace, device) as picture:
            await picture.stream.send(ServeWanted(1, ORDERS, CONDITION, (PortPair(80, 3000),)))
            await until(lambda: routes(cluster) != [])
            stop.set()
            ((made, _),) = routes(cluster)
        move(teamspace)
        async with system(teamspace, cluster, "system-1"), laptop(teamspace, device) as picture:
            answer = await picture.serve(ORDERS, condition=CONDITION, ports=(PortPair(80, 4000),))
            assert answer.variant is not None
            assert answer.variant.variant_id == made
            await picture.until(lambda picture: [one.ports for one in shown(picture)] == [(PortPair(80, 4000),)])
            assert routes(cluster) == [(made, session_of(picture))]
