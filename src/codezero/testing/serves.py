"""Serve objects in memory, behind the requests the System makes about them; and a Router's end of the System's port 8801."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec

from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.model.ids import Device, SessionId, TeamspaceId, Workload, new_ulid
from codezero.model.services import ServiceRef
from codezero.system.kubernetes.client import ApiError
from codezero.system.kubernetes.objects import SERVES, ServeResource
from codezero.system.kubernetes.reflector import ReflectorStatus
from codezero.system.serving import naming
from codezero.system.serving.serves import Serves, path_of
from codezero.system.signing import REVIEWS_PATH
from codezero.testing.kubernetes import FilledInventory, Json, service_json
from codezero.transport.messages import MessageStream
from codezero.wire.router import AUDIENCE, FromRouter, ToRouter
from codezero.wire.serve_resource import Route, RouteCondition, RoutePort, ServeStatus, sealed, selector_seal

_TO_ROUTER: msgspec.msgpack.Decoder[ToRouter] = msgspec.msgpack.Decoder(ToRouter)


def uid_of(service: ServiceRef) -> str:
    """The uid of a Service of `testing.kubernetes`."""
    return f"uid-{service.namespace}-{service.name}"


class ServeStore:
    """The API server, as far as Serve objects and tokens go. `serves` hears of each change at once, as from a watch.

    `tokens` are those that are valid for Routers: token to username. `failing` is raised instead of an answer; `requests` counts what was asked.
    """

    def __init__(self, inventory: FilledInventory, *, key: bytes) -> None:
        self.tokens: dict[str, str] = {}
        self.audiences: tuple[str, ...] = (AUDIENCE,)
        self.failing: ApiError | None = None
        self.requests: list[str] = []
        self.before_replace: Callable[[], None] = lambda: None
        self.serves: Serves | None = None
        self._inventory = inventory
        self._key = key
        self._objects: dict[str, Json] = {}
        self._versions = 100

    def follow(self, serves: Serves) -> Serves:
        """Tell `serves` everything, from now on."""
        self.serves = serves
        serves.set_key(self._key)
        for content in self._objects.values():
            serves.changed(None, _resource(content))
        self._inventory.source_changed(SERVES.name, ReflectorStatus(True, None))
        return serves

    def put(
        self, service: ServiceRef, *routes: Route, ports: Sequence[Json] = ({"port": 80},), origin: str = "127.0.0.2"
    ) -> None:
        """The service is served with these routes, sealed here, and has been rewired: there is an origin."""
        self._inventory.put(
            service_json(service.name, service.namespace, ports=ports),
            service_json(naming.origin_of(service).name, service.namespace, ports=ports, clusterIP=origin),
        )
        path = path_of(service)
        before = self._objects.get(path, {"status": {}, "metadata": {"generation": 0}})
        uid = uid_of(service)
        seal = selector_seal({}, service_uid=uid, key=self._key)
        status = {"state": "active", "original": {"ports": list(ports)}, "selectorSeal": seal, **before["status"]}
        self._write(
            path,
            {
                "metadata": {
                    "name": service.name,
                    "namespace": service.namespace,
                    "uid": f"serve-{uid}",
                    "generation": before["metadata"]["generation"] + 1,
                    "finalizers": ["codezero.io/restore"],
                    "ownerReferences": [{"kind": "Service", "uid": uid}],
                },
                "spec": {
                    "service": service.name,
                    "routes": [msgspec.to_builtins(sealed(route, service_uid=uid, key=self._key)) for route in routes],
                },
                "status": status,
            },
        )

    def delete(self, service: ServiceRef) -> None:
        """The Serve object is gone."""
        old = self._objects.pop(path_of(service))
        if self.serves is not None:
            self.serves.changed(_resource(old), None)

    def status(self, service: ServiceRef) -> ServeStatus:
        """What the object says now."""
        return msgspec.convert(self._objects[path_of(service)]["status"], ServeStatus)

    def set_status(self, service: ServiceRef, change: Callable[[ServeStatus], ServeStatus]) -> None:
        """Somebody else writes the status."""
        path = path_of(service)
        content = dict(self._objects[path])
        content["status"] = msgspec.to_builtins(change(self.status(service)))
        self._write(path, content)

    def holder(self, route: Route, service: ServiceRef) -> str | None:
        """Who holds the route's laptop; None where nothing is said about it."""
        return next((one.holder for one in self.status(service).routes if one.id == route.id), None)

    # --- what the System asks -----------------------------------------------------------------------------------------------------------

    async def get(self, path: str, _parameters: Mapping[str, str]) -> bytes:
        """An object."""
        await self._asked(f"GET {path}")
        if path not in self._objects:
            raise ApiError("not found", status=404)
        return msgspec.json.encode(self._objects[path])

    async def replace(self, path: str, body: Mapping[str, Any]) -> bytes:
        """A new status; 409 where somebody wrote meanwhile."""
        self.before_replace()
        await self._asked(f"PUT {path}")
        path = path.removesuffix("/status")
        if path not in self._objects:
            raise ApiError("not found", status=404)
        content = dict(self._objects[path])
        if body["metadata"]["resourceVersion"] != content["metadata"]["resourceVersion"]:
            raise ApiError("somebody else wrote", status=409)
        self._write(path, {**content, "status": msgspec.json.decode(msgspec.json.encode(body["status"]))})
        return msgspec.json.encode(self._objects[path])

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        """A review of a token."""
        assert path == REVIEWS_PATH
        await self._asked(f"POST {path}")
        username = self.tokens.get(body["spec"]["token"])
        valid = username is not None and AUDIENCE in body["spec"]["audiences"]
        status: Json = {"authenticated": False, "error": "invalid"}
        if valid:
            status = {"authenticated": True, "user": {"username": username}, "audiences": list(self.audiences)}
        return msgspec.json.encode({**body, "status": status})

    async def _asked(self, what: str) -> None:
        self.requests.append(what)
        await asyncio.sleep(0)
        if self.failing is not None:
            raise self.failing

    def _write(self, path: str, content: Json) -> None:
        self._versions += 1
        old = self._objects.get(path)
        metadata = {**content["metadata"], "resourceVersion": str(self._versions)}
        self._objects[path] = {**content, "metadata": metadata}
        if self.serves is not None:
            self.serves.changed(None if old is None else _resource(old), _resource(self._objects[path]))


def _resource(content: Json) -> ServeResource:
    return msgspec.json.decode(msgspec.json.encode(content), type=ServeResource)


def route(
    device: Device, session: SessionId, *, remote: int = 80, local: int = 3000, condition: RouteCondition | None = None
) -> Route:
    """A route to a laptop, not sealed yet; requests meet its condition by `x-who: me`."""
    return Route(
        device.user,
        condition or RouteCondition("header", "x-who", "me"),
        (RoutePort(local, remote),),
        new_ulid(),
        user_name="somebody",
        device=str(device),
        session=session,
        since=5,
        expires=4_000_000_000.0,
    )


class RouterEnd:
    """What a Router does on port 8801 of a System, with certificates by the Teamspace's authority."""

    def __init__(self, port: int, *, authority: Authority, teamspace: TeamspaceId) -> None:
        self._port = port
        self._authority = authority
        self._teamspace = teamspace

    @property
    def system_name(self) -> str:
        """The System's own name."""
        return f"{self._teamspace.lower()}.spaces.codezero.io"

    def credentials(self, service: str, *, teamspace: TeamspaceId | None = None, **options: Any) -> Credentials:
        """Those of the Router of `service`, as by a good join."""
        uri = str(Workload(teamspace or self._teamspace, "router", service))
        return self._authority.issue("router", uris=[uri], client=True, **options)

    def context(self, credentials: Credentials | None, *protocols: str) -> ssl.SSLContext:
        """TLS as a Router speaks it."""
        context = certificates.client_context(
            roots=self._authority.certificate_pem, credentials=credentials, protocols=protocols
        )
        # Variants have names that no certificate has; Routers look for the System's URI instead.
        context.check_hostname = False
        return context

    async def connect(
        self, name: str, credentials: Credentials | None, *protocols: str
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection whose handshake is done; raises OSError."""
        return await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self.context(credentials, *protocols), server_hostname=name
        )

    @asynccontextmanager
    async def conversation(
        self, protocol: str, credentials: Credentials | None
    ) -> AsyncGenerator[MessageStream[FromRouter, ToRouter]]:
        """Messages with the System."""
        reader, writer = await self.connect(self.system_name, credentials, protocol)
        stream: MessageStream[FromRouter, ToRouter] = MessageStream(reader, writer, _TO_ROUTER)
        try:
            yield stream
        finally:
            stream.abort()


def as_api(store: ServeStore) -> Any:
    """The store where an `ApiClient` is wanted."""
    return cast("Any", store)
