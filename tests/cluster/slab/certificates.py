"""The identities of a cluster: its authorities, its components, its administrator, the key that signs service account tokens."""

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.cluster.slab import layout

_LIFETIME = timedelta(days=365)
_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
_API_NAMES = (
    "localhost",
    layout.NODE,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{layout.DOMAIN}",
    "127.0.0.1",
    layout.NODE_ADDRESS,
    layout.API_SERVICE_ADDRESS,
)
# File name: common name, organization.
_CLIENTS = {
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
    "admin": ("admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", None),
    "kube-scheduler": ("system:kube-scheduler", None),
    "kube-proxy": ("system:kube-proxy", None),
    "node": (f"system:node:{layout.NODE}", "system:nodes"),
}
# Those that speak to the API server by kubeconfig.
KUBECONFIGS = ("admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "node")


class Authority:
    """Signs certificates that go to `folder`. Its own is there too, as `<name>.crt`, with its key."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        key_file, certificate_file = folder / f"{name}.key", folder / f"{name}.crt"
        if key_file.exists():
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            self._key = key
            self._certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
            return
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(name)
        self._certificate = (
            _builder(subject, subject, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        _write_pair(folder, name, self._key, self._certificate)

    def issue(
        self,
        file_name: str,
        common_name: str,
        *,
        organizations: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> None:
        """Write a key and its certificate: of a client, and where there are `names` (or addresses) of a server too."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(_subject(common_name, organizations), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([_SERVER, _CLIENT] if names else [_CLIENT]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([*map(_general_name, names)]), critical=False)
        _write_pair(self.folder, file_name, key, builder.sign(self._key, hashes.SHA256()))


def write(folder: Path) -> None:
    """All the certificates of a cluster, new, into an empty folder."""
    authority = Authority(folder, "ca")
    authority.issue("apiserver", "kube-apiserver", names=_API_NAMES)
    authority.issue("kubelet", layout.NODE, names=(layout.NODE, layout.NODE_ADDRESS, "127.0.0.1"))
    for file_name, (common_name, organization) in _CLIENTS.items():
        authority.issue(file_name, common_name, organizations=(organization,) if organization else ())
    Authority(folder, "front-ca").issue("front", "front-proxy-client")
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(folder / "service-accounts.key", signing)
    (folder / "service-accounts.pub").write_bytes(
        signing.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _LIFETIME)
    )


def _subject(common_name: str, organizations: Sequence[str] = ()) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _write_pair(folder: Path, name: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    _write_key(folder / f"{name}.key", key)
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
