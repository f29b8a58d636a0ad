"""What Teamspaces ask of the Hub: to join, to have their authority signed, to be heard over a channel, to leave. They prove themselves by their own key."""

from typing import Annotated, cast

import msgspec
from fastapi import WebSocket
from pydantic import StringConstraints
from starlette.requests import Request
from starlette.responses import Response

from codezero.hub.api import document, guard, operations
from codezero.hub.api.permissions import Need, TheHub, needs
from codezero.hub.api.shapes import Asked, Csr, Told, Ulid
from codezero.hub.api.sockets import Messages
from codezero.hub.context import Hub
from codezero.hub.spaces import channels, joining, proofs
from codezero.wire.hub_channel import JoinRequest

routes = operations.router("teamspaces")

JoinToken = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Release = Annotated[str, StringConstraints(max_length=253)]


class Joining(Asked):
    """A cluster becomes the Teamspace of that token, by the key that has signed `csr` (PKCS #10, PEM)."""

    token: JoinToken
    csr: Csr
    release: Release = ""


class CertificateWanted(Asked):
    """A certificate request (PKCS #10, PEM) by the authority's key."""

    csr: Csr


class Certified(Told):
    """What the Hub has signed, whom to believe, and the policy that holds."""

    space: str
    organization: str
    name: str
    certificate: str
    root: str
    device_issuers: str
    jwks: str
    policy: str


@routes.post("/teamspaces/join", openapi_extra=needs(Need.NOTHING), responses=document.raises(403))
async def join(hub: TheHub, request: Request, body: Joining) -> Certified:
    """Join: the token shows that the cluster may. The same cluster may ask again; nobody else may use the token then."""
    asked = JoinRequest(body.token, body.csr, body.release)
    return _told(await joining.join(hub, asked, address=guard.address_of(request.scope)))


@routes.post(
    "/teamspaces/{space}/certificate",
    openapi_extra=needs(Need.NOTHING),
    responses=document.raises(401, 403, 409),
)
async def certificate(hub: TheHub, request: Request, space: Ulid, body: CertificateWanted) -> Certified:
    """Have the Teamspace's authority signed again; its key shows who asks, by a proof in `Authorization`."""
    proof = proofs.read(hub, request.headers.get("authorization"), space, by_part=False)
    address = guard.address_of(request.scope)
    return _told(await joining.certify(hub, space, proof, body.csr, address=address))


@routes.post(
    "/teamspaces/{space}/leave", status_code=204, openapi_extra=needs(Need.NOTHING), responses=document.raises(401)
)
async def leave(hub: TheHub, request: Request, space: Ulid) -> Response:
    """Say that the cluster is no Teamspace any more; its authority's key shows who says so."""
    proof = proofs.read(hub, request.headers.get("authorization"), space, by_part=False)
    await joining.leave(hub, space, proof, address=guard.address_of(request.scope))
    return Response(status_code=204)


@routes.websocket("/teamspaces/{space}/channel")
async def channel(websocket: WebSocket, space: str) -> None:
    """The channel of a Teamspace: `codezero.wire.hub_channel`. Refused as a request is, before it is a WebSocket."""
    hub = cast("Hub", websocket.app.state.hub)

    messages = Messages(websocket)
    shown = websocket.headers.getlist("authorization")
    proof = shown[0] if len(shown) == 1 else None
    found = await channels.opened(hub, proof, space, send=messages.send, receive=messages.receive)
    await websocket.accept()
    await found.run()
    await messages.close()


def _told(certified: msgspec.Struct) -> Certified:
    return Certified.model_validate(certified)
