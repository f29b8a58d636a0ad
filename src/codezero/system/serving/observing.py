"""Reads what decides about a served Service straight from the API server: always the newest, never a mirror that may lag. All raise `ApiError`."""

from collections.abc import Mapping

import msgspec

from codezero.model.services import ServiceRef
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.kubernetes.objects import ServeResource
from codezero.system.serving import naming
from codezero.system.serving.preflight import Surroundings
from codezero.system.serving.seen import Endpoints
from codezero.system.serving.serves import ServeObject, read_serve

_SERVICE_LABEL = "kubernetes.io/service-name"


async def find(api: ApiClient, path: str) -> Json | None:
    """The object at `path`; None where there is none."""
    try:
        return as_object(msgspec.json.decode(await api.get(path, {})))
    except ApiError as error:
        if error.is_missing:
            return None
        raise


async def listed(api: ApiClient, path: str, parameters: Mapping[str, str] | None = None) -> list[Json]:
    """The objects of a collection; none where the cluster has no such kind."""
    try:
        content = msgspec.json.decode(await api.get(path, parameters or {}))
    except ApiError as error:
        if error.is_missing:
            return []
        raise
    return [as_object(one) for one in as_list(as_object(content).get("items"))]


def service_path(ref: ServiceRef) -> str:
    """Where a Service is in the API."""
    return f"/api/v1/namespaces/{ref.namespace}/services/{ref.name}"


def serve_of(content: Json, service: Json | None, *, key: bytes | None) -> ServeObject:
    """The Serve object that `content` is, beside its Service."""
    living = service is not None and at(service, "metadata", "deletionTimestamp") is None
    uid = as_text(at(service, "metadata", "uid")) if living else None
    return read_serve(msgspec.convert(content, ServeResource), service_uid=uid, key=key)


def own_spec(ref: ServiceRef, service: Json | None, serve: ServeObject | None) -> Json | None:
    """The spec of a Service as its team wants it: with its own selector also while it leads to a Router."""
    if service is None:
        return None
    spec = as_object(service.get("spec"))
    selector = texts(spec.get("selector"))
    known = {} if serve is None else texts(as_object(serve.status.original).get("selector"))
    if known and naming.bears_ours(selector, ref):
        return {**spec, "selector": naming.own_selector(selector, ref, known)}
    return spec


async def surroundings(api: ApiClient, ref: ServiceRef) -> tuple[Surroundings, tuple[Json, ...]]:
    """What others have around a Service, and the NetworkPolicies that we made for it."""
    policies = await listed(api, f"/apis/networking.k8s.io/v1/namespaces/{ref.namespace}/networkpolicies")
    apps = f"/apis/apps/v1/namespaces/{ref.namespace}"
    stateful_sets = tuple(await listed(api, f"{apps}/statefulsets"))
    deployments = tuple(one for one in await listed(api, f"{apps}/deployments") if _served_by(one) is None)
    others = tuple(one for one in policies if _served_by(one) is None)
    ours = tuple(one for one in policies if _served_by(one) == naming.hash_of(ref))
    return Surroundings(others, stateful_sets, deployments), ours


def _served_by(content: Json) -> object:
    return at(content, "metadata", "labels", naming.SERVICE)


async def endpoints(api: ApiClient, namespace: str, names: tuple[str, ...]) -> dict[str, Endpoints]:
    """The ready endpoints of Services, by their slices."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    found: dict[str, dict[str, frozenset[tuple[str, int]]]] = {name: {} for name in names}
    for one in await listed(api, path, {"labelSelector": f"{_SERVICE_LABEL} in ({','.join(names)})"}):
        _add_ready(one, found.setdefault(as_text(at(one, "metadata", "labels", _SERVICE_LABEL)), {}))
    return {name: Endpoints(ready) for name, ready in found.items()}


def _add_ready(content: Json, into: dict[str, frozenset[tuple[str, int]]]) -> None:
    ports = frozenset(
        (as_text(as_object(port).get("name")), number)
        for port in as_list(content.get("ports"))
        if isinstance(number := as_object(port).get("port"), int)
    )
    for endpoint in map(as_object, as_list(content.get("endpoints"))):
        if at(endpoint, "conditions", "ready") is False:
            continue
        # Only the first address counts, as for kube-proxy.
        for address in as_list(endpoint.get("addresses"))[:1]:
            into[str(address)] = into.get(str(address), frozenset()) | ports
