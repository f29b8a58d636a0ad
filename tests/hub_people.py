"""People before the Hub as they are in life: a browser that follows redirects, keeps cookies and sends forms, and a laptop that holds a key."""

import base64
import hashlib
import secrets
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import ASGIApp

from codezero.transport import device_proof

if TYPE_CHECKING:
    from codezero.hub.context import Hub
    from codezero.hub.signin.providers import Provider

NO_GUI = Path("/nonexistent")
PASSWORD = "correct horse battery"
TOKEN_PATH = "/api/v1/auth/token"
CALLBACK = "http://127.0.0.1:40123/callback"


@dataclass
class Form:
    """A form of a page."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class Page(HTMLParser):
    """What a page shows and asks."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__()
        self.status = answer.status_code
        self.headers = answer.headers
        self.path = answer.url.path
        self.source = answer.text
        self.forms: list[Form] = []
        self.links: dict[str, str] = {}
        self.labels: set[str] = set()
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self._texts: list[str] = []
        self._link: str | None = None
        self.feed(answer.text)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "style" for name in given), given
        match tag:
            case "form":
                self.forms.append(Form(given.get("action", "")))
            case "input":
                self.forms[-1].fields[given["name"]] = given.get("value", "")
                if given.get("type") != "hidden":
                    self.ids.add(given["id"])
            case "label":
                self.labels.add(given["for"])
            case "a":
                self._link = given["href"]
            case _:
                pass

    def handle_data(self, data: str) -> None:
        self._texts.append(data)
        if self._link is not None:
            self.links[data.strip()] = self._link
            self._link = None


class Browser:
    """A browser at `address`, before the Hub `app`. What leads elsewhere is kept in `elsewhere` and not followed."""

    def __init__(self, hub: "Hub", app: ASGIApp, address: str = "192.0.2.7") -> None:
        self.hub = hub
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, client=(address, 50000)),
            base_url=hub.public_url,
            headers={"User-Agent": "A Browser/1"},
        )
        self.elsewhere: str | None = None

    async def open(self, path: str) -> Page:
        return await self._followed(await self.client.get(path))

    async def submit(self, page: Page, *, origin: str | None = None, **fields: str) -> Page:
        """Fill in the page's form and send it."""
        form = page.forms[0]
        answer = await self.client.post(
            form.action, data={**form.fields, **fields}, headers={"Origin": origin or self.hub.public_url}
        )
        return await self._followed(answer)

    async def sign_in(self, email: str, password: str = PASSWORD) -> Page:
        return await self.submit(await self.open("/sign-in"), email=email, password=password)

    @property
    def csrf_headers(self) -> Mapping[str, str]:
        from codezero.hub.signin import browser

        cookie = self.client.cookies["__Host-codezero"]
        return {"Origin": self.hub.public_url, "X-Codezero-CSRF": browser.csrf_of(self.hub, cookie)}

    async def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """A request by a page of the Hub."""
        return await self.client.request(
            method, path, json=body, headers=self.csrf_headers if headers is None else headers
        )

    async def _followed(self, answer: httpx2.Response) -> Page:
        self.elsewhere = None
        for _ in range(5):
            if not answer.is_redirect:
                break
            location = urljoin(str(answer.url), answer.headers["location"])
            if not location.startswith(f"{self.hub.public_url}/"):
                self.elsewhere = location
                break
            answer = await self.client.get(location)
        return Page(answer)


class Laptop:
    """A machine with a device key, which czctl on it would use."""

    def __init__(self, hub: "Hub", app: ASGIApp, *, name: str = "ada's laptop", address: str = "192.0.2.7") -> None:
        self.hub = hub
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.device: str | None = None
        self.verifier = secrets.token_urlsafe(32)
        self.state = secrets.token_urlsafe(16)
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app, client=(address, 50001)), base_url=hub.public_url
        )
        self.access_token = ""
        self.refresh_token = ""

    def proof(self, *, path: str = TOKEN_PATH, method: str = "POST", audience: str | None = None) -> str:
        return device_proof.sign(
            self.key,
            device=self.device,
            audience=audience or self.hub.public_url,
            method=method,
            path=path,
            at=self.hub.clock().timestamp(),
        )

    def authorize_path(self, **changed: str) -> str:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()
        query = {
            "response_type": "code",
            "client_id": "czctl",
            "redirect_uri": CALLBACK,
            "state": self.state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "device_name": self.name,
        }
        return f"/api/v1/auth/authorize?{urlencode({name: value for name, value in {**query, **changed}.items() if value})}"

    async def ask_token(self, **form: str) -> httpx2.Response:
        given = {"client_id": "czctl", "device_proof": self.proof(), **form}
        return await self.client.post(TOKEN_PATH, data=given)

    async def exchange(self, code: str, **changed: str) -> httpx2.Response:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "code_verifier": self.verifier,
            **changed,
        }
        return await self.ask_token(**form)

    async def refresh(self, token: str | None = None, **changed: str) -> httpx2.Response:
        return await self.ask_token(grant_type="refresh_token", refresh_token=token or self.refresh_token, **changed)

    def keep(self, answer: httpx2.Response) -> None:
        """Remember what a sign-in or a refresh gave."""
        assert answer.status_code == 200, answer.text
        given = answer.json()
        self.device, self.access_token, self.refresh_token = (
            given[name] for name in ("device_id", "access_token", "refresh_token")
        )

    async def sign_in(self, browser: Browser) -> None:
        """As `czctl auth login` does with the browser of somebody who is signed in there."""
        approving = await browser.open(self.authorize_path())
        await browser.submit(approving, answer="approve")
        self.keep(await self.exchange(answered(browser)["code"]))

    async def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token or self.access_token}"}
        return await self.client.request(method, path, json=body, headers=headers)


@dataclass
class Place:
    """A Hub with its pages, and who comes to it."""

    hub: "Hub"
    app: ASGIApp
    _clients: list[Browser | Laptop] = field(default_factory=list)

    def browser(self, address: str = "192.0.2.7") -> Browser:
        made = Browser(self.hub, self.app, address)
        self._clients.append(made)
        return made

    def laptop(self, name: str = "ada's laptop", address: str = "192.0.2.7") -> Laptop:
        made = Laptop(self.hub, self.app, name=name, address=address)
        self._clients.append(made)
        return made

    async def owner(self, email: str = "ada@example.com", organization: str = "Acme") -> Browser:
        """The browser of the first owner, who has just signed up."""
        from codezero.hub.signin import first_owner

        link = await first_owner.link(self.hub)
        assert link is not None
        browser = self.browser()
        page = await browser.submit(
            await browser.open(link), email=email, name="Ada", password=PASSWORD, organization=organization
        )
        assert page.status == 200, page.text
        return browser

    async def told(self) -> list[tuple[str, str]]:
        """Actions and outcomes in the audit of the only organization."""
        from sqlalchemy import select

        from codezero.hub.storage.tables import AuditEntry

        async with self.hub.database.reading() as session:
            rows = await session.scalars(select(AuditEntry).order_by(AuditEntry.organization_id, AuditEntry.number))
            return [(row.action, row.outcome) for row in rows]

    async def close(self) -> None:
        for one in self._clients:
            await one.client.aclose()


@asynccontextmanager
async def place_of(hub: "Hub", *providers: "Provider", gui: Path = NO_GUI) -> AsyncGenerator[Place, None]:
    """`hub` with its API and pages, and the GUI in the folder `gui`: by default none, whatever was built in this tree."""
    from codezero.hub.api import app

    known = replace(hub, providers=providers) if providers else hub
    place = Place(known, app.create(known, gui=gui))
    try:
        yield place
    finally:
        await place.close()


def answered(browser: Browser) -> dict[str, str]:
    """What a browser that was sent to czctl's listener brings there."""
    assert browser.elsewhere is not None
    assert browser.elsewhere.startswith(f"{CALLBACK}?"), browser.elsewhere
    return {name: value for name, (value,) in parse_qs(urlsplit(browser.elsewhere).query).items()}
