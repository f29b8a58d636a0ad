"""API keys over the API: nobody takes a key that may do more than they may, nor gives one (T30)."""

from tests.hub_api import api_of, new_key, new_organization, new_person

from codezero.hub.context import Hub
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
