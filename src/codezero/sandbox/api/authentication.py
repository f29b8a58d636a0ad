"""Who asks: client certificates (common name and organizations), given bearer tokens, and tokens of ServiceAccounts that this server signs."""

import hmac
import secrets
import time
from collections.abc import Mapping, Sequence

from cryptography import x509
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from codezero.sandbox.api.documents import JsonObject, as_object, at
from codezero.sandbox.api.rbac import AUTHENTICATED, User
from codezero.sandbox.api.store import Store

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = ISSUER
LIFETIMES = range(600, 86401)
_LEEWAY = 10
_ALGORITHM = "Ed25519"


def certificate_user(der: bytes) -> User | None:
    """The user a verified client certificate stands for; None if it names nobody."""
    subject = x509.load_der_x509_certificate(der).subject
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not names:
        return None
    groups = {str(group.value) for group in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)}
    return User(str(names[0].value), frozenset(groups | {AUTHENTICATED}))


class Tokens:
    """Signs and checks bearer tokens. A token dies with its ServiceAccount, its pod, and its time."""

    def __init__(self, store: Store, given: Mapping[str, User]) -> None:
        self._store = store
        self._given = dict(given)
        self._key = OKPKey.generate_key("Ed25519")

    def issue(
        self,
        namespace: str,
        name: str,
        *,
        audiences: Sequence[str] = (),
        seconds: int = 3600,
        pod: JsonObject | None = None,
    ) -> tuple[str, int]:
        """A token of a ServiceAccount and the time it expires (seconds since 1970); with `pod` (name and uid) it is bound to that pod."""
        account = self._store.get("serviceaccounts", namespace, name)
        expires = int(time.time()) + seconds
        about: JsonObject = {"namespace": namespace, "serviceaccount": {"name": name, "uid": account.uid}}
        if pod is not None:
            about["pod"] = pod
        claims: JsonObject = {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": list(audiences) or [AUDIENCE],
            "iat": expires - seconds,
            "nbf": expires - seconds,
            "exp": expires,
            "jti": secrets.token_hex(16),
            "kubernetes.io": about,
        }
        return jwt.encode({"alg": _ALGORITHM}, claims, self._key, algorithms=[_ALGORITHM]), expires

    def user(self, token: str, *, audiences: Sequence[str] = ()) -> tuple[User, list[str]] | None:
        """The user a token stands for, and for which of `audiences` (none: this server) it is meant; None for a bad one."""
        for given, user in self._given.items():
            if hmac.compare_digest(given.encode(), token.encode()):
                return User(user.name, user.groups | {AUTHENTICATED}, user.uid, user.extra), list(audiences) or [
                    AUDIENCE
                ]
        claims = self._claims(token)
        if claims is None:
            return None
        meant = claims["aud"] if isinstance(claims.get("aud"), list) else [claims.get("aud")]
        accepted = [audience for audience in (audiences or (AUDIENCE,)) if audience in meant]
        user = self._service_account(claims)
        return (user, accepted) if accepted and user is not None else None

    def _claims(self, token: str) -> JsonObject | None:
        try:
            claims = as_object(jwt.decode(token, self._key, algorithms=[_ALGORITHM]).claims)
        except (JoseError, ValueError):
            return None
        is_timely = isinstance(claims.get("exp"), int) and claims["exp"] + _LEEWAY > time.time()
        return claims if is_timely and claims.get("iss") == ISSUER else None

    def _service_account(self, claims: JsonObject) -> User | None:
        about = as_object(claims.get("kubernetes.io"))
        namespace, name = str(about.get("namespace")), str(at(about, "serviceaccount", "name"))
        account = self._store.find("serviceaccounts", namespace, name)
        if account is None or account.uid != at(about, "serviceaccount", "uid"):
            return None
        extra: dict[str, list[str]] = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.get('jti')}"]}
        pod = as_object(about.get("pod"))
        if pod:
            running = self._store.find("pods", namespace, str(pod.get("name")))
            if running is None or running.uid != pod.get("uid"):
                return None
            extra["authentication.kubernetes.io/pod-name"] = [str(pod["name"])]
            extra["authentication.kubernetes.io/pod-uid"] = [str(pod["uid"])]
        groups = frozenset({"system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED})
        return User(f"system:serviceaccount:{namespace}:{name}", groups, account.uid, extra)
