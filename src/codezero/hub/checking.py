"""Whether a Hub could run with its settings, and whether its audit is as it was written. Changes nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from sqlalchemy import select
from sqlalchemy.engine import make_url

from codezero.hub import master_key, opening, serving
from codezero.hub.audit.verifying import Verification, verify
from codezero.hub.authorities import Authorities
from codezero.hub.sealing import Sealer
from codezero.hub.settings import HubSettings
from codezero.hub.signin import providers
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import Organization
from codezero.model import problems
from codezero.model.problems import CodezeroError

_SOON_DAYS = 14


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `problem` where it failed."""

    what: str
    said: str
    problem: CodezeroError | None = None


async def everything(settings: HubSettings) -> AsyncIterator[Finding]:
    """The checks, one after the other."""
    yield Finding("public URL", settings.public_url)
    key: bytes | None = None
    try:
        key = master_key.read(settings.master_key_file)
        yield Finding("master key", str(settings.master_key_file) if key else "will be made at the first start")
    except CodezeroError as error:
        yield _failed("master key", error)
    yield await _database(settings, key)
    if settings.certificate_file is not None and settings.key_file is not None:
        yield _certificate(settings.certificate_file, settings.key_file)
    else:
        proxies = ", ".join(map(str, settings.trusted_proxies))
        yield Finding("TLS", f"by the proxies {proxies}" if proxies else "none: for this machine alone")
    if settings.providers_file is not None:
        try:
            names = ", ".join(provider.settings.name for provider in providers.read(settings.providers_file))
            yield Finding("identity providers", names or "none")
        except CodezeroError as error:
            yield _failed("identity providers", error)


async def audits(settings: HubSettings) -> AsyncIterator[Finding]:
    """The audit of each organization, one after the other, without the master key and while the Hub may go on."""
    database = Database.open(settings.database_url)
    try:
        if not await opening.is_used(database):
            return
        async with database.reading() as session:
            organizations = (await session.execute(select(Organization.id, Organization.name))).all()
        for organization, name in organizations:
            async with database.reading() as session:
                yield _of_audit(name, await verify(session, organization))
    finally:
        await database.close()


def _of_audit(name: str, found: Verification) -> Finding:
    what = f"audit of {name}"
    if found.is_whole:
        return Finding(what, f"entries {found.first or 0} to {found.last} are as they were written")
    said = f"entry {found.broken} {found.why}"
    fix = "compare with an export or a backup from before; whoever can write to the database has done it"
    return Finding(what, said, CodezeroError(problems.AUDIT_BROKEN, said, fix=fix))


async def _database(settings: HubSettings, key: bytes | None) -> Finding:
    what = "database"
    try:
        database = Database.open(settings.database_url)
    except CodezeroError as error:
        return _failed(what, error)
    url = make_url(settings.database_url)
    where = url.render_as_string(hide_password=True)
    try:
        # To look into an SQLite file that is not there would make it.
        is_new = url.get_backend_name() == "sqlite" and not Path(url.database or "").exists()  # noqa: ASYNC240
        if is_new or not await opening.is_used(database):
            return Finding(what, f"{where}, new")
        if key is None:
            raise opening.key_is_missing(settings.master_key_file)
        authorities = await Authorities.load(database, Sealer(key), opening.now)
        return Finding(what, f"{where}, of Hub {authorities.install}")
    except CodezeroError as error:
        return _failed(what, error)
    finally:
        await database.close()


def _certificate(certificate_file: Path, key_file: Path) -> Finding:
    try:
        serving.tls_context(certificate_file, key_file)
    except CodezeroError as error:
        return _failed("TLS", error)
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    left = (certificate.not_valid_after_utc - opening.now()).days
    until = f"{certificate_file}, until {_day(certificate.not_valid_after_utc)}"
    return Finding("TLS", f"{until} (in {left} days)" if left < _SOON_DAYS else until)


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d")


def _failed(what: str, error: CodezeroError) -> Finding:
    return Finding(what, error.detail, error)
