"""API keys over the API: nobody takes a key that may do more than they may, nor gives one (T30)."""

from typing import Any

from sqlalchemy import select
from tests.hub_api import api_of, new_key, new_organization, new_person

from codezero.hub.context import Hub
from codezero.hub.storage.tables import ApiKey, Device
from codezero.model.ids import new_ulid
from codezero.model.roles import Permission, Role


async def test_a_key_revokes_none_that_may_do_more(hub: Hub) -> None:
    organization = await new_organization(hub, "Acme")
    owner = await new_person(hub, "Olga", {organization: Role.OWNER})
    scopes = frozenset({Permission.ORGANIZATION_READ, Permission.API_KEYS_MANAGE})
    limited = await new_key(hub, "limited", organization, Role.ADMIN, scopes=scopes)
    path = f"/organizations/{organization}/apikeys"
    async with api_of(hub) as api:
        strong, weak = [
            (await api.ask(owner, "POST", path, body={"name": "k", **wanted}, expect=201)).json()
            for wanted in ({"role": "admin"}, {"role": "admin", "scopes": [Permission.ORGANIZATION_READ]})
        ]
        await api.ask(limited, "DELETE", f"{path}/{strong['id']}", expect=403)
        await api.ask(limited, "DELETE", f"{path}/{weak['id']}", expect=204)
        kept = [key["id"] for key in (await api.ask(owner, "GET", path, expect=200)).json()["items"]]
        await api.ask(owner, "DELETE", f"{path}/{strong['id']}", expect=204)

    assert strong["id"] in kept
    assert weak["id"] not in kept


async def test_the_audit_tells_which_devices_end_with_a_key(hub: Hub) -> None:
    organization = await new_organization(hub, "Acme")
    owner = await new_person(hub, "Olga", {organization: Role.OWNER})
    robot = await new_key(hub, "robot", organization, Role.CI)
    runner = new_ulid()
    async with hub.database.transaction() as session:
        key = await session.scalar(select(ApiKey.id).where(ApiKey.user_id == robot.user))
        device = Device(id=runner, user_id=robot.user, name="runner", thumbprint="t", public_jwk={})
        device.created_at = device.last_seen_at = hub.clock()
        session.add(device)
    async with api_of(hub) as api:
        await api.ask(owner, "DELETE", f"/organizations/{organization}/apikeys/{key}", expect=204)
        answer = await api.ask(owner, "GET", f"/organizations/{organization}/audit?action=device.revoke", expect=200)

    entries: list[dict[str, Any]] = answer.json()["items"]
    told = [(entry["actor"]["id"], entry["target"]["id"], entry["details"]) for entry in entries]
    assert told == [(owner.user, runner, {"apikey": key})]
