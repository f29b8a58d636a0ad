"""The steps of a rewiring: one write each, with its precondition, or to wait; pure.

A write that was decided on something old fails at the API server, and is decided again.
"""

from dataclasses import dataclass
from typing import Final, Literal

from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at
from codezero.system.serving import manifests
from codezero.system.serving.manifests import RouterSettings, Trust
from codezero.system.serving.seen import Seen
from codezero.system.serving.serves import ServeObject, path_of
from codezero.wire.serve_resource import FINALIZER, GROUP

# Annotations of Serve objects: routes that an order ended, so that nobody is told twice; and that the pods are to be restarted once their Service
# leads to its Router, with the moment of the wish as its value.
ENDED: Final = f"{GROUP}/ended-by-order"
RESTART: Final = f"{GROUP}/restart"
RESTARTED: Final = "kubectl.kubernetes.io/restartedAt"
LOOK_AGAIN_SECONDS: Final = 2.0

CORE: Final = "/api/v1/namespaces"
APPS: Final = "/apis/apps/v1/namespaces"
NETWORKING: Final = "/apis/networking.k8s.io/v1/namespaces"
POLICY: Final = "/apis/policy/v1/namespaces"


@dataclass(frozen=True, slots=True)
class Write:
    """One write to the API. `what` names it for people and logs."""

    what: str
    verb: Literal["create", "replace", "patch", "merge", "delete"]
    path: str
    body: object = None
    uid: str | None = None
    resource_version: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something changes, or until the moment `until` (UNIX seconds)."""

    why: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing is left of it."""


Step = Write | Wait | Gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """The moment, the settings, the key of seals, and since when the team's pods have been seen to have their traffic back (None: not yet)."""

    now: float
    settings: RouterSettings
    trust: Trust | None
    key: bytes
    back_since: float | None = None


def point(seen: Seen, what: str, selector: dict[str, str]) -> Write:
    """Change the Service's selector, if it still is as seen."""
    assert seen.service is not None
    path = f"{CORE}/{seen.ref.namespace}/services/{seen.ref.name}"
    return json_patch(
        what,
        path,
        as_text(at(seen.service, "metadata", "resourceVersion")),
        [
            {"op": "test", "path": "/metadata/uid", "value": at(seen.service, "metadata", "uid")},
            {"op": "test", "path": "/spec/selector", "value": at(seen.service, "spec", "selector")},
            {"op": "replace", "path": "/spec/selector", "value": selector},
        ],
    )


def json_patch(what: str, path: str, version: str, operations: list[Json]) -> Write:
    """The write that does `operations` on the version seen."""
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": version}
    return Write(what, "patch", path, [test, *operations])


def hold(seen: Seen, serve: ServeObject) -> Write:
    """Keep the Serve object until we let go of it, and have it go with its Service."""
    finalizers = [*(one for one in serve.finalizers if one != FINALIZER), FINALIZER]
    uid = as_text(at(seen.service, "metadata", "uid"))
    owners = [*as_list(at(seen.content, "metadata", "ownerReferences"))]
    if serve.owner_uid is None:
        owners.append(manifests.owner_of(serve.ref, uid))
    return json_patch(
        "hold the Serve object",
        path_of(serve.ref),
        serve.resource_version,
        [
            {"op": "add", "path": "/metadata/finalizers", "value": finalizers},
            {"op": "add", "path": "/metadata/ownerReferences", "value": owners},
        ],
    )


def release(serve: ServeObject) -> Write:
    """Let go of the Serve object."""
    rest = [one for one in serve.finalizers if one != FINALIZER]
    return json_patch(
        "let go of the Serve object",
        path_of(serve.ref),
        serve.resource_version,
        [{"op": "add", "path": "/metadata/finalizers", "value": rest}],
    )


def delete(what: str, path: str, existing: Json) -> Write:
    """Delete the very object that was seen."""
    return Write(what, "delete", path, uid=as_text(at(existing, "metadata", "uid")) or None)


def delete_serve(serve: ServeObject) -> Write:
    """Delete the Serve object, of the version seen: a route that came meanwhile is not lost."""
    return Write(
        "delete the Serve object",
        "delete",
        path_of(serve.ref),
        uid=serve.uid,
        resource_version=serve.resource_version,
    )


def without_routes(serve: ServeObject, content: Json, ids: frozenset[str]) -> Write:
    """The write that removes routes from a Serve object."""
    routes = [one for one in as_list(at(content, "spec", "routes")) if as_object(one).get("id") not in ids]
    return json_patch(
        "end routes",
        path_of(serve.ref),
        serve.resource_version,
        [{"op": "add", "path": "/spec/routes", "value": routes}],
    )
