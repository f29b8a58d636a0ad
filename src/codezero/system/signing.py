"""Certificates for Routers: who asks shows a ServiceAccount token and a key, the API server says whose token it is.

A certificate lasts an hour, names one Router and is good for being a client only. Tokens are never logged and never kept.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives import serialization

from codezero.kit import certificates
from codezero.kit.certificates import CertificateError
from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.ids import Workload
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system.kubernetes.client import ApiError
from codezero.transport.identity import Identity
from codezero.wire.router import AUDIENCE, Joined

LIFETIME: Final = timedelta(hours=1)
REVIEWS_PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"

_ACCOUNT: Final = "system:serviceaccount:"

_log = get_logger("signing")


class Reviewer(Protocol):
    """The API server, as far as tokens go; `ApiClient` is one."""

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Create an object; its state afterwards. Raises `ApiError`."""
        ...


class _User(msgspec.Struct):
    username: str = ""


class _Status(msgspec.Struct):
    authenticated: bool = False
    audiences: tuple[str, ...] = ()
    user: _User = msgspec.field(default_factory=_User)


class _Review(msgspec.Struct):
    status: _Status


async def account_of(reviewer: Reviewer, token: str) -> tuple[str, str]:
    """Namespace and name of the ServiceAccount whose token for Routers this is.

    Raises `CodezeroError`: BAD_IDENTITY for any other token, UNREACHABLE where the API server does not say.
    """
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [AUDIENCE]},
    }
    try:
        status = msgspec.json.decode(await reviewer.create(REVIEWS_PATH, body), type=_Review).status
    except ApiError as error:
        # Its text may quote what was sent.
        _log.warning("token not reviewed", status=error.status, reason=error.reason)
        raise CodezeroError(problems.UNREACHABLE, "the API server did not review the token") from None
    except msgspec.MsgspecError:
        raise CodezeroError(problems.UNREACHABLE, "the API server's review cannot be read") from None
    # An API server that knows no audiences names none, and its yes would be to tokens for anybody.
    if not status.authenticated or AUDIENCE not in status.audiences:
        raise CodezeroError(problems.BAD_IDENTITY, f"the token is not valid for the audience {AUDIENCE}")
    namespace, colon, name = status.user.username.removeprefix(_ACCOUNT).partition(":")
    if not status.user.username.startswith(_ACCOUNT) or not colon:
        raise CodezeroError(problems.BAD_IDENTITY, "the token is not that of a ServiceAccount")
    return namespace, name


def sign(own: Identity, service: ServiceRef, request: str, *, now: datetime | None = None) -> Joined:
    """A certificate for the Router of `service` and the key of `request` (PKCS #10, PEM), whose names do not count.

    Raises `CodezeroError`: BAD_REQUEST for anything but a proper request, BAD_IDENTITY where this System may not sign.
    """
    if own.signer is None:
        raise CodezeroError(
            problems.BAD_IDENTITY,
            "this System has no key to sign for Routers",
            fix="put the key of ca.crt as ca.key into the Secret codezero-identity",
        )
    try:
        key = certificates.requested_key(request)
    except CertificateError as error:
        raise CodezeroError(problems.BAD_REQUEST, str(error)) from None
    # A certificate that outlives its authority would be refused by everybody, without a word why.
    left = own.signer.certificate.not_valid_after_utc - (now or datetime.now(UTC))
    if left <= timedelta(0):
        raise CodezeroError(problems.BAD_IDENTITY, "the Teamspace's authority (ca.crt) has expired")
    leaf = own.signer.sign(
        key,
        "router",
        uris=[str(Workload(own.teamspace, "router", str(service)))],
        lifetime=min(LIFETIME, left),
        client=True,
    )
    return Joined(leaf.public_bytes(serialization.Encoding.PEM).decode(), own.lasting)
