"""Whose token it is, and for whom a certificate is made out."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from codezero.kit import certificates
from codezero.kit.certificates import Authority
from codezero.model import problems
from codezero.model.ids import TeamspaceId, Workload, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system import signing
from codezero.system.kubernetes.client import ApiError
from codezero.transport.identity import Identity, workload_of
from codezero.wire.router import AUDIENCE

ORDERS = ServiceRef("shop", "orders")
ROOT = Authority.create("root")
PARTS = ROOT.issue_authority("parts")
OWN = Workload(TeamspaceId(new_ulid()), "system")
REQUEST = certificates.certificate_request(certificates.new_key())


def identity(signer: Authority | None = PARTS) -> Identity:
    return Identity(PARTS.issue("system", uris=[str(OWN)]), OWN, PARTS.certificate_pem, None, signer)


class Reviews:
    """An API server with one answer."""

    def __init__(self, answer: object) -> None:
        self.answer = answer
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        self.asked.append((path, body))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer if isinstance(self.answer, bytes) else msgspec.json.encode({"status": self.answer})


def good(**changes: object) -> dict[str, object]:
    user = {"username": "system:serviceaccount:shop:cz-router-0123456789", "uid": "u", "groups": ["a"]}
    return {"authenticated": True, "audiences": [AUDIENCE], "user": user, **changes}


async def test_the_api_server_says_whose_token_it_is() -> None:
    """Asked for exactly our audience, so that a stolen token for the API itself is worth nothing here."""
    reviews = Reviews(good())

    assert await signing.account_of(reviews, "t0ken") == ("shop", "cz-router-0123456789")
    (path, body), *_ = reviews.asked
    assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
    assert body["spec"] == {"token": "t0ken", "audiences": [AUDIENCE]}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"authenticated": False, "error": "t0ken has expired"},
        good(authenticated=False),
        good(audiences=[]),
        good(audiences=["https://kubernetes.default.svc"]),
        good(user={"username": "admin"}),
        good(user={"username": "system:serviceaccount:shop"}),
        good(user={}),
        {"authenticated": True, "user": {"username": "system:serviceaccount:shop:x"}},
    ],
)
async def test_a_token_that_is_not_for_routers_is_refused(answer: object) -> None:
    with pytest.raises(CodezeroError) as caught:
        await signing.account_of(Reviews(answer), "t0ken")

    assert caught.value.problem is problems.BAD_IDENTITY
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [ApiError("t0ken", status=403), ApiError("away"), b"<html>", b"[]", msgspec.json.encode({"status": 5}), b"{}"],
    ids=str,
)
async def test_no_answer_is_no_yes(answer: object, capsys: pytest.CaptureFixture[str]) -> None:
    """And what the API server quotes goes no further."""
    with pytest.raises(CodezeroError) as caught:
        await signing.account_of(Reviews(answer), "t0ken")

    assert caught.value.problem is problems.UNREACHABLE
    assert "t0ken" not in str(caught.value)
    assert "t0ken" not in capsys.readouterr().out


def test_a_certificate_names_the_router_and_nothing_that_was_asked_for() -> None:
    """T20: names in the request are somebody's wish."""
    key = certificates.new_key()
    wish = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "system")]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(OWN))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, certificates.hashes.SHA256())
    )
    joined = signing.sign(identity(), ORDERS, wish.public_bytes(Encoding.PEM).decode())
    leaf = x509.load_pem_x509_certificate(joined.certificate.encode())

    assert workload_of(leaf.public_bytes(Encoding.DER)) == Workload(OWN.teamspace, "router", "shop/orders")
    assert leaf.public_key() == key.public_key()
    assert leaf.subject.rfc4514_string() == "CN=router"
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    assert timedelta(minutes=59) < leaf.not_valid_after_utc - datetime.now(UTC) <= signing.LIFETIME
    leaf.verify_directly_issued_by(PARTS.certificate)
    assert joined.authority == PARTS.certificate_pem


def test_no_certificate_outlives_its_authority() -> None:
    """It would be refused by everybody with no word why."""
    soon = ROOT.issue_authority("short", lifetime=timedelta(minutes=5))
    leaf = x509.load_pem_x509_certificate(signing.sign(identity(soon), ORDERS, REQUEST).certificate.encode())

    assert leaf.not_valid_after_utc <= soon.certificate.not_valid_after_utc + timedelta(seconds=1)
    with pytest.raises(CodezeroError) as caught:
        signing.sign(identity(soon), ORDERS, REQUEST, now=datetime.now(UTC) + timedelta(minutes=6))
    assert "expired" in caught.value.detail


def test_without_a_key_nothing_is_signed() -> None:
    """And it is said what is missing and where it belongs."""
    with pytest.raises(CodezeroError) as caught:
        signing.sign(identity(None), ORDERS, REQUEST)

    assert caught.value.problem is problems.BAD_IDENTITY
    assert "ca.key" in (caught.value.fix or "")


@pytest.mark.parametrize("request_pem", ["", "x" * 100, base64.b64encode(b"\x30\x00").decode()])
def test_what_is_no_request_is_refused(request_pem: str) -> None:
    with pytest.raises(CodezeroError) as caught:
        signing.sign(identity(), ORDERS, request_pem)

    assert caught.value.problem is problems.BAD_REQUEST
