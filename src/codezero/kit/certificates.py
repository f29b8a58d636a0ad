"""Keys, certificates and TLS contexts for parties that prove themselves to each other.

P-256 keys, TLS 1.3 only. Keys reach OpenSSL through a memory file (memfd), so they never touch a disk on the way.
"""

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# Clocks of laptops and clusters differ; a certificate made now must be valid on both (T48).
CLOCK_LEEWAY = timedelta(seconds=60)

PrivateKey = ec.EllipticCurvePrivateKey


class CertificateError(ValueError):
    """Bytes that are not the certificate or key they should be."""


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """A private key and its certificate chain, leaf first."""

    key: PrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def certificate_pem(self) -> str:
        """The chain as PEM, leaf first."""
        return "".join(certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in self.chain)

    @property
    def key_pem(self) -> str:
        """The private key as unencrypted PKCS #8 PEM. A secret."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    @staticmethod
    def from_pem(certificate: str, key: str) -> "Credentials":
        """Credentials from PEM texts; raises `CertificateError` when they cannot be read or do not belong together."""
        try:
            chain = tuple(x509.load_pem_x509_certificates(certificate.encode()))
            private = serialization.load_pem_private_key(key.encode(), password=None)
            public = chain[0].public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise CertificateError(f"certificate or key cannot be read: {error}") from None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise CertificateError("the key is not an elliptic-curve key")
        if private.public_key() != public:
            raise CertificateError("the key does not belong to the certificate")
        return Credentials(private, chain)


def new_key() -> PrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True, repr=False)
class Authority:
    """A certificate authority: signs leaves and further authorities."""

    credentials: Credentials

    @property
    def certificate(self) -> x509.Certificate:
        """The authority's own certificate."""
        return self.credentials.chain[0]

    @property
    def certificate_pem(self) -> str:
        """The authority's own certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @staticmethod
    def create(
        name: str,
        *,
        lifetime: timedelta = timedelta(days=3650),
        path_length: int = 1,
        now: datetime | None = None,
    ) -> "Authority":
        """A self-signed root."""
        key = new_key()
        subject = _subject(name)
        builder = _builder(subject, subject, key.public_key(), lifetime, now)
        certificate = _with_authority_extensions(builder, path_length).sign(key, hashes.SHA256())
        return Authority(Credentials(key, (certificate,)))

    def issue_authority(
        self, name: str, *, lifetime: timedelta = timedelta(days=30), now: datetime | None = None
    ) -> "Authority":
        """An intermediate that may sign leaves only. Its chain leaves out the root."""
        key = new_key()
        certificate = self.sign_authority(key.public_key(), name, lifetime=lifetime, now=now)
        above = self.credentials.chain if self.certificate.issuer != self.certificate.subject else ()
        return Authority(Credentials(key, (certificate, *above)))

    def sign_authority(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        *,
        uri_host: str | None = None,
        dns: Sequence[str] = (),
        lifetime: timedelta = timedelta(days=30),
        now: datetime | None = None,
    ) -> x509.Certificate:
        """The certificate of an intermediate whose key somebody else has, and which may sign leaves only.

        With `uri_host`, only leaves whose URI names have that host are believed; with `dns`, only those whose DNS names are these or below them.
        """
        builder = _with_authority_extensions(
            _builder(_subject(name), self.certificate.subject, public_key, lifetime, now), 0
        )
        permitted: list[x509.GeneralName] = [x509.DNSName(name) for name in dns]
        if uri_host is not None:
            permitted.append(x509.UniformResourceIdentifier(uri_host))
        if permitted:
            builder = builder.add_extension(x509.NameConstraints(permitted, excluded_subtrees=None), critical=True)
        return builder.sign(self.credentials.key, hashes.SHA256())

    def issue(
        self,
        name: str,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        addresses: Sequence[str] = (),
        lifetime: timedelta = timedelta(hours=1),
        server: bool = False,
        client: bool = False,
        organization: str | None = None,
    ) -> Credentials:
        """A leaf with a key of its own, for the given subject alternative names and purposes. Its chain leaves out the root."""
        key = new_key()
        certificate = self.sign(
            key.public_key(),
            name,
            uris=uris,
            dns=dns,
            addresses=addresses,
            lifetime=lifetime,
            server=server,
            client=client,
            organization=organization,
        )
        above = self.credentials.chain if self.certificate.issuer != self.certificate.subject else ()
        return Credentials(key, (certificate, *above))

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        *,
        uris: Sequence[str] = (),
        dns: Sequence[str] = (),
        addresses: Sequence[str] = (),
        lifetime: timedelta = timedelta(hours=1),
        server: bool = False,
        client: bool = False,
        organization: str | None = None,
        now: datetime | None = None,
    ) -> x509.Certificate:
        """A leaf certificate for somebody else's public key."""
        names: list[x509.GeneralName] = [
            *(x509.UniformResourceIdentifier(uri) for uri in uris),
            *(x509.DNSName(host) for host in dns),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        ]
        usages = [
            usage
            for usage, wanted in ((ExtendedKeyUsageOID.SERVER_AUTH, server), (ExtendedKeyUsageOID.CLIENT_AUTH, client))
            if wanted
        ]
        builder = (
            _builder(_subject(name, organization), self.certificate.subject, public_key, lifetime, now)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.credentials.key.public_key()), critical=False
            )
        )
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.credentials.key, hashes.SHA256())


def certificate_request(key: PrivateKey) -> str:
    """A request (PKCS #10, PEM) for a certificate of this key; it names nobody, whoever signs decides for whom it is."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )


def requested_key(request: str) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request (PKCS #10, PEM) whose sender has proven to hold the private one.

    Raises `CertificateError` for anything that is not such a request, and for keys other than P-256.
    """
    try:
        read = x509.load_pem_x509_csr(request.encode())
        key = read.public_key()
        proven = read.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"the certificate request cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateError("the key of a certificate request has to be a P-256 key")
    if not proven:
        raise CertificateError("the certificate request is not signed by its own key")
    return key


def server_context(
    credentials: Credentials,
    *,
    client_roots: str | None = None,
    require_client: bool = True,
    protocols: Sequence[str] = (),
) -> ssl.SSLContext:
    """A TLS 1.3 server. With `client_roots` (PEM) clients prove themselves by a certificate below one of them, and must if `require_client`.

    The given authorities are believed even where they are intermediates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _prepare(context, credentials, protocols)
    if client_roots is not None:
        context.load_verify_locations(cadata=client_roots)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def client_context(
    *, roots: str, credentials: Credentials | None = None, protocols: Sequence[str] = ()
) -> ssl.SSLContext:
    """A TLS 1.3 client that believes servers below `roots` (PEM) whose names match, and proves itself by `credentials`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _prepare(context, credentials, protocols)
    try:
        context.load_verify_locations(cadata=roots)
    except ssl.SSLError as error:
        raise CertificateError(f"the roots cannot be read: {error.reason}") from None
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def uris_of(certificate_der: bytes) -> tuple[str, ...]:
    """The URI names of a certificate, in its order; empty where it has none."""
    certificate = x509.load_der_x509_certificate(certificate_der)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def _prepare(context: ssl.SSLContext, credentials: Credentials | None, protocols: Sequence[str]) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if credentials is not None:
        with _memory_file(credentials.certificate_pem + credentials.key_pem) as path:
            context.load_cert_chain(path)


@contextlib.contextmanager
def _memory_file(content: str) -> Generator[str, None, None]:
    descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _subject(name: str, organization: str | None = None) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name[:64])]
    if organization:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    lifetime: timedelta,
    now: datetime | None,
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_LEEWAY)
        .not_valid_after(now + lifetime)
    )


def _with_authority_extensions(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        _key_usage(signs_certificates=True), critical=True
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
