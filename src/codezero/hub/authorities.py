"""What the Hub signs with: made when it first starts, sealed in its database, renewed with an overlap, and the same for all its replicas.

    root (10 years) -> device issuer (1 year) -> laptops (a day)
    root            -> Teamspace (30 days, its key is in the cluster) -> System, Orchestrator, Routers
    token keys      -> tokens that the Hub's own API and Teamspaces verify by its JWKS
    audit key       -> checkpoints of audits, which are verified years later: so it stays, and signs nothing else

A new device issuer or token key is published at once and signs only after a while, so that whoever verifies knows it by then; the one before is
believed until all that it signed has run out.
"""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from sqlalchemy import delete, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.deploy.identity import server_name
from codezero.hub.sealing import Sealer
from codezero.hub.signals import Changed, Signals
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import AuthorityKey, Install
from codezero.kit import certificates, logs
from codezero.kit.certificates import CLOCK_LEEWAY, Authority, CertificateError, Credentials
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import Device, TeamspaceId, Workload, is_ulid, new_ulid
from codezero.model.problems import CodezeroError

ROOT_LIFETIME: Final = timedelta(days=3650)
DEVICE_ISSUER_LIFETIME: Final = timedelta(days=365)
TEAMSPACE_LIFETIME: Final = timedelta(days=30)
TOKEN_KEY_LIFETIME: Final = timedelta(days=90)
LONGEST_DEVICE_LIFETIME: Final = timedelta(hours=24)
# A Teamspace that is away for this long does not know the new device issuer yet, and then learns it with everything else.
_ISSUER_ANNOUNCED: Final = timedelta(days=14)
_KEY_ANNOUNCED: Final = timedelta(hours=1)
# No token lives longer than 15 minutes; caches of key sets may.
_KEY_BELIEVED: Final = timedelta(hours=2)
_HOUR: Final = 3600.0
_LOOKED_AFTER_SECONDS: Final = 2.0
_AUDIT_KEY_LIFETIME: Final = ROOT_LIFETIME

_ROOT: Final = "root"
_ISSUER: Final = "device-issuer"
_TOKEN: Final = "token"  # noqa: S105 - a kind of key, not a token
_AUDIT: Final = "audit"

_log = logs.get_logger("authorities")


@dataclass(frozen=True, slots=True)
class TeamspaceCertificate:
    """What the Hub gives a Teamspace: its intermediate (PEM), and by which the Hub knows it again (SHA-256 of the certificate, hex)."""

    pem: str
    fingerprint: str
    not_after: datetime


@dataclass(frozen=True, slots=True, repr=False)
class _Key:
    """A row, unsealed."""

    id: str
    created_at: datetime
    retired_at: datetime | None
    not_after: datetime


@dataclass(frozen=True, slots=True, repr=False)
class _IssuerKey(_Key):
    authority: Authority


@dataclass(frozen=True, slots=True, repr=False)
class _TokenKey(_Key):
    private: Ed25519PrivateKey


K = TypeVar("K", bound=_Key)


class Authorities:
    """All that signs for this Hub. `install` is its ULID; `trust_domain` that of its devices, and `issuer` who its tokens are by."""

    def __init__(self, database: Database, sealer: Sealer, clock: Callable[[], datetime]) -> None:
        """Use `load`, which reads the keys."""
        self._database = database
        self._sealer = sealer
        self._clock = clock
        self.install = ""
        self._root: Authority
        self._issuers: tuple[_IssuerKey, ...] = ()
        self._tokens: tuple[_TokenKey, ...] = ()
        self._audit: tuple[_TokenKey, ...] = ()
        self._is_untold = False

    @staticmethod
    async def load(database: Database, sealer: Sealer, clock: Callable[[], datetime]) -> "Authorities":
        """Those of `database`, made where it has none yet. Raises `CodezeroError` (BAD_MASTER_KEY) where `sealer` does not open them."""
        authorities = Authorities(database, sealer, clock)
        await authorities.reload()
        return authorities

    @property
    def trust_domain(self) -> str:
        """The trust domain of devices: `Device.install`."""
        return f"{self.install.lower()}.hub.codezero"

    @property
    def issuer(self) -> str:
        """`iss` of tokens for Teamspaces."""
        return f"https://{self.trust_domain}"

    @property
    def root_pem(self) -> str:
        """The root's certificate."""
        return self._root.certificate_pem

    @property
    def device_issuer_pem(self) -> str:
        """The certificates of all issuers whose devices are to be believed; mostly one, and two while one follows the other."""
        return "".join(issuer.authority.certificate_pem for issuer in self._believed(self._issuers))

    @property
    def token_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """The public keys by which the Hub's tokens are verified now, by `kid`."""
        return {key.id: key.private.public_key() for key in self._believed(self._tokens)}

    def jwks(self) -> dict[str, Any]:
        """`token_keys` as a JSON Web Key Set."""
        return {"keys": [_jwk(kid, key) for kid, key in self.token_keys.items()]}

    def sign(self, claims: Mapping[str, Any], *, typ: str) -> str:
        """A JWS (compact, EdDSA) of `claims` by the present token key. Who verifies it looks at `typ`, so each use has its own."""
        return _signed(self._signing(self._tokens), claims, typ)

    def audit_jwks(self) -> dict[str, Any]:
        """The public key by which checkpoints of audits are verified, as a JSON Web Key Set."""
        return {"keys": [_jwk(key.id, key.private.public_key()) for key in self._audit]}

    def sign_audit(self, claims: Mapping[str, Any], *, typ: str) -> str:
        """A JWS (compact, EdDSA) of `claims` by the audit key."""
        return _signed(self._signing(self._audit), claims, typ)

    def sign_device(
        self, public_key: ec.EllipticCurvePublicKey, device: Device, lifetime: timedelta = LONGEST_DEVICE_LIFETIME
    ) -> str:
        """The certificate chain (PEM, leaf first) of a laptop that has shown to hold the key; a day at most."""
        if device.install != self.trust_domain:
            raise CodezeroError(problems.BAD_IDENTITY, "the device belongs to another Hub")
        if not isinstance(public_key.curve, ec.SECP256R1):
            raise CodezeroError(problems.BAD_REQUEST, "the key of a device has to be a P-256 key")
        issuer = self._signing(self._issuers).authority
        now = self._clock()
        leaf = issuer.sign(
            public_key,
            "laptop",
            uris=[str(device)],
            lifetime=min(lifetime, LONGEST_DEVICE_LIFETIME, issuer.certificate.not_valid_after_utc - now),
            client=True,
            now=now,
        )
        return _pem(leaf) + issuer.certificate_pem

    def sign_teamspace(self, csr_pem: str, space: str) -> TeamspaceCertificate:
        """The intermediate of a Teamspace, for the key of its certificate request (PEM). It signs leaves for the Teamspace's own names alone.

        Raises `CodezeroError` (BAD_REQUEST) for a request that is none, is not signed by its own key, or whose key is not a P-256 one.
        """
        if not is_ulid(space):
            raise CodezeroError(problems.BAD_REQUEST, "a Teamspace is known by a ULID")
        try:
            public_key = certificates.requested_key(csr_pem)
        except CertificateError as error:
            raise CodezeroError(problems.BAD_REQUEST, str(error)) from None
        now = self._clock()
        certificate = self._root.sign_authority(
            public_key,
            f"codezero Teamspace {space}",
            uri_host=_host(space),
            dns=_names(space),
            lifetime=min(TEAMSPACE_LIFETIME, self._root.certificate.not_valid_after_utc - now),
            now=now,
        )
        return TeamspaceCertificate(_pem(certificate), fingerprint(certificate), certificate.not_valid_after_utc)

    def verify_teamspace_chain(self, leaf: x509.Certificate, intermediate: x509.Certificate) -> Workload:
        """The part of a Teamspace that `leaf` names, where it is valid now and below our root by way of `intermediate`.

        Raises `CodezeroError` (BAD_IDENTITY). Whether the intermediate is still the Teamspace's present one is the caller's to ask (`fingerprint`).
        """
        space = self.verify_teamspace(intermediate)
        _check_link(leaf, intermediate, now=self._clock())
        try:
            constraints = leaf.extensions.get_extension_for_class(x509.BasicConstraints).value
            names = certificates.uris_of(leaf.public_bytes(serialization.Encoding.DER))
        except (x509.ExtensionNotFound, ValueError):
            raise _not_believed("a certificate does not say what it is for") from None
        if constraints.ca or len(names) != 1:
            raise _not_believed("the first certificate is not that of one part of a Teamspace")
        workload = Workload.parse(names[0])
        if workload.teamspace != space:
            raise _not_believed("the certificate was signed by another Teamspace")
        return workload

    def verify_teamspace(self, intermediate: x509.Certificate) -> str:
        """The ULID of the Teamspace whose intermediate this is, signed by our root and valid now. Raises `CodezeroError` (BAD_IDENTITY)."""
        _check_link(intermediate, self._root.certificate, now=self._clock())
        try:
            constraints = intermediate.extensions.get_extension_for_class(x509.BasicConstraints).value
            permitted = intermediate.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
        except (x509.ExtensionNotFound, ValueError):
            raise _not_believed("the second certificate is not that of a Teamspace") from None
        hosts = [name.value for name in permitted or () if isinstance(name, x509.UniformResourceIdentifier)]
        host = hosts[0] if len(hosts) == 1 else ""
        space = str(host).partition(".")[0].upper()
        if not constraints.ca or constraints.path_length != 0 or not is_ulid(space) or host != _host(space):
            raise _not_believed("the second certificate is not that of a Teamspace")
        return space

    async def run(self, signals: Signals) -> None:
        """Follow what other replicas renew, and renew what is due, for as long as the Hub runs."""
        async with task_group("authorities") as tasks:
            tasks.start("follow", self._follow(signals))
            tasks.start("renew", self._keep_renewed(signals))

    async def reload(self) -> None:
        """Read the keys again; where those of a kind have all run out, because the Hub was off for long or its clock jumped, one that signs at once."""

        async def work(session: AsyncSession) -> tuple[str, list[AuthorityKey], bool]:
            install = (await session.scalars(select(Install))).one_or_none()
            if install is None:
                install = self._found(session)
                await session.flush()
            query = select(AuthorityKey).order_by(AuthorityKey.created_at)
            rows = list((await session.scalars(query)).all())
            root = next(row for row in rows if row.kind == _ROOT)
            # Nobody waits for these to be known: what was before signs no more.
            made = [
                self._new_token_key(_TOKEN, TOKEN_KEY_LIFETIME)
                if kind == _TOKEN
                else self._new_issuer(self._unsealed(root))
                for kind in (_ISSUER, _TOKEN)
                if not any(row.kind == kind and self._is_present(row) for row in rows)
            ]
            session.add_all(made)
            await session.flush()
            return install.id, [*rows, *made], bool(made)

        self.install, rows, is_new = await self._database.run(work)
        # Other replicas are told by `renew`.
        self._is_untold = self._is_untold or is_new
        self._root = next(self._unsealed(row) for row in rows if row.kind == _ROOT)
        self._issuers = tuple(
            _IssuerKey(row.id, row.created_at, row.retired_at, row.not_after, self._unsealed(row))
            for row in rows
            if row.kind == _ISSUER
        )
        self._tokens, self._audit = (
            tuple(
                _TokenKey(row.id, row.created_at, row.retired_at, row.not_after, self._unsealed_token(row))
                for row in rows
                if row.kind == kind
            )
            for kind in (_TOKEN, _AUDIT)
        )

    async def renew(self, signals: Signals) -> None:
        """Let follow what is due, and forget keys that nobody has to believe any more."""
        now = self._clock()

        async def work(session: AsyncSession) -> bool:
            changed = self._is_untold
            for row in await session.scalars(select(AuthorityKey).where(AuthorityKey.kind.in_((_ISSUER, _TOKEN)))):
                if row.not_after + CLOCK_LEEWAY < now:
                    await session.delete(row)
                    changed = True
                elif self._is_present(row) and row.created_at + _renewed_after(row.kind) <= now:
                    await self._let_follow(session, row.kind)
                    changed = True
            return changed

        if not self._is_complete:
            await self.reload()
        await self._change(work, signals)
        self._is_untold = False

    async def rotate_token_key(self, signals: Signals, *, at_once: bool = False) -> None:
        """A new token key, which signs after an hour. `at_once`, for one that was stolen: it signs now, and all tokens before are worth nothing."""

        async def work(session: AsyncSession) -> bool:
            if at_once:
                await session.execute(delete(AuthorityKey).where(AuthorityKey.kind == _TOKEN))
                session.add(self._new_token_key(_TOKEN, TOKEN_KEY_LIFETIME))
            else:
                await self._let_follow(session, _TOKEN)
            return True

        await self._change(work, signals)

    async def _change(self, work: Callable[[AsyncSession], Awaitable[bool]], signals: Signals) -> None:
        async def told(session: AsyncSession) -> bool:
            changed = await work(session)
            if changed:
                signals.tell(session, Changed("authority"))
            return changed

        if await self._database.run(told):
            await self.reload()
            _log.info("the Hub's keys have changed", keys=sorted(self.token_keys))

    async def _let_follow(self, session: AsyncSession, kind: str) -> None:
        announced, believed = (
            (_KEY_ANNOUNCED, _KEY_BELIEVED)
            if kind == _TOKEN
            else (_ISSUER_ANNOUNCED, LONGEST_DEVICE_LIFETIME + CLOCK_LEEWAY)
        )
        present = select(AuthorityKey).where(AuthorityKey.kind == kind, AuthorityKey.retired_at.is_(None))
        for row in await session.scalars(present):
            retired_at = self._clock() + announced
            row.retired_at, row.not_after = retired_at, min(row.not_after, retired_at + believed)
        if kind == _TOKEN:
            session.add(self._new_token_key(_TOKEN, TOKEN_KEY_LIFETIME))
        else:
            session.add(self._new_issuer(self._root))

    def _found(self, session: AsyncSession) -> Install:
        install = Install(id=new_ulid(), created_at=self._clock())
        root = Authority.create(f"codezero Hub {install.id}", lifetime=ROOT_LIFETIME, now=self._clock())
        token = self._new_token_key(_TOKEN, TOKEN_KEY_LIFETIME)
        audit = self._new_token_key(_AUDIT, _AUDIT_KEY_LIFETIME)
        session.add_all([install, self._row(_ROOT, root), self._new_issuer(root), token, audit])
        return install

    def _new_issuer(self, root: Authority) -> AuthorityKey:
        now = self._clock()
        lifetime = min(DEVICE_ISSUER_LIFETIME, root.certificate.not_valid_after_utc - now)
        return self._row(_ISSUER, root.issue_authority("codezero Hub devices", lifetime=lifetime, now=now))

    def _row(self, kind: str, authority: Authority) -> AuthorityKey:
        key_id = new_ulid()
        return AuthorityKey(
            id=key_id,
            kind=kind,
            public=authority.certificate_pem,
            sealed=self._sealer.seal(authority.credentials.key_pem.encode(), purpose=f"{kind} {key_id}"),
            created_at=self._clock(),
            not_after=authority.certificate.not_valid_after_utc,
        )

    def _new_token_key(self, kind: str, lifetime: timedelta) -> AuthorityKey:
        private, key_id = Ed25519PrivateKey.generate(), new_ulid()
        return AuthorityKey(
            id=key_id,
            kind=kind,
            public=json.dumps(_jwk(key_id, private.public_key())),
            sealed=self._sealer.seal(private.private_bytes_raw(), purpose=f"{kind} {key_id}"),
            created_at=self._clock(),
            not_after=self._clock() + lifetime,
        )

    def _unsealed(self, row: AuthorityKey) -> Authority:
        key = self._sealer.unseal(row.sealed, purpose=f"{row.kind} {row.id}").decode()
        return Authority(Credentials.from_pem(row.public, key))

    def _unsealed_token(self, row: AuthorityKey) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self._sealer.unseal(row.sealed, purpose=f"{row.kind} {row.id}"))

    def _believed(self, keys: Sequence[K]) -> list[K]:
        now = self._clock()
        return [key for key in keys if key.not_after > now]

    def _is_present(self, key: AuthorityKey | _Key) -> bool:
        """Whether it signs now, or is the one that will."""
        return key.retired_at is None and key.not_after > self._clock()

    @property
    def _is_complete(self) -> bool:
        return all(any(self._is_present(key) for key in keys) for keys in (self._issuers, self._tokens))

    def _signing(self, keys: Sequence[K]) -> K:
        now = self._clock()
        # The oldest that is not retired: the one after it has been published, and waits for its turn.
        for key in self._believed(keys):
            if key.retired_at is None or key.retired_at > now:
                return key
        raise CodezeroError(
            problems.INTERNAL,
            "the Hub has no key that may sign now",
            fix="restart czhub; see whether its clock is right",
        )

    async def _follow(self, signals: Signals) -> None:
        async for changed in signals.changes():
            if changed is None or changed.kind == "authority":
                await _tried("keys could not be read again", self.reload())

    async def _is_overtaken(self) -> bool:
        query = select(AuthorityKey.id).where(AuthorityKey.kind.in_((_ISSUER, _TOKEN)))
        try:
            async with self._database.reading() as session:
                there = set(await session.scalars(query))
        except (CodezeroError, SQLAlchemyError, OSError):
            # Whether the database answers is told by those who look after that.
            return False
        return there != {key.id for key in (*self._issuers, *self._tokens)}

    async def _keep_renewed(self, signals: Signals) -> None:
        due = 0.0
        while True:
            # The clock may jump, and a machine sleep, for longer than keys last; and with SQLite a command beside the Hub is not heard of.
            now = asyncio.get_running_loop().time()
            if await self._is_overtaken():
                self._is_untold = True
                await _tried("keys could not be read again", self.reload())
            if now >= due or self._is_untold or not self._is_complete:
                await _tried("keys could not be renewed", self.renew(signals))
                due = now + _HOUR
            await asyncio.sleep(_LOOKED_AFTER_SECONDS)


def fingerprint(certificate: x509.Certificate) -> str:
    """By which a Teamspace's intermediate is known: the SHA-256 of its DER, in hex."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _renewed_after(kind: str) -> timedelta:
    # With a third of the life left.
    return (TOKEN_KEY_LIFETIME if kind == _TOKEN else DEVICE_ISSUER_LIFETIME) * 2 / 3


async def _tried(what: str, work: Awaitable[None]) -> None:
    try:
        await work
    except (CodezeroError, SQLAlchemyError, OSError) as error:
        # The keys in memory go on working; the next signal or hour tries again.
        _log.warning(what, error=type(error).__name__)


def _check_link(below: x509.Certificate, above: x509.Certificate, *, now: datetime) -> None:
    try:
        below.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature):
        raise _not_believed("a certificate was not signed by the one above it") from None
    for certificate in (below, above):
        if not certificate.not_valid_before_utc - CLOCK_LEEWAY <= now <= certificate.not_valid_after_utc + CLOCK_LEEWAY:
            raise _not_believed("a certificate is not valid now")
    try:
        known = (x509.BasicConstraints, x509.KeyUsage, x509.NameConstraints)
        unknown = any(part.critical and not isinstance(part.value, known) for part in below.extensions)
    except (ValueError, x509.DuplicateExtension):
        raise _not_believed("a certificate cannot be read") from None
    if unknown:
        raise _not_believed("a certificate has a critical extension that is not known here")


def _not_believed(why: str) -> CodezeroError:
    return CodezeroError(problems.BAD_IDENTITY, f"the certificates are not believed: {why}")


def _host(space: str) -> str:
    return f"{space.lower()}.codezero"


def _names(space: str) -> tuple[str, ...]:
    """The DNS names that a Teamspace's parts may have: that of its exposed port, which laptops believe by the root that all Teamspaces share, and
    those of its Orchestrator within the cluster.
    """
    return (server_name(TeamspaceId(space)), "codezero", "svc", "svc.cluster.local")


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _signed(key: _TokenKey, claims: Mapping[str, Any], typ: str) -> str:
    header = {"alg": "EdDSA", "typ": typ, "kid": key.id}
    content = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in (header, claims))
    return f"{content}.{_encoded(key.private.sign(content.encode()))}"


def _jwk(kid: str, key: Ed25519PublicKey) -> dict[str, str]:
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _encoded(key.public_bytes_raw()),
        "kid": kid,
        "use": "sig",
        "alg": "EdDSA",
    }


def _encoded(content: bytes) -> str:
    """Base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
