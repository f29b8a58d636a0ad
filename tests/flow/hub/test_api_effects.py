"""What the API's operations did is there afterwards, for whoever looks: those whose effect no other test of this folder looks at, on both databases."""

from collections.abc import AsyncGenerator
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.hub_api import Api, World, api_of, new_person, new_world
from tests.hub_people import PASSWORD, place_of

from codezero import __version__
from codezero.hub.context import Hub
from codezero.hub.signin import first_owner
from codezero.model.roles import Role


@pytest.fixture
async def api(hub: Hub) -> AsyncGenerator[Api, None]:
    async with api_of(hub) as made:
        yield made


@pytest.fixture
async def world(hub: Hub) -> World:
    return await new_world(hub)


def at(world: World, path: str = "") -> str:
    return f"/organizations/{world.organization}{path}"


@pytest.mark.capability("operation", "auth.first-owner", "auth.sign-in", "auth.whoami")
async def test_a_program_signs_in_as_a_browser_does(hub: Hub) -> None:
    async with place_of(hub) as place:
        link = await first_owner.link(hub)
        assert link is not None
        (token,) = parse_qs(urlsplit(link).query)["token"]
        person = {"email": "ada@example.com", "password": PASSWORD}
        first, later = place.browser(), place.browser()
        headers = {"Origin": hub.public_url}
        become = {**person, "token": token, "name": "Ada", "organization": "Acme"}
        became = await first.client.post("/api/v1/auth/first-owner", json=become, headers=headers)
        again = await first.client.post("/api/v1/auth/first-owner", json=become, headers=headers)
        signed_in = await later.client.post("/api/v1/auth/login", json=person, headers=headers)
        me = [(await one.client.get("/api/v1/auth/me")).json() for one in (first, later)]
        providers = (await later.client.get("/api/v1/auth/providers")).json()

    assert [became.status_code, again.status_code, signed_in.status_code] == [201, 401, 200]
    assert [one["user"]["email"] for one in me] == ["ada@example.com"] * 2
    assert [(one["name"], one["role"]) for one in me[1]["organizations"]] == [("Acme", "owner")]
    assert providers["items"] == []


@pytest.mark.capability("operation", "organization.list", "organization.create", "organization.show")
@pytest.mark.capability("operation", "organization.rename", "organization.remove")
async def test_an_organization_is_made_renamed_and_removed(api: Api, world: World) -> None:
    async def names() -> set[str]:
        return {
            one["name"] for one in (await api.ask(world.owner, "GET", "/organizations", expect=200)).json()["items"]
        }

    before = await names()
    made = (await api.ask(world.owner, "POST", "/organizations", body={"name": "Lab"}, expect=201)).json()
    path = f"/organizations/{made['id']}"
    shown = (await api.ask(world.owner, "GET", path, expect=200)).json()
    with_it = await names()
    await api.ask(world.owner, "PATCH", path, body={"name": "Laboratory"}, expect=200)
    renamed = await names()
    await api.ask(world.owner, "DELETE", path, expect=204)

    assert (shown["name"], shown["role"]) == ("Lab", "owner")
    assert with_it - before == {"Lab"}
    assert renamed - before == {"Laboratory"}
    assert await names() == before


@pytest.mark.capability("operation", "member.list", "member.role", "member.remove")
@pytest.mark.capability("operation", "invitation.create", "invitation.list", "invitation.withdraw")
async def test_members_and_invitations_are_what_was_made_of_them(api: Api, world: World) -> None:
    person = await new_person(api.hub, "Mia", {world.organization: Role.VIEWER})
    one = at(world, f"/members/{person.user}")

    async def roles() -> dict[str, str]:
        listed = (await api.ask(world.owner, "GET", at(world, "/members"), expect=200)).json()["items"]
        return {member["user"]: member["role"] for member in listed}

    async def invited() -> set[str]:
        listed = (await api.ask(world.owner, "GET", at(world, "/invitations"), expect=200)).json()["items"]
        return {invitation["email"] for invitation in listed}

    await api.ask(person, "GET", at(world, "/audit"), expect=403)
    await api.ask(world.owner, "PATCH", one, body={"role": "auditor"}, expect=200)
    await api.ask(person, "GET", at(world, "/audit"), expect=200)
    now = (await roles())[person.user]
    alone = (await api.ask(world.owner, "GET", one, expect=200)).json()["role"]
    await api.ask(world.owner, "DELETE", one, expect=204)
    body = {"email": "kim@example.com", "role": "viewer"}
    made = (await api.ask(world.owner, "POST", at(world, "/invitations"), body=body, expect=201)).json()
    with_it = await invited()
    await api.ask(world.owner, "DELETE", at(world, f"/invitations/{made['id']}"), expect=204)

    assert (now, alone) == ("auditor", "auditor")
    assert person.user not in await roles()
    await api.ask(person, "GET", at(world), expect=404)
    assert "kim@example.com" in with_it
    assert "kim@example.com" not in await invited()
    accepted = {"token": made["token"], "name": "Kim", "password": PASSWORD}
    await api.ask(world.owner, "POST", "/invitations/accept", body=accepted, expect=404)


@pytest.mark.capability("operation", "space.list", "space.create", "space.show", "space.rename", "space.join-token")
@pytest.mark.capability("operation", "space.rotate", "space.remove", "hub.version")
async def test_a_teamspace_is_made_changed_and_removed(api: Api, world: World) -> None:
    made = (await api.ask(world.owner, "POST", at(world, "/spaces"), body={"name": "lab"}, expect=201)).json()
    path = at(world, f"/spaces/{made['id']}")

    async def names() -> dict[str, str]:
        listed = (await api.ask(world.owner, "GET", at(world, "/spaces"), expect=200)).json()["items"]
        return {space["id"]: space["name"] for space in listed}

    anew = (await api.ask(world.owner, "POST", f"{path}/join-token", expect=201)).json()
    shown = (await api.ask(world.owner, "GET", path, expect=200)).json()
    await api.ask(world.owner, "PATCH", path, body={"name": "laboratory"}, expect=200)
    renamed = await names()
    await api.ask(world.owner, "DELETE", path, expect=204)
    joined = at(world, f"/spaces/{world.ids['space']}")
    before = (await api.ask(world.owner, "GET", joined, expect=200)).json()["rotating"]
    await api.ask(world.owner, "POST", f"{joined}/rotate", expect=200)
    version = (await api.ask(world.owner, "GET", "/version", expect=200)).json()

    assert (shown["name"], shown["state"]) == ("lab", "invited")
    assert anew["join_token"] not in {"", made["join_token"]}
    assert renamed[made["id"]] == "laboratory"
    assert made["id"] not in await names()
    assert (before, (await api.ask(world.owner, "GET", joined, expect=200)).json()["rotating"]) == (False, True)
    assert version["release"] == __version__


@pytest.mark.capability("operation", "apikey.list", "apikey.create", "apikey.revoke")
@pytest.mark.capability("operation", "device.list", "device.revoke")
async def test_keys_and_devices_are_listed_until_they_end(api: Api, world: World) -> None:
    person = await new_person(api.hub, "Dana", {world.organization: Role.DEVELOPER})

    async def ids(path: str) -> set[str]:
        return {one["id"] for one in (await api.ask(world.owner, "GET", path, expect=200)).json()["items"]}

    made = (await api.ask(world.owner, "POST", at(world, "/apikeys"), body={"name": "ci"}, expect=201)).json()
    keys, devices = await ids(at(world, "/apikeys")), await ids(at(world, "/devices"))
    own = (await api.ask(person, "GET", "/devices", expect=200)).json()["items"]
    await api.ask(world.owner, "DELETE", at(world, f"/apikeys/{made['id']}"), expect=204)
    await api.ask(world.owner, "DELETE", f"/devices/{person.device}", expect=204)

    assert made["id"] in keys
    assert person.device in devices
    assert [one["id"] for one in own] == [person.device]
    assert made["id"] not in await ids(at(world, "/apikeys"))
    assert person.device not in await ids(at(world, "/devices"))
    await api.ask(person, "GET", "/devices", expect=401)
