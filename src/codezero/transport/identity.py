"""Who a part of a Teamspace is, and whom it believes: from the mounted folder of Secret `codezero-identity`, which changes each hour.

Files: `tls.crt` and `tls.key` (own leaf with its chain), `ca.crt` (the Teamspace's intermediate, above all parts in the cluster) and, for the
System, `device-issuer.crt` (above the laptops), `ca.key` (that of the intermediate, to sign for Routers) and, where a Hub has signed the
intermediate, `root.crt` (the Hub's).
"""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from codezero.kit import certificates
from codezero.kit.certificates import Authority, CertificateError, Credentials
from codezero.kit.logs import get_logger
from codezero.kit.mounted import Content, MountedFiles
from codezero.model import problems
from codezero.model.ids import TeamspaceId, Workload
from codezero.model.problems import CodezeroError

FILES = ("tls.crt", "tls.key", "ca.crt", "device-issuer.crt", "ca.key", "root.crt")

_log = get_logger("identity")


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Own credentials, the authority of the Teamspace's parts (PEM) and, where mounted, that of the laptops.

    `signer` is the authority with its key, where that is mounted; it signs for further parts. `root` is above the authority, where that changes and
    its root does not.
    """

    credentials: Credentials
    workload: Workload
    authority: str
    device_issuer: str | None = None
    signer: Authority | None = None
    root: str | None = None

    @property
    def lasting(self) -> str:
        """Whom those believe who cannot follow the authority (PEM); they look at names, too."""
        return self.root or self.authority

    @property
    def teamspace(self) -> TeamspaceId:
        """The Teamspace this part belongs to."""
        return self.workload.teamspace

    def __repr__(self) -> str:
        return f"Identity({self.workload})"


def from_files(content: Content, *, role: str) -> Identity:
    """The identity that the files hold; raises `CodezeroError` (BAD_IDENTITY) naming the file, also when it is of another role."""
    missing = [name for name in ("tls.crt", "tls.key", "ca.crt") if name not in content]
    if missing:
        raise CodezeroError(problems.BAD_IDENTITY, f"the identity folder has no {', '.join(missing)}")
    try:
        credentials = Credentials.from_pem(content["tls.crt"].decode(), content["tls.key"].decode())
        authority = content["ca.crt"].decode()
        device_issuer = content["device-issuer.crt"].decode() if "device-issuer.crt" in content else None
        # Wrong roots must show here, not at the first handshake.
        certificates.client_context(roots=authority, credentials=credentials)
        root = content["root.crt"].decode() if "root.crt" in content else None
        for other in (device_issuer, root):
            if other is not None:
                certificates.client_context(roots=other)
    except (CertificateError, UnicodeDecodeError, ssl.SSLError) as error:
        raise CodezeroError(problems.BAD_IDENTITY, f"the identity folder cannot be used: {error}") from None
    workload = workload_of(_der(credentials))
    if workload.role != role:
        raise CodezeroError(problems.BAD_IDENTITY, f"the certificate is for the {workload.role}, this is the {role}")
    return Identity(credentials, workload, authority, device_issuer, _signer(content, authority), root)


def _signer(content: Content, authority: str) -> Authority | None:
    if "ca.key" not in content:
        return None
    try:
        return Authority(Credentials.from_pem(authority, content["ca.key"].decode()))
    except (CertificateError, UnicodeDecodeError) as error:
        # All but signing works without it, and certificate and key may be of two generations for a moment.
        _log.warning("authority's key not usable", reason=str(error))
        return None


def workload_of(certificate: bytes) -> Workload:
    """The part of a Teamspace a certificate (DER) is for; raises `CodezeroError` unless it has exactly one URI, that of a workload."""
    uris = certificates.uris_of(certificate)
    if len(uris) != 1:
        raise CodezeroError(problems.BAD_IDENTITY, f"the certificate has {len(uris)} URIs instead of one")
    return Workload.parse(uris[0])


async def follow(folder: Path, *, role: str) -> AsyncIterator[Identity]:
    """The identity in `folder`, then each new one; files that are missing or wrong are logged and the last good ones stay in use."""
    async for content in MountedFiles(folder, FILES).changes():
        try:
            identity = from_files(content, role=role)
        except CodezeroError as error:
            # While a mount changes, certificate and key may be of two generations; the next look has both.
            _log.warning("identity not usable, waiting", reason=error.detail)
            continue
        _log.info("identity loaded", workload=str(identity.workload))
        yield identity


def _der(credentials: Credentials) -> bytes:
    return ssl.PEM_cert_to_DER_cert(credentials.certificate_pem.partition("-----END CERTIFICATE-----")[0] + _END)


_END = "-----END CERTIFICATE-----\n"
