"""Certificates: parties prove themselves to each other over TLS 1.3, and nobody else gets in."""

import ssl
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from codezero.kit.certificates import (
    Authority,
    CertificateError,
    Credentials,
    certificate_request,
    client_context,
    new_key,
    requested_key,
    server_context,
    uris_of,
)

ROOT = Authority.create("root")
SPACE = ROOT.issue_authority("space")
DEVICES = ROOT.issue_authority("devices")
# Made when the tests are collected, which may be more than an hour before they run.
SERVER = SPACE.issue("system", uris=["spiffe://x/system"], dns=["space.test"], lifetime=timedelta(days=1), server=True)
DEVICE = DEVICES.issue("laptop", uris=["spiffe://x/device"], lifetime=timedelta(days=1), client=True)


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "space.test"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    )
    for _ in range(4):
        for end in reversed(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    for end in ends:
        end.do_handshake()
    return ends


def test_both_ends_learn_who_the_other_is() -> None:
    server, client = shake_hands(
        server_context(SERVER, client_roots=DEVICES.certificate_pem, protocols=["codezero-tunnel/1"]),
        client_context(roots=ROOT.certificate_pem, credentials=DEVICE, protocols=["codezero-tunnel/1"]),
    )

    assert server.version() == "TLSv1.3"
    assert server.selected_alpn_protocol() == "codezero-tunnel/1"
    assert uris_of(server.getpeercert(binary_form=True) or b"") == ("spiffe://x/device",)
    assert uris_of(client.getpeercert(binary_form=True) or b"") == ("spiffe://x/system",)


def test_a_certificate_of_another_authority_below_the_same_root_is_refused() -> None:
    """A System believes the device issuer alone; a leaf of the Teamspace's own authority is not a device."""
    impostor = SPACE.issue("laptop", uris=["spiffe://x/device"], client=True)
    with pytest.raises(ssl.SSLError):
        shake_hands(
            server_context(SERVER, client_roots=DEVICES.certificate_pem),
            client_context(roots=ROOT.certificate_pem, credentials=impostor),
        )


def test_a_missing_certificate_is_refused_unless_it_is_optional() -> None:
    client = client_context(roots=ROOT.certificate_pem)
    with pytest.raises(ssl.SSLError):
        shake_hands(server_context(SERVER, client_roots=DEVICES.certificate_pem), client)

    server, _ = shake_hands(server_context(SERVER, client_roots=DEVICES.certificate_pem, require_client=False), client)

    assert server.getpeercert(binary_form=True) is None


def test_a_server_of_another_name_or_root_is_refused() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(SERVER), client_context(roots=ROOT.certificate_pem), "other.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(server_context(SERVER), client_context(roots=Authority.create("else").certificate_pem))


def test_an_expired_certificate_is_refused() -> None:
    expired = DEVICES.issue("laptop", client=True, lifetime=timedelta(seconds=-1))
    with pytest.raises(ssl.SSLError):
        shake_hands(
            server_context(SERVER, client_roots=DEVICES.certificate_pem),
            client_context(roots=ROOT.certificate_pem, credentials=expired),
        )


def test_credentials_survive_the_way_through_pem() -> None:
    again = Credentials.from_pem(DEVICE.certificate_pem, DEVICE.key_pem)

    assert again.chain == DEVICE.chain
    assert len(again.chain) == 2


# PKCS #8 of a kind that nobody knows (1.2.3.4.5).
UNKNOWN_KEY = "-----BEGIN PRIVATE KEY-----\nMBACAQAwBgYEKgMEBQQDBAGq\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("certificate", "key"),
    [
        ("nonsense", DEVICE.key_pem),
        (DEVICE.certificate_pem, "nonsense"),
        (DEVICE.certificate_pem, UNKNOWN_KEY),
        (DEVICE.certificate_pem, SERVER.key_pem),
        ("", ""),
    ],
)
def test_damaged_or_foreign_credentials_are_refused_without_quoting_them(certificate: str, key: str) -> None:
    with pytest.raises(CertificateError) as caught:
        Credentials.from_pem(certificate, key)

    assert "PRIVATE KEY" not in str(caught.value)
    assert "PRIVATE KEY" not in repr(DEVICE)


def test_nonsense_roots_are_refused() -> None:
    with pytest.raises(CertificateError):
        client_context(roots="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def test_a_request_proves_its_key() -> None:
    """Whoever signs learns the key from it and nothing else."""
    key = new_key()

    assert requested_key(certificate_request(key)) == key.public_key()


def _changed(request: str) -> str:
    body = bytearray(x509.load_pem_x509_csr(request.encode()).public_bytes(Encoding.DER))
    body[-1] ^= 1
    return x509.load_der_x509_csr(bytes(body)).public_bytes(Encoding.PEM).decode()


def _of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "request_pem",
    [
        "",
        "nonsense",
        SERVER.certificate_pem,
        "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
        _changed(certificate_request(new_key())),
        _of(ec.generate_private_key(ec.SECP384R1())),
        _of(rsa.generate_private_key(65537, 2048)),
    ],
    ids=["empty", "nonsense", "certificate", "short", "forged", "P-384", "RSA"],
)
def test_other_requests_are_refused(request_pem: str) -> None:
    with pytest.raises(CertificateError):
        requested_key(request_pem)
