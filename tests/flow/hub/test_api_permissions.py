"""Made from the OpenAPI document: each operation, asked by nobody, by strangers, with others' ids, and by each role, does what its permission says (T29, T30)."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from tests.hub_api import NOBODY, Api, Asker, api_of, new_key, new_person, new_world

from codezero.hub.api import app, document
from codezero.hub.api.document import Entry
from codezero.hub.api.limits import Buckets, Limits
from codezero.hub.api.permissions import Need
from codezero.hub.context import Hub
from codezero.kit import certificates
from codezero.model.roles import PERMISSIONS, Permission, Role

GOLDEN = Path(__file__).parent.parent.parent / "golden" / "hub_api.txt"
DOCUMENT = app.application().openapi()
ENTRIES = [entry for entry in document.operations(DOCUMENT) if entry.needs]
OF_MEMBERS = [entry for entry in ENTRIES if entry.needs in set(Permission)]
ORGANIZATION = "/api/v1/organizations/{organization}"
POLICY = 'permit(principal in Codezero::Role::"developer", action, resource);'

# What each operation with a body takes; the others take none.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/api/v1/organizations"): {"name": "New"},
    ("PATCH", ORGANIZATION): {"name": "Other"},
    ("PATCH", f"{ORGANIZATION}/members/{{user}}"): {"role": "developer"},
    ("POST", f"{ORGANIZATION}/service-accounts"): {"name": "robot"},
    ("POST", f"{ORGANIZATION}/invitations"): {"email": "somebody@example.com", "role": "viewer"},
    ("POST", f"{ORGANIZATION}/apikeys"): {"name": "robot"},
    ("POST", f"{ORGANIZATION}/spaces"): {"name": "another"},
    ("PATCH", f"{ORGANIZATION}/spaces/{{space}}"): {"name": "renamed"},
    ("PUT", f"{ORGANIZATION}/spaces/{{space}}/policy"): {"text": POLICY},
    ("POST", f"{ORGANIZATION}/spaces/{{space}}/policy/check"): {"text": POLICY},
    ("POST", f"{ORGANIZATION}/spaces/{{space}}/policy/rollback"): {"version": 1},
    ("POST", f"{ORGANIZATION}/spaces/{{space}}/can-i"): {"operation": "consume", "service": "orders.shop"},
    ("DELETE", f"{ORGANIZATION}/spaces/{{space}}/sessions/{{session}}"): {"reason": "wrong cluster"},
    ("DELETE", f"{ORGANIZATION}/spaces/{{space}}/serves/{{serve}}"): {"reason": "stuck"},
    ("POST", "/api/v1/machines/{machine}/ask"): {"method": "GET", "target": "/agent/v1/status", "proof": "a.b.c"},
    # With a request by the key of the device that asks.
    ("POST", f"{ORGANIZATION}/spaces/{{space}}/access"): {"csr": ""},
}
# Every member sees themselves, and may leave: about others these need more.
ABOUT_OTHERS = {
    ("GET", f"{ORGANIZATION}/members/{{user}}"): Permission.MEMBERS_READ,
    ("DELETE", f"{ORGANIZATION}/members/{{user}}"): Permission.MEMBERS_MANAGE,
}


@pytest.fixture
async def api(hub: Hub) -> AsyncGenerator[Api, None]:
    # Hundreds of refusals in a row are what limits are there against.
    async with api_of(hub, limits=Limits(address=Buckets(rate=1e6, burst=1e6))) as made:
        yield made


def of(entry: Entry) -> tuple[str, str]:
    return entry.method, entry.path


def body(entry: Entry, asker: Asker) -> dict[str, Any] | None:
    given = BODIES.get(of(entry))
    if given is not None and "csr" in given:
        assert asker.key is not None
        return {"csr": certificates.certificate_request(asker.key)}
    return given


def test_the_operations_and_what_they_need_are_those_that_were_agreed() -> None:
    """Whoever changes who may do what changes this file, and somebody looks at it."""
    lines = [f"{entry.path} {entry.method} {entry.needs or 'itself'}\n" for entry in document.operations(DOCUMENT)]
    assert GOLDEN.read_text() == "".join(sorted(lines))


def test_every_operation_says_what_it_needs_or_is_known_to_see_to_it_itself() -> None:
    themselves = {entry.path for entry in document.operations(DOCUMENT) if not entry.needs}

    assert themselves == {
        "/api/v1/auth/device-code",
        "/api/v1/auth/token",
        "/.well-known/audit-jwks.json",
        "/.well-known/jwks.json",
        "/.well-known/oauth-authorization-server",
    }


def test_what_is_below_an_organization_needs_a_permission_in_it() -> None:
    below = [entry for entry in ENTRIES if "{organization}" in entry.path]

    assert below == OF_MEMBERS
    assert {of(entry) for entry in ENTRIES} >= {*BODIES, *ABOUT_OTHERS}


async def test_without_a_sign_in_nothing_happens(api: Api) -> None:
    world = await new_world(api.hub)
    for entry in ENTRIES:
        if entry.needs == Need.NOTHING:
            continue
        for headers in (
            {},
            {"authorization": "Bearer nonsense"},
            {"authorization": f"{world.organization}:cz_key_{world.organization}_{'0' * 72}"},
            {"cookie": "__Host-codezero=nonsense", "origin": "https://hub.test"},
        ):
            answer = await api.ask(
                NOBODY, entry.method, world.path(entry.path), body=BODIES.get(of(entry)), headers=headers
            )
            assert answer.status_code == 401, f"{of(entry)} {headers} {answer.text}"


async def test_another_organizations_ids_are_ids_of_nothing(api: Api) -> None:
    """Neither in the place of one's own organization, nor below it; and what is answered does not tell whether there is such a thing."""
    mine, theirs = await new_world(api.hub), await new_world(api.hub, "Other")
    key = await new_key(api.hub, "all", mine.organization, Role.ADMIN)
    for entry in OF_MEMBERS:
        for asker in (mine.owner, key):
            if asker.key is None and "csr" in BODIES.get(of(entry), {}):
                continue
            told = {
                (await api.ask(asker, entry.method, path, body=body(entry, asker), expect=404)).text
                for path in (
                    theirs.path(entry.path),
                    mine.path(entry.path, organization="01JZ0000000000000000000000"),
                )
            }
            assert len(told) == 1, f"{of(entry)} tells them apart: {told}"
        for name in (name for name in mine.ids if f"{{{name}}}" in entry.path):
            # What a Teamspace is told to end only the Teamspace knows.
            if name in {"session", "serve", "number"}:
                continue
            path = mine.path(entry.path, **{name: theirs.ids[name]})
            answer = await api.ask(mine.owner, entry.method, path, body=body(entry, mine.owner), expect=404)
            nothing = mine.path(entry.path, **{name: "01JZ0000000000000000000000"})
            other = await api.ask(mine.owner, entry.method, nothing, body=body(entry, mine.owner), expect=404)
            assert answer.text.replace(theirs.ids[name], "") == other.text.replace("01JZ0000000000000000000000", "")
    for name in ("user", "account", "key", "space"):
        assert (await api.ask(theirs.owner, "GET", f"/organizations/{theirs.organization}")).status_code == 200, name


@pytest.mark.parametrize("role", list(Role))
async def test_each_role_may_do_what_its_permissions_say_and_nothing_else(api: Api, role: Role) -> None:
    world = await new_world(api.hub)
    for entry in OF_MEMBERS:
        needed = ABOUT_OTHERS.get(of(entry), Permission(entry.needs))
        may = needed in PERMISSIONS[role]
        if may and entry.method == "DELETE":
            world = await new_world(api.hub)
        asker = await new_person(api.hub, "Ann", {world.organization: role})
        answer = await api.ask(asker, entry.method, world.path(entry.path), body=body(entry, asker))
        allowed = 200 <= answer.status_code < 300
        assert allowed == may, f"{role} {of(entry)} {answer.status_code} {answer.text}"
        if not may:
            assert answer.status_code == 403
        if may and entry.method != "GET":
            world = await new_world(api.hub)


async def test_a_scoped_key_may_do_what_its_scope_says_and_nothing_else(api: Api) -> None:
    for scope in Permission:
        if scope not in PERMISSIONS[Role.ADMIN]:
            continue
        world = await new_world(api.hub)
        key = await new_key(api.hub, "scoped", world.organization, Role.ADMIN, scopes=frozenset({scope}))
        for entry in OF_MEMBERS:
            needed = ABOUT_OTHERS.get(of(entry), Permission(entry.needs))
            if needed is scope or "csr" in BODIES.get(of(entry), {}):
                continue
            answer = await api.ask(key, entry.method, world.path(entry.path), body=BODIES.get(of(entry)))
            assert answer.status_code == 403, f"{scope} {of(entry)} {answer.status_code} {answer.text}"


async def test_wrong_types_unknown_fields_and_huge_ids_are_refused_everywhere(api: Api) -> None:
    world = await new_world(api.hub)
    for entry in ENTRIES:
        given = BODIES.get(of(entry))
        if given is None:
            continue
        path = world.path(entry.path)
        bodies: list[Any] = [[], "text", 1, None, {**given, "unknown": 1}]
        bodies += [{**given, name: {"a": [1]}} for name in given]
        if entry.method == "DELETE":
            bodies.remove(None)
        for wrong in bodies:
            answer = await api.ask(world.owner, entry.method, path, body=wrong)
            assert answer.status_code == 422, f"{of(entry)} {wrong} {answer.status_code} {answer.text}"
        for name in ("organization", *world.ids):
            if f"{{{name}}}" in entry.path and name not in {"session", "serve"}:
                huge = world.path(entry.path, **{name: "9" * 1500})
                answer = await api.ask(world.owner, entry.method, huge, body=body(entry, world.owner))
                assert answer.status_code == 404, f"{huge[:80]} {answer.text}"


async def test_a_cookie_alone_changes_nothing(api: Api) -> None:
    """A page of somebody else's gets our cookie sent along, and has neither our Origin nor our token (T36)."""
    from codezero.hub.signin import browser
    from codezero.hub.signin.visitors import Visitor
    from codezero.hub.storage.tables import User

    world = await new_world(api.hub)
    async with api.hub.database.transaction() as session:
        opened = browser.open_session(session, api.hub, await session.get_one(User, world.owner.user), Visitor())
    signed = {"cookie": f"__Host-codezero={opened.cookie}"}
    own = {**signed, "origin": "https://hub.test"}
    for entry in OF_MEMBERS:
        given, path = BODIES.get(of(entry)), world.path(entry.path)
        if entry.method == "GET":
            await api.ask(NOBODY, "GET", path, headers=signed, expect=200)
            continue
        for headers in (
            signed,
            own,
            {**signed, "origin": "https://evil.example", "x-codezero-csrf": opened.csrf},
            {**own, "x-codezero-csrf": "guess"},
        ):
            await api.ask(NOBODY, entry.method, path, body=given, headers=headers, expect=403)
    changed = {**own, "x-codezero-csrf": opened.csrf}
    await api.ask(NOBODY, "PATCH", world.path(ORGANIZATION), body={"name": "Mine"}, headers=changed, expect=200)
