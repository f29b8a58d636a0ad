"""The relay between two replicas of the Hub on one PostgreSQL: the page is at one, its machine at the other, and neither notices."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx2
import msgspec
import pytest
from sqlalchemy import func, select, text, update
from tests.hub_api import Asker, new_organization, new_person
from tests.hub_databases import HubClock, PostgresServer, running_hub
from tests.hub_machines import JSON, PROOF, STATUS, Machine, Page, machine, page
from tests.hub_spaces import served

from codezero.hub.context import Hub
from codezero.hub.relay import replicas as relay_replicas
from codezero.hub.sealing import Sealer
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import RelayMachine, RelayPost, RelayReplica
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.roles import Role
from codezero.testing.teamspace import free_port
from codezero.wire.paired import MAX_PIECE, MOST_AT_ONCE, Ask, Head, More, Piece, Stop

NDJSON = "application/x-ndjson"


@dataclass(frozen=True)
class Replicas:
    """Two Hubs on one PostgreSQL, by their addresses; `ends` are their processes."""

    hub: Hub
    first: str
    second: str
    user: Asker
    ends: tuple[AsyncExitStack, AsyncExitStack]

    async def count(self, table: type[RelayReplica | RelayMachine | RelayPost]) -> int:
        async with self.hub.database.reading() as session:
            return await session.scalar(select(func.count()).select_from(table)) or 0

    async def until(self, table: type[RelayReplica | RelayMachine | RelayPost], wanted: int) -> None:
        async with asyncio.timeout(30):
            while await self.count(table) != wanted:
                await asyncio.sleep(0.05)


@pytest.fixture
async def replicas(postgres_server: PostgresServer) -> AsyncIterator[Replicas]:
    name = postgres_server.new_database()
    sealer, clock = Sealer(Sealer.new_master_key()), HubClock()
    async with AsyncExitStack() as stack:
        ends = (AsyncExitStack(), AsyncExitStack())
        hubs: list[Hub] = []
        ports = [free_port(), free_port()]
        for port, end in zip(ports, ends, strict=True):
            database = Database.open(postgres_server.url(name))
            stack.push_async_callback(database.close)
            stack.push_async_callback(end.aclose)
            hub = await stack.enter_async_context(running_hub(database, sealer, clock))
            hubs.append(
                await end.enter_async_context(served(hub, port=port, public_url=f"http://127.0.0.1:{ports[0]}"))
            )
            stack.push_async_callback(end.aclose)
        organization = await new_organization(hubs[0], "Acme")
        ada = await new_person(hubs[0], "Ada", {organization: Role.DEVELOPER})
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        yield Replicas(hubs[0], urls[0], urls[1], ada, ends)
    postgres_server.drop(name)


@pytest.fixture
async def laptop(replicas: Replicas) -> AsyncIterator[Machine]:
    """At the first."""
    async with machine(replicas.first, replicas.user) as made:
        yield made


@pytest.fixture
async def elsewhere(replicas: Replicas) -> AsyncIterator[Page]:
    """At the second."""
    async with page(replicas.second, replicas.user) as made:
        yield made


async def streamed(at: Page, laptop: Machine, stack: AsyncExitStack) -> tuple[httpx2.Response, int]:
    opening = asyncio.ensure_future(stack.enter_async_context(at.stream(laptop.id)))
    question: Ask = await laptop.hear(Ask)
    await laptop.say(Head(question.id, 200, NDJSON))
    return await opening, question.id


async def test_question_and_answer_go_through_both(replicas: Replicas, laptop: Machine, elsewhere: Page) -> None:
    shown = await elsewhere.machines()
    body = '{"name": "' + "ü" * 200_000 + '"}'
    what = {"method": "PUT", "target": "/agent/v1/consume", "proof": PROOF, "body": body}
    task = asyncio.ensure_future(elsewhere.ask(laptop.id, what))
    question = await laptop.answer(b'{"code": "CZ-PAIR-004"}', status=403, kind="application/problem+json")
    answer = await task

    assert [(one["machine"], one["name"]) for one in shown] == [(laptop.id, "laptop")]
    assert (question.method, question.target, question.proof) == ("PUT", "/agent/v1/consume", PROOF)
    assert question.body.decode() == body
    assert answer.status_code == 403
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-codezero-answered-by"] == "machine"
    assert answer.json() == {"code": "CZ-PAIR-004"}
    await replicas.until(RelayPost, 0)


async def test_a_stream_goes_through_both_piece_by_piece_until_the_page_leaves(
    laptop: Machine, elsewhere: Page
) -> None:
    async with AsyncExitStack() as stack:
        answer, number = await streamed(elsewhere, laptop, stack)
        came = answer.aiter_raw()
        for line in (b'{"a": 1}\n', b'{"a": 2}\n'):
            await laptop.say(Piece(number, line))
            assert await anext(came) == line
            assert await laptop.hear() == More(number)
    assert await laptop.hear() == Stop(number)


async def test_a_large_answer_goes_through_both_whole(laptop: Machine, elsewhere: Page) -> None:
    wanted = [bytes([48 + number % 10]) * MAX_PIECE for number in range(20)]
    task = asyncio.ensure_future(elsewhere.ask(laptop.id))
    question: Ask = await laptop.hear(Ask)
    await laptop.say(Head(question.id, 200, JSON))
    for number, content in enumerate(wanted):
        await laptop.say(Piece(question.id, content, is_last=number == len(wanted) - 1))
        if number < len(wanted) - 1:
            assert await laptop.hear() == More(question.id)

    assert (await task).content == b"".join(wanted)


async def test_many_at_once_get_each_their_own_answer(replicas: Replicas, laptop: Machine, elsewhere: Page) -> None:
    async with page(replicas.first, replicas.user) as near:
        pages = [near, elsewhere] * (MOST_AT_ONCE // 2)
        targets = [f"/agent/v1/status?number={number}" for number in range(MOST_AT_ONCE)]
        tasks = [
            asyncio.ensure_future(each.ask(laptop.id, {**STATUS, "target": target}))
            for each, target in zip(pages, targets, strict=True)
        ]
        asked = [await laptop.hear(Ask) for _ in targets]
        one_more = await elsewhere.ask(laptop.id)
        for question in reversed(asked):
            content = question.target.encode()
            await laptop.say(Head(question.id, 200, JSON), Piece(question.id, b'"' + content + b'"', is_last=True))
        answers = [await task for task in tasks]

    assert [answer.json() for answer in answers] == targets
    assert one_more.status_code == 429
    assert one_more.json()["code"] == problems.TOO_MANY_REQUESTS.code


async def test_nobody_elses_machine_is_reached_by_the_way_around(
    replicas: Replicas, laptop: Machine, elsewhere: Page
) -> None:
    organization = await new_organization(replicas.hub, "Other")
    bob = await new_person(replicas.hub, "Bob", {organization: Role.OWNER})
    async with page(replicas.second, bob) as bobs:
        foreign, unknown = await bobs.ask(laptop.id), await bobs.ask(new_ulid())
        listed = await bobs.machines()

    assert (foreign.status_code, foreign.json()["code"]) == (503, problems.MACHINE_AWAY.code)
    assert foreign.content == unknown.content
    assert listed == []
    assert len(await elsewhere.machines()) == 1


async def test_a_machine_that_leaves_cuts_what_others_pass_on(
    replicas: Replicas, laptop: Machine, elsewhere: Page
) -> None:
    async with AsyncExitStack() as stack:
        answer, number = await streamed(elsewhere, laptop, stack)
        await laptop.say(Piece(number, b"half"))
        came = answer.aiter_raw()
        assert await anext(came) == b"half"
        waiting = asyncio.ensure_future(elsewhere.ask(laptop.id))
        assert await laptop.hear() == More(number)
        await laptop.hear(Ask)
        await laptop.socket.close()
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(came)
        refused = await waiting
    await replicas.until(RelayMachine, 0)

    assert refused.json()["code"] == problems.MACHINE_AWAY.code
    assert await elsewhere.machines() == []


async def test_a_machine_that_moves_to_another_replica_is_there_and_not_here(
    replicas: Replicas, laptop: Machine, elsewhere: Page
) -> None:
    async with (
        machine(replicas.second, replicas.user, id=laptop.id, name="moved") as moved,
        page(replicas.first, replicas.user) as near,
    ):
        assert await laptop.farewell() == (problems.ALREADY_THERE.code, False)
        for each in (near, elsewhere):
            task = asyncio.ensure_future(each.ask(laptop.id))
            await moved.answer(b'"moved"')
            assert (await task).json() == "moved"
            assert [one["name"] for one in await each.machines()] == ["moved"]


async def test_a_replica_that_ends_takes_its_answers_along_and_leaves_nothing(
    replicas: Replicas, laptop: Machine, elsewhere: Page
) -> None:
    """An upgrade: the machine is told, and comes again elsewhere."""
    await replicas.until(RelayReplica, 2)
    async with AsyncExitStack() as stack:
        answer, _ = await streamed(elsewhere, laptop, stack)
        await replicas.ends[0].aclose()
        with pytest.raises(httpx2.RemoteProtocolError):
            async for _ in answer.aiter_raw():
                pass
    await replicas.until(RelayReplica, 1)
    await replicas.until(RelayMachine, 0)
    async with machine(replicas.second, replicas.user, id=laptop.id) as again:
        task = asyncio.ensure_future(elsewhere.ask(laptop.id))
        await again.answer(b'"again"')
        assert (await task).json() == "again"
    await replicas.until(RelayPost, 0)


async def test_a_replica_that_fell_silent_is_cleared_away_by_the_other(
    replicas: Replicas, laptop: Machine, elsewhere: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that was killed: what it was asked is cut, and what was its own is no more."""
    monkeypatch.setattr(relay_replicas, "SEEN_SECONDS", 0.2)
    await replicas.until(RelayReplica, 2)
    silent = new_ulid()
    async with replicas.hub.database.transaction() as session:
        await session.execute(
            text("INSERT INTO relay_replicas VALUES (:id, now())").bindparams(id=silent),
        )
        moved = update(RelayMachine).where(RelayMachine.machine == laptop.id)
        await session.execute(moved.values(replica_id=silent))
    async with asyncio.timeout(60):
        # It may still be there, so it is asked.
        answer = await elsewhere.ask(laptop.id)
    await replicas.until(RelayReplica, 2)
    await replicas.until(RelayMachine, 0)
    await replicas.until(RelayPost, 0)

    assert (answer.status_code, answer.json()["code"]) == (503, problems.MACHINE_AWAY.code)


async def test_a_replica_that_counted_as_gone_lets_its_machines_come_again(
    replicas: Replicas, laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_replicas, "SEEN_SECONDS", 0.2)
    await replicas.until(RelayReplica, 2)
    async with replicas.hub.database.transaction() as session:
        await session.execute(text("DELETE FROM relay_replicas"))

    assert await laptop.farewell() == (problems.MACHINE_AWAY.code, True)
    await replicas.until(RelayReplica, 2)
    async with (
        machine(replicas.first, replicas.user, id=laptop.id) as again,
        page(replicas.second, replicas.user) as elsewhere,
    ):
        task = asyncio.ensure_future(elsewhere.ask(laptop.id))
        await again.answer(b'"again"')
        assert (await task).json() == "again"


async def test_what_a_replica_does_not_understand_harms_nothing(
    replicas: Replicas, laptop: Machine, elsewhere: Page
) -> None:
    """Such as a word of a newer release, or a row that somebody wrote by hand."""
    await replicas.until(RelayReplica, 2)
    async with replicas.hub.database.transaction() as session:
        for replica in await session.scalars(select(RelayReplica.id)):
            purpose = f"relay {replica}"
            for content in (b"\xc1", b"", msgspec.msgpack.encode(("a", "b", {"type": "newer"}))):
                sealed = replicas.hub.sealer.seal(content, purpose=purpose)
                session.add(RelayPost(replica_id=replica, sealed=sealed, created_at=replicas.hub.clock()))
            session.add(RelayPost(replica_id=replica, sealed=b"by hand", created_at=replicas.hub.clock()))
    await replicas.until(RelayPost, 0)
    task = asyncio.ensure_future(elsewhere.ask(laptop.id))
    await laptop.answer(b'"here"')

    assert (await task).json() == "here"


async def test_what_lies_in_the_database_says_nothing_without_the_master_key(
    replicas: Replicas, laptop: Machine, elsewhere: Page
) -> None:
    async with replicas.hub.database.transaction() as session:
        # So that it stays: nobody takes it.
        await session.execute(text("CREATE TABLE seen (sealed bytea)"))
        await session.execute(
            text(
                "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN INSERT INTO seen VALUES (NEW.sealed); RETURN NEW; END $$"
            )
        )
        await session.execute(
            text("CREATE TRIGGER see AFTER INSERT ON relay_posts FOR EACH ROW EXECUTE FUNCTION see()")
        )
    what = {"method": "POST", "target": "/agent/v1/serve", "proof": "canary.of-the.proof", "body": '{"canary": 1}'}
    task = asyncio.ensure_future(elsewhere.ask(laptop.id, what))
    await laptop.answer(b'{"canary": 2}')
    assert (await task).json() == {"canary": 2}
    async with replicas.hub.database.reading() as session:
        seen = list(await session.scalars(text("SELECT sealed FROM seen")))

    assert len(seen) >= 3
    assert not any(b"canary" in one or b"serve" in one for one in seen)
