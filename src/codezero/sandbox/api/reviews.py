"""Questions in the form of objects: is this token good, who am I, may I do that; and tokens on request."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from codezero.sandbox.api import errors, rbac
from codezero.sandbox.api.authentication import LIFETIMES, Tokens
from codezero.sandbox.api.documents import JsonObject, as_list, as_object, at, is_object
from codezero.sandbox.api.errors import Cause
from codezero.sandbox.api.rbac import Action, User
from codezero.sandbox.api.store import Store


class Reviews:
    """Answers reviews."""

    def __init__(self, store: Store, tokens: Tokens) -> None:
        self._store = store
        self._tokens = tokens
        self._answers: dict[str, Callable[[User, JsonObject], JsonObject]] = {
            "tokenreviews": self._token,
            "selfsubjectreviews": self._self,
            "subjectaccessreviews": self._access,
            "selfsubjectaccessreviews": self._own_access,
            "selfsubjectrulesreviews": self._own_rules,
        }

    def answer(self, plural: str, user: User, review: JsonObject) -> JsonObject:
        """`review` with its status filled in."""
        if review.get("spec") is not None and not is_object(review["spec"]):
            raise errors.bad_request("spec must be an object")
        status = self._answers[plural](user, as_object(review.get("spec")))
        return review | {"metadata": {"creationTimestamp": None}, "status": status}

    def _token(self, _user: User, spec: JsonObject) -> JsonObject:
        audiences = [str(audience) for audience in as_list(spec.get("audiences"))]
        found = self._tokens.user(str(spec.get("token", "")), audiences=audiences)
        if found is None:
            return {"authenticated": False, "error": "the token is not valid", "user": {}}
        user, accepted = found
        return {"authenticated": True, "user": _user_info(user), "audiences": accepted}

    def _self(self, user: User, _spec: JsonObject) -> JsonObject:
        return {"userInfo": _user_info(user)}

    def _own_access(self, user: User, spec: JsonObject) -> JsonObject:
        return {"allowed": rbac.is_allowed(self._store, user, _action(spec))}

    def _access(self, _user: User, spec: JsonObject) -> JsonObject:
        groups = frozenset(str(group) for group in as_list(spec.get("groups")))
        return self._own_access(User(str(spec.get("user", "")), groups), spec)

    def _own_rules(self, user: User, spec: JsonObject) -> JsonObject:
        return rbac.rules_status(self._store, user, str(spec.get("namespace") or ""))


def _user_info(user: User) -> JsonObject:
    info: JsonObject = {"username": user.name, "groups": sorted(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    if user.extra:
        info["extra"] = user.extra
    return info


def _action(spec: JsonObject) -> Action:
    resource, path = as_object(spec.get("resourceAttributes")), as_object(spec.get("nonResourceAttributes"))
    if path:
        return Action(str(path.get("verb", "")), path=str(path.get("path", "")))
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    return Action(**{name: str(resource.get(name) or "") for name in names})


def token_request(tokens: Tokens, store: Store, namespace: str, name: str, request: JsonObject) -> JsonObject:
    """The answer to a `TokenRequest` for a ServiceAccount."""
    spec = as_object(request.get("spec"))
    seconds = spec.get("expirationSeconds", 3600)
    if not isinstance(seconds, int) or seconds not in LIFETIMES:
        cause = Cause(
            "spec.expirationSeconds",
            f"Invalid value: {seconds}: must be between {LIFETIMES.start} and {LIFETIMES.stop - 1}",
        )
        raise errors.invalid("TokenRequest", "authentication.k8s.io", name, [cause])
    audiences = [str(audience) for audience in as_list(spec.get("audiences"))]
    pod: JsonObject | None = None
    if at(spec, "boundObjectRef", "kind") == "Pod":
        found = store.get("pods", namespace, str(at(spec, "boundObjectRef", "name")))
        pod = {"name": found.name, "uid": found.uid}
    token, expires = tokens.issue(namespace, name, audiences=audiences, seconds=seconds, pod=pod)
    moment = datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": store.now()},
        "spec": {
            "audiences": audiences,
            "expirationSeconds": expires - int(time.time()),
            **as_object(request.get("spec")),
        },
        "status": {"token": token, "expirationTimestamp": moment},
    }
