"""What all operations of the API share, on both databases: who is let in, what is refused before anything happens, and a repeated request that is done once."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import timedelta

import httpx2
import pytest
from sqlalchemy import func, select, update
from tests.hub_api import NOBODY, Api, Asker, api_of, new_key, new_organization, new_person
from tests.hub_databases import HubClock, running_hub

from codezero.hub.api.limits import Buckets, Limits
from codezero.hub.context import Hub
from codezero.hub.storage.tables import Answered, Membership, OneTimeCode, Organization, User
from codezero.model import problems
from codezero.model.roles import Permission, Role

TICKETS = "/events/tickets"


@pytest.fixture
async def api(hub: Hub) -> AsyncGenerator[Api, None]:
    async with api_of(hub) as made:
        yield made


@pytest.fixture
async def organization(hub: Hub) -> str:
    return await new_organization(hub, "Acme")


@pytest.fixture
async def owner(hub: Hub, organization: str) -> Asker:
    return await new_person(hub, "Olga", {organization: Role.OWNER})


def code(answer: httpx2.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["code"])


async def tickets(hub: Hub) -> int:
    async with hub.database.reading() as session:
        return await session.scalar(select(func.count()).select_from(OneTimeCode)) or 0


async def test_strangers_learn_what_answers_and_nothing_else(api: Api) -> None:
    await api.ask(NOBODY, "GET", "/version", expect=200)
    await api.ask(NOBODY, "GET", "/api/openapi.json", expect=200)

    refused = await api.ask(NOBODY, "POST", TICKETS, expect=401)

    assert code(refused) == problems.NOT_SIGNED_IN.code
    assert refused.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/api/docs", "/openapi.json", "/api/v1/version/"])
async def test_there_are_no_pages_of_the_framework(api: Api, path: str) -> None:
    answer = await api.client.get(path)

    assert answer.status_code == 404
    assert code(answer) == problems.NOT_FOUND.code


async def test_another_method_is_told_which_there_is(api: Api) -> None:
    answer = await api.ask(NOBODY, "DELETE", "/version", expect=405)

    assert answer.json()["fix"] == "use GET"


async def test_a_member_of_one_organization_sees_none_of_another(api: Api, organization: str, owner: Asker) -> None:
    """Neither do they learn that there is one (T29)."""
    other = await new_organization(api.hub, "Other")
    mine = await api.ask(owner, "GET", f"/organizations/{organization}", expect=200)
    theirs = await api.ask(owner, "GET", f"/organizations/{other}", expect=404)
    nobodys = await api.ask(owner, "GET", f"/organizations/{organization[:-1]}", expect=404)

    assert mine.json()["role"] == "owner"
    assert theirs.json() == nobodys.json()


@pytest.mark.parametrize("organization_id", ["x" * 2000, "%F0%9F%98%80", "..", "a.b", "%E2%80%AE", "0" * 26])
async def test_odd_ids_are_ids_of_nothing(api: Api, owner: Asker, organization_id: str) -> None:
    answer = await api.ask(owner, "GET", f"/organizations/{organization_id}/members")

    assert answer.status_code in {400, 404}


async def test_who_leaves_or_is_disabled_is_a_stranger_at_once(api: Api, organization: str, owner: Asker) -> None:
    viewer = await new_person(api.hub, "Vic", {organization: Role.VIEWER})
    path = f"/organizations/{organization}"
    await api.ask(viewer, "GET", path, expect=200)
    async with api.hub.database.transaction() as session:
        await session.delete(await session.get_one(Membership, (organization, viewer.user)))
    await api.ask(viewer, "GET", path, expect=404)
    async with api.hub.database.transaction() as session:
        await session.execute(update(User).where(User.id == owner.user).values(disabled_at=api.hub.clock()))
    await api.ask(owner, "GET", path, expect=401)


async def test_a_deleted_organization_is_none(api: Api, organization: str, owner: Asker) -> None:
    async with api.hub.database.transaction() as session:
        await session.execute(
            update(Organization).where(Organization.id == organization).values(deleted_at=api.hub.clock())
        )
    await api.ask(owner, "GET", f"/organizations/{organization}", expect=404)


async def test_a_key_is_good_for_its_organization_and_scopes_alone(api: Api, organization: str) -> None:
    other = await new_organization(api.hub, "Other")
    whole = await new_key(api.hub, "ci", organization, Role.CI)
    scoped = await new_key(
        api.hub, "scoped", organization, Role.ADMIN, scopes=frozenset({Permission.ORGANIZATION_READ})
    )
    await api.ask(whole, "GET", f"/organizations/{organization}", expect=200)
    await api.ask(whole, "GET", f"/organizations/{other}", expect=404)
    await api.ask(whole, "GET", f"/organizations/{organization}/members", expect=403)
    await api.ask(scoped, "GET", f"/organizations/{organization}", expect=200)
    await api.ask(scoped, "GET", f"/organizations/{organization}/members", expect=403)


async def test_unknown_fields_and_wrong_types_are_named_and_never_quoted(api: Api, owner: Asker) -> None:
    answer = await api.ask(owner, "POST", "/organizations", body={"name": ["s3cret"], "nmae": "s3cret"}, expect=422)

    assert code(answer) == problems.NOT_VALID.code
    assert "body.name" in answer.json()["detail"]
    assert "body.nmae: there is no such field" in answer.json()["detail"]
    assert "s3cret" not in answer.text


async def test_a_query_or_a_body_that_nobody_reads_is_refused(api: Api, organization: str, owner: Asker) -> None:
    """A mistyped filter that is ignored shows more than was asked for."""
    await api.ask(owner, "GET", f"/organizations/{organization}/members?limt=1", expect=422)
    await api.ask(owner, "POST", TICKETS, body={"a": 1}, expect=422)
    await api.ask(owner, "POST", TICKETS, body={}, expect=201)


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": " "},
        {"name": "a\nb"},
        {"name": "a\u202eb"},
        {"name": "x" * 201},
        {"name": "trailing "},
        {"name": 1},
        {"name": None},
        {},
        [],
        "text",
        None,
    ],
)
async def test_names_are_what_people_can_read(api: Api, owner: Asker, body: object) -> None:
    await api.ask(owner, "POST", "/organizations", body=body, expect=422)


async def test_a_form_is_not_taken_for_json(api: Api, owner: Asker) -> None:
    """A page elsewhere can send forms and plain text without asking; JSON it cannot."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = await api.client.post(
            "/api/v1/organizations", content=b'{"name": "a"}', headers={**owner.headers, "content-type": kind}
        )
        assert answer.status_code == 422


async def test_who_asks_too_often_is_told_when_to_come_again(hub: Hub, organization: str, owner: Asker) -> None:
    limits = Limits(caller=Buckets(rate=1, burst=2, clock=lambda: 0.0))
    async with api_of(hub, limits=limits) as api:
        path = f"/organizations/{organization}"
        answers = [await api.ask(owner, "GET", path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["retry-after"] == "1"


async def test_a_defect_says_nothing_of_what_is_inside(api: Api, organization: str, owner: Asker) -> None:
    await api.hub.database.close()
    async with api.hub.database.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE memberships")

    answer = await api.ask(owner, "GET", f"/organizations/{organization}", expect=500)

    assert code(answer) == problems.INTERNAL.code
    assert answer.headers["x-request-id"] in answer.json()["fix"]
    assert "memberships" not in answer.text
    assert "Traceback" not in answer.text


# Idempotency


async def test_the_same_request_again_is_done_once(api: Api, owner: Asker) -> None:
    key = {"idempotency-key": "a"}
    first = await api.ask(owner, "POST", TICKETS, headers=key, expect=201)
    again = await api.ask(owner, "POST", TICKETS, headers=key, expect=201)

    assert again.content == first.content
    assert again.headers["idempotent-replay"] == "true"
    assert "idempotent-replay" not in first.headers
    assert await tickets(api.hub) == 1


async def test_a_key_is_one_askers_for_one_path(api: Api, organization: str, owner: Asker) -> None:
    other = await new_person(api.hub, "Ada", {organization: Role.ADMIN})
    key = {"idempotency-key": "a"}
    first = await api.ask(owner, "POST", TICKETS, headers=key, expect=201)
    theirs = await api.ask(other, "POST", TICKETS, headers=key, expect=201)
    made = await api.ask(owner, "POST", "/organizations", body={"name": "New"}, headers=key, expect=201)

    assert theirs.json() != first.json()
    assert made.json()["name"] == "New"


async def test_a_key_with_another_request_is_refused(api: Api, owner: Asker) -> None:
    key = {"idempotency-key": "a"}
    await api.ask(owner, "POST", "/organizations", body={"name": "One"}, headers=key, expect=201)

    answer = await api.ask(owner, "POST", "/organizations", body={"name": "Two"}, headers=key, expect=422)

    assert code(answer) == problems.KEY_REUSED.code


async def test_what_was_refused_may_be_tried_again(api: Api, owner: Asker) -> None:
    key = {"idempotency-key": "a"}
    await api.ask(owner, "POST", "/organizations", body={"name": ""}, headers=key, expect=422)
    await api.ask(owner, "POST", "/organizations", body={"name": "One"}, headers=key, expect=201)


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 201, "ü"])
async def test_a_key_that_is_none_is_refused(api: Api, owner: Asker, key: str) -> None:
    headers = [*owner.headers.items(), ("idempotency-key", key)]
    encoded = [(name.encode(), value.encode()) for name, value in headers]
    assert (await api.client.post(f"/api/v1{TICKETS}", headers=encoded)).status_code == 422


async def test_an_answer_is_kept_for_a_day_and_sealed(api: Api, owner: Asker) -> None:
    key = {"idempotency-key": "a"}
    first = await api.ask(owner, "POST", TICKETS, headers=key, expect=201)
    async with api.hub.database.reading() as session:
        row = (await session.scalars(select(Answered))).one()
    assert row.sealed is not None
    assert first.json()["ticket"].encode() not in row.sealed

    async with api.hub.database.transaction() as session:
        row = (await session.scalars(select(Answered))).one()
        row.created_at = api.hub.clock() - timedelta(hours=25)
    later = await api.ask(owner, "POST", TICKETS, headers=key, expect=201)

    assert later.json() != first.json()


async def test_a_request_that_broke_off_is_not_done_again(api: Api, owner: Asker) -> None:
    """A process that was killed may have done it; whoever asks is told so instead of having it twice."""
    key = {"idempotency-key": "a"}
    await api.ask(owner, "POST", TICKETS, headers=key, expect=201)
    async with api.hub.database.transaction() as session:
        await session.execute(update(Answered).values(status=None, sealed=None))

    answer = await api.ask(owner, "POST", TICKETS, headers=key, expect=409)

    assert code(answer) == problems.UNDER_WAY.code
    assert await tickets(api.hub) == 1


async def test_many_at_once_over_two_replicas_are_done_once(hub: Hub, owner: Asker) -> None:
    async with (
        running_hub(hub.database, hub.sealer, HubClock()) as replica,
        api_of(hub) as one,
        api_of(replica) as two,
    ):
        key = {"idempotency-key": "a"}
        answers = await asyncio.gather(
            *((one, two)[number % 2].ask(owner, "POST", TICKETS, headers=key) for number in range(20))
        )

    done = [answer for answer in answers if answer.status_code == 201]
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in done}) == 1
    assert await tickets(hub) == 1
