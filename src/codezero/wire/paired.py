"""What a page of a Hub that is paired with a machine asks of it, and how it shows that it is that page (ADR 17).

Two ways lead to the machine, and the same request goes either: *direct*, by HTTP to loopback, from a browser on the machine that may; and the *relay*,
through the Hub, to which the machine keeps a WebSocket. Each request is signed by the page's own key, so neither way has to be believed.

    Authorization: Codezero-Page <proof>          a compact JWS, ES256, by the page's key, for one request and used once:
        {"typ": "codezero-page-proof+jwt", "alg": "ES256", "kid": <pairing>}
        {"aud": <machine>, "htm": "PUT", "htu": "/agent/v1/consume", "bsh": <SHA-256 of the body, base64url>, "iat": ..., "jti": ...}

`pairing` is the thumbprint of the page's key (RFC 7638), `machine` a ULID of the machine's own, `htu` the target as in the GUI's client, query included.

Pairing: `czctl pair` gives the page an address of the Hub's GUI with `#machine=...&port=...&code=...`. The page makes a P-256 key that cannot be taken
out of its browser, and asks for `POST /paired/v1/pairings` (`PairingWanted`) by either way, signed by the new key. `mac` shows that it has the code, and
binds key, origin and machine to it, without saying it to whoever carries the request.

Relay: one binary WebSocket message of msgpack each. The machine begins with `Hello`, the Hub answers with `Welcome` or `Farewell`. For each `Ask` the
machine sends one `Head`, then `Piece`s, each but the first after a `More`; `Stop` ends it, or `Broken`. Either side sends `Alive` when it has nothing else to say.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec

SCHEME: Final = "Codezero-Page"
PROOF_TYPE: Final = "codezero-page-proof+jwt"
ALGORITHM: Final = "ES256"
MAX_PROOF: Final = 2048
MAX_BODY: Final = 1024 * 1024
LEEWAY_SECONDS: Final = 60
PAIRING_DAYS: Final = 30

PAIRINGS: Final = "/paired/v1/pairings"

_Thumbprint = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_-]{43}\Z")]
_Ulid = Annotated[str, msgspec.Meta(pattern=r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


@dataclass(frozen=True, slots=True)
class Asking:
    """What a paired page may ask: `acts` where it changes something, `streams` where the answer lasts until somebody leaves."""

    acts: bool = False
    streams: bool = False


# The whole of it: nothing here runs a program, names a file or an address, or takes or gives a key (T37). A page that only looks may end its own pairing.
ALLOWED: Final[Mapping[tuple[str, str], Asking]] = {
    ("GET", "/agent/v1/status"): Asking(),
    ("GET", "/agent/v1/services"): Asking(),
    ("GET", "/agent/v1/consume"): Asking(),
    ("PUT", "/agent/v1/consume"): Asking(acts=True),
    ("POST", "/agent/v1/consume/test"): Asking(),
    ("PUT", "/agent/v1/primary-namespace"): Asking(acts=True),
    ("GET", "/agent/v1/serve"): Asking(),
    ("POST", "/agent/v1/serve"): Asking(acts=True),
    ("POST", "/agent/v1/serve/end"): Asking(acts=True),
    ("GET", "/agent/v1/traces"): Asking(streams=True),
    ("GET", "/agent/v1/presence"): Asking(),
    ("GET", "/agent/v1/activity"): Asking(),
    ("GET", "/agent/v1/events"): Asking(streams=True),
    ("POST", "/agent/v1/reset"): Asking(acts=True),
    ("DELETE", "/agent/v1/teamspace"): Asking(acts=True),
    ("POST", "/console/teamspace"): Asking(acts=True),
    ("POST", PAIRINGS): Asking(),
    ("GET", PAIRINGS): Asking(),
    ("POST", f"{PAIRINGS}/revoke"): Asking(acts=True),
}


class ProofHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The header of a proof."""

    alg: str
    typ: str
    kid: _Thumbprint


class ProofClaims(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a proof says."""

    aud: _Ulid
    htm: str
    htu: str
    bsh: _Thumbprint
    iat: int
    jti: Annotated[str, msgspec.Meta(min_length=16, max_length=64)]


class PageKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page's public key as JWK, and nothing beside it."""

    kty: str
    crv: str
    x: str
    y: str


class PairingWanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page asks to be paired. `name` is what the browser calls itself; `mac` as `mac_of`."""

    key: PageKey
    name: _Name
    mac: _Thumbprint


class PairingView(msgspec.Struct, frozen=True):
    """A pairing. Times are UNIX seconds; `used_at` is when it asked for something last, `acts` whether it may change things."""

    id: str
    name: str
    origin: str
    acts: bool
    created_at: float
    expires_at: float
    used_at: float | None = None


class PairedView(msgspec.Struct, frozen=True):
    """The machine, and the pages that are paired with it. `port` is where it answers directly, `relays` whether it answers through the Hub."""

    machine: str
    name: str
    port: int
    relays: bool
    pairings: tuple[PairingView, ...] = ()


class PairingMade(msgspec.Struct, frozen=True):
    """What a page is told that was paired."""

    machine: str
    name: str
    port: int
    relays: bool
    pairing: PairingView


class PairingEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Revoke a pairing."""

    id: _Thumbprint


def mac_of(code: str, *, origin: str, machine: str, pairing: str) -> str:
    """What shows that the page of `origin` with that key has the one-time code: HMAC-SHA256, base64url."""
    text = f"codezero pairing\n{origin}\n{machine}\n{pairing}"
    return _encoded(hmac.digest(code.encode(), text.encode(), "sha256"))


def body_hash(body: bytes) -> str:
    """`bsh` of a request with that body."""
    return _encoded(hashlib.sha256(body).digest())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


# --- relay: pages to the Hub ---------------------------------------------------------------------------------------------------------------

MACHINES_PATH: Final = "/api/v1/machines"
# On answers that are the machine's and not the Hub's own.
ANSWERED_BY: Final = "X-Codezero-Answered-By"
ANSWERED_BY_MACHINE: Final = "machine"


def ask_path(machine: str) -> str:
    """Where a page asks a machine through the Hub."""
    return f"{MACHINES_PATH}/{machine}/ask"


class RelayAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request for a machine, as a page gives it to the Hub. `body` is text (JSON), empty for none."""

    method: Annotated[str, msgspec.Meta(max_length=10)]
    target: Annotated[str, msgspec.Meta(max_length=2048)]
    proof: Annotated[str, msgspec.Meta(max_length=MAX_PROOF)]
    body: Annotated[str, msgspec.Meta(max_length=MAX_BODY)] = ""


# --- relay: the Hub and a machine ----------------------------------------------------------------------------------------------------------

RELAY_PATH: Final = f"{MACHINES_PATH}/relay"
RELAY_VERSIONS: Final = (1,)
MAX_MESSAGE: Final = MAX_BODY + 64 * 1024
MAX_PIECE: Final = 64 * 1024
MAX_SAID: Final = MAX_PIECE + 4096  # what a machine may say in one message
MOST_AT_ONCE: Final = 32  # questions of one machine without an end of their answer
HELLO_SECONDS: Final = 10.0
ALIVE_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 3 * ALIVE_SECONDS


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A machine that pages may ask. `token` is an access token of the user whose it is; `name` is its host name."""

    versions: Annotated[tuple[int, ...], msgspec.Meta(max_length=20)]
    token: Annotated[str, msgspec.Meta(max_length=4096)]
    machine: _Ulid
    name: _Name


class Welcome(msgspec.Struct, frozen=True, tag="welcome"):
    """The Hub will pass on what the user's pages ask, by that version."""

    version: int


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """A request of a page. `id` is greater than those before it on this connection."""

    id: int
    method: Annotated[str, msgspec.Meta(max_length=10)]
    target: Annotated[str, msgspec.Meta(max_length=2048)]
    proof: Annotated[str, msgspec.Meta(max_length=MAX_PROOF)]
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_BODY)] = b""


class More(msgspec.Struct, frozen=True, tag="more"):
    """The page has taken the last piece."""

    id: int


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """The page does not wait any more."""

    id: int


class Farewell(msgspec.Struct, frozen=True, tag="farewell"):
    """The Hub ends this: a problem's code, its detail, and whether it is worth another try."""

    code: Annotated[str, msgspec.Meta(max_length=64)]
    detail: Annotated[str, msgspec.Meta(max_length=1000)]
    retry: bool = True


class Alive(msgspec.Struct, frozen=True, tag="alive"):
    """Nothing else is to be said."""


class Head(msgspec.Struct, frozen=True, tag="head"):
    """The answer to `id` begins. `kind` is its content type."""

    id: int
    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    kind: Annotated[str, msgspec.Meta(max_length=100)] = ""


class Piece(msgspec.Struct, frozen=True, tag="piece"):
    """More of the answer to `id`; nothing comes after the last one."""

    id: int
    content: Annotated[bytes, msgspec.Meta(max_length=MAX_PIECE)] = b""
    is_last: bool = False


class Broken(msgspec.Struct, frozen=True, tag="broken"):
    """The answer to `id` breaks off: it is not whole, and nothing more of it comes."""

    id: int


ToMachine = Welcome | Ask | More | Stop | Farewell | Alive
FromMachine = Hello | Head | Piece | Broken | Alive
