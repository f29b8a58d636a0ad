"""The API's nouns from their users' side, on both databases: what is shown once, pages that hold still, versions that are not overwritten, and lists that hide what one may not see."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.ext.asyncio import AsyncSession
from tests.hub_api import NOBODY, Api, Asker, World, api_of, new_key, new_person, new_space, new_world

from codezero.hub.context import Hub
from codezero.hub.spaces import pictures
from codezero.hub.storage.tables import Space
from codezero.kit import certificates
from codezero.model import problems
from codezero.model.ids import Device
from codezero.model.roles import Role
from codezero.model.services import Service, ServiceKind, ServiceRef
from codezero.transport import device_proof
from codezero.wire.hub_channel import PROOF_SCHEME

PERMIT_SHOP = """
@id("shop") permit(principal in Codezero::Role::"viewer", action == Codezero::Action::"consume", resource in Codezero::Namespace::"shop");
"""


@pytest.fixture
async def api(hub: Hub) -> AsyncGenerator[Api, None]:
    async with api_of(hub) as made:
        yield made


@pytest.fixture
async def world(hub: Hub) -> World:
    return await new_world(hub)


def at(world: World, path: str = "") -> str:
    return f"/organizations/{world.organization}{path}"


async def all_pages(api: Api, asker: Asker, path: str, *, limit: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await api.ask(asker, "GET", f"{path}?limit={limit}{cursor}", expect=200)).json()
        assert len(page["items"]) <= limit
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"


async def test_what_is_secret_is_told_once(api: Api, world: World) -> None:
    key = (await api.ask(world.owner, "POST", at(world, "/apikeys"), body={"name": "ci"}, expect=201)).json()
    invited = {"email": "Somebody@Example.com", "role": "viewer"}
    invitation = (await api.ask(world.owner, "POST", at(world, "/invitations"), body=invited, expect=201)).json()
    space = (await api.ask(world.owner, "POST", at(world, "/spaces"), body={"name": "new"}, expect=201)).json()
    told = ""
    for path in ("/apikeys", "/invitations", "/spaces", f"/spaces/{space['id']}", "/audit", "/audit/export"):
        told += (await api.ask(world.owner, "GET", at(world, path), expect=200)).text

    assert key["key"].startswith("cz_key_")
    assert invitation["token"] in invitation["link"]
    for secret in (key["key"], invitation["token"], space["join_token"]):
        assert secret not in told
    assert space["join_token"] not in space["install_command"], "nor is it put into a command line"


@pytest.mark.capability("operation", "apikey.create", "apikey.revoke")
async def test_a_key_asks_for_what_its_account_may(api: Api, world: World) -> None:
    made = (
        await api.ask(world.owner, "POST", at(world, "/apikeys"), body={"name": "audit", "role": "auditor"}, expect=201)
    ).json()
    for authorization in (f"Bearer {made['key']}", f"{world.organization}:{made['key']}"):
        asker = Asker(made["service_account"], {"authorization": authorization})
        await api.ask(asker, "GET", at(world, "/audit"), expect=200)
        await api.ask(asker, "POST", at(world, "/apikeys"), body={"name": "more"}, expect=403)
    await api.ask(world.owner, "DELETE", at(world, f"/apikeys/{made['id']}"), expect=204)

    await api.ask(asker, "GET", at(world, "/audit"), expect=401)
    await api.ask(world.owner, "DELETE", at(world, f"/apikeys/{made['id']}"), expect=404)


async def test_nobody_makes_a_key_that_may_more_than_they_do(api: Api, world: World) -> None:
    """Neither by its role nor by its scopes nor by an account that is there (T30)."""
    admin = await new_person(api.hub, "Ada", {world.organization: Role.ADMIN})
    await api.ask(admin, "POST", at(world, "/apikeys"), body={"name": "k", "role": "owner"}, expect=403)
    await api.ask(world.owner, "POST", at(world, "/apikeys"), body={"name": "k", "role": "owner"}, expect=422)
    both = {"name": "k", "role": "ci", "service_account": world.ids["account"]}
    await api.ask(admin, "POST", at(world, "/apikeys"), body=both, expect=422)
    person = {"name": "k", "service_account": world.ids["user"]}
    await api.ask(admin, "POST", at(world, "/apikeys"), body=person, expect=404)


@pytest.mark.capability("operation", "service-account.list", "service-account.create", "service-account.remove")
async def test_pages_hold_still_while_things_come_and_go(api: Api, world: World) -> None:
    for number in range(7):
        await api.ask(world.owner, "POST", at(world, "/service-accounts"), body={"name": f"a{number}"}, expect=201)
    before = await all_pages(api, world.owner, at(world, "/service-accounts"), limit=200)
    first = (await api.ask(world.owner, "GET", at(world, "/service-accounts?limit=3"), expect=200)).json()
    # The last one shown goes, and others come.
    await api.ask(world.owner, "DELETE", at(world, f"/service-accounts/{first['items'][-1]['id']}"), expect=204)
    await api.ask(world.owner, "POST", at(world, "/service-accounts"), body={"name": "late"}, expect=201)
    rest = at(world, f"/service-accounts?limit=200&cursor={first['next']}")
    second = (await api.ask(world.owner, "GET", rest, expect=200)).json()

    assert [one["name"] for one in second["items"]] == [one["name"] for one in before[3:]] + ["late"]
    assert await all_pages(api, world.owner, at(world, "/audit"), limit=2) == await all_pages(
        api, world.owner, at(world, "/audit"), limit=200
    )


async def test_lists_of_another_order_take_no_cursor_of_these(api: Api, world: World) -> None:
    page = (await api.ask(world.owner, "GET", at(world, "/members?limit=1"), expect=200)).json()

    await api.ask(world.owner, "GET", at(world, f"/audit?cursor={page['next']}"), expect=422)
    await api.ask(world.owner, "GET", at(world, "/members?limit=0"), expect=422)
    await api.ask(world.owner, "GET", at(world, "/members?limit=201"), expect=422)


@pytest.mark.capability("operation", "services.list")
async def test_a_whole_catalog_comes_in_one_answer_or_in_pages_that_hold_the_same(
    api: Api, world: World, hub: Hub
) -> None:
    space = world.ids["space"]
    services = [Service(ServiceRef("shop", f"s{number:04}"), ServiceKind.CLUSTER_IP, ()) for number in range(450)]

    async def work(session: AsyncSession) -> None:
        row = await session.get_one(Space, space)
        content = msgspec.json.encode({"items": services, "stale_since": 7.0})
        await pictures.keep(session, hub, row, pictures.Kind.CATALOG, content)

    await hub.database.run(work)
    path = at(world, f"/spaces/{space}/catalog")
    whole = (await api.ask(world.owner, "GET", f"{path}?limit=10000", expect=200)).json()

    assert [one["ref"]["name"] for one in whole["items"]] == [one.ref.name for one in services]
    assert (whole["next"], whole["stale_since"]) == (None, 7.0)
    assert await all_pages(api, world.owner, path, limit=200) == whole["items"]
    assert await all_pages(api, world.owner, path, limit=225) == whole["items"], "pages that end where the list does"
    for name in ("catalog", "presence", "activity", "sessions", "serves"):
        await api.ask(world.owner, "GET", at(world, f"/spaces/{space}/{name}?limit=10000"), expect=200)
        await api.ask(world.owner, "GET", at(world, f"/spaces/{space}/{name}?limit=10001"), expect=422)


async def test_of_two_who_change_the_same_one_is_told_to_look_again(api: Api, world: World) -> None:
    for method, path, bodies in (
        ("PATCH", at(world), ({"name": "One"}, {"name": "Two"})),
        ("PATCH", at(world, f"/spaces/{world.ids['space']}"), ({"name": "one"}, {"name": "two"})),
        ("PATCH", at(world, f"/members/{world.ids['user']}"), ({"role": "developer"}, {"role": "auditor"})),
        ("PUT", at(world, f"/spaces/{world.ids['space']}/policy"), ({"text": PERMIT_SHOP}, {"text": PERMIT_SHOP * 0})),
    ):
        tag = (await api.ask(world.owner, "GET", path, expect=200)).headers["etag"]
        answers = await asyncio.gather(
            *(api.ask(world.owner, method, path, body=body, headers={"if-match": tag}) for body in bodies)
        )
        statuses = sorted(answer.status_code for answer in answers)
        won = next(answer for answer in answers if answer.status_code == 200)

        assert statuses == [200, 412], path
        assert won.headers["etag"] != tag
        assert (await api.ask(world.owner, "GET", path, expect=200)).headers["etag"] == won.headers["etag"]
        # Who says no version means what they say.
        await api.ask(world.owner, method, path, body=bodies[0], expect=200)


async def test_what_has_changed_is_not_removed_by_who_saw_it_before(api: Api, world: World) -> None:
    path = at(world, f"/spaces/{world.ids['space']}")
    tag = (await api.ask(world.owner, "GET", path, expect=200)).headers["etag"]
    await api.ask(world.owner, "PATCH", path, body={"name": "renamed"}, expect=200)
    stale = await api.ask(world.owner, "DELETE", path, headers={"if-match": tag}, expect=412)
    present = (await api.ask(world.owner, "GET", path, expect=200)).headers["etag"]
    await api.ask(world.owner, "DELETE", path, headers={"if-match": present}, expect=204)

    assert stale.json()["code"] == problems.CHANGED_MEANWHILE.code
    await api.ask(world.owner, "GET", path, expect=404)


@pytest.mark.capability("operation", "services.list", "people.list", "activity.list", "sessions.list", "serve.list")
async def test_a_member_sees_the_services_they_may_consume_in_every_list(api: Api, world: World) -> None:
    """Two members, one policy: byte by byte what each is told (T38)."""
    space = world.ids["space"]
    await api.ask(world.owner, "PUT", at(world, f"/spaces/{space}/policy"), body={"text": PERMIT_SHOP}, expect=200)
    viewer = await new_person(api.hub, "Eve", {world.organization: Role.VIEWER})
    machine = await new_key(api.hub, "robot", world.organization, Role.CI)
    for name in ("catalog", "presence", "activity", "sessions", "serves"):
        path = at(world, f"/spaces/{space}/{name}")
        whole, part = [(await api.ask(asker, "GET", path, expect=200)).text for asker in (world.owner, viewer)]
        assert "vault" not in part, name
        assert "orders" in part, name
        assert ("vault" in whole) == (name != "serves"), name
        assert whole == part or name != "serves", "of what both may see both are told the same"
    catalog = await api.ask(machine, "GET", at(world, f"/spaces/{space}/catalog"), expect=200)
    assert catalog.json()["items"] == [], "who may consume nothing sees nothing"


@pytest.mark.capability("operation", "space.suspend", "space.resume", "space.token")
async def test_a_suspended_teamspace_shows_nothing_to_those_who_only_consume(api: Api, world: World) -> None:
    viewer = await new_person(api.hub, "Dev", {world.organization: Role.DEVELOPER})
    path = at(world, f"/spaces/{world.ids['space']}")
    assert (await api.ask(viewer, "GET", f"{path}/catalog", expect=200)).json()["items"]
    suspended = await api.ask(world.owner, "POST", f"{path}/suspend", expect=200)

    assert suspended.json()["state"] == "suspended"
    assert (await api.ask(viewer, "GET", f"{path}/catalog", expect=200)).json()["items"] == []
    refused = await api.ask(viewer, "POST", f"{path}/token", expect=403)
    assert refused.json()["code"] == problems.SUSPENDED.code
    assert (await api.ask(world.owner, "POST", f"{path}/resume", expect=200)).json()["state"] == "certified"
    await api.ask(viewer, "POST", f"{path}/token", expect=200)


@pytest.mark.capability("operation", "policy.explain")
async def test_a_question_about_somebody_else_is_for_those_who_read_policies(api: Api, world: World) -> None:
    path = at(world, f"/spaces/{world.ids['space']}/can-i")
    viewer = await new_person(api.hub, "Vic", {world.organization: Role.VIEWER})
    developer = await new_person(api.hub, "Dev", {world.organization: Role.DEVELOPER})
    asked = {"operation": "consume", "service": "shop/orders"}
    own = (await api.ask(viewer, "POST", path, body=asked, expect=200)).json()
    other = (await api.ask(developer, "POST", path, body={**asked, "as": viewer.user}, expect=200)).json()
    await api.ask(viewer, "POST", path, body={**asked, "as": developer.user}, expect=403)
    await api.ask(developer, "POST", path, body={**asked, "as": "nobody@example.com"}, expect=404)

    assert own == other
    assert own["allowed"] is False
    assert own["reason"]
    assert (await api.ask(developer, "POST", path, body=asked, expect=200)).json()["allowed"] is True


@pytest.mark.capability("operation", "policy.check")
async def test_a_policy_that_cannot_be_used_is_explained_and_not_used(api: Api, world: World) -> None:
    path = at(world, f"/spaces/{world.ids['space']}/policy")
    before = (await api.ask(world.owner, "GET", path, expect=200)).json()
    checked = (await api.ask(world.owner, "POST", f"{path}/check", body={"text": "permit(x"}, expect=200)).json()
    refused = await api.ask(world.owner, "PUT", path, body={"text": "permit(x"}, expect=422)

    assert checked["valid"] is False
    assert checked["errors"][0]["line"] == 1
    assert refused.json()["code"] == checked["errors"][0]["code"]
    assert (await api.ask(world.owner, "GET", path, expect=200)).json() == before


@pytest.mark.capability("operation", "policy.show", "policy.save", "policy.versions", "policy.rollback")
async def test_a_policy_has_a_history_that_can_be_gone_back_in(api: Api, world: World) -> None:
    path = at(world, f"/spaces/{world.ids['space']}/policy")
    first = (await api.ask(world.owner, "GET", path, expect=200)).json()
    change = {"text": PERMIT_SHOP, "comment": "shop for all"}
    second = (await api.ask(world.owner, "PUT", path, body=change, expect=200)).json()
    back = (await api.ask(world.owner, "POST", f"{path}/rollback", body={"version": 1}, expect=200)).json()
    versions = (await api.ask(world.owner, "GET", f"{path}/versions", expect=200)).json()["items"]
    audit = (await api.ask(world.owner, "GET", at(world, "/audit?action=policy"), expect=200)).json()["items"]

    assert [second["number"], back["number"], back["text"]] == [2, 3, first["text"]]
    assert [(one["number"], one["comment"]) for one in versions][1] == (2, "shop for all")
    assert (await api.ask(world.owner, "GET", f"{path}/versions/2", expect=200)).json()["text"] == PERMIT_SHOP
    assert [entry["details"]["version"] for entry in audit] == [3, 2]
    for nothing in ("99", "0", "x", "9" * 30, "-1"):
        await api.ask(world.owner, "GET", f"{path}/versions/{nothing}", expect=404)


async def test_a_laptop_gets_its_certificate_by_sign_in_and_the_next_one_by_its_key(api: Api, world: World) -> None:
    laptop = await new_person(api.hub, "Dev", {world.organization: Role.DEVELOPER})
    assert laptop.key is not None
    csr, space = certificates.certificate_request(laptop.key), world.ids["space"]
    first = await api.ask(laptop, "POST", at(world, f"/spaces/{space}/access"), body={"csr": csr}, expect=200)
    path = f"/api/v1/devices/{laptop.device}/certificate"

    def proof(url: str = api.hub.public_url, wanted: str = path) -> dict[str, str]:
        assert laptop.key is not None
        now = api.hub.clock().timestamp()
        text = device_proof.sign(laptop.key, device=laptop.device, audience=url, method="POST", path=wanted, at=now)
        return {"authorization": f"{PROOF_SCHEME} {text}"}

    body = {"csr": csr, "space": space}
    shown = proof()
    following = await api.ask(NOBODY, "POST", path, body=body, headers=shown, expect=200)
    stranger = await new_world(api.hub, "Other")

    assert first.json() | {"certificate": "", "expires_at": ""} == following.json() | {
        "certificate": "",
        "expires_at": "",
    }
    for headers in (shown, {}, proof("https://other.test"), proof(wanted="/api/v1/elsewhere"), laptop.headers):
        await api.ask(NOBODY, "POST", path, body=body, headers=dict(headers), expect=401)
    await api.ask(NOBODY, "POST", path, body={**body, "space": stranger.ids["space"]}, headers=proof(), expect=404)
    await api.ask(laptop, "DELETE", f"/devices/{laptop.device}", expect=204)
    await api.ask(NOBODY, "POST", path, body=body, headers=proof(), expect=401)
    await api.ask(laptop, "GET", "/devices", expect=401)


async def test_a_machine_with_an_api_key_is_told_to_come_with_that(api: Api, world: World) -> None:
    """Nobody signs in there; what it may have depends on the API key, not on the device's."""
    made = (await api.ask(world.owner, "POST", at(world, "/apikeys"), body={"name": "ci"}, expect=201)).json()
    machine = Asker("", {"authorization": f"Bearer {made['key']}"})
    key, space = certificates.new_key(), world.ids["space"]
    body = {"csr": certificates.certificate_request(key)}
    given = (await api.ask(machine, "POST", at(world, f"/spaces/{space}/access"), body=body, expect=200)).json()
    leaf = x509.load_pem_x509_certificates(given["certificate"].encode())[0]
    (uri,) = certificates.uris_of(leaf.public_bytes(Encoding.DER))
    device = Device.parse(uri).device
    path = f"/api/v1/devices/{device}/certificate"

    async def refusal(by: EllipticCurvePrivateKey) -> Any:
        url, now = api.hub.public_url, api.hub.clock().timestamp()
        text = device_proof.sign(by, device=device, audience=url, method="POST", path=path, at=now)
        headers = {"authorization": f"{PROOF_SCHEME} {text}"}
        return (await api.ask(NOBODY, "POST", path, body={**body, "space": space}, headers=headers, expect=401)).json()

    assert (await refusal(key))["fix"] == "czctl start"
    assert (await refusal(certificates.new_key()))["fix"] == "czctl auth login"


@pytest.mark.capability("operation", "invitation.accept")
async def test_an_invitation_is_accepted_by_whom_it_is_for(api: Api, world: World) -> None:
    async def invited(email: str) -> str:
        body = {"email": email, "role": "viewer"}
        answer = await api.ask(world.owner, "POST", at(world, "/invitations"), body=body, expect=201)
        return str(answer.json()["token"])

    password = "correct horse battery"
    token = await invited("fresh@example.com")
    await api.ask(NOBODY, "POST", "/invitations/accept", body={"token": token}, expect=422)
    short = {"token": token, "name": "Fred", "password": "short"}
    assert "short" not in (await api.ask(NOBODY, "POST", "/invitations/accept", body=short, expect=422)).text
    joined = {"token": token, "name": "Fred", "password": password}
    fred = (await api.ask(NOBODY, "POST", "/invitations/accept", body=joined, expect=200)).json()
    await api.ask(NOBODY, "POST", "/invitations/accept", body=joined, expect=404)
    guest = await new_person(api.hub, "Gus", {})
    await api.ask(guest, "POST", "/invitations/accept", body={"token": await invited("x@example.com")}, expect=403)

    assert (fred["organization"], fred["role"]) == (world.organization, "viewer")
    member = await api.ask(world.owner, "GET", at(world, f"/members/{fred['user']}"), expect=200)
    assert (member.json()["name"], member.json()["email"]) == ("Fred", "fresh@example.com")


async def test_everybody_may_leave_and_the_last_owner_may_not(api: Api, world: World) -> None:
    viewer = await new_person(api.hub, "Vic", {world.organization: Role.VIEWER})
    last = await api.ask(world.owner, "DELETE", at(world, f"/members/{world.owner.user}"), expect=409)
    await api.ask(viewer, "DELETE", at(world, f"/members/{viewer.user}"), expect=204)

    assert last.json()["code"] == problems.LAST_OWNER.code
    await api.ask(viewer, "GET", at(world), expect=404)


async def test_settings_go_back_to_their_defaults(api: Api, world: World) -> None:
    changes = ({"device_flow": False, "audit_days": 90}, {"audit_days": None, "opa": "http://opa.opa:8181/v1/data/x"})
    for settings in changes:
        shown = await api.ask(world.owner, "PATCH", at(world), body={"settings": settings}, expect=200)

    assert shown.json()["settings"] == {"device_flow": False, "opa": "http://opa.opa:8181/v1/data/x"}
    for bad in ({"opa": "file:///etc/passwd"}, {"opa": "http://"}, {"audit_days": 0}, {"audit_days": "x"}, {"n": 1}):
        await api.ask(world.owner, "PATCH", at(world), body={"settings": bad}, expect=422)


async def test_the_end_of_an_organization_ends_what_is_in_it(api: Api, world: World) -> None:
    key = await new_key(api.hub, "robot", world.organization, Role.CI)
    await api.ask(world.owner, "DELETE", at(world), expect=204)

    await api.ask(world.owner, "GET", at(world), expect=404)
    await api.ask(key, "GET", at(world), expect=401)
    assert (await api.ask(world.owner, "GET", "/organizations", expect=200)).json()["items"] == []


@pytest.mark.capability("operation", "audit.export", "audit.verify")
async def test_the_audit_is_exported_with_a_word_about_it(api: Api, world: World) -> None:
    whole = await api.ask(world.owner, "GET", at(world, "/audit/export"), expect=200)
    lines = whole.text.splitlines()
    without = await api.ask(world.owner, "GET", at(world, "/audit/export?pseudonymous=true"), expect=200)
    later = await api.ask(world.owner, "GET", at(world, "/audit/export?after=1"), expect=200)
    verified = (await api.ask(world.owner, "POST", at(world, "/audit/verify"), expect=200)).json()

    assert whole.headers["content-type"].startswith("application/x-ndjson")
    assert '"checkpoint"' in lines[-1]
    assert '"audit.export"' in lines[-2]
    assert "Olga" in whole.text
    assert "Olga" not in without.text
    assert '"number":1,' not in later.text
    assert verified["ok"] is True
    assert verified["last"] == verified["entries"]


@pytest.mark.capability("operation", "audit.list")
async def test_the_audit_is_searched_by_time_and_by_who(api: Api, world: World) -> None:
    for query in (
        f"actor={world.owner.user}",
        "since=2020-01-01T00:00:00",
        "until=2999-12-31T00:00:00Z",
        "action=invitation",
    ):
        assert (await api.ask(world.owner, "GET", at(world, f"/audit?{query}"), expect=200)).json()["items"], query
    for query in (
        "actor=x",
        "since=2999-01-01T00:00:00Z",
        "until=0001-01-02T00:00:00Z",
        "action=invit",
        "outcome=denied",
    ):
        assert not (await api.ask(world.owner, "GET", at(world, f"/audit?{query}"), expect=200)).json()["items"], query
    for query in ("since=0001-01-01T00:00:00%2B14:00", "until=9999-12-31T23:59:59-14:00", "since=yesterday"):
        await api.ask(world.owner, "GET", at(world, f"/audit?{query}"), expect=422)


@pytest.mark.capability("operation", "serve.list", "serve.end", "sessions.list", "sessions.end")
async def test_what_is_served_is_ended_by_those_who_may(api: Api, world: World) -> None:
    path = at(world, f"/spaces/{world.ids['space']}")
    served = (await api.ask(world.owner, "GET", f"{path}/serves", expect=200)).json()["items"]
    session = (await api.ask(world.owner, "GET", f"{path}/sessions", expect=200)).json()["items"][0]
    await api.ask(world.owner, "DELETE", f"{path}/serves/{served[0]['id']}", body={"reason": "stuck"}, expect=202)
    await api.ask(world.owner, "DELETE", f"{path}/sessions/{session['id']}", expect=202)
    audit = (await api.ask(world.owner, "GET", at(world, "/audit?limit=2"), expect=200)).json()["items"]

    assert (served[0]["service"], session["consumes"]) == ("shop/orders", ["shop/orders", "vault/keys"])
    assert session["serves"] == served
    assert [entry["action"] for entry in audit] == ["session.terminate", "serve.terminate"]
    away = await new_space(api.hub, world.organization, world.owner.user, name="away")
    async with api.hub.database.transaction() as database:
        from codezero.hub.storage.tables import Space

        (await database.get_one(Space, away)).connected_at = None
    refused = await api.ask(world.owner, "DELETE", at(world, f"/spaces/{away}/sessions/S1"), expect=503)
    assert refused.json()["code"] == problems.SPACE_AWAY.code


async def test_a_text_that_is_too_long_is_not_compared(api: Api, world: World) -> None:
    path = at(world, f"/spaces/{world.ids['space']}/policy")
    text = "// a\n// b\n" * 8000
    checked = (await api.ask(world.owner, "POST", f"{path}/check", body={"text": text}, expect=200)).json()
    shorter = {"text": text[:60_000]}
    compared = (await api.ask(world.owner, "POST", f"{path}/check", body=shorter, expect=200)).json()

    assert [one["code"] for one in checked["errors"]] == [problems.POLICY_TOO_LARGE.code]
    assert checked["diff"] == ""
    assert compared["valid"] is True
    assert " differ in " in compared["diff"]


async def test_who_saves_a_policy_whatever_it_is_by_then_saves_it(api: Api, world: World) -> None:
    """It is checked before the transaction, in which somebody else may have been quicker."""
    path = at(world, f"/spaces/{world.ids['space']}/policy")
    texts = [f'@id("shop-{number}") {PERMIT_SHOP.partition(")")[2].strip()}' for number in range(3)]
    await asyncio.gather(*(api.ask(world.owner, "PUT", path, body={"text": text}, expect=200) for text in texts))
    versions = (await api.ask(world.owner, "GET", f"{path}/versions", expect=200)).json()["items"]
    audit = (await api.ask(world.owner, "GET", at(world, "/audit?action=policy"), expect=200)).json()["items"]

    assert [one["number"] for one in versions] == [4, 3, 2, 1]
    assert [entry["details"]["version"] for entry in audit] == [4, 3, 2]
    assert all(
        entry["details"]["difference"].startswith(f"--- version {entry['details']['version'] - 1}") for entry in audit
    )
    await api.ask(world.owner, "PUT", path, body={"text": texts[0]}, headers={"If-Match": '"1"'}, expect=412)
