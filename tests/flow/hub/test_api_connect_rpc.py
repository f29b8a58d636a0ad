"""The original's published calls, by requests as its clients send them: same paths, same shapes, Connect's errors."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import httpx2
import pytest
from tests.hub_api import NOBODY, Api, Asker, World, api_of, new_key, new_organization, new_person, new_space, new_world

from codezero.hub.api.connect_rpc import ADMINS, AGENTS, USERS
from codezero.hub.context import Hub
from codezero.model.ids import TeamspaceId
from codezero.model.roles import Permission, Role
from codezero.system.tokens import TokenVerifier


@pytest.fixture
async def api(hub: Hub) -> AsyncGenerator[Api, None]:
    async with api_of(hub) as made:
        yield made


@pytest.fixture
async def world(hub: Hub) -> World:
    return await new_world(hub)


async def call(
    api: Api, asker: Asker, path: str, fields: Mapping[str, Any] | None = None, *, expect: int = 200
) -> dict[str, Any]:
    answer = await api.ask(asker, "POST", path, body=dict(fields or {}), expect=expect)
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


def without_scheme(asker: Asker) -> Asker:
    """As the Netlify extension sends a user's token."""
    return Asker(asker.user, {"authorization": asker.headers["authorization"].removeprefix("Bearer ")})


async def test_a_serverless_program_finds_its_teamspaces_and_gets_in(api: Api, world: World) -> None:
    key = await new_key(api.hub, "ci", world.organization, Role.CI)
    spaces = (await call(api, key, f"{AGENTS}/ListSpaces"))["spaces"]
    got = await call(api, key, f"{AGENTS}/GetSpaceConnection", {"spaceId": spaces[0]["id"]})
    verifier = TokenVerifier(clock=lambda: api.hub.clock().timestamp())
    verifier.read_keys((await api.client.get("/.well-known/jwks.json")).content)
    speaker = verifier.verify(got["token"], TeamspaceId(spaces[0]["id"]))

    assert [space["name"] for space in spaces] == ["shop"]
    assert got.keys() == {"host", "token", "cert"}
    assert (got["host"], got["cert"]) == ("shop.example.com", api.hub.authorities.root_pem)
    assert (speaker.organization, speaker.user) == (world.organization, key.user)


async def test_fields_have_either_name_and_unknown_ones_are_let_be(api: Api, world: World) -> None:
    """As protobuf's JSON does: clients newer than us say more."""
    key = await new_key(api.hub, "ci", world.organization, Role.CI)
    for fields in ({"space_id": world.ids["space"]}, {"spaceId": world.ids["space"], "region": "eu"}):
        assert "token" in await call(api, key, f"{AGENTS}/GetSpaceConnection", fields)


async def test_another_organizations_teamspace_is_none(api: Api, world: World) -> None:
    other = await new_world(api.hub, "Other")
    key = await new_key(api.hub, "ci", world.organization, Role.CI)
    path = f"{AGENTS}/GetSpaceConnection"
    theirs = await call(api, key, path, {"spaceId": other.ids["space"]}, expect=404)
    nobodys = await call(api, key, path, {"spaceId": "01JZ0000000000000000000000"}, expect=404)

    assert theirs == nobodys
    assert theirs["code"] == "not_found"


async def test_errors_have_connects_form(api: Api, world: World) -> None:
    path = f"{AGENTS}/GetSpaceConnection"
    viewer = await new_person(api.hub, "Vic", {world.organization: Role.VIEWER})
    scoped = await new_key(api.hub, "scoped", world.organization, Role.CI, scopes=frozenset({Permission.SPACES_READ}))
    key = await new_key(api.hub, "ci", world.organization, Role.CI)
    asked = {"spaceId": world.ids["space"]}

    assert (await call(api, NOBODY, path, asked, expect=401))["code"] == "unauthenticated"
    assert (await call(api, viewer, path, asked, expect=403))["code"] == "permission_denied"
    assert (await call(api, scoped, path, asked, expect=403))["code"] == "permission_denied"
    for fields in ({}, {"spaceId": 1}, {"spaceId": ""}):
        assert (await call(api, key, path, fields, expect=400))["code"] == "invalid_argument"
    text = await api.client.post(path, content=b"{}", headers={**key.headers, "content-type": "text/plain"})
    assert (text.status_code, text.json()["code"]) == (400, "invalid_argument")
    listed = await api.client.post(path, json=[], headers=dict(key.headers))
    assert (listed.status_code, listed.json()["code"]) == (400, "invalid_argument")


async def test_a_users_client_selects_and_lists(api: Api, world: World) -> None:
    """What was selected with one of a user's clients holds for all of them."""
    second = await new_organization(api.hub, "Second")
    user = await new_person(api.hub, "Dev", {world.organization: Role.DEVELOPER, second: Role.OWNER})
    space = await new_space(api.hub, second, user.user, name="second")
    client = without_scheme(user)
    orgs = (await call(api, client, f"{USERS}/ListOrgs"))["orgs"]
    unselected = await call(api, client, f"{USERS}/ListSpaces", expect=400)
    await call(api, client, f"{USERS}/SetOrg", {"org_id": second})
    selected = (await call(api, user, f"{USERS}/ListSpaces"))["spaces"]
    await call(api, client, f"{USERS}/SetSpace", {"space_id": world.ids["space"]})
    other = (await call(api, client, f"{USERS}/ListSpaces"))["spaces"]

    assert {org["name"] for org in orgs} == {"Acme", "Second"}
    assert unselected["code"] == "failed_precondition"
    assert [one["id"] for one in selected] == [space]
    assert [one["id"] for one in other] == [world.ids["space"]]


async def test_nobody_selects_what_is_not_theirs(api: Api, world: World) -> None:
    other = await new_world(api.hub, "Other")
    await call(api, world.owner, f"{USERS}/SetOrg", {"orgId": other.organization}, expect=404)
    await call(api, world.owner, f"{USERS}/SetSpace", {"spaceId": other.ids["space"]}, expect=404)
    await call(api, world.owner, f"{USERS}/SetOrg", {"orgId": world.organization}, expect=200)
    await api.ask(world.owner, "DELETE", f"/organizations/{world.organization}", expect=204)

    assert (await call(api, world.owner, f"{USERS}/ListOrgs"))["orgs"] == []
    await call(api, world.owner, f"{USERS}/ListSpaces", expect=400)


async def test_an_administrators_client_sees_all_of_theirs(api: Api, world: World) -> None:
    other = await new_world(api.hub, "Other")
    orgs = (await call(api, world.owner, f"{ADMINS}/ListOrgs"))["orgs"]
    spaces = (await call(api, world.owner, f"{ADMINS}/ListTeamspaces"))["spaces"]

    assert [org["id"] for org in orgs] == [world.organization]
    assert [space["id"] for space in spaces] == [world.ids["space"]]
    assert other.ids["space"] not in str(spaces)


async def test_only_posts_are_taken(api: Api) -> None:
    answer: httpx2.Response = await api.client.get(f"{AGENTS}/ListSpaces")

    assert answer.status_code == 405
