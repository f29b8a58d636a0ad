"""How parts of a Teamspace speak with its Hub: where it is, whose certificate it may show, and how they prove who they are.

The Hub may stand behind a proxy that ends TLS, so that no client certificate reaches it: each request carries a proof of its own instead, a JWT of
a minute. Its key is either that of a part's certificate (`x5c`), or that of the Teamspace's authority itself (`jwk`), which the Hub has pinned.
"""

import base64
import ipaddress
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from joserfc import jws
from joserfc.jwk import ECKey

from codezero.kit.certificates import Credentials, PrivateKey
from codezero.model import problems
from codezero.model.ids import TeamspaceId, Workload, new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport.device_proof import jwk_of
from codezero.wire.hub_channel import PROOF_SCHEME, PROOF_TYPE

ALGORITHM: Final = "ES256"


@dataclass(frozen=True, slots=True)
class HubAddress:
    """Where the Hub is: its public URL without a slash at the end, and whom to believe (PEM; None: the authorities of the system)."""

    url: str
    ca: str | None = None

    def context(self) -> ssl.SSLContext | None:
        """TLS to it; None for plain HTTP, which is spoken on loopback alone. Raises `CodezeroError` where the authorities cannot be read."""
        if self.url.startswith("http://"):
            return None
        try:
            context = ssl.create_default_context(cadata=self.ca) if self.ca else ssl.create_default_context()
        except (ssl.SSLError, ValueError) as error:
            raise CodezeroError(
                problems.HUB_UNREACHABLE,
                f"hub.caBundle cannot be used: {error}",
                fix="give it the certificate of the authority that signed the Hub's, in PEM",
            ) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def channel(self, path: str) -> str:
        """The URL of the WebSocket at `path`."""
        return f"ws{self.url.removeprefix('http')}{path}"


def address_of(url: str, ca: str | None = None) -> HubAddress:
    """The Hub of that URL; raises `CodezeroError` (BAD_REQUEST) unless it is one of HTTPS, or of HTTP on loopback."""
    plain = url.rstrip("/")
    try:
        parts = urlsplit(plain)
        is_whole = bool(parts.hostname) and parts.port != 0 and not (parts.path or parts.query or parts.fragment)
    except ValueError:
        parts, is_whole = urlsplit(""), False
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
    if not is_whole or not is_safe or parts.username is not None:
        raise CodezeroError(
            problems.BAD_REQUEST, f"{url[:200]!r} is not the URL of a Hub", fix="write it like https://hub.example.com"
        )
    return HubAddress(plain, ca or None)


def proof_of_part(
    credentials: Credentials, workload: Workload, hub: str, *, clock: Callable[[], float] = time.time
) -> str:
    """The value of the header `Authorization` by which a part of a Teamspace proves itself to the Hub of that URL."""
    chain = [base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode() for one in credentials.chain[:2]]
    return _proof({"x5c": chain}, credentials.key, str(workload), hub, clock)


def proof_of_authority(key: PrivateKey, space: TeamspaceId, hub: str, *, clock: Callable[[], float] = time.time) -> str:
    """As `proof_of_part`, by the key of the Teamspace's authority: also where its certificate has run out."""
    return _proof({"jwk": jwk_of(key.public_key())}, key, f"spiffe://{space.lower()}.codezero", hub, clock)


def _proof(who: dict[str, Any], key: PrivateKey, issuer: str, hub: str, clock: Callable[[], float]) -> str:
    claims = {"iss": issuer, "aud": hub, "iat": int(clock()), "jti": new_ulid()}
    header = {"alg": ALGORITHM, "typ": PROOF_TYPE, **who}
    token = jws.serialize_compact(header, json.dumps(claims).encode(), ECKey.import_key(_pem(key)), [ALGORITHM])
    return f"{PROOF_SCHEME} {token}"


def _pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
