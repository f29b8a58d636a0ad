"""Messages between a Router and the System's port 8801: msgpack, length-prefixed (`transport.messages`), additive across versions.

Two application protocols (TLS ALPN) besides that of variants, which is none: `JOIN` (the client shows no certificate: a ServiceAccount token and a
public key against a certificate of an hour) and `ROUTES` (with that certificate: plans down, acknowledgements and access records up).

Variants: the server name is `<port>.<ulid>.variant.codezero`, the client certificate that of the service's Router. The System opens a stream
(`open_header.StreamKind.SERVE`, target `<ulid>:<port>`) to the laptop and finishes the handshake only when the laptop has connected to the local
process, which it tells by one byte `CONNECTED` ahead of all others; until then a Router sees a connection that cannot be established, and asks
the origin instead, in the same request.
"""

from typing import Annotated

import msgspec

from codezero.wire.route_plan import Plan
from codezero.wire.tracing import TraceRecord

JOIN_ALPN = "codezero-join/1"
ROUTES_ALPN = "codezero-routes/1"
# The audience of the projected ServiceAccount token.
AUDIENCE = "codezero.io/router"
PROTOCOL_VERSIONS = (1,)
MAX_MESSAGE = 4 * 1024 * 1024
MAX_RECORDS = 200
CONNECTED = b"\x01"
PING_SECONDS = 5.0
SILENT_SECONDS = 15.0

_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Pem = Annotated[str, msgspec.Meta(max_length=16384)]
_Token = Annotated[str, msgspec.Meta(max_length=16384)]


class RouterMessage(msgspec.Struct, frozen=True, tag=True, tag_field="is"):
    """Base of all messages."""


class Join(RouterMessage, frozen=True):
    """A Router proves itself by its ServiceAccount token; `request` is a PKCS #10 certificate request in PEM, whose names are ignored."""

    token: _Token
    request: _Pem


class Joined(RouterMessage, frozen=True):
    """The certificate chain for the key, leaf first, and the authority above all parts of the Teamspace (PEM)."""

    certificate: _Pem
    authority: _Pem


class Refusal(RouterMessage, frozen=True):
    """The System refuses, and why. With `retry` the Router may come back."""

    code: _Text
    detail: _Text
    retry: bool


class RouterHello(RouterMessage, frozen=True):
    """First message on a stream of routes."""

    versions: tuple[int, ...]
    release: _Text
    pod: _Text


class RouterWelcome(RouterMessage, frozen=True):
    """The stream stands; plans follow, each a whole one."""

    version: int
    release: _Text


class PlanSent(RouterMessage, frozen=True):
    """The service's plan of that revision; the newest counts."""

    revision: int
    plan: Plan


class PlanApplied(RouterMessage, frozen=True):
    """The Router routes by the plan of that revision, or keeps the one before and says why."""

    revision: int
    problem: _Text = ""


class AccessRecords(RouterMessage, frozen=True):
    """Requests that a variant answered, or should have; `dropped` more were not told."""

    records: Annotated[tuple[TraceRecord, ...], msgspec.Meta(max_length=MAX_RECORDS)]
    dropped: int = 0


class RouterPing(RouterMessage, frozen=True):
    """Either side shows that it lives."""


FromRouter = Join | RouterHello | PlanApplied | AccessRecords | RouterPing
ToRouter = Joined | Refusal | RouterWelcome | PlanSent | RouterPing
