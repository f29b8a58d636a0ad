"""Identity providers: what the Hub's settings say of each, and what each says of itself (OpenID Connect Discovery, JWKS), kept for an hour.

    [{"name": "acme", "title": "Acme", "issuer": "https://login.acme.example", "client_id": "...", "client_secret_file": "/run/secrets/acme",
      "domains": ["acme.example"], "organization": "01J...", "role": "developer"}]

`domains` are those whose e-mail addresses the provider may vouch for; none: all. With `organization`, whoever comes with such an address joins it, also
without an invitation. What is known of a provider is still used while it is away, so that its absence ends no session (R29).
"""

import ipaddress
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from codezero.model import problems
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError
from codezero.model.roles import Role

ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
FRESH: Final = timedelta(hours=1)
# An unknown key may be a new one: asked for again, but not for each token that somebody makes up.
ASKED_AGAIN: Final = timedelta(minutes=1)
SECONDS: Final = 10.0
MAX_ANSWER: Final = 256 * 1024
MAX_KEYS: Final = 64
_MAX_FILE: Final = 64 * 1024
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)
_DOMAIN: Final = re.compile(r"(?:[a-z0-9-]{1,63}\.)+[a-z]{2,63}", re.ASCII)


class ProviderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One provider in the file."""

    name: str
    title: str
    issuer: str
    client_id: str
    client_secret_file: str | None = None
    algorithms: tuple[str, ...] = ("RS256",)
    domains: tuple[str, ...] = ()
    organization: str | None = None
    role: str = Role.DEVELOPER


class Metadata(msgspec.Struct, frozen=True):
    """What a provider says of itself, as far as it matters here."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)
    authorization_response_iss_parameter_supported: bool = False


class _KeySet(msgspec.Struct, frozen=True):
    keys: tuple[dict[str, Any], ...]


@dataclass(slots=True)
class _Known:
    metadata: Metadata
    keys: tuple[dict[str, Any], ...]
    at: datetime


@dataclass(slots=True, repr=False)
class Provider:
    """One provider. Remembers what it said of itself."""

    settings: ProviderSettings
    client_secret: str | None = None
    # In place of the network, for tests of what is done with its answers.
    transport: httpx2.AsyncBaseTransport | None = None
    _known: _Known | None = field(default=None, init=False)
    _failed_at: datetime | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        """By which it is known in paths."""
        return self.settings.name

    @property
    def issuer(self) -> str:
        """Who its tokens are by."""
        return self.settings.issuer

    async def metadata(self, now: datetime) -> Metadata:
        """What it says of itself; raises `CodezeroError` (PROVIDER_AWAY)."""
        return (await self._refreshed(now, FRESH)).metadata

    async def keys(self, now: datetime, *, kid: str | None) -> list[dict[str, Any]]:
        """Its signing keys of that name (all, where the token names none), asked for anew where it is not known yet."""
        known = await self._refreshed(now, FRESH)
        found = _named(known.keys, kid)
        if not found:
            found = _named((await self._refreshed(now, ASKED_AGAIN)).keys, kid)
        return found

    def vouches_for(self, email: str) -> bool:
        """Whether it may say that somebody has this address."""
        return not self.settings.domains or email.rpartition("@")[2] in self.settings.domains

    async def post(self, url: str, form: dict[str, str], *, auth: tuple[str, str] | None) -> tuple[int, Any]:
        """What it answers to a form: the status, and JSON."""
        return await self._asked("POST", url, data=form, auth=auth)

    async def get(self, url: str, *, bearer: str | None = None) -> tuple[int, Any]:
        """What it answers, as JSON."""
        return await self._asked("GET", url, headers={"Authorization": f"Bearer {bearer}"} if bearer else {})

    async def _refreshed(self, now: datetime, age: timedelta) -> _Known:
        known = self._known
        if known is not None and now - known.at < age:
            return known
        if known is not None and self._failed_at is not None and now - self._failed_at < ASKED_AGAIN:
            return known
        try:
            self._known = await self._learned(now)
        except CodezeroError:
            self._failed_at = now
            if known is None:
                raise
            return known
        return self._known

    async def _learned(self, now: datetime) -> _Known:
        _, document = await self.get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            metadata = msgspec.convert(document, Metadata)
        except msgspec.ValidationError:
            raise self.away("its discovery document is not valid") from None
        if metadata.issuer != self.issuer:
            raise self.away("its discovery document is somebody else's")
        for url in (
            metadata.authorization_endpoint,
            metadata.token_endpoint,
            metadata.jwks_uri,
            metadata.userinfo_endpoint,
        ):
            if url is not None and not self._is_safe(url):
                raise self.away("its discovery document leads to an address without TLS")
        _, found = await self.get(metadata.jwks_uri)
        try:
            keys = msgspec.convert(found, _KeySet).keys
        except msgspec.ValidationError:
            raise self.away("its key set is not valid") from None
        return _Known(metadata, keys[:MAX_KEYS], now)

    async def _asked(self, method: str, url: str, **options: Any) -> tuple[int, Any]:  # noqa: ANN401 - httpx's own
        """One request: no redirects, no proxies of the environment, little time, small answers."""
        try:
            async with (
                httpx2.AsyncClient(
                    transport=self.transport, follow_redirects=False, timeout=SECONDS, trust_env=False
                ) as client,
                client.stream(method, url, **options) as answer,
            ):
                content = bytearray()
                async for part in answer.aiter_bytes():
                    content += part
                    if len(content) > MAX_ANSWER:
                        raise self.away("its answer is too long")
                if answer.is_redirect:
                    raise self.away("it answers with a redirect")
                return answer.status_code, json.loads(content)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise self.away(f"it does not answer ({type(error).__name__})") from None
        except (ValueError, RecursionError):
            raise self.away("its answer is not JSON") from None

    def _is_safe(self, url: str) -> bool:
        return urlsplit(url).scheme == "https" or (is_loopback(url) and is_loopback(self.issuer))

    def away(self, why: str) -> CodezeroError:
        """The provider cannot be used at the moment."""
        return CodezeroError(
            problems.PROVIDER_AWAY,
            f"{self.settings.title} cannot be used to sign in: {why}",
            fix="try again in a minute; if that goes on, tell whoever runs this Hub",
        )


def read(path: Path) -> tuple[Provider, ...]:
    """The providers of a file; raises `CodezeroError` (BAD_REQUEST) that names what is wrong."""
    try:
        with path.open("rb") as file:
            found = msgspec.json.decode(file.read(_MAX_FILE), type=list[ProviderSettings])
    except OSError as error:
        raise _wrong(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise _wrong(f"{path}: {error}") from None
    if len({settings.name for settings in found}) != len(found) or len({settings.issuer for settings in found}) != len(
        found
    ):
        raise _wrong(f"{path}: two providers have one name or one issuer")
    return tuple(provider(settings) for settings in found)


def provider(settings: ProviderSettings) -> Provider:
    """A provider by its settings; raises `CodezeroError` (BAD_REQUEST)."""
    name = settings.name[:40]
    url = urlsplit(settings.issuer)
    if not _NAME.fullmatch(settings.name):
        raise _wrong(f"{name!r} is no name: small letters, digits and dashes")
    if (
        url.query
        or url.fragment
        or url.username is not None
        or not (url.scheme == "https" or is_loopback(settings.issuer))
    ):
        raise _wrong(f"{name}: the issuer has to be an https:// URL without query")
    if not settings.algorithms or not set(settings.algorithms) <= ALGORITHMS:
        raise _wrong(f"{name}: algorithms are {', '.join(sorted(ALGORITHMS))}")
    if not all(map(_DOMAIN.fullmatch, settings.domains)):
        raise _wrong(f"{name}: domains are names such as acme.example, in small letters")
    if settings.organization is not None and (not is_ulid(settings.organization) or not settings.domains):
        raise _wrong(f"{name}: an organization that people join is a ULID, and needs the domains of those who may")
    if settings.role not in {Role.DEVELOPER, Role.VIEWER}:
        raise _wrong(f"{name}: whoever joins by themselves becomes developer or viewer")
    return Provider(settings, _secret(settings))


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine by its address, so that nobody is in between."""
    try:
        return urlsplit(url).scheme == "http" and ipaddress.ip_address(urlsplit(url).hostname or "").is_loopback
    except ValueError:
        return False


def _secret(settings: ProviderSettings) -> str | None:
    if settings.client_secret_file is None:
        return None
    try:
        return Path(settings.client_secret_file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise _wrong(f"{settings.name}: {settings.client_secret_file} cannot be read") from None


def _named(keys: tuple[dict[str, Any], ...], kid: str | None) -> list[dict[str, Any]]:
    signing = [key for key in keys if key.get("use", "sig") == "sig"]
    return signing if kid is None else [key for key in signing if key.get("kid") == kid]


def _wrong(why: str) -> CodezeroError:
    return CodezeroError(problems.BAD_REQUEST, f"the identity providers cannot be used: {why}")
