"""Signing in at a strict OpenID Connect provider that is not ours (npm `oidc-provider`, certified), over loopback."""

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest
from tests import node_peers
from tests.hub_databases import HubClock
from tests.hub_people import Browser, Place, place_of

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.organizations import NewInvitation
from codezero.hub.signin.providers import Provider, ProviderSettings
from codezero.model.roles import Role

pytestmark = pytest.mark.node

SOURCE = Path(__file__).parent / "oidc_peer"
CALLBACK = "https://hub.test/api/v1/auth/oidc/acme/callback"
# Both need encoding before they become basic authentication.
CLIENT = "codezero hub"
SECRET = "a%b:c+d e&f"


@dataclass
class Peer:
    """The provider's process."""

    issuer: str
    process: asyncio.subprocess.Process

    async def person(self, **claims: object) -> None:
        """Change who signs in there."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{json.dumps(claims)}\n".encode())
        async with asyncio.timeout(30):
            assert await self.process.stdout.readline() == b"changed\n"


@pytest.fixture(scope="module")
def peer_folder() -> Path:
    return node_peers.installed(SOURCE)


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Peer, None]:
    process = await asyncio.create_subprocess_exec(
        "node",
        "peer.mjs",
        CALLBACK,
        SECRET,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        async with asyncio.timeout(60):
            port = int(await process.stdout.readline())
        yield Peer(f"http://127.0.0.1:{port}", process)
    finally:
        process.stdin.close()
        await process.wait()


@pytest.fixture
async def peer(peer_folder: Path) -> AsyncIterator[Peer]:
    async with running(peer_folder) as made:
        yield made


@pytest.fixture
async def place(hub: Hub, peer: Peer) -> AsyncIterator[Place]:
    provider = Provider(ProviderSettings("acme", "Acme", peer.issuer, CLIENT), SECRET)
    async with place_of(hub, provider) as made:
        yield made


async def through(browser: Browser, provider: httpx2.AsyncClient) -> str:
    """What the browser does at the provider, up to the way back."""
    assert browser.elsewhere is not None
    location = browser.elsewhere
    for _ in range(8):
        if location.startswith("https://hub.test/"):
            return location.removeprefix("https://hub.test")
        answer = await provider.get(location)
        assert answer.is_redirect, f"{location}: {answer.status_code} {answer.text[:500]}"
        location = urljoin(location, answer.headers["location"])
    raise AssertionError(f"still at {location}")


async def sign_in(browser: Browser) -> tuple[int, str]:
    """Sign in at the provider; the status and text of the page at the end."""
    page = await browser.open("/sign-in")
    await browser.open(page.links["Sign in with Acme"])
    async with httpx2.AsyncClient(trust_env=False) as provider:
        page = await browser.open(await through(browser, provider))
    return page.status, page.text


async def invite(place: Place, email: str) -> NewInvitation:
    hub = place.hub

    async def work(session: object) -> NewInvitation:
        from sqlalchemy import select

        from codezero.hub.storage.tables import User

        owner = (await session.scalars(select(User).order_by(User.id))).first()  # type: ignore[attr-defined]
        ((organization, _),) = await organizations.of_user(session, owner.id)  # type: ignore[arg-type]
        acting = await organizations.member(session, organization.id, owner.id)  # type: ignore[arg-type]
        return await organizations.invite(session, hub, acting, email, Role.DEVELOPER)  # type: ignore[arg-type]

    return await hub.database.run(work)


async def test_somebody_who_was_invited_comes_by_the_provider(place: Place, peer: Peer) -> None:
    await place.owner()
    await invite(place, "Bob@example.com")
    await peer.person(sub="bob-1", email="bob@example.com", name="Bob")
    browser = place.browser()
    status, text = await sign_in(browser)
    me = (await browser.client.get("/api/v1/auth/me")).json()

    assert (status, "You are signed in as Bob" in text) == (200, True)
    assert [one["role"] for one in me["organizations"]] == ["developer"]
    again = place.browser()
    assert (await sign_in(again))[0] == 200
    assert (await again.client.get("/api/v1/auth/me")).json()["user"] == me["user"]
    assert ("signin.provider", "ok") in await place.told()


async def test_nobody_else_does(place: Place, peer: Peer) -> None:
    await place.owner()
    await peer.person(sub="eve-1", email="eve@example.com")
    status, text = await sign_in(place.browser())

    assert status == 401
    assert "Nobody has invited eve@example.com" in text


async def test_an_address_that_is_not_verified_is_none(place: Place, peer: Peer) -> None:
    await place.owner()
    await invite(place, "bob@example.com")
    await peer.person(sub="eve-1", email="bob@example.com", email_verified=False)
    status, text = await sign_in(place.browser())

    assert status == 401
    assert "has not verified your e-mail address" in text


@pytest.mark.capability("operation", "auth.link")
async def test_an_identity_is_added_by_whoever_is_signed_in(place: Place, peer: Peer) -> None:
    """And by nobody else, however well the addresses match (T33)."""
    browser = await place.owner()
    await peer.person(sub=f"ada-{secrets.token_hex(4)}", email="ada@example.com")
    status, text = await sign_in(place.browser())
    assert (status, "here already" in text) == (401, True)
    location = (await browser.ask("POST", "/api/v1/auth/oidc/acme/link")).json()["location"]
    browser.elsewhere = location
    async with httpx2.AsyncClient(trust_env=False) as provider:
        assert (await browser.open(await through(browser, provider))).status == 200
    other = place.browser()
    assert (await sign_in(other))[0] == 200

    assert (await other.client.get("/api/v1/auth/me")).json()["user"]["email"] == "ada@example.com"
    assert ("signin.link", "ok") in await place.told()


async def test_whoever_is_signed_in_stays_so_while_the_provider_is_away(
    hub: Hub, peer_folder: Path, hub_clock: HubClock
) -> None:
    """R29."""
    async with running(peer_folder) as peer:
        provider = Provider(ProviderSettings("acme", "Acme", peer.issuer, CLIENT), SECRET)
        async with place_of(hub, provider) as place:
            await place.owner()
            await invite(place, "ada2@example.com")
            await peer.person(sub="ada-2", email="ada2@example.com")
            browser, laptop = place.browser(), place.laptop()
            assert (await sign_in(browser))[0] == 200
            await laptop.sign_in(browser)
            assert peer.process.stdin is not None
            peer.process.stdin.close()
            await peer.process.wait()
            hub_clock.advance(timedelta(hours=2))
            late = place.browser()
            assert (await late.open("/api/v1/auth/oidc/acme/start")).status == 303, "what is known of it is still used"
            laptop.keep(await laptop.refresh())

            assert (await browser.client.get("/api/v1/auth/me")).status_code == 200
            assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 200
