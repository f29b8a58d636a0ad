"""A Teamspace of a Hub, installed, looked at and taken away by czctl as a process, against a real API server of the sandbox and a real Hub with TLS.

The System's part, joining, is done here: its pods are played.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.hub_spaces import Organization, new_tenant, served
from tests.process.test_teamspace_install import Cluster, running

from codezero.deploy import identity
from codezero.hub.context import Hub
from codezero.hub.spaces.teamspaces import State, state_of
from codezero.system.joining import Membership
from codezero.system.kubernetes.client import from_kubeconfig
from codezero.transport.hub import address_of
from codezero.wire.coordination import HubLinkTold

JOIN = ("secrets", "codezero", "codezero-join")
IDENTITY = ("secrets", "codezero", "codezero-identity")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def tenant(hub: Hub, tmp_path: Path) -> AsyncIterator[Organization]:
    async with served(hub, tls=tmp_path) as reached:
        yield await new_tenant(reached)


@pytest.fixture
def url(tenant: Organization) -> str:
    return str(tenant.hub.public_url)


async def join(cluster: Cluster, tenant: Organization, *, connected: bool) -> None:
    """What the leading System does."""
    api = from_kubeconfig(cluster.folder / "kubeconfig")
    try:
        ca = (cluster.folder / "ca.pem").read_text()
        member = Membership(api, address_of(tenant.hub.public_url, ca), namespace="codezero")
        if connected:
            member.heard(HubLinkTold(True))
        await member.keep()
    finally:
        await api.close()


async def test_from_the_token_to_the_farewell(cluster: Cluster, tenant: Organization, url: str) -> None:
    invited = await tenant.new_space()
    (cluster.folder / "token").write_text(f"{invited.token}\n")
    options = ("--hub", f"{url}/", "--hub-ca", "ca.pem", "--join-token-file", "token")

    planned = await cluster.czctl("install", *options, "--dry-run")
    assert (planned.code, "would create Secret codezero/codezero-join\n" in planned.out) == (0, True)
    assert cluster.store.find(*JOIN) is None
    installed = await cluster.czctl("install", *options, "--serve-namespace", "shop", "--no-wait")

    assert installed.code == 0, installed.err
    assert invited.token not in planned.out + planned.err + installed.out + installed.err
    assert f"czctl auth login --hub {url}" in installed.err
    assert identity.secret_content(cluster.store.get(*JOIN).content) == {"token": invited.token}
    assert cluster.store.get(*IDENTITY).content.get("data") in ({}, None)
    assert cluster.authorities == []
    others = [
        one.content
        for kind in cluster.store.types.all()
        for one in cluster.store.list(kind.key)
        if one.name != "codezero-join"
    ]
    assert invited.token not in repr(others)
    waiting = await cluster.czctl("status")
    assert waiting.code == 8
    assert "has not joined its Hub yet" in waiting.err
    assert f"Hub:           {url}   not joined yet" in waiting.out

    await join(cluster, tenant, connected=False)
    apart = await cluster.czctl("status")
    assert apart.code == 0, apart.err
    assert f"{url}   joined, not connected" in apart.out
    assert "goes on without its Hub" in apart.err
    await join(cluster, tenant, connected=True)
    assert f"{url}   joined, connected" in (await cluster.czctl("status")).out
    assert "token" not in identity.secret_content(cluster.store.get(*JOIN).content)

    again = await cluster.czctl("upgrade", "--serve-namespace", "shop", "--no-wait")
    assert again.code == 0, again.err
    assert "ca.key" in identity.secret_content(cluster.store.get(*IDENTITY).content)
    access = await cluster.czctl("access", "dev1")
    assert access.code == 2
    assert "given by its Hub" in access.err

    gone = await cluster.czctl("uninstall", "--yes")
    assert gone.code == 0, gone.err
    assert f"the Hub at {url} knows that the Teamspace is gone" in gone.err
    assert cluster.store.find(*IDENTITY) is None
    assert cluster.store.find(*JOIN) is None
    assert state_of(await tenant.space(invited.space.id), tenant.hub.clock()) is State.INVITED
    assert await tenant.actions("space.leave") == ["space.leave"]


async def test_a_hub_that_is_away_keeps_nobody_from_uninstalling(cluster: Cluster, hub: Hub) -> None:
    async with served(hub, tls=cluster.folder) as reached:
        tenant = await new_tenant(reached)
        invited = await tenant.new_space()
        (cluster.folder / "token").write_text(invited.token)
        options = ("--hub", reached.public_url, "--hub-ca", "ca.pem", "--join-token-file", "token", "--no-wait")
        assert (await cluster.czctl("install", *options)).code == 0
        await join(cluster, tenant, connected=True)

    gone = await cluster.czctl("uninstall", "--yes")

    assert gone.code == 0, gone.err
    assert "was not told" in gone.err
    assert cluster.store.find(*IDENTITY) is None


async def test_what_cannot_be_used_is_refused_before_anything_is_changed(
    cluster: Cluster, tenant: Organization, url: str
) -> None:
    (cluster.folder / "token").write_text("cz_join_token")
    (cluster.folder / "empty").write_text("\n")
    (cluster.folder / "binary").write_bytes(b"\xff\x00")
    (cluster.folder / "words").write_text("two words")
    (cluster.folder / "policy.json").write_text('{"rules": []}')
    before = cluster.everything()
    for options, said in (
        (("--hub-ca", "ca.pem"), "add --hub URL"),
        (("--join-token-file", "token"), "add --hub URL"),
        (("--hub", url), "joins it by a token"),
        (("--hub", url, "--join-token-file", "missing"), "cannot be read"),
        (("--hub", url, "--join-token-file", "empty"), "holds no join token"),
        (("--hub", url, "--join-token-file", "binary"), "cannot be read"),
        (("--hub", url, "--join-token-file", "words"), "holds no join token"),
        (("--hub", url, "--hub-ca", "token", "--join-token-file", "token"), "no certificates in PEM"),
        (("--hub", "http://hub.example.com", "--join-token-file", "token"), "hub.url"),
        (("--hub", f"{url}/path", "--join-token-file", "token"), "hub.url"),
        (("--hub", url, "--join-token-file", "token", "--policy", "policy.json"), "the Hub's to give"),
        (("--hub", url, "--join-token-file", "token", "--access", "a=a.json"), "the Hub's to give"),
    ):
        refused = await cluster.czctl("install", *options)
        assert refused.code == 2, (options, refused.err)
        assert said in refused.err, (options, refused.err)
        assert "cz_join_token" not in refused.err + refused.out
    assert cluster.everything() == before


async def test_nobody_goes_back_from_a_hub_by_accident(cluster: Cluster, tenant: Organization, url: str) -> None:
    (cluster.folder / "token").write_text((await tenant.new_space()).token)
    (cluster.folder / "values.yaml").write_text("system: {replicas: 1}\n")
    options = ("--hub", url, "--hub-ca", "ca.pem", "--join-token-file", "token", "--no-wait")
    assert (await cluster.czctl("install", *options)).code == 0

    refused = await cluster.czctl("upgrade", "--values", "values.yaml", "--no-wait")

    assert refused.code == 7
    assert "belongs to the Hub" in refused.err
