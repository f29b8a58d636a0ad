"""How a Teamspace is, from outside: its parts, its way in, what it serves, and what is wrong with any of them."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from codezero.deploy import identity
from codezero.deploy.identity import ROOT, HubState
from codezero.deploy.objects import ENTRY, EXTERNAL_HOST, EXTERNAL_PORT, IDENTITY, POLICY, SETTINGS
from codezero.model.problems import CodezeroError
from codezero.system.installing.applying import manager_of
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.kubernetes.objects import NODES, SERVES
from codezero.system.serving.observing import find, listed
from codezero.wire import policy_file

PARTS: Final = ("system", "orchestrator")
_NAME: Final = "app.kubernetes.io/name"
_VERSION: Final = "app.kubernetes.io/version"
_OURS: Final = {"labelSelector": "app.kubernetes.io/part-of=codezero"}
# What a container waits for in passing, and no reason to tell anybody.
_IN_PASSING: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_NO_IDENTITY: Final = f"Secret {IDENTITY} is missing, and pods wait for it"
_NO_POLICY: Final = f"ConfigMap {POLICY} is missing, and pods wait for it"
_BAD_POLICY: Final = "the policy cannot be used, so that everything is refused"
_NO_ADDRESS: Final = f"the load balancer of Service {ENTRY} has no address yet"
_NOT_JOINED: Final = "it has not joined its Hub yet"
_FIXES: Final = (
    (
        _NOT_JOINED,
        "see the reason; another join token (czctl space join-token NAME) comes in by: "
        "czctl teamspace install --namespace {namespace} --hub URL --join-token-file -",
    ),
    (_NO_IDENTITY, "czctl teamspace identity --namespace {namespace} --name NAME"),
    (_NO_POLICY, "czctl teamspace identity --namespace {namespace} --name NAME --policy FILE"),
    (_BAD_POLICY, "czctl teamspace identity --namespace {namespace} --name NAME --policy FILE brings another"),
    ("Image", "choose an image that the nodes can pull, by the values image and imagePullSecrets"),
    ("CrashLoopBackOff", "kubectl logs --namespace {namespace} deployment/PART --previous shows why it ends"),
    (_NO_ADDRESS, "where nothing gives it one, choose service.type NodePort, or name service.externalHost"),
)


class PartView(msgspec.Struct, frozen=True):
    """A Deployment of ours: pods that are ready with what is wished for, and how many there should be."""

    name: str
    ready: int
    wanted: int
    image: str = ""


class EntryView(msgspec.Struct, frozen=True):
    """Where laptops connect to."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class HubView(msgspec.Struct, frozen=True):
    """The Hub of a Teamspace: whether the cluster has joined it, and whether its channel stands; `reason` says why not."""

    url: str
    joined: bool
    connected: bool
    reason: str = ""

    def __str__(self) -> str:
        how = "connected" if self.connected else "not connected"
        return f"{self.url}   {f'joined, {how}' if self.joined else 'not joined yet'}"


class ServeView(msgspec.Struct, frozen=True):
    """A Service that is served: how the Serve object says it is, and what it says about that."""

    service: str
    state: str
    variants: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """All that was seen. `waiting` is what keeps it from being ready, a line for people each; empty when it is.

    `certificates` are those of the Teamspace's parts, with their ends; none where they may not be looked at.
    """

    manager: str
    version: str
    parts: tuple[PartView, ...]
    entry: EntryView | None
    serve_namespaces: tuple[str, ...]
    serves: tuple[ServeView, ...]
    certificates: dict[str, datetime]
    waiting: tuple[str, ...]
    warnings: tuple[str, ...]
    hub: HubView | None = None


async def look(api: ApiClient, namespace: str) -> Look | None:
    """How the Teamspace in `namespace` is; None where there is none. Raises `ApiError`."""
    apps = f"/apis/apps/v1/namespaces/{namespace}/deployments"
    found = {as_text(at(one, "metadata", "name")): one for one in await listed(api, apps, _OURS)}
    deployments = {name: found[name] for name in PARTS if name in found}
    service = await find(api, f"/api/v1/namespaces/{namespace}/services/{ENTRY}")
    if not deployments and service is None:
        return None
    pods = await listed(api, f"/api/v1/namespaces/{namespace}/pods", _OURS)
    entry, missing = await _entry(api, service)
    content, no_identity = await _identity(api, namespace)
    policy = await find(api, f"/api/v1/namespaces/{namespace}/configmaps/{POLICY}")
    hub = _hub(deployments.values(), policy, content)
    # These first: where one is missing, pods wait for it and say nothing.
    if hub is not None and not hub.joined:
        waiting = [f"{_NOT_JOINED}, {hub.url}{f': {hub.reason}' if hub.reason else ''}"]
    else:
        waiting = [one for one in (no_identity, _policy_problem(policy)) if one]
    waiting += [f"the Deployment {name} is missing" for name in PARTS if name not in deployments]
    for name, deployment in deployments.items():
        waiting += _waits(name, deployment, [one for one in pods if _label(one, _NAME) == name])
    if missing:
        waiting.append(missing)
    serves = tuple(_serve(one) for one in await listed(api, SERVES.path))
    leader = next(iter(deployments.values()), service or {})
    return Look(
        manager=manager_of(leader),
        version=_label(leader, _VERSION),
        parts=tuple(_part(name, one) for name, one in deployments.items()),
        entry=entry,
        serve_namespaces=await _serve_namespaces(api, namespace),
        serves=serves,
        certificates=identity.ends(content or {}),
        waiting=tuple(waiting),
        warnings=tuple(
            f"{one.service} is {one.state}{f': {one.message}' if one.message else ''}"
            for one in serves
            if one.state in {"contested", "refused"} or (one.state == "preparing" and one.message)
        )
        + _apart(hub),
        hub=hub,
    )


def fix_of(waiting: Iterable[str], namespace: str) -> str | None:
    """What an administrator can do about the first of these reasons that has such a thing."""
    for reason in waiting:
        for said, fix in _FIXES:
            if said in reason:
                return fix.format(namespace=namespace)
    return None


async def entry_of(api: ApiClient, namespace: str) -> tuple[EntryView | None, str]:
    """Where laptops connect to, or why nobody can say."""
    return await _entry(api, await find(api, f"/api/v1/namespaces/{namespace}/services/{ENTRY}"))


async def _serve_namespaces(api: ApiClient, namespace: str) -> tuple[str, ...]:
    settings = await find(api, f"/api/v1/namespaces/{namespace}/configmaps/{SETTINGS}")
    text = texts(at(settings, "data")).get("CODEZERO_SERVE_NAMESPACES", "")
    return tuple(text.replace(",", " ").split())


async def _identity(api: ApiClient, namespace: str) -> tuple[dict[str, str] | None, str]:
    """What the Secret holds, and what is wrong where it is missing; None where it may not be looked at."""
    try:
        secret = await find(api, f"/api/v1/namespaces/{namespace}/secrets/{IDENTITY}")
    except ApiError as error:
        if error.status == 403:
            return None, ""
        raise
    return ({}, _NO_IDENTITY) if secret is None else (identity.secret_content(secret), "")


def _hub(deployments: Iterable[Json], policy: Json | None, content: dict[str, str] | None) -> HubView | None:
    """The Hub that the parts are told of, whether the identity is by it, and what the leading System says about it."""
    variables = [
        as_object(one)
        for deployment in deployments
        for container in as_list(at(deployment, "spec", "template", "spec", "containers"))
        for one in as_list(as_object(container).get("env"))
    ]
    url = next((as_text(one.get("value")) for one in variables if one.get("name") == "CODEZERO_HUB_URL"), "")
    if not url:
        return None
    state = identity.hub_state(policy)
    if state is not None and state.url != url:
        return HubView(url, joined=False, connected=False)
    state = state or HubState(url)
    # What the Hub has signed is the truth; what is said about it only where that may not be looked at.
    joined = state.joined if content is None else ROOT in content
    return HubView(url, joined, joined and state.connected, state.reason)


def _apart(hub: HubView | None) -> tuple[str, ...]:
    if hub is None or not hub.joined or hub.connected:
        return ()
    return (f"it goes on without its Hub: {hub.reason or 'there is no channel'}",)


def _policy_problem(found: Json | None) -> str:
    """What keeps the parts from knowing who may do what."""
    if found is None:
        return _NO_POLICY
    try:
        policy_file.read(texts(at(found, "data")).get("policy.json", "").encode())
    except CodezeroError as error:
        return f"{_BAD_POLICY}: {error.detail}"
    return ""


def _label(content: Json, name: str) -> str:
    return texts(at(content, "metadata", "labels")).get(name, "")


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _part(name: str, deployment: Json) -> PartView:
    status = as_object(deployment.get("status"))
    containers = [as_object(one) for one in as_list(at(deployment, "spec", "template", "spec", "containers"))]
    return PartView(
        name=name,
        ready=min(_number(status.get("readyReplicas")), _number(status.get("updatedReplicas"))),
        wanted=_wanted(deployment),
        image=as_text(containers[0].get("image")) if containers else "",
    )


def _wanted(deployment: Json) -> int:
    replicas = at(deployment, "spec", "replicas")
    return replicas if isinstance(replicas, int) else 1


def _waits(name: str, deployment: Json, pods: list[Json]) -> Iterator[str]:
    """Why a part is not ready as it is wished for."""
    status, wanted = as_object(deployment.get("status")), _wanted(deployment)
    is_seen = _number(status.get("observedGeneration")) >= _number(at(deployment, "metadata", "generation"))
    updated, ready = _number(status.get("updatedReplicas")), _number(status.get("readyReplicas"))
    if is_seen and updated == wanted and ready == wanted and _number(status.get("replicas")) == wanted:
        return
    # Counts first, the reasons after them: both may change, and people read from the left.
    reasons = sorted({*_refusals(deployment), *(reason for pod in pods for reason in _reasons(pod))})
    new = "" if updated >= wanted else f", {updated} of this version"
    yield f"{name}: {ready} of {wanted} pods ready{new}{''.join(f'; {reason}' for reason in reasons)}"


def _refusals(deployment: Json) -> Iterator[str]:
    """That pods cannot even be made: quotas, admission."""
    for one in map(as_object, as_list(at(deployment, "status", "conditions"))):
        if one.get("type") == "ReplicaFailure" and one.get("status") == "True":
            yield as_text(one.get("message"))


def _reasons(pod: Json) -> Iterator[str]:
    for one in map(as_object, as_list(at(pod, "status", "conditions"))):
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            yield f"no node takes a pod: {as_text(one.get('message')) or as_text(one.get('reason'))}"
    for one in map(as_object, as_list(at(pod, "status", "containerStatuses"))):
        state = as_object(at(one, "state", "waiting"))
        reason, message = as_text(state.get("reason")), as_text(state.get("message"))
        if reason in _IN_PASSING:
            continue
        image = f" {as_text(one.get('image'))}" if "Image" in reason else ""
        last = at(one, "lastState", "terminated", "exitCode")
        ended = f" (it ended with {last})" if isinstance(last, int) else ""
        yield f"{reason}{image}{f': {message}' if message else ''}{ended}"


async def _entry(api: ApiClient, service: Json | None) -> tuple[EntryView | None, str]:
    if service is None:
        return None, f"the Service {ENTRY} is missing"
    annotations = texts(at(service, "metadata", "annotations"))
    ports = [as_object(one) for one in as_list(at(service, "spec", "ports"))]
    port = as_object(next((one for one in ports if one.get("name") == "tunnel"), None))
    if host := annotations.get(EXTERNAL_HOST):
        given = annotations.get(EXTERNAL_PORT, "")
        return EntryView(host, int(given) if given.isdigit() else _number(port.get("port"))), ""
    match at(service, "spec", "type"):
        case "LoadBalancer":
            for one in map(as_object, as_list(at(service, "status", "loadBalancer", "ingress"))):
                if address := as_text(one.get("ip")) or as_text(one.get("hostname")):
                    return EntryView(address, _number(port.get("port"))), ""
            return None, _NO_ADDRESS
        case "NodePort":
            if address := _node_address(await listed(api, NODES.path)):
                return EntryView(address, _number(port.get("nodePort"))), ""
            return None, "no node has an address"
        case _:
            return None, ""


def _node_address(nodes: Iterable[Json]) -> str:
    """An address of a node by which others reach it, those from outside first."""
    addresses = [as_object(one) for node in nodes for one in as_list(at(node, "status", "addresses"))]
    for kind in ("ExternalIP", "InternalIP"):
        for one in addresses:
            address = as_text(one.get("address"))
            if one.get("type") == kind and address and not _is_loopback(address):
                return address
    return ""


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False  # a name, which nothing keeps clouds from writing there


def _serve(serve: Json) -> ServeView:
    return ServeView(
        service=f"{as_text(at(serve, 'metadata', 'namespace'))}/{as_text(at(serve, 'metadata', 'name'))}",
        state=as_text(at(serve, "status", "state")) or "pending",
        variants=len(as_list(at(serve, "spec", "routes"))),
        message=as_text(at(serve, "status", "message")),
    )
