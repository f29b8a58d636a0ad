"""The audit: numbered without gaps whoever writes at once, noticed when changed, readable without names, let go of in order (T42)."""

import asyncio
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from tests.hub_api import api_of, new_organization, new_person
from tests.hub_databases import HubClock

from codezero.hub import audit
from codezero.hub.audit import Entry, reading, retention, verifying
from codezero.hub.audit.reading import Filter
from codezero.hub.audit.verifying import Verification, verify_export
from codezero.hub.authorities import Authorities
from codezero.hub.context import Hub
from codezero.hub.sealing import Sealer
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import AuditEntry, AuditHead, Organization
from codezero.model.ids import new_ulid
from codezero.model.roles import Role
from codezero.wire import audit_lines

PIA = {"kind": "person", "id": "01HZZZZZZZZZZZZZZZZZZZZZZZ", "name": "Pia Muster"}
SPACE = {"kind": "space", "id": "01HYYYYYYYYYYYYYYYYYYYYYYY", "name": "demo"}

# Many entries at once, and with each of them something else that is only there with it.
WRITING = """
import asyncio, sys
from codezero.hub import audit
from codezero.hub.audit import Entry
from codezero.hub.storage.database import Database

async def main(url, organization, times):
    database = Database.open(url)

    async def write(number):
        async def work(session):
            await audit.record(session, organization, Entry({"kind": "hub"}, "test.write", {}, details={"n": number}))
        await database.run(work)

    async def several(start):
        for number in range(start, times, 5):
            await write(number)

    await asyncio.gather(*(several(start) for start in range(5)))
    await database.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def an_organization(database: Database) -> str:
    organization = Organization(id=new_ulid(), name="Shop", settings={}, created_at=HubClock()())
    async with database.transaction() as session:
        session.add(organization)
    return organization.id


async def told(database: Database, organization: str, *entries: Entry) -> list[AuditEntry | None]:
    async def work(session: AsyncSession) -> list[AuditEntry | None]:
        return [await audit.record(session, organization, entry) for entry in entries]

    return await database.run(work)


async def verified(database: Database, organization: str) -> Verification:
    async with database.reading() as session:
        return await verifying.verify(session, organization)


async def behind_its_back(database: Database, *statements: str) -> None:
    """Change the audit as somebody does who has all rights on the database."""
    unguarded = (
        ["ALTER TABLE audit DISABLE TRIGGER ALL", "ALTER TABLE audit_heads DISABLE TRIGGER ALL"]
        if database.is_postgresql
        else [
            f"DROP TRIGGER IF EXISTS {name}"
            for name in ("audit_is_not_changed", "audit_is_kept", "audit_head_goes_on", "audit_head_is_kept")
        ]
    )
    async with database.transaction() as session:
        connection = await session.connection()
        for statement in (*unguarded, *statements):
            await connection.exec_driver_sql(statement)


async def exported(hub: Hub, organization: str, **settings: Any) -> list[bytes]:
    return b"".join([part async for part in reading.export(hub, organization, **settings)]).splitlines()


async def retained(hub: Hub) -> None:
    """What a Hub does that has just been started."""
    await retention.retain_all(hub, await retention.Believed.since_now(hub))


def several(count: int, **settings: Any) -> Sequence[Entry]:
    return [Entry(PIA, "member.role", SPACE, details={"n": number}, **settings) for number in range(count)]


async def test_entries_are_numbered_and_follow_from_each_other(database: Database) -> None:
    one, other = await an_organization(database), await an_organization(database)
    rows = [*await told(database, one, *several(3)), *await told(database, one, *several(2))]
    await told(database, other, *several(1))

    assert [row.number for row in rows if row] == [1, 2, 3, 4, 5]
    assert await verified(database, one) == Verification(1, 5)
    assert await verified(database, other) == Verification(1, 1)
    assert await verified(database, new_ulid()) == Verification(None, 0)


async def test_what_is_undone_leaves_no_gap(database: Database) -> None:
    organization = await an_organization(database)
    await told(database, organization, *several(2))
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as session:
            await audit.record(session, organization, *several(1))
            raise ZeroDivisionError
    await told(database, organization, *several(1))

    assert await verified(database, organization) == Verification(1, 3)


async def test_two_processes_that_write_at_once_leave_no_gap(database: Database, database_url: str) -> None:
    organization = await an_organization(database)
    times = 50
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITING, database_url, organization, str(times), stderr=asyncio.subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in started:
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()

    assert await verified(database, organization) == Verification(1, 2 * times)


async def test_what_a_teamspace_tells_again_is_told_once(database: Database) -> None:
    one, other = await an_organization(database), await an_organization(database)
    first = await told(database, one, *several(1, source="S:1"))
    again = await told(database, one, *several(1, source="S:1"), *several(1, source="S:2"))
    elsewhere = await told(database, other, *several(1, source="S:1"))

    assert [row is not None for row in (*first, *again, *elsewhere)] == [True, False, True, True]
    assert await verified(database, one) == Verification(1, 2)


async def test_what_is_no_text_or_too_long_is_kept_as_far_as_it_is_one(database: Database) -> None:
    organization = await an_organization(database)
    odd = Entry(
        {"kind": "person", "name": "P\0ia \ud800"},
        "a" * 100,
        {},
        "x" * 50,
        details={"long": "€" * 5000, "deep": [[[[[[[[1]]]]]]]], "n": 2**40, "many": list(range(1000))},
        address="f" * 100,
        request="r\0",
    )
    (row,) = await told(database, organization, odd)

    assert row is not None
    assert row.actor["name"] == "P\ufffdia \ufffd"
    assert (len(row.action), len(row.outcome), len(row.details["long"])) == (64, 16, 1000)
    assert await verified(database, organization) == Verification(1, 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET action = 'nothing'",
        "DELETE FROM audit",
        "DELETE FROM audit WHERE number = 3",
        "DELETE FROM audit_heads",
        "UPDATE audit_heads SET number = 1",
        "UPDATE audit_heads SET cut_number = 9",
    ],
)
async def test_the_database_itself_refuses_to_change_an_audit(database: Database, statement: str) -> None:
    organization = await an_organization(database)
    await told(database, organization, *several(3))
    with pytest.raises(DBAPIError, match="audit"):
        async with database.transaction() as session:
            await session.execute(text(statement))
    assert await verified(database, organization) == Verification(1, 3)


async def test_postgresql_refuses_to_empty_it(database: Database) -> None:
    if database.is_postgresql:
        for table in ("audit", "audit_heads"):
            with pytest.raises(DBAPIError, match="audit"):
                async with database.transaction() as session:
                    await session.execute(text(f"TRUNCATE {table}"))
    await an_organization(database)


@pytest.mark.parametrize(
    "change",
    [
        "action = 'member.rolf'",
        "outcome = 'no'",
        "address = '::1'",
        "source = 'S:9'",
        "request = 'R'",
        "id = '01HXXXXXXXXXXXXXXXXXXXXXXX'",
        "at = '2020-01-01 00:00:00.000000'",
        'actor = \'{"kind":"person","id":"P","name":"Paul"}\'',
        "details = '{\"n\":3}'",
        "details = '{\"n\":1.5}'",
        "target = '{}'",
        "hash = before_hash",
        "before_hash = hash",
    ],
)
async def test_whatever_is_changed_in_a_row_names_the_row(database: Database, change: str) -> None:
    organization = await an_organization(database)
    await told(database, organization, *several(9))
    await behind_its_back(database, f"UPDATE audit SET {change} WHERE number = 5")

    result = await verified(database, organization)
    assert (result.is_whole, result.first, result.last, result.broken) == (False, 1, 4, 5)


async def test_a_byte_that_makes_a_row_unreadable_names_the_row(database: Database) -> None:
    organization = await an_organization(database)
    await told(database, organization, *several(9))
    if not database.is_postgresql:
        await behind_its_back(database, "UPDATE audit SET details = '{\"n\":4' WHERE number = 5")
        assert (await verified(database, organization)).broken == 5
    await behind_its_back(database, "DELETE FROM audit WHERE number = 3")
    assert (await verified(database, organization)).broken == 3


async def test_rows_that_are_gone_are_missed(database: Database) -> None:
    organization = await an_organization(database)
    await told(database, organization, *several(9))
    await behind_its_back(database, "DELETE FROM audit WHERE number = 9")
    assert (await verified(database, organization)).broken == 9

    await behind_its_back(database, "DELETE FROM audit WHERE number = 1")
    assert (await verified(database, organization)).broken == 1


async def test_a_chain_that_was_written_anew_does_not_fit_a_checkpoint_that_was_kept(hub: Hub) -> None:
    """Whoever has all rights can write a whole new audit; who keeps the exports notices."""
    organization = await an_organization(hub.database)
    await told(hub.database, organization, *several(4))
    kept = await exported(hub, organization)
    await behind_its_back(hub.database, "DELETE FROM audit", "DELETE FROM audit_heads")
    await told(hub.database, organization, *several(6))
    anew = await exported(hub, organization)

    assert (await verified(hub.database, organization)).is_whole
    keys = hub.authorities.audit_jwks()
    assert verify_export(anew, keys).is_whole
    result = verify_export([*anew[:-1], kept[-1]], keys)
    assert (result.is_whole, result.broken) == (False, 4)


async def test_an_export_is_verified_by_whoever_has_the_keys(hub: Hub, sealer: Sealer, hub_clock: HubClock) -> None:
    organization = await an_organization(hub.database)
    await told(hub.database, organization, *several(1203, address="192.0.2.7"))
    lines = await exported(hub, organization)
    keys = hub.authorities.audit_jwks()

    assert len(lines) == 1204
    assert verify_export(lines, keys) == Verification(1, 1203, signed=1203)
    part = await exported(hub, organization, after=1000)
    assert verify_export(part, keys) == Verification(1001, 1203, signed=1203)
    assert verify_export([*lines[:1000], *part], keys) == Verification(1, 1203, signed=1203)
    assert verify_export([], keys) == Verification(None, 0)
    # The key outlives those of tokens.
    hub_clock.advance(timedelta(days=1000))
    await hub.authorities.renew(hub.signals)
    later = await Authorities.load(hub.database, sealer, hub_clock)
    assert verify_export(lines, later.audit_jwks()).signed == 1203


async def test_an_export_that_was_changed_names_the_line(hub: Hub) -> None:
    organization, other = await an_organization(hub.database), await an_organization(hub.database)
    await told(hub.database, organization, *several(9))
    await told(hub.database, other, *several(9))
    lines, others = await exported(hub, organization), await exported(hub, other)
    keys = hub.authorities.audit_jwks()
    fifth = lines[4].replace(b'"ok"', b'"OK"')
    forged = json.loads(lines[-1])["checkpoint"]

    for changed, broken in (
        ([*lines[:4], fifth, *lines[5:]], 5),
        ([*lines[:4], *lines[5:]], 5),
        ([*lines[:8], lines[-1]], 9),
        ([*lines[:4], b"no JSON", *lines[5:]], 5),
        ([*lines[:4], b"[]", *lines[5:]], 5),
        ([*lines[:4], *others[4:]], 5),
        ([*lines[:-1], others[-1]], 9),
        ([*lines[:-1], audit_lines.canonical({"checkpoint": forged[:-4] + "AAAA"})], 9),
        ([*lines[:-1], b'{"checkpoint":"x.y"}'], 9),
        ([*lines[:-1], b'{"checkpoint":1}'], 9),
    ):
        result = verify_export(changed, keys)
        assert (result.is_whole, result.broken) == (False, broken), result
    stranger = {"keys": [{**keys["keys"][0], "x": "A" * 43}]}
    assert not verify_export(lines, stranger).is_whole
    assert not verify_export(lines, {"keys": []}).is_whole
    # Tokens are signed by other keys.
    token = hub.authorities.sign(json.loads(b"{}"), typ=audit_lines.CHECKPOINT_TYPE)
    assert not verify_export([*lines, audit_lines.canonical({"checkpoint": token})], keys).is_whole


async def test_what_is_let_go_leaves_a_chain_that_holds(hub: Hub, hub_clock: HubClock) -> None:
    organization = await an_organization(hub.database)
    old = hub.clock() - timedelta(days=400)
    recent = hub.clock() - timedelta(days=7, hours=1)
    await told(
        hub.database, organization, *several(5, at=old), *several(1), *several(1, at=recent), *several(1, at=old)
    )
    before = await exported(hub, organization)
    await retained(hub)

    assert await verified(hub.database, organization) == Verification(6, 9)
    after = await exported(hub, organization)
    keys = hub.authorities.audit_jwks()
    assert verify_export([*before[:5], *after], keys) == Verification(1, 9, signed=9)
    last = json.loads(after[-2])
    assert (last["action"], last["details"]) == ("audit.retain", {"up_to": 5, "hash": json.loads(before[4])["hash"]})
    await retained(hub)
    assert await verified(hub.database, organization) == Verification(6, 9)
    await behind_its_back(hub.database, "DELETE FROM audit WHERE number = 6")
    assert (await verified(hub.database, organization)).broken == 6


async def test_each_organization_keeps_for_as_long_as_it_says(hub: Hub, hub_clock: HubClock) -> None:
    brief, long = await an_organization(hub.database), await an_organization(hub.database)
    async with hub.database.transaction() as session:
        (await session.get_one(Organization, brief)).settings = {"audit_days": 30}
    for organization in (brief, long):
        await told(hub.database, organization, *several(3))
    # The Hub ran all the time.
    started = 0.0
    believed = await retention.Believed.since_now(hub, lambda: started)
    hub_clock.advance(timedelta(days=31))
    started = timedelta(days=31).total_seconds()
    await retention.retain_all(hub, believed)

    assert await verified(hub.database, brief) == Verification(4, 4)
    assert await verified(hub.database, long) == Verification(1, 3)
    async with hub.database.reading() as session:
        head = await session.get_one(AuditHead, brief)
    assert (head.number, head.cut_number) == (4, 3)


async def test_a_clock_that_leaps_while_the_hub_runs_takes_nothing(hub: Hub, hub_clock: HubClock) -> None:
    organization = await an_organization(hub.database)
    await told(hub.database, organization, *several(3))
    believed = await retention.Believed.since_now(hub)
    hub_clock.advance(timedelta(days=400))
    await told(hub.database, organization, *several(1, at=hub.clock()))
    await retention.retain_all(hub, believed)

    assert await verified(hub.database, organization) == Verification(1, 4)


async def test_a_hub_that_starts_with_a_clock_too_late_takes_nothing(hub: Hub, hub_clock: HubClock) -> None:
    organization, other = await an_organization(hub.database), await an_organization(hub.database)
    await told(hub.database, organization, *several(3))
    hub_clock.advance(timedelta(days=400))
    await retained(hub)
    # Neither does what is told meanwhile make the wrong time right, wherever it was done.
    for days in range(6):
        await told(hub.database, other, *several(1, at=hub.clock() + timedelta(days=days)))
        await retained(hub)
    assert await verified(hub.database, organization) == Verification(1, 3)

    # It was no wrong clock: somebody was away for a year, and works again.
    hub_clock.advance(timedelta(days=8))
    await told(hub.database, other, *several(1, at=hub.clock()))
    await retained(hub)
    assert await verified(hub.database, organization) == Verification(4, 4)


async def test_entries_are_found_by_what_they_say(database: Database) -> None:
    organization, other = await an_organization(database), await an_organization(database)
    now = HubClock()()
    await told(
        database,
        organization,
        Entry(PIA, "member.role", SPACE, at=now - timedelta(hours=3)),
        Entry(PIA, "members_.odd", SPACE, "denied", at=now - timedelta(hours=2)),
        Entry({"kind": "hub", "id": "H"}, "member.remove", PIA, at=now - timedelta(hours=1)),
        Entry({"kind": "hub", "id": "H"}, "memberXrole", {}, at=now),
    )
    await told(database, other, *several(5))

    async def found(**wanted: Any) -> list[int]:
        async with database.reading() as session:
            return [row.number for row in await reading.page(session, organization, Filter(**wanted))]

    assert await found() == [4, 3, 2, 1]
    assert await found(action="member.role") == [1]
    assert await found(action="member") == [3, 1]
    assert await found(action="member_") == []
    assert await found(actor=PIA["id"]) == [2, 1]
    assert await found(target=PIA["id"]) == [3]
    assert await found(outcome="denied") == [2]
    assert await found(since=now - timedelta(hours=2), until=now) == [3, 2]
    assert await found(actor="' OR 1=1 --") == []
    async with database.reading() as session:
        pages = [
            [row.number for row in await reading.page(session, organization, below=below, limit=2)]
            for below in (None, 3, 1)
        ]
    assert pages == [[4, 3], [2, 1], []]


async def test_without_names_nobody_is_named_and_everybody_stays_the_same(hub: Hub) -> None:
    one, other = await an_organization(hub.database), await an_organization(hub.database)
    device = {"kind": "device", "id": new_ulid(), "name": "pias-laptop", "user": PIA["id"]}
    invitation = {"kind": "invitation", "id": new_ulid(), "name": "new@shop.test"}
    personal = {
        "email": "pia@shop.test",
        "note": "asked by Pia Muster",
        "role": "admin",
        "n": 7,
        "service": "orders.shop:80",
        "members": [PIA["id"]],
        "condition": {"type": "user", "value": "pia"},
    }
    for organization in (one, other):
        await told(
            hub.database,
            organization,
            Entry(PIA, "member.role", PIA, details=personal, address="192.0.2.7", source="S:1"),
            Entry(PIA, "device.revoke", device),
            Entry(PIA, "invitation.create", invitation),
            Entry(PIA, "space.create", SPACE),
        )
    (first, *_), (others, *_) = [
        [json.loads(line) for line in await exported(hub, organization, pseudonymous=True)]
        for organization in (one, other)
    ]
    content = b"".join(await exported(hub, one, pseudonymous=True))
    for secret in ("Pia", "pia", PIA["id"], "192.0.2.7", device["id"], "laptop", invitation["id"], "new@"):
        assert secret.encode() not in content
    assert b'"name":"demo"' in content
    assert b'"orders.shop:80"' in content
    assert (first["details"]["role"], first["details"]["n"]) == ("admin", 7)
    assert first["actor"] == first["target"]
    assert first["actor"]["id"].startswith("person-")
    assert first["actor"] != others["actor"]
    # Nothing of it could be compared with a guess.
    assert not {"hash", "before"} & set(first)
    async with hub.database.reading() as session:
        rows = (await session.scalars(select(AuditEntry).where(AuditEntry.organization_id == one))).all()
    assert all(row.hash.hex() not in content.decode() for row in rows)


async def test_an_outsider_verifies_what_an_auditor_exported(hub: Hub) -> None:
    """With two answers of the API, and nothing else of the Hub."""
    organization = await new_organization(hub, "Acme")
    owner = await new_person(hub, "Olga", {organization: Role.OWNER})
    await told(hub.database, organization, *several(3))
    async with api_of(hub) as api:
        keys = (await api.client.get("/.well-known/audit-jwks.json")).json()
        answer = await api.ask(owner, "GET", f"/organizations/{organization}/audit/export", expect=200)

    result = verify_export(answer.content.splitlines(), keys)
    assert result.is_whole
    assert result.signed == result.last > 3
