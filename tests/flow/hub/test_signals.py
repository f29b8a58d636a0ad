"""Signals: heard after the commit, by all replicas, and nothing of it where a transaction is undone."""

import asyncio
import gc

import pytest
from sqlalchemy import text
from tests.hub_databases import HubClock, PostgresServer, running_hub

from codezero.hub import signals
from codezero.hub.context import Hub
from codezero.hub.sealing import Sealer
from codezero.hub.signals import MOST_UNHEARD, Changed, Changes, LocalSignals
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import Install


async def heard(changes: Changes) -> Changed | None:
    async with asyncio.timeout(30):
        return await anext(changes)


async def test_a_change_is_heard_after_its_commit(hub: Hub) -> None:
    changes = hub.signals.changes()
    async with hub.database.transaction() as session:
        hub.signals.tell(session, Changed("space", organization="O", id="1"))
        async with session.begin_nested():
            session.add(Install(created_at=hub.clock()))
        assert not changes._unheard

    assert await heard(changes) == Changed("space", organization="O", id="1")


async def test_nothing_is_heard_of_what_was_undone(hub: Hub) -> None:
    changes = hub.signals.changes()
    with pytest.raises(ZeroDivisionError):
        async with hub.database.transaction() as session:
            hub.signals.tell(session, Changed("space", id="undone"))
            raise ZeroDivisionError
    async with hub.database.transaction() as session:
        hub.signals.tell(session, Changed("space", id="done"))

    assert await heard(changes) == Changed("space", id="done")


async def test_who_does_not_listen_is_told_to_read_all(hub: Hub) -> None:
    changes = Changes()
    for number in range(MOST_UNHEARD + 1):
        changes.hear(Changed("space", id=str(number)))
    changes.hear(Changed("space", id="later"))

    assert await heard(changes) is None
    changes.hear(Changed("space", id="next"))
    changes.hear(Changed("space", id="next"))
    assert await heard(changes) == Changed("space", id="next")
    assert not changes._unheard


async def test_who_lets_go_of_its_changes_listens_no_more() -> None:
    local = LocalSignals()
    changes = local.changes()
    assert len(local._listeners) == 1

    del changes
    gc.collect()
    assert not local._listeners


async def test_mail_is_heard_by_whose_it_is_and_by_nobody_else(hub: Hub) -> None:
    """There are many words of the relay, and many who listen to changes."""
    own, others, changes = hub.signals.mail("one"), hub.signals.mail("other"), hub.signals.changes()
    async with hub.database.transaction() as session:
        hub.signals.tell(session, signals.mail("one"))
        hub.signals.tell(session, signals.mail("nobody"))
        hub.signals.tell(session, Changed("space", id="last"))

    assert await heard(changes) == Changed("space", id="last")
    assert await heard(own) == signals.mail("one")
    assert not own._unheard
    assert not others._unheard


async def test_all_replicas_hear_and_after_an_interruption_read_all(
    postgres_server: PostgresServer, sealer: Sealer, hub_clock: HubClock
) -> None:
    name = postgres_server.new_database()
    one, other = (Database.open(postgres_server.url(name)) for _ in range(2))
    async with running_hub(one, sealer, hub_clock) as first, running_hub(other, sealer, hub_clock) as second:
        changes, mail = second.signals.changes(), second.signals.mail("second")
        async with one.transaction() as session:
            first.signals.tell(session, Changed("policy", space="S"))
        assert await heard(changes) == Changed("policy", space="S")

        # As when the server is restarted: whoever listens loses the connection.
        postgres_server.run_sql(
            "postgres",
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            " AND (query LIKE 'LISTEN%' OR query = 'SELECT 1')",
        )
        assert await heard(changes) is None
        assert await heard(mail) is None
        async with one.transaction() as session:
            await session.execute(text("SELECT 1"))
            first.signals.tell(session, Changed("policy", space="T"))
        assert await heard(changes) == Changed("policy", space="T")
    await one.close()
    await other.close()


async def test_each_database_has_its_signals(database: Database) -> None:
    assert isinstance(signals.of(database), signals.PostgresSignals) == database.is_postgresql
