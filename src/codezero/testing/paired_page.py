"""A page of a Hub that is paired with a machine, for tests: it has a key, and signs what it asks (`wire.paired`). Directly, or as it gives it to the Hub."""

import http.client
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from codezero.testing.console_process import Answered
from codezero.transport.device_proof import jwk_of, thumbprint
from codezero.transport.signed import encoded
from codezero.wire.paired import (
    ALGORITHM,
    PAIRINGS,
    PROOF_TYPE,
    SCHEME,
    PageKey,
    PairingWanted,
    RelayAsked,
    body_hash,
    mac_of,
)

_SECONDS = 60.0


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass
class PairedPage:
    """A page of `origin` for the machine that `czctl pair` has named. `clock_off` is by how many seconds its clock is off."""

    origin: str
    machine: str
    port: int
    code: str = ""
    name: str = "Firefox on a test"
    key: ec.EllipticCurvePrivateKey = field(default_factory=_new_key, repr=False)
    clock_off: float = 0.0

    @classmethod
    def at(cls, address: str, **fields: Any) -> Self:
        """The page that is opened at an address of `czctl pair`."""
        parts = urlsplit(address)
        told = {name: values[0] for name, values in parse_qs(parts.fragment, strict_parsing=True).items()}
        origin = f"{parts.scheme}://{parts.netloc}"
        given: dict[str, Any] = {"machine": told["machine"], "port": int(told["port"]), "code": told["code"], **fields}
        return cls(origin, **given)

    @property
    def public(self) -> PageKey:
        """Its public key."""
        return PageKey(**jwk_of(self.key.public_key()))

    @property
    def id(self) -> str:
        """The id of its pairing."""
        return thumbprint(jwk_of(self.key.public_key()))

    def wanted(self, **changes: Any) -> bytes:
        """The body by which it asks to be paired; `changes` are of `PairingWanted`."""
        mac = mac_of(self.code, origin=self.origin, machine=self.machine, pairing=self.id)
        return msgspec.json.encode({**msgspec.to_builtins(PairingWanted(self.public, self.name, mac)), **changes})

    def proof(
        self, method: str, target: str, body: bytes = b"", *, header: Mapping[str, Any] = {}, **claims: Any
    ) -> str:
        """A fresh proof for that request; `header` and `claims` come in place of what is right, and None leaves one out."""
        heads = {"typ": PROOF_TYPE, "alg": ALGORITHM, "kid": self.id, **header}
        says = {
            "aud": self.machine,
            "htm": method,
            "htu": target,
            "bsh": body_hash(body),
            "iat": int(time.time() + self.clock_off),
            "jti": secrets.token_urlsafe(16),
            **claims,
        }
        return self.signed(*(json.dumps(_given(part), separators=(",", ":")).encode() for part in (heads, says)))

    def signed(self, header: bytes, claims: bytes) -> str:
        """A compact JWS of any header and claims, by its key."""
        text = f"{encoded(header)}.{encoded(claims)}"
        r, s = decode_dss_signature(self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def asked(self, method: str, target: str, body: object = None) -> RelayAsked:
        """What it gives to the Hub for the machine."""
        content = _content(body)
        return RelayAsked(method, target, self.proof(method, target, content), content.decode())

    # --- directly ----------------------------------------------------------------------------------------------------------------------

    def pair(self, **changes: Any) -> Answered:
        """Be paired, by the code."""
        return self.ask("POST", PAIRINGS, self.wanted(**changes))

    def ask(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        proof: str | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> Answered:
        """A request to the machine itself, as a browser sends it; `body` is a value, or bytes as they are. `headers` come in place of those, and None leaves one out."""
        connection, response = self.open(method, target, body, proof=proof, headers=headers)
        try:
            told = {name.lower(): value for name, value in response.getheaders()}
            return Answered(response.status, told, response.read())
        finally:
            connection.close()

    def open(
        self,
        method: str,
        target: str,
        body: object = None,
        *,
        proof: str | None = None,
        headers: Mapping[str, str | None] | None = None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """As `ask`, with an answer that is yet to be read; both are to be closed."""
        content = _content(body)
        told: dict[str, str | None] = {
            "Origin": self.origin,
            "Authorization": f"{SCHEME} {proof or self.proof(method, target, content)}",
            "Content-Type": "application/json" if content else None,
            "Sec-Fetch-Site": "cross-site",
            "Sec-Fetch-Mode": "cors",
            **(headers or {}),
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        sent = {name: value for name, value in told.items() if value is not None}
        connection.request(method, target, content or None, sent)
        return connection, connection.getresponse()


def _content(body: object) -> bytes:
    if body is None:
        return b""
    return body if isinstance(body, bytes) else msgspec.json.encode(body)


def _given(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
