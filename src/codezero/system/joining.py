"""How a cluster becomes a Teamspace of a Hub, and stays one: the leading System joins by a one-time token, has its authority signed again in time and
gets it another key when the Hub asks for that, and keeps in the cluster what the Hub pushes, so that all goes on while it is away.

The authority's key is born here and leaves the cluster never. It is written into Secret `codezero-identity` (`next.key`) before the token is used or a
rotation asked for, so that a System that dies in between goes on with the same key, and the Hub answers it again. What the Hub has signed is written
in one piece with all that belongs to it.
"""

import asyncio
import base64
import hashlib
import secrets
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import httpx2
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from codezero import __version__
from codezero.deploy import identity
from codezero.deploy.access import JOIN
from codezero.deploy.identity import HUB_STATE, NEXT_KEY, ROOT, HubState
from codezero.deploy.objects import IDENTITY, POLICY
from codezero.kit import certificates
from codezero.kit.certificates import Authority, CertificateError, Credentials, PrivateKey
from codezero.kit.logs import get_logger
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import TeamspaceId
from codezero.model.problems import CodezeroError
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, at, texts
from codezero.system.serving.observing import find
from codezero.transport.hub import HubAddress, proof_of_authority
from codezero.wire import problem_json
from codezero.wire.coordination import FromHub, HubLinkTold, KeysTold, PolicyTold, RotationWanted, SessionEnded
from codezero.wire.hub_channel import (
    JOIN_PATH,
    CertificateRequest,
    Certified,
    JoinRequest,
    certificate_path,
    leave_path,
)

LIFETIME: Final = timedelta(hours=1)
# Of the authority's life: with ten of thirty days left, a Hub may be away for a week without anybody noticing.
RENEWED_AT: Final = 1 / 3
ANSWER_SECONDS: Final = 20.0
MAX_ANSWER: Final = 4 * 1024 * 1024
MAX_TOLD: Final = 1000
_POLICY_FILE: Final = "policy.json"
_TOKEN: Final = "token"  # noqa: S105 - the name of an entry
# By which token the present identity came, as a hash: one that was used already is not used again.
_JOINED_BY: Final = "joined-by"
# The wish for another key that was followed last.
_ROTATED: Final = "rotated-for"
_NOT_THE_PRESENT_KEY: Final = (problems.NOT_JOINED, problems.BAD_IDENTITY, problems.NOT_SIGNED_IN)

_log = get_logger("joining")


class Ask(Protocol):
    """How the Hub is asked."""

    async def __call__(self, path: str, body: msgspec.Struct, proof: str | None) -> bytes:
        """POST `body`; the body of a good answer. Raises `CodezeroError` for all others, HUB_UNREACHABLE where there is none."""
        ...


class Membership:
    """What the Hub wants of this Teamspace, and doing it. Every System has one and hears the Hub's words; the leading one does (`keep`).

    `clock` gives the time in UTC. `news` is touched whenever there may be something to do. `is_member` says whether the Hub has signed the authority,
    `waiting` for what it waits, as far as this System looks after that.
    """

    def __init__(
        self,
        api: ApiClient,
        hub: HubAddress,
        *,
        namespace: str,
        ask: Ask | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.news: Watched[None] = Watched(None)
        self.is_member = False
        self.waiting = ""
        self._api = api
        self._hub = hub
        self._namespace = namespace
        home = f"/api/v1/namespaces/{namespace}"
        self._secret = f"{home}/secrets/{IDENTITY}"
        self._join = f"{home}/secrets/{JOIN}"
        self._policy = f"{home}/configmaps/{POLICY}"
        self._events = f"{home}/events"
        self._ask = ask or _Https(hub)
        self._clock = clock
        self._pushed_policy: bytes | None = None
        self._pushed_keys: KeysTold | None = None
        self._rotation = ""
        self._link = HubLinkTold(False, "no Orchestrator has told yet")
        self._told_event = ""
        # A token that is good for nothing, and why: whoever is a Teamspace already does not ask for it again and again.
        self._refused: dict[str, CodezeroError] = {}

    # --- what the Hub says -------------------------------------------------------------------------------------------------------------

    def heard(self, word: FromHub) -> None:
        """A word of the Hub, as the Orchestrator passes it on."""
        match word:
            case PolicyTold(content=content):
                self._pushed_policy = content
            case KeysTold():
                if not _are_usable(word):
                    # With them no System that starts would have an identity.
                    _log.error("keys of the Hub cannot be used, those of before stay")
                    return
                self._pushed_keys = word
            case RotationWanted(since=since):
                self._rotation = f"{since:.6f}"
            case HubLinkTold():
                self._link = word
            case SessionEnded():
                return
        self.news.touch()

    # --- what is done about it ---------------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Do what is due, one after the other. Raises `CodezeroError` where that is not possible now, `ApiError` (409: somebody else wrote)."""
        try:
            await self._do_what_is_due()
        except CodezeroError as error:
            self.waiting = error.detail
            await self._tell(error.detail, error.fix)
            raise
        except ApiError as error:
            # That somebody else wrote first passes by itself.
            if error.status != 409:
                self.waiting = f"the API server does not do it: {error}"
                await self._tell(self.waiting)
            raise
        self.waiting = ""
        await self._tell("")

    async def _do_what_is_due(self) -> None:
        secret = await find(self._api, self._secret)
        if secret is None:
            raise CodezeroError(
                problems.BAD_IDENTITY,
                f"Secret {IDENTITY} is gone",
                fix="apply the manifests again (czctl teamspace upgrade, helm upgrade), and bring another join token",
            )
        content = identity.secret_content(secret)
        self.is_member = _is_joined(content)
        # First what needs nobody's answer. One that cannot be kept is in force nevertheless, and keeps nothing else from being done.
        not_kept: ApiError | None = None
        if self._pushed_policy is not None and self._is_ours(self._pushed_policy, content):
            try:
                await self._write_policy(self._pushed_policy)
            except ApiError as error:
                _log.warning("the Hub's policy cannot be kept", status=error.status, reason=str(error))
                not_kept = error
        keys = self._pushed_keys
        if self.is_member and keys is not None and keys != _keys_of(content):
            secret = await self._write(secret, _key_files(keys))
            content = identity.secret_content(secret)
        token = await self._token()
        by = "" if token is None else hashlib.sha256(token.encode()).hexdigest()
        if not self.is_member:
            await self._become_member(secret, content, token, by)
        elif by not in {"", content.get(_JOINED_BY, "")}:
            await self._join_again(secret, content, token, by)
        elif self._is_due(content):
            await self._certify(secret, content)
        if token is not None:
            await self._forget_token()
        if not_kept is not None:
            raise not_kept

    def _is_ours(self, policy: bytes, content: dict[str, str]) -> bool:
        """Whether it is of the Teamspace that this cluster is by now; it may be another one than when the policy was pushed."""
        return not self.is_member or _stamp_of(policy).space == identity.teamspace_of(content)

    async def _token(self) -> str | None:
        found = await find(self._api, self._join)
        return None if found is None else identity.secret_content(found).get(_TOKEN, "").strip() or None

    async def _join_again(self, secret: Json, content: dict[str, str], token: str | None, by: str) -> None:
        """Join by a token that a Teamspace got beside its identity; where that is refused, it stays what it is and is kept in order."""
        refused = self._refused.get(by)
        if refused is None:
            try:
                await self._become_member(secret, content, token, by)
                return
            except CodezeroError as error:
                refused = error
                if error.problem is problems.NOT_JOINED:
                    self._refused = {by: error}
        secret = await find(self._api, self._secret) or secret
        content = identity.secret_content(secret)
        if self._is_due(content):
            await self._certify(secret, content)
        raise CodezeroError(refused.problem, refused.detail, fix=refused.fix)

    async def _become_member(self, secret: Json, content: dict[str, str], token: str | None, by: str) -> None:
        if token is None:
            raise CodezeroError(
                problems.NOT_JOINED,
                f"there is no join token: Secret {JOIN} is missing, or its entry {_TOKEN} is",
                fix="czctl space join-token NAME at the Hub gives one; put it into that Secret",
            )
        secret, key = await self._journaled(secret, content)
        request = JoinRequest(token, certificates.certificate_request(key), __version__)
        certified = await self._asked(JOIN_PATH, request, None)
        files = {**self._files(certified, key, content), _JOINED_BY: by}
        await self._write(secret, files, without=(NEXT_KEY,))
        self.is_member = True
        # Instead of one that was pushed to the Teamspace that this cluster was before; and tried again where it cannot be written now.
        self._pushed_policy = certified.policy.encode()
        await self._write_policy(self._pushed_policy)
        _log.info(
            "this cluster is a Teamspace of the Hub", hub=self._hub.url, space=certified.space, name=certified.name
        )

    def _is_due(self, content: dict[str, str]) -> bool:
        """Whether the authority has to be signed again, or gets another key."""
        if self._wants_another_key(content):
            return True
        authority = x509.load_pem_x509_certificate(content["ca.crt"].encode())
        life = authority.not_valid_after_utc - authority.not_valid_before_utc
        return authority.not_valid_after_utc - self._clock() < life * RENEWED_AT

    def _wants_another_key(self, content: dict[str, str]) -> bool:
        # A key on the way that nobody asks for any more is an answer that was lost: it is asked for to its end.
        return NEXT_KEY in content or self._rotation not in {"", content.get(_ROTATED, "")}

    async def _certify(self, secret: Json, content: dict[str, str]) -> None:
        present, wanted = _authority(content).credentials.key, self._rotation
        space, key = identity.teamspace_of(content), present
        if self._wants_another_key(content):
            secret, key = await self._journaled(secret, content)
        request = CertificateRequest(certificates.certificate_request(key))
        path = certificate_path(space)
        try:
            certified = await self._asked(path, request, self._proof(present, space))
        except CodezeroError as error:
            if key is present:
                raise
            if error.problem is problems.NO_OTHER_KEY:
                # It was made for a token that was refused, or for a wish that the Hub has forgotten when it was put back from a backup.
                key, request = present, CertificateRequest(certificates.certificate_request(present))
            elif error.problem not in _NOT_THE_PRESENT_KEY:
                raise
            # Else the Hub may have signed it already, and its answer was lost.
            certified = await self._asked(path, request, self._proof(key, space))
        files = {**self._files(certified, key, content), _ROTATED: wanted or content.get(_ROTATED, "")}
        await self._write(secret, files, without=(NEXT_KEY,))
        _log.info("the Hub has signed the Teamspace's authority", another_key=key is not present)

    def _proof(self, key: PrivateKey, space: TeamspaceId) -> str:
        return proof_of_authority(key, space, self._hub.url, clock=lambda: self._clock().timestamp())

    async def _asked(self, path: str, body: msgspec.Struct, proof: str | None) -> Certified:
        try:
            return msgspec.json.decode(await self._ask(path, body, proof), type=Certified)
        except msgspec.DecodeError as error:
            raise CodezeroError(
                problems.HUB_UNREACHABLE, f"what answers at {self._hub.url} is no Hub: {error}"
            ) from None

    async def _journaled(self, secret: Json, content: dict[str, str]) -> tuple[Json, PrivateKey]:
        """The key that the authority will have, in the Secret before anybody hears of it."""
        if known := content.get(NEXT_KEY):
            try:
                return secret, _private_key(known)
            except (CertificateError, ValueError, TypeError):
                _log.warning("the key on the way cannot be read, another one is made")
        key = certificates.new_key()
        return await self._write(secret, {NEXT_KEY: _key_pem(key)}), key

    def _files(self, certified: Certified, key: PrivateKey, content: dict[str, str]) -> dict[str, str]:
        """All that the identity is made of, of one piece."""
        space = TeamspaceId(certified.space)
        try:
            authority = Authority(Credentials.from_pem(certified.certificate, _key_pem(key)))
            certificates.client_context(roots=certified.root)
            certificates.client_context(roots=certified.device_issuers)
        except (CertificateError, ssl.SSLError, ValueError) as error:
            raise CodezeroError(problems.HUB_UNREACHABLE, f"the Hub's answer cannot be used: {error}") from None
        files = {
            ROOT: certified.root,
            "ca.crt": authority.credentials.certificate_pem,
            "ca.key": _key_pem(key),
            **_key_files(KeysTold(certified.jwks, certified.device_issuers)),
            # What was sealed must stay so.
            "seal.key": content.get("seal.key") or secrets.token_hex(32),
            _JOINED_BY: content.get(_JOINED_BY, ""),
        }
        for role in identity.ROLES:
            own = identity.leaf(authority, space, role, namespace=self._namespace, lifetime=LIFETIME)
            files |= identity.leaf_files(role, own)
        return files

    # --- the cluster -------------------------------------------------------------------------------------------------------------------

    async def _write(self, secret: Json, files: dict[str, str], *, without: tuple[str, ...] = ()) -> Json:
        encoded = {name: base64.b64encode(text.encode()).decode() for name, text in files.items()}
        body = {
            "metadata": {"resourceVersion": at(secret, "metadata", "resourceVersion")},
            "data": {**encoded, **dict.fromkeys(without)},
        }
        return msgspec.json.decode(await self._api.patch(self._secret, body, kind="merge"), type=dict[str, Any])

    async def _forget_token(self) -> None:
        await self._api.patch(self._join, {"data": {_TOKEN: None}}, kind="merge")

    async def _write_policy(self, content: bytes) -> None:
        """Keep it for the time without a Hub; never an older one of the same Teamspace."""
        found = await find(self._api, self._policy)
        before = texts(at(found, "data")).get(_POLICY_FILE, "").encode()
        kept, new = _stamp_of(before), _stamp_of(content)
        if before == content or (kept.space == new.space and kept.serial > new.serial):
            return
        await self._api.patch(self._policy, {"data": {_POLICY_FILE: content.decode(errors="replace")}}, kind="merge")

    async def _tell(self, reason: str, fix: str | None = None) -> None:
        """Say how it is where `czctl teamspace status` looks, and where people look first when a thing does not come."""
        state = HubState(
            url=self._hub.url,
            joined=self.is_member,
            connected=self._link.connected and not reason,
            # What the Hub says may be long, and a policy has to fit beside it.
            reason=(reason or self._link.reason)[:MAX_TOLD],
            fix=(fix or "")[:MAX_TOLD],
        )
        try:
            found = await find(self._api, self._policy)
            text = msgspec.json.encode(state).decode()
            if found is not None and texts(at(found, "data")).get(HUB_STATE) != text:
                await self._api.patch(self._policy, {"data": {HUB_STATE: text}}, kind="merge")
        except ApiError as error:
            _log.debug("state of the Hub not told", reason=str(error))
        try:
            if reason and reason != self._told_event:
                await self._api.create(self._events, self._event(reason))
            self._told_event = reason
        except ApiError as error:
            _log.debug("event about the Hub not made", reason=str(error))

    def _event(self, reason: str) -> Json:
        now = self._clock()
        moment = now.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": "system.", "namespace": self._namespace},
            "involvedObject": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "system",
                "namespace": self._namespace,
            },
            "reason": "HubWaiting",
            "message": reason[:MAX_TOLD],
            "type": "Warning",
            "source": {"component": "codezero-system"},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
        }


class _Https:
    """The Hub by HTTPS."""

    def __init__(self, hub: HubAddress) -> None:
        self._hub = hub

    async def __call__(self, path: str, body: msgspec.Struct, proof: str | None) -> bytes:
        context = self._hub.context()
        headers = {"Content-Type": "application/json", "User-Agent": f"codezero/{__version__}"}
        if proof is not None:
            headers["Authorization"] = proof
        try:
            async with (
                # Of the whole, whatever the client thinks of each step: some send a byte now and then.
                asyncio.timeout(ANSWER_SECONDS),
                httpx2.AsyncClient(
                    verify=context if context is not None else True, trust_env=False, timeout=ANSWER_SECONDS
                ) as client,
                client.stream(
                    "POST", self._hub.url + path, content=msgspec.json.encode(body), headers=headers
                ) as answer,
            ):
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_ANSWER:
                        raise CodezeroError(problems.HUB_UNREACHABLE, f"{self._hub.url} sends too much")
        except (httpx2.TimeoutException, TimeoutError):
            raise CodezeroError(problems.HUB_UNREACHABLE, f"{self._hub.url} does not answer") from None
        except (httpx2.HTTPError, ssl.SSLError, OSError) as error:
            # Its text names hosts and reasons, and nothing of what was sent.
            raise CodezeroError(
                problems.HUB_UNREACHABLE,
                f"{self._hub.url} cannot be reached: {error or type(error).__name__}",
                fix="see whether pods of the namespace reach it, and whether hub.caBundle is that of its certificate",
            ) from None
        if answer.status_code not in {200, 204}:
            refused = problem_json.decode(bytes(content), status=answer.status_code)
            raise CodezeroError(refused.problem, f"the Hub refuses: {refused.detail}", fix=refused.fix)
        return bytes(content)


class _Nothing(msgspec.Struct):
    pass


async def leave(hub: HubAddress, content: dict[str, str]) -> None:
    """Tell the Hub that the Teamspace with that identity is no more. Raises `CodezeroError` where it was not told, or did not believe it."""
    key, space = _authority(content).credentials.key, identity.teamspace_of(content)
    await _Https(hub)(leave_path(space), _Nothing(), proof_of_authority(key, space, hub.url))


class _Stamp(msgspec.Struct, frozen=True):
    """Of which Teamspace a policy file is, and the serial, which each counts for itself."""

    space: str = ""
    serial: int = 0


def _stamp_of(content: bytes) -> _Stamp:
    """Nothing and 0 where it says neither."""
    try:
        return msgspec.json.decode(content, type=_Stamp)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Stamp()


def _is_joined(content: dict[str, str]) -> bool:
    """Whether a Hub has signed the authority: then its root is there."""
    try:
        return ROOT in content and bool(_authority(content))
    except CodezeroError:
        return False


def _authority(content: dict[str, str]) -> Authority:
    try:
        return Authority(Credentials.from_pem(content.get("ca.crt", ""), content.get("ca.key", "")))
    except CertificateError as error:
        raise CodezeroError(
            problems.BAD_IDENTITY, f"Secret {IDENTITY} has no usable ca.crt and ca.key: {error}"
        ) from None


def _keys_of(content: dict[str, str]) -> KeysTold:
    return KeysTold(content.get("jwks.json", ""), content.get("device-issuer.crt", ""))


def _are_usable(keys: KeysTold) -> bool:
    try:
        certificates.client_context(roots=keys.device_issuers)
        msgspec.json.decode(keys.jwks, type=dict[str, Any])
    except (CertificateError, ssl.SSLError, ValueError, msgspec.DecodeError):
        return False
    return True


def _key_files(keys: KeysTold) -> dict[str, str]:
    return {"jwks.json": keys.jwks, "device-issuer.crt": keys.device_issuers}


def _key_pem(key: PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _private_key(text: str) -> PrivateKey:
    key = serialization.load_pem_private_key(text.encode(), password=None)
    if not isinstance(key, PrivateKey):
        raise CertificateError("not an elliptic-curve key")
    return key
