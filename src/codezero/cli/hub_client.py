"""czctl's client of the Hub: who asks, fresh tokens, pages, and the Hub's refusals as errors of ours.

One process of a user refreshes at a time, and the others take what it got: the tokens are rotated at each refresh (R28).
"""

import contextlib
import os
import secrets
import time
import urllib.parse
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import msgspec

from codezero.cli import hub_context
from codezero.cli.hub_context import Credentials, HubContext
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.hub_http import DEADLINE_SECONDS, Answer, HubEndpoint, hub_url

API: Final = "/api/v1"
TOKEN_PATH: Final = f"{API}/auth/token"
CLIENT_ID: Final = "czctl"
KEY_PREFIX: Final = "cz_key_"
# An access token with less left is renewed before it is used.
_FRESH_SECONDS: Final = 30.0
_MOST_PAGES: Final = 1000
_DEADLINE_SECONDS: Final = DEADLINE_SECONDS
_LINES: Final = "application/x-ndjson"
_MAX_LINE: Final = 1024 * 1024

T = TypeVar("T")
Json = dict[str, Any]


class Tokens(msgspec.Struct, frozen=True):
    """What the token endpoint answers (RFC 6749), and for which device."""

    access_token: str
    expires_in: float
    refresh_token: str | None = None
    device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the Hub: its content, and the version (`ETag`) of what it shows."""

    content: bytes
    etag: str | None = None

    def as_(self, kind: type[T]) -> T:
        """The content as a value; raises `CodezeroError` where it is none."""
        try:
            return msgspec.json.decode(self.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise CodezeroError(
                problems.VERSIONS,
                f"the Hub's answer cannot be read: {error}",
                fix="czctl and the Hub are of different releases; upgrade the older one",
            ) from None


class HubClient:
    """Asks a Hub as whoever is signed in on this machine, or as the environment says. Each call raises `CodezeroError`."""

    def __init__(self, context: HubContext, credentials: Credentials | None, *, fixed: str | None = None) -> None:
        """`fixed` is the value of `Authorization` that the environment asks for."""
        self.context = context
        self.endpoint = HubEndpoint(context.url, context.ca)
        self._credentials = credentials
        self._fixed = fixed

    def use(self, credentials: Credentials) -> None:
        """Ask with these from now on."""
        self._credentials = credentials

    @property
    def is_signed_in(self) -> bool:
        """Whether there is anything to show to the Hub; whether it is still good, only the Hub knows."""
        return self._fixed is not None or self._credentials is not None

    @property
    def keeps(self) -> bool:
        """Whether what is selected is written down: the environment keeps nothing."""
        return self._fixed is None

    @property
    def credentials(self) -> Credentials | None:
        """What is kept on this machine; None also where the environment says who asks."""
        return None if self._fixed is not None else self._credentials

    def get(self, path: str, **query: str | int | None) -> Reply:
        """Read; `path` begins after `/api/v1`. A query without a value is left out."""
        return self.ask("GET", path, query=query)

    def post(
        self, path: str, body: object | None = None, *, deadline: float | None = None, **query: str | int | None
    ) -> Reply:
        """Make or do something; the Hub does it once, also where this is sent again."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return self.ask("POST", path, body, query=query, headers=headers, deadline=deadline)

    def put(self, path: str, body: object, *, etag: str | None = None) -> Reply:
        """Replace; with `etag` only that version."""
        return self.ask("PUT", path, body, headers=_if_match(etag))

    def patch(self, path: str, body: object, *, etag: str | None = None) -> Reply:
        """Change; with `etag` only that version."""
        return self.ask("PATCH", path, body, headers=_if_match(etag))

    def delete(self, path: str, body: object | None = None) -> Reply:
        """Remove or end."""
        return self.ask("DELETE", path, body)

    def lines(self, path: str, **query: str | int | None) -> Generator[str, None, None]:
        """A document of lines of JSON, line by line as they come; there is a deadline for each piece, and none for the whole."""
        with self.opened(_target(path, query), _LINES) as (answer, pieces):
            if answer.status >= 300:
                self._reply(answer)
            yield from _lines(pieces)

    @contextlib.contextmanager
    def opened(self, target: str, kind: str) -> Generator[tuple[Answer, Iterator[bytes]], None, None]:
        """Something long of the content type `kind`, piece by piece; a refusal has no pieces. `target` is path and query. Otherwise as `answer`."""
        shown = self.authorization()
        for is_last in (False, True):
            headers = {"Authorization": shown}
            with self.endpoint.opened(target, kind, headers=headers, deadline=_DEADLINE_SECONDS) as (answer, pieces):
                if answer.status == 401 and self._can_refresh and not is_last:
                    shown = self._refreshed(unlike=shown)
                    continue
                yield answer, pieces
                return

    def items(self, path: str, kind: type[T], *, limit: int | None = None, **query: str | int | None) -> Iterator[T]:
        """The entries of a list, page by page; at most `limit`."""
        cursor: str | None = None
        given = 0
        for _ in range(_MOST_PAGES):
            page = self.get(path, **query, cursor=cursor).as_(_Page)
            for item in page.items:
                if limit is not None and given == limit:
                    return
                given += 1
                yield Reply(bytes(item)).as_(kind)
            if page.next is None:
                return
            cursor = page.next
        raise CodezeroError(problems.TOO_LARGE, "the list does not end", fix="ask for a part of it")

    def ask(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        query: Mapping[str, str | int | None] | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Reply:
        """One request, with fresh credentials; refreshed once more where the Hub does not take them."""
        content = msgspec.json.encode(body) if body is not None else None
        target = _target(path, query or {})
        return self._reply(self.answer(method, target, content, headers=headers, deadline=deadline))

    def answer(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        deadline: float | None = None,
    ) -> Answer:
        """As `ask`, with the Hub's answer as it is, which may be a refusal. `target` is path and query."""
        sent = {**(headers or {}), "Authorization": self.authorization()}
        within = deadline or _DEADLINE_SECONDS
        answer = self.endpoint.request(method, target, body=body, headers=sent, deadline=within)
        if answer.status == 401 and self._can_refresh:
            sent["Authorization"] = self._refreshed(unlike=sent["Authorization"])
            answer = self.endpoint.request(method, target, body=body, headers=sent, deadline=within)
        return answer

    def post_form(self, path: str, fields: Mapping[str, str]) -> Answer:
        """A form that shows no credentials; the answer may be a refusal (RFC 6749)."""
        return self.endpoint.request(
            "POST",
            path,
            body=urllib.parse.urlencode(fields).encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    def form(self, fields: Mapping[str, str], *, proof: "DeviceKey") -> Answer:
        """Ask the token endpoint; the answer may be a refusal (RFC 6749). The proof is made anew where this machine's clock is off."""
        for is_last in (False, True):
            body = {**fields, "client_id": CLIENT_ID, "device_proof": proof.sign(self.endpoint, "POST", TOKEN_PATH)}
            answer = self.post_form(TOKEN_PATH, body)
            if answer.status < 400 or is_last or not self.endpoint.is_skewed or proof.was_skewed:
                break
            proof.was_skewed = True
        return answer

    def refusal(self, answer: Answer) -> CodezeroError:
        """What a refusal in the words of RFC 6749 says to people."""
        read = _refusal(answer)
        problem = problems.ALL.get(read.code, problems.SIGN_IN_REFUSED)
        return self._with_clock(answer, CodezeroError(problem, oauth_reason(answer), fix=read.fix))

    def authorization(self) -> str:
        """The value of `Authorization`, fresh; raises `CodezeroError` (NOT_SIGNED_IN) where there is none."""
        if self._fixed is not None:
            return self._fixed
        if self._credentials is None:
            raise not_signed_in(self.context.url)
        if self._credentials.api_key is not None:
            return _of_key(self._credentials.api_key, self.context)
        if self._credentials.access_token is None:
            raise not_signed_in(self.context.url)
        if self._can_refresh and self._credentials.expires - time.time() < _FRESH_SECONDS:
            return self._refreshed()
        return f"Bearer {self._credentials.access_token}"

    @property
    def _can_refresh(self) -> bool:
        return self._fixed is None and self._credentials is not None and self._credentials.refresh_token is not None

    def _refreshed(self, *, unlike: str | None = None) -> str:
        """A fresh access token: what another process has got meanwhile, else by a refresh. `unlike` was refused just now."""
        with hub_context.locked():
            now = self.kept()
            if now.refresh_token is None or now.key is None:
                raise not_signed_in(self.context.url)
            present = f"Bearer {now.access_token}"
            is_fresh = now.expires - time.time() >= _FRESH_SECONDS
            if is_fresh and present != unlike:
                self._credentials = now
                return present
            proof = DeviceKey(now.key, now.device)
            answer = self.form({"grant_type": "refresh_token", "refresh_token": now.refresh_token}, proof=proof)
            if oauth_error(answer) == "invalid_grant":
                raise not_signed_in(self.context.url, because=oauth_reason(answer))
            if oauth_error(answer):
                raise self.refusal(answer)
            tokens = self._reply(answer).as_(Tokens)
            self._credentials = with_tokens(now, tokens)
            hub_context.save_credentials(self._credentials)
        return f"Bearer {self._credentials.access_token}"

    def kept(self) -> Credentials:
        """The credentials of this client's sign-in as they are kept now; to be called locked. Raises `CodezeroError` where it has ended meanwhile, or somebody else has signed in."""
        now = hub_context.load_credentials()
        if now is None or not now.is_of_sign_in(self._credentials):
            raise not_signed_in(self.context.url, because="this machine was signed out, or in anew, just now")
        return now

    def _reply(self, answer: Answer) -> Reply:
        try:
            return Reply(self.endpoint.checked(answer), answer.headers.get("etag"))
        except CodezeroError as error:
            raise self._with_clock(answer, error) from None

    def _with_clock(self, answer: Answer, error: CodezeroError) -> CodezeroError:
        """The error, or that this machine's clock is off, which is why proofs and tokens are refused (R27)."""
        skew = self.endpoint.skew
        if answer.status not in (400, 401) or error.problem.exit_code != problems.NOT_SIGNED_IN.exit_code:
            return error
        if skew is None or not self.endpoint.is_skewed:
            return error
        return CodezeroError(
            problems.CLOCK_WRONG,
            f"{error.detail}; this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the Hub's",
            fix="let the machine set its clock: timedatectl set-ntp true",
        )


class DeviceKey:
    """This machine's key as PEM, and the id that the Hub knows it by, if it has one yet. `was_skewed` says that a proof was made again for the clock."""

    def __init__(self, pem: str, device: str | None = None) -> None:
        self.pem = pem
        self.device = device
        self.was_skewed = False

    @staticmethod
    def new() -> "DeviceKey":
        """A fresh one."""
        from cryptography.hazmat.primitives import serialization

        from codezero.kit import certificates

        private = certificates.new_key().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return DeviceKey(private.decode())

    def sign(self, endpoint: HubEndpoint, method: str, path: str) -> str:
        """A proof for one request of that Hub."""
        from codezero.transport import device_proof

        return device_proof.sign(
            self._private(), device=self.device, audience=endpoint.url, method=method, path=path, at=endpoint.now()
        )

    def request(self) -> str:
        """A request for a certificate (PEM)."""
        from codezero.kit import certificates

        return certificates.certificate_request(self._private())

    def _private(self) -> Any:  # noqa: ANN401 - its type is of a library that is loaded when it is needed
        from cryptography.hazmat.primitives import serialization

        try:
            return serialization.load_pem_private_key(self.pem.encode(), password=None)
        except (ValueError, TypeError):
            raise CodezeroError(
                problems.NOT_SIGNED_IN, "the device's key cannot be used", fix="czctl auth login --force"
            ) from None


def connect(hub: str | None = None, ca: Path | None = None) -> HubClient:
    """A client of the Hub that is asked for, else of the environment's, else of the one signed in to; raises `CodezeroError` (NO_HUB) without any."""
    environment = os.environ
    asked = hub or environment.get(hub_context.HUB_VARIABLE)
    known = hub_context.load()
    if asked is None and known is None:
        raise CodezeroError(
            problems.NO_HUB,
            "this machine knows no Hub",
            fix="czctl auth login --hub https://hub.example.org, or set CODEZERO_HUB",
        )
    url = hub_url(asked) if asked is not None else cast("HubContext", known).url
    context = known if known is not None and known.url == url else HubContext(url)
    ca_file = ca or (Path(found) if (found := environment.get(hub_context.CA_VARIABLE)) else None)
    if ca_file is not None:
        context = msgspec.structs.replace(context, ca=hub_context.read_ca(ca_file))
    if token := environment.get(hub_context.TOKEN_VARIABLE):
        return HubClient(context, None, fixed=f"Bearer {token}")
    if key := environment.get(hub_context.API_KEY_VARIABLE):
        return HubClient(context, None, fixed=_of_key(key, context))
    credentials = hub_context.load_credentials()
    # What one Hub gave is shown to no other.
    return HubClient(context, credentials if credentials is not None and credentials.url == url else None)


def kept_sign_in(context: HubContext) -> HubClient | None:
    """A client as whoever is signed in on this machine, at whichever Hub; None where nobody is. `context` is of the Hub that is spoken of, and is used where it is that one."""
    credentials = hub_context.load_credentials()
    if credentials is None:
        return None
    if credentials.url == context.url:
        return HubClient(context, credentials)
    known = hub_context.load()
    is_known = known is not None and known.url == credentials.url
    return HubClient(known if is_known and known is not None else HubContext(credentials.url), credentials)


def with_tokens(credentials: Credentials, tokens: Tokens) -> Credentials:
    """Credentials with fresh tokens."""
    return msgspec.structs.replace(
        credentials,
        device=tokens.device_id or credentials.device,
        access_token=tokens.access_token,
        expires=time.time() + tokens.expires_in,
        refresh_token=tokens.refresh_token or credentials.refresh_token,
    )


def not_signed_in(url: str, *, because: str | None = None) -> CodezeroError:
    """What to say to somebody who has to sign in first."""
    return CodezeroError(
        problems.NOT_SIGNED_IN,
        f"you are not signed in to {url}" + (f" any more: {because}" if because else ""),
        fix=f"czctl auth login --hub {url}",
    )


def oauth_reason(answer: Answer) -> str:
    """What a refusal of the token endpoint says to people."""
    refusal = _refusal(answer)
    return refusal.error_description or refusal.error or f"HTTP {answer.status}"


def oauth_error(answer: Answer) -> str:
    """The error of a refusal of the token endpoint (RFC 6749, RFC 8628); empty where it has none."""
    return _refusal(answer).error if answer.status >= 400 else ""


def _refusal(answer: Answer) -> "_Refusal":
    try:
        return msgspec.json.decode(answer.content, type=_Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Refusal()


def _of_key(key: str, context: HubContext) -> str:
    """How an API key is shown: alone where it says itself whose it is, else with its organization."""
    if key.startswith(KEY_PREFIX) or ":" in key:
        return f"Bearer {key}"
    organization = os.environ.get(hub_context.ORGANIZATION_VARIABLE) or (
        context.organization.id if context.organization is not None else None
    )
    if organization is None:
        raise CodezeroError(
            problems.NOT_SELECTED, "the API key needs its organization", fix="set CODEZERO_ORGANIZATION to its id"
        )
    return f"Bearer {organization}:{key}"


def _target(path: str, query: Mapping[str, str | int | None]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return f"{API}{path}" + (f"?{urllib.parse.urlencode(given)}" if given else "")


def _lines(pieces: Iterable[bytes]) -> Generator[str, None, None]:
    """Whole lines with their ends; raises `CodezeroError` (HUB_UNREACHABLE) where the last one has none."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield f"{_text(line)}\n"
        if len(rest) > _MAX_LINE:
            raise CodezeroError(problems.TOO_LARGE, f"a line of the Hub's answer has more than {_MAX_LINE} bytes")
    if rest:
        raise CodezeroError(problems.HUB_UNREACHABLE, "the Hub's answer ends within a line")


def _text(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise CodezeroError(problems.VERSIONS, f"the Hub's answer cannot be read: {error.reason}") from None


def _if_match(etag: str | None) -> dict[str, str]:
    return {"If-Match": etag} if etag is not None else {}


class _Page(msgspec.Struct, frozen=True):
    items: list[msgspec.Raw]
    next: str | None = None


class _Refusal(msgspec.Struct, frozen=True):
    error: str = ""
    error_description: str | None = None
    code: str = ""
    fix: str | None = None
