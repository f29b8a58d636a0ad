"""A Teamspace and its Hub, both real, over loopback: what holds while they are connected, what goes on while they are not, and what ends when somebody says so (T41, R05)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests import hub_spaces
from tests.hub_api import new_key
from tests.hub_spaces import held, new_tenant, policy, served, token_left
from tests.hub_teamspace import ECHO, ORDERS, HubTeamspace, Laptop, new_teamspace

from codezero.hub import devices, organizations
from codezero.hub.context import Hub
from codezero.hub.policies import checking, documents
from codezero.hub.spaces import pictures, teamspaces
from codezero.hub.spaces.pictures import Kind
from codezero.hub.spaces.teamspaces import State, state_of
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role
from codezero.testing.serving import SERVES, ServingCluster, serving_cluster
from codezero.testing.teamspace import Coordination, echo_server
from codezero.wire.coordination import ConsumeAssertion

CONDITION = {"condition": ()}


@pytest.fixture
async def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServingCluster]:
    # Pods of this cluster are processes of this machine: a real API server takes no loopback addresses for them.
    monkeypatch.setattr("codezero.sandbox.api.services._address_causes", lambda *_: ())
    async with serving_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def reached(hub: Hub) -> AsyncIterator[Hub]:
    async with served(hub) as reached:
        yield reached


@pytest.fixture
async def teamspace(reached: Hub, cluster: ServingCluster, tmp_path: Path) -> AsyncIterator[HubTeamspace]:
    """One that runs, is connected, and offers `shop/echo`."""
    made = await new_teamspace(await new_tenant(reached), cluster, tmp_path / "mounts")
    async with echo_server(address=ECHO) as port, made.running():
        made.offer("echo", port)
        yield made


def routes(cluster: ServingCluster) -> list[str]:
    return [one["id"] for each in cluster.store.list(SERVES) for one in each.content["spec"].get("routes", ())]


async def serve(teamspace: HubTeamspace, picture: Coordination) -> str:
    """A variant of the laptop for its user; its id."""
    answer = await picture.serve(ORDERS)
    assert (answer.code, answer.detail) == ("", "")
    assert answer.variant is not None
    await teamspace.until(lambda: routes(teamspace.cluster))
    return answer.variant.variant_id


async def ends(reader: asyncio.StreamReader) -> None:
    """A stream ends, with a reason or without."""
    async with asyncio.timeout(40):
        try:
            assert await reader.read(100) == b""
        except CodezeroError as error:
            assert error.problem in {problems.FORBIDDEN, problems.NO_POLICY, problems.ACCESS_ENDED}


async def shown(teamspace: HubTeamspace, kind: Kind) -> list[dict[str, Any]]:
    async with teamspace.hub.database.reading() as session:
        return (await pictures.shown(session, teamspace.tenant.id, teamspace.space, kind)).items


# --- connected -----------------------------------------------------------------------------------------------------------------------------


async def test_a_cluster_that_is_installed_joins_connects_and_shows_what_it_has(teamspace: HubTeamspace) -> None:
    row = await teamspace.tenant.space(teamspace.space)
    assert state_of(row, teamspace.hub.clock()) is State.CERTIFIED
    assert (row.host, row.port) == ("127.0.0.1", 8800)
    assert token_left(teamspace.cluster) is None

    ann = await teamspace.laptop()
    async with teamspace.tunnel(ann) as tunnel:
        picture = await teamspace.coordinate(tunnel, "ann")
        await teamspace.consume(tunnel)
        await picture.stream.send(ConsumeAssertion(1, (ORDERS,)))
        variant = await serve(teamspace, picture)

        async def is_shown() -> bool:
            catalog = {one["ref"]["name"]: one for one in await shown(teamspace, Kind.CATALOG)}
            laptops = await shown(teamspace, Kind.PRESENCE)
            serving = catalog.get("orders", {}).get("serving") or {"variants": []}
            return (
                [one["variant_id"] for one in serving["variants"]] == [variant]
                and [one["device"]["user"] for one in laptops] == [ann.asker.user]
                and laptops[0]["consumes"] == [{"namespace": "shop", "name": "orders"}]
            )

        await teamspace.until(is_shown)

    async def is_told() -> bool:
        told = await teamspace.tenant.actions()
        return {"session.begin", "consume.begin", "serve.begin"} <= set(told)

    await teamspace.until(is_told)
    (entry,) = await teamspace.tenant.audit("serve.begin")
    assert entry.actor == {"kind": "person", "id": ann.asker.user, "name": "Ann"}
    assert (entry.target["id"], entry.details["variant"], entry.details["space"]) == (
        "shop/orders",
        variant,
        teamspace.space,
    )


async def test_where_laptops_connect_to_is_told_when_it_is_known_and_when_it_changes(
    reached: Hub, cluster: ServingCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R46: a load balancer takes minutes, and may get another address."""
    monkeypatch.setattr("codezero.system.entry.LOOK_SECONDS", 0.2)
    tenant = await new_tenant(reached)
    invited = await tenant.new_space()
    hub_spaces.install(cluster, reached, invited.token, address=None)
    cluster.add_namespace("shop")
    teamspace = HubTeamspace(tenant, cluster, tmp_path / "mounts", invited.space.id)

    async def place() -> tuple[str | None, int | None]:
        row = await tenant.space(teamspace.space)
        return row.host, row.port

    async with teamspace.world(), teamspace.orchestrator(), teamspace.system():

        async def stands() -> bool:
            return teamspaces.is_connected(await tenant.space(teamspace.space), reached.clock())

        await teamspace.until(stands)
        assert await place() == (None, None)
        hub_spaces.give_address(cluster, "198.51.100.7")

        async def is_at(host: str) -> bool:
            return await place() == (host, 8800)

        await teamspace.until(lambda: is_at("198.51.100.7"))
        hub_spaces.give_address(cluster, "198.51.100.8")
        await teamspace.until(lambda: is_at("198.51.100.8"))
    assert await tenant.actions("space.entry") == ["space.entry", "space.entry"]


# --- revocation ----------------------------------------------------------------------------------------------------------------------------


async def remove_user(teamspace: HubTeamspace, ann: Laptop) -> None:
    await teamspace.tenant.do(organizations.remove_member, ann.asker.user)


async def change_role(teamspace: HubTeamspace, ann: Laptop) -> None:
    async def work(session: Any, acting: Any) -> None:
        await organizations.change_role(session, teamspace.hub, acting, ann.asker.user, Role.VIEWER)

    await teamspace.tenant.act(work)


async def revoke_device(teamspace: HubTeamspace, ann: Laptop) -> None:
    async def work(session: Any, acting: Any) -> None:
        await devices.revoke(session, teamspace.hub, ann.asker.device or "", by=ann.asker.user)

    await teamspace.tenant.act(work)


async def suspend(teamspace: HubTeamspace, ann: Laptop) -> None:
    await teamspace.tenant.do(teamspaces.suspend, teamspace.space)


async def forbid(teamspace: HubTeamspace, ann: Laptop) -> None:
    async def work(session: Any, acting: Any) -> None:
        await documents.save(
            teamspace.hub,
            session,
            teamspace.tenant.id,
            teamspace.space,
            document=checking.check('permit(principal in Codezero::Role::"admin", action, resource);'),
            author=acting.user,
        )

    await teamspace.tenant.act(work)


@pytest.mark.parametrize("revoke", [remove_user, change_role, revoke_device, suspend, forbid])
async def test_who_is_to_be_kept_out_loses_streams_and_serves(
    teamspace: HubTeamspace, revoke: Callable[[HubTeamspace, Laptop], Awaitable[None]]
) -> None:
    """T41, for each kind of thing that can be taken away."""
    ann = await teamspace.laptop()
    async with teamspace.tunnel(ann) as tunnel:
        picture = await teamspace.coordinate(tunnel, "ann")
        reader, _ = await teamspace.consume(tunnel)
        await serve(teamspace, picture)

        await revoke(teamspace, ann)

        await ends(reader)
        await teamspace.until(lambda: not routes(teamspace.cluster))


async def test_a_suspended_teamspace_goes_on_when_it_is_resumed(teamspace: HubTeamspace) -> None:
    ann = await teamspace.laptop()
    await suspend(teamspace, ann)
    await teamspace.until(lambda: '"suspended":true' in policy(teamspace.cluster)["policy.json"])
    row = await teamspace.tenant.space(teamspace.space)
    assert state_of(row, teamspace.hub.clock()) is State.SUSPENDED

    await teamspace.tenant.do(teamspaces.resume, teamspace.space)

    async with teamspace.tunnel(ann) as tunnel:
        await teamspace.consume(tunnel)


async def connected_by_token(
    teamspace: HubTeamspace, token: str
) -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """The door's status line, and what comes after it."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        teamspace.port,
        ssl=teamspace.context(),
        server_hostname=f"{teamspace.space.lower()}.spaces.codezero.io",
    )
    writer.write(
        f"CONNECT echo.shop:80 HTTP/1.1\r\nHost: echo.shop:80\r\nProxy-Authorization: {token}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 200 " in head.split(b"\r\n")[0]:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    return head.split(b"\r\n")[0], reader, writer


async def test_a_key_that_is_revoked_ends_what_is_open_by_it(teamspace: HubTeamspace) -> None:
    from codezero.hub.storage.tables import ApiKey

    machine = await new_key(teamspace.hub, "ci", teamspace.tenant.id, Role.CI)
    await teamspace.until_known(machine)
    async with teamspace.hub.database.reading() as session:
        from sqlalchemy import select

        key = await session.scalar(select(ApiKey.id).where(ApiKey.user_id == machine.user))
    assert key is not None
    given = await teamspace.token(machine, key)
    status, reader, writer = await connected_by_token(teamspace, given.token)
    assert b" 200 " in status

    async def work(session: Any, acting: Any) -> None:
        from codezero.hub import changes

        row = await session.get_one(ApiKey, key)
        row.revoked_at = teamspace.hub.clock()
        await changes.tell(session, teamspace.hub, "apikey", organization=teamspace.tenant.id, what=key)

    await teamspace.tenant.act(work)

    await ends(reader)
    writer.close()
    refused, _, writer = await connected_by_token(teamspace, given.token)
    writer.close()
    assert b" 407 " in refused


async def test_a_key_that_expires_ends_what_is_open_by_it(teamspace: HubTeamspace) -> None:
    """Nobody does anything at that moment, so nobody tells of it."""
    from sqlalchemy import select

    from codezero.hub.storage.tables import ApiKey

    machine = await new_key(teamspace.hub, "ci", teamspace.tenant.id, Role.CI)
    await teamspace.until_known(machine)
    async with teamspace.hub.database.reading() as session:
        key = await session.scalar(select(ApiKey.id).where(ApiKey.user_id == machine.user))
    given = await teamspace.token(machine, str(key))
    status, reader, writer = await connected_by_token(teamspace, given.token)
    assert b" 200 " in status

    async def work(session: Any, acting: Any) -> None:
        from codezero.hub import changes

        row = await session.get_one(ApiKey, key)
        row.expires_at = teamspace.hub.clock() + timedelta(seconds=3)
        await changes.tell(session, teamspace.hub, "apikey", organization=teamspace.tenant.id, what=key)

    await teamspace.tenant.act(work)

    await ends(reader)
    writer.close()


async def test_administrators_end_sessions_and_serves(teamspace: HubTeamspace) -> None:
    ann, bob = await teamspace.laptop("Ann"), await teamspace.laptop("Bob")
    async with teamspace.tunnel(ann) as hers, teamspace.tunnel(bob) as his:
        picture, other = await teamspace.coordinate(hers, "ann"), await teamspace.coordinate(his, "bob")
        variant = await serve(teamspace, picture)
        kept = await serve(teamspace, other)
        await teamspace.until(lambda: set(routes(teamspace.cluster)) == {variant, kept})

        await teamspace.tenant.do(teamspaces.end_variant, teamspace.space, variant=variant, reason="it breaks orders")
        await teamspace.until(lambda: routes(teamspace.cluster) == [kept])
        assert picture.welcome is not None
        session = str(picture.welcome.session)
        end: Any = teamspaces.end_session
        await teamspace.tenant.do(end, teamspace.space, ended=session, reason="lunch")

        async with asyncio.timeout(20):
            cause = await asyncio.shield(hers.closed)
        assert "lunch" in cause.detail
        assert routes(teamspace.cluster) == [kept]

    async def is_told() -> bool:
        return {"serve.terminate", "session.terminate"} <= set(await teamspace.tenant.actions())

    await teamspace.until(is_told)


async def test_what_a_teamspace_that_is_away_would_have_to_do_is_refused(
    hub: Hub, cluster: ServingCluster, tmp_path: Path
) -> None:
    async with served(hub) as reached:
        teamspace = await new_teamspace(await new_tenant(reached), cluster, tmp_path / "mounts")
        end: Any = teamspaces.end_session

        with pytest.raises(Exception, match="not connected with the Hub"):
            await teamspace.tenant.do(end, teamspace.space, ended="x", reason="")


async def test_of_a_removed_teamspace_nothing_stays_open(teamspace: HubTeamspace) -> None:
    ann = await teamspace.laptop()
    async with teamspace.tunnel(ann) as tunnel:
        picture = await teamspace.coordinate(tunnel, "ann")
        reader, _ = await teamspace.consume(tunnel)
        await serve(teamspace, picture)

        await teamspace.tenant.do(teamspaces.remove, teamspace.space)

        await ends(reader)
        await teamspace.until(lambda: not routes(teamspace.cluster))
    await teamspace.until(lambda: "no more at the Hub" in policy(teamspace.cluster)["hub.json"])


# --- keys ----------------------------------------------------------------------------------------------------------------------------------


async def test_another_key_costs_no_stream_and_new_ones_come_by_it(teamspace: HubTeamspace) -> None:
    """R26: planned or forced, what is open stays open."""
    ann = await teamspace.laptop()
    async with teamspace.tunnel(ann) as tunnel:
        picture = await teamspace.coordinate(tunnel, "ann")
        reader, writer = await teamspace.consume(tunnel)
        before = held(teamspace.cluster)["ca.key"]

        await teamspace.tenant.do(teamspaces.rotate, teamspace.space)

        await teamspace.until(lambda: held(teamspace.cluster)["ca.key"] != before)
        writer.write(b"still here")
        async with asyncio.timeout(20):
            assert await reader.readexactly(10) == b"still here"
        assert not tunnel.is_closed
        await picture.stream.send(ConsumeAssertion(1, (ORDERS,)))
        await picture.until(lambda one: one.decisions)
        async with teamspace.tunnel(await teamspace.laptop("Bob")) as other:
            await teamspace.consume(other)
            await teamspace.coordinate(other, "bob")
    assert (await teamspace.tenant.space(teamspace.space)).rotate_at is None


# --- away ----------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def process(hub: Hub) -> AsyncIterator[hub_spaces.Process]:
    process = hub_spaces.Process(hub)
    await process.start()
    yield process
    await process.stop()


async def test_a_hub_that_is_away_stops_nothing_and_misses_nothing(
    process: hub_spaces.Process, cluster: ServingCluster, tmp_path: Path
) -> None:
    """R05: and what was decided, or happened, meanwhile arrives once on return."""
    tenant = await new_tenant(process.hub)
    teamspace = await new_teamspace(tenant, cluster, tmp_path / "mounts")
    async with echo_server(address=ECHO) as echo, teamspace.running():
        teamspace.offer("echo", echo)
        ann, bob = await teamspace.laptop("Ann"), await teamspace.laptop("Bob")
        async with teamspace.tunnel(ann) as hers, teamspace.tunnel(bob) as his:
            picture, other = await teamspace.coordinate(hers, "ann"), await teamspace.coordinate(his, "bob")
            reader, writer = await teamspace.consume(hers)
            await teamspace.consume(his)

            await process.stop()
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            await teamspace.consume(hers)
            variant = await serve(teamspace, picture)
            ended = await picture.end(ORDERS, variant)
            assert ended.code == ""
            await teamspace.until(lambda: cluster.is_gone(ORDERS))
            kept = await serve(teamspace, other)
            await teamspace.until(lambda: "cannot be reached" in policy(cluster)["hub.json"])
            # By somebody at another replica of the Hub, which the Teamspace does not know.
            await remove_user(teamspace, ann)
            assert await tenant.actions("serve") == []
            await process.start()

            await ends(reader)
            await teamspace.until_connected()

            async def is_told() -> bool:
                return len(await tenant.actions("serve")) >= 3

            await teamspace.until(is_told)
            assert routes(cluster) == [kept]
    told = await tenant.audit("serve")
    assert [(one.action, one.details["variant"]) for one in told] == [
        ("serve.begin", variant),
        ("serve.end", variant),
        ("serve.begin", kept),
    ]
    everything = await tenant.audit()
    sources = [one.source for one in everything if one.source is not None]
    assert len(sources) == len(set(sources))
    assert [one.action for one in everything if one.action == "session.begin"] == ["session.begin"] * 2


async def test_of_two_orchestrators_the_active_one_alone_is_connected(
    process: hub_spaces.Process, cluster: ServingCluster, tmp_path: Path
) -> None:
    tenant = await new_tenant(process.hub)
    teamspace = await new_teamspace(tenant, cluster, tmp_path / "mounts")
    teamspace.list_orchestrators("127.0.0.2", "127.0.0.3")
    async with (
        teamspace.world(),
        teamspace.orchestrator("127.0.0.2") as first,
        teamspace.orchestrator("127.0.0.3"),
        teamspace.system(),
    ):
        await teamspace.until_connected()
        before = (await tenant.space(teamspace.space)).connected_at
        teamspace.list_orchestrators("127.0.0.3")
        first.set()

        async def has_moved() -> bool:
            row = await tenant.space(teamspace.space)
            return row.connected_at not in {None, before}

        await teamspace.until(has_moved)
        ann = await teamspace.laptop()
        async with teamspace.tunnel(ann) as tunnel:
            await teamspace.coordinate(tunnel)

            async def is_shown() -> bool:
                return [one["device"]["user"] for one in await shown(teamspace, Kind.PRESENCE)] == [ann.asker.user]

            await teamspace.until(is_shown)


async def test_what_was_removed_while_it_was_away_hears_of_it_on_return(
    process: hub_spaces.Process, cluster: ServingCluster, tmp_path: Path
) -> None:
    tenant = await new_tenant(process.hub)
    teamspace = await new_teamspace(tenant, cluster, tmp_path / "mounts")
    async with echo_server(address=ECHO) as echo, teamspace.running():
        teamspace.offer("echo", echo)
        ann = await teamspace.laptop()
        async with teamspace.tunnel(ann) as tunnel:
            reader, _ = await teamspace.consume(tunnel)
            await process.stop()
            await tenant.do(teamspaces.remove, teamspace.space)
            await process.start()

            await ends(reader)
