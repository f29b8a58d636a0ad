"""What machines get at the Hub to connect with a Teamspace is noted, so that Teamspaces can be told of all of it that was taken away, and of no more (T41)."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from tests.hub_api import Asker, new_key
from tests.hub_databases import HubClock
from tests.hub_spaces import Organization, new_tenant

from codezero.hub import devices
from codezero.hub.context import Hub
from codezero.hub.policies.bundle import bundle
from codezero.hub.signin import api_keys
from codezero.hub.spaces import access
from codezero.hub.spaces.access import Access
from codezero.hub.storage.tables import ApiKey, Device, Space
from codezero.kit import certificates
from codezero.model import problems
from codezero.model.access import Bundle
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role
from codezero.wire import policy_file


@dataclass
class Site:
    """A Teamspace that laptops can connect with, and a program with an API key."""

    tenant: Organization
    space: str
    program: Asker
    key: str

    async def connect(self, csr: str | None = None) -> Access:
        """As the program does at the start of each run."""
        asked = csr or certificates.certificate_request(certificates.new_key())

        async def work(session: Any, acting: Any) -> Access:
            return await access.access_by_key(session, self.tenant.hub, acting, self.space, api_key=self.key, csr=asked)

        return await self.tenant.act(work, self.program)

    async def token(self, speaker: str) -> None:
        async def work(session: Any, acting: Any) -> None:
            await access.token(session, self.tenant.hub, acting, self.space, speaker=speaker)

        await self.tenant.act(work, self.program)

    async def revoke(self) -> None:
        async def work(session: Any, acting: Any) -> None:
            await api_keys.revoke(session, self.tenant.hub, await session.get_one(ApiKey, self.key))

        await self.tenant.act(work)

    async def devices(self) -> set[str]:
        async with self.tenant.hub.database.reading() as session:
            return set(await session.scalars(select(Device.id).where(Device.user_id == self.program.user)))

    async def told(self) -> frozenset[str]:
        """What the Teamspace is told was revoked."""
        hub = self.tenant.hub
        held = policy_file.read(await hub.database.run(lambda session: bundle(hub, session, self.space)))
        assert isinstance(held, Bundle)
        return held.revoked


@pytest.fixture
async def site(hub: Hub) -> Site:
    tenant = await new_tenant(hub)
    space = (await tenant.new_space()).space.id
    program = await new_key(hub, "ci", tenant.id, Role.CI)
    async with hub.database.transaction() as session:
        row = await session.get_one(Space, space)
        row.certified_at, row.host, row.port = hub.clock(), "192.0.2.1", 8800
        key = await session.scalar(select(ApiKey.id).where(ApiKey.user_id == program.user))
    return Site(tenant, space, program, str(key))


async def test_a_key_that_is_revoked_takes_its_machines_with_it(site: Site) -> None:
    await site.connect()
    await site.connect()
    machines = await site.devices()
    assert await site.told() == frozenset()
    await site.revoke()

    assert len(machines) == 2
    assert await site.told() == machines
    for refused in (site.connect(), site.token(site.key)):
        with pytest.raises(CodezeroError) as raised:
            await refused
        assert raised.value.problem is problems.NOT_SIGNED_IN


async def test_a_key_that_was_given_a_token_is_told_of(site: Site) -> None:
    await site.token(site.key)
    await site.revoke()
    assert await site.told() == {site.key}


async def test_machines_are_forgotten_with_their_certificates(site: Site, hub_clock: HubClock) -> None:
    """A program makes a key for each run: each would take room for ever, in the database and in bundles."""
    kept = certificates.certificate_request(certificates.new_key())
    await site.connect(kept)
    (same,) = await site.devices()
    await site.connect()
    hub_clock.advance(timedelta(hours=20))
    await site.connect(kept)
    hub_clock.advance(timedelta(hours=20))
    await site.connect()

    known = await site.devices()
    assert len(known) == 2
    assert same in known
    await site.revoke()
    assert await site.told() == known
    hub_clock.advance(timedelta(hours=30))
    assert await site.told() == frozenset()


async def test_a_program_has_so_many_machines_at_once(
    site: Site, hub_clock: HubClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds its key makes no bundle grow over what a Teamspace can keep."""
    monkeypatch.setattr(devices, "MOST_OF_A_PROGRAM", 3)
    asked = [certificates.certificate_request(certificates.new_key()) for _ in range(3)]
    for csr in asked:
        await site.connect(csr)
    with pytest.raises(CodezeroError, match="3 devices"):
        await site.connect()
    assert len(await site.devices()) == 3

    await site.connect(asked[0])
    hub_clock.advance(timedelta(hours=30))
    await site.connect()
