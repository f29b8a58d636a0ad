"""The Hub's API for tests: asked over ASGI by people and keys that were put into its database, as they would be after they signed in."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.types import ASGIApp, Message, Scope

from codezero.model.ids import new_ulid
from codezero.model.roles import Permission, Role

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from sqlalchemy.ext.asyncio import AsyncSession

    from codezero.hub.api.limits import Limits
    from codezero.hub.context import Hub


@dataclass(frozen=True)
class Asker:
    """Somebody who asks: a user's id, and the headers that show who they are."""

    user: str
    headers: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    sign_in: str | None = None
    key: "EllipticCurvePrivateKey | None" = None


NOBODY = Asker("")


@dataclass(frozen=True)
class Api:
    """The API of `hub`."""

    hub: "Hub"
    app: ASGIApp
    client: httpx2.AsyncClient

    async def ask(
        self,
        asker: Asker,
        method: str,
        path: str,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        expect: int | None = None,
    ) -> httpx2.Response:
        """The answer to `asker`; `expect` is the status it must have."""
        answer = await self.client.request(
            method,
            path if path.startswith("/api") else f"/api/v1{path}",
            json=body,
            headers={**asker.headers, **(headers or {})},
        )
        assert expect is None or answer.status_code == expect, f"{answer.status_code} {answer.text}"
        return answer


class Stream:
    """A WebSocket's other end, message by message; `closed` is the code it was closed with, or the status it was refused with."""

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._task = asyncio.create_task(self._run(app, scope))

    async def _run(self, app: ASGIApp, scope: Scope) -> None:
        try:
            await app(scope, self._inbox.get, self._outbox.put)
        finally:
            await self._outbox.put({"type": "ended"})

    def say(self, message: Any) -> None:
        text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
        self._inbox.put_nowait({"type": "websocket.receive", "text": text})

    async def hear(self) -> bytes:
        """The next message as it was sent, heartbeats left out; none when it ends is a failure."""
        while True:
            message = await self._next()
            if message["type"] == "websocket.send" and message["text"] != '{"type":"alive"}':
                return str(message["text"]).encode()
            assert message["type"] in {"websocket.accept", "websocket.send"}, message

    async def end(self) -> int:
        """The code (or status) that it ends with, whatever comes before."""
        while True:
            message = await self._next()
            match message["type"]:
                case "websocket.close":
                    return int(message["code"])
                case "websocket.http.response.start":
                    return int(message["status"])
                case "ended":
                    raise AssertionError("ended without a word")
                case _:
                    pass

    async def leave(self) -> None:
        if not self._task.done():
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await self._task

    async def _next(self) -> Message:
        async with asyncio.timeout(20):
            return await self._outbox.get()


@asynccontextmanager
async def listening(
    api: Api, path: str = "/api/v1/events", *, headers: Mapping[str, str] | None = None
) -> AsyncGenerator[Stream, None]:
    """A WebSocket to the API."""
    host = api.hub.public_url.partition("://")[2]
    given = {"host": host, **(headers or {})}
    scope: Scope = {
        "type": "websocket",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "wss",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("192.0.2.1", 1),
        "server": (host, 443),
        "subprotocols": [],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }
    stream = Stream(api.app, scope)
    try:
        yield stream
    finally:
        await stream.leave()


@asynccontextmanager
async def api_of(hub: "Hub", *, limits: "Limits | None" = None) -> AsyncGenerator[Api, None]:
    from codezero.hub.api import app

    made = app.create(hub, limits=limits)
    transport = httpx2.ASGITransport(app=made)
    async with httpx2.AsyncClient(transport=transport, base_url=hub.public_url) as client:
        yield Api(hub, made, client)


async def new_organization(hub: "Hub", name: str) -> str:
    from codezero.hub.storage.tables import Organization

    organization = new_ulid()

    async def work(session: "AsyncSession") -> None:
        session.add(Organization(id=organization, name=name, created_at=hub.clock()))

    await hub.database.run(work)
    return organization


async def new_person(hub: "Hub", name: str, roles: Mapping[str, Role]) -> Asker:
    """A person with those roles in those organizations, signed in at a device."""
    from codezero.hub.signin import tokens
    from codezero.hub.signin.tokens import AccessToken
    from codezero.hub.storage.tables import Device, Membership, SignIn, User
    from codezero.transport.device_proof import jwk_of, thumbprint

    user, device, sign_in = new_ulid(), new_ulid(), new_ulid()
    now = hub.clock()
    key = ec.generate_private_key(ec.SECP256R1())
    public = jwk_of(key.public_key())

    async def work(session: "AsyncSession") -> None:
        email = f"{name.lower()}-{user.lower()}@example.com"
        session.add(User(id=user, kind="person", name=name, email=email, created_at=now))
        await session.flush()
        for organization, role in roles.items():
            session.add(Membership(organization_id=organization, user_id=user, role=role.value, created_at=now))
        session.add(
            Device(
                id=device,
                user_id=user,
                name=f"{name}'s laptop",
                thumbprint=thumbprint(public),
                public_jwk=public,
                created_at=now,
                last_seen_at=now,
            )
        )
        await session.flush()
        session.add(
            SignIn(id=sign_in, user_id=user, device_id=device, created_at=now, expires_at=now + timedelta(days=1))
        )

    await hub.database.run(work)
    token = tokens.issue(hub, AccessToken(user, device, sign_in))
    return Asker(user, {"authorization": f"Bearer {token}"}, device, sign_in, key)


async def new_key(
    hub: "Hub", name: str, organization: str, role: Role, *, scopes: frozenset[Permission] = frozenset()
) -> Asker:
    """An API key of a new service account with that role."""
    from codezero.hub.signin import api_keys
    from codezero.hub.storage.tables import Membership, User

    user = new_ulid()
    now = hub.clock()

    async def work(session: "AsyncSession") -> str:
        session.add(User(id=user, kind="service", name=name, created_at=now))
        await session.flush()
        session.add(Membership(organization_id=organization, user_id=user, role=role.value, created_at=now))
        made = api_keys.make(
            session, hub, organization=organization, account=user, name=name, created_by=user, scopes=scopes
        )
        return made.key

    key = await hub.database.run(work)
    return Asker(user, {"authorization": f"{organization}:{key}"})


@dataclass(frozen=True)
class World:
    """An organization with one of everything, and the ids by which paths name it."""

    organization: str
    owner: Asker
    ids: Mapping[str, str]

    def path(self, template: str, **others: str) -> str:
        """A path of the OpenAPI document with the ids of this world, or others."""
        return template.format(**{**self.ids, "organization": self.organization, **others})


async def new_space(hub: "Hub", organization: str, author: str, *, name: str = "shop") -> str:
    """A Teamspace that has joined, with a policy, a laptop that serves, and a channel that stands."""
    from codezero.hub.policies import documents
    from codezero.hub.storage.tables import Picture, Space

    space, now = new_ulid(), hub.clock()
    device = {"install": "i", "organization": organization, "user": author, "device": new_ulid()}
    variant = {
        "variant_id": new_ulid(),
        "user": author,
        "user_name": "Olga",
        "device": "spiffe://x",
        "session": "S1",
        "condition": [{"kind": "user", "key": None, "value": None}],
        "ports": [{"remote": 80, "local": 3000, "host": None}],
        "since": 1,
        "expires": 2.0,
        "state": "active",
        "mirror": None,
    }
    services = [
        {"ref": {"namespace": "shop", "name": "orders"}, "serving": {"state": "active", "variants": [variant]}},
        {"ref": {"namespace": "vault", "name": "keys"}, "serving": None},
    ]
    laptop = {"session": "S1", "device": device, "name": "laptop", "state": "online", "since": 1.0}
    consumes = [service["ref"] for service in services]
    events = [{"id": new_ulid(), "action": "consumed", "service": service["ref"]} for service in services]
    events += [
        {
            "id": new_ulid(),
            "action": "session.end",
            "service": None,
            "detail": "consumed vault/keys",
            "consumed": consumes,
        }
    ]
    told = {"catalog": services, "presence": [{**laptop, "consumes": consumes}], "activity": events}

    async def work(session: "AsyncSession") -> None:
        session.add(
            Space(
                id=space,
                organization_id=organization,
                name=name,
                state="certified",
                host="shop.example.com",
                port=8800,
                created_by=author,
                created_at=now,
                certified_at=now,
                connected_at=now,
                seen_at=now,
            )
        )
        await session.flush()
        await documents.begin(hub, session, organization, space, author=author)
        for kind, items in told.items():
            content = msgspec.json.encode({"items": items, "stale_since": None})
            session.add(Picture(space_id=space, kind=kind, organization_id=organization, content=content, at=now))

    await hub.database.run(work)
    return space


async def new_world(hub: "Hub", name: str = "Acme") -> World:
    """An organization with one of everything."""
    from codezero.hub import organizations

    organization = await new_organization(hub, name)
    owner = await new_person(hub, "Olga", {organization: Role.OWNER})
    member = await new_person(hub, "Vic", {organization: Role.VIEWER})
    account = await new_key(hub, "ci", organization, Role.CI)
    space = await new_space(hub, organization, owner.user)

    async def work(session: "AsyncSession") -> str:
        acting = await organizations.member(session, organization, owner.user)
        return (await organizations.invite(session, hub, acting, "new@example.com", Role.VIEWER)).row.id

    invitation = await hub.database.run(work)
    key = account.headers["authorization"].split("cz_key_")[1][:26]
    assert member.device is not None
    return World(
        organization,
        owner,
        {
            "user": member.user,
            "account": account.user,
            "key": key,
            "invitation": invitation,
            "device": member.device,
            "space": space,
            "number": "1",
            "provider": "none",
            "session": "S1",
            "serve": new_ulid(),
            "machine": new_ulid(),
        },
    )
