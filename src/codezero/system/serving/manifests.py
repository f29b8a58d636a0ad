"""The objects we make for a served Service: its origin Service, and the Router's ServiceAccount, Service, Deployment and budget; pure functions.

Each says whose it is: the owner reference lets the cluster clean up after a deleted Service with no System alive, the label lets people find it, and
the annotation `codezero.io/content` is the hash of what we wanted, so that a difference is seen without comparing defaults.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from codezero.deploy.values import Resources, Router
from codezero.model.ids import TeamspaceId
from codezero.model.serve import Serve
from codezero.model.services import ServiceRef
from codezero.routing.compile import ServedPort, compile_plan
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.serving import naming
from codezero.system.serving.serves import served_ports, target_of
from codezero.wire.route_plan import to_wire
from codezero.wire.router import AUDIENCE
from codezero.wire.serve_resource import GROUP, MANAGED_BY, OURS

DEFAULT_IMAGE: Final = "codezero-teamspace:latest"
CONTENT: Final = f"{GROUP}/content"
FOLDER: Final = "/run/codezero-router"
TOKEN_FOLDER: Final = "/var/run/secrets/codezero"  # noqa: S105 - where it is, not what it is
_PROBE_PORT: Final = 8803
_PORT_FIELDS: Final = ("name", "protocol", "port", "targetPort", "appProtocol")
_SHARED_FIELDS: Final = (
    "sessionAffinity",
    "sessionAffinityConfig",
    "ipFamilies",
    "ipFamilyPolicy",
    "publishNotReadyAddresses",
)
_USER: Final = 65532


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """How Routers run: image, pods of each and what they are given, seconds they stay after the last serve and after traffic left them, and where the
    System is.
    """

    image: str = DEFAULT_IMAGE
    replicas: int = 2
    resources: Resources = Router().resources
    linger: float = 1800.0
    drain: float = 30.0
    system: str = "system.codezero.svc:8801"
    log_level: str = "info"
    log_format: str = "json"


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom Routers believe: the Teamspace and its authority (PEM)."""

    teamspace: TeamspaceId
    authority: str


@dataclass(frozen=True, slots=True)
class Served:
    """A Service as its team wants it: name, uid, spec, the numbers behind its named target ports, and the ports that are looked into."""

    ref: ServiceRef
    uid: str
    original: Json
    targets: Mapping[str, int]
    looked_into: frozenset[int] = frozenset()

    @property
    def selector(self) -> dict[str, str]:
        """The team's own selector."""
        return texts(self.original.get("selector"))

    @property
    def switched(self) -> dict[str, str]:
        """The selector that leads to the Router."""
        return naming.switched(self.selector, self.ref)

    @property
    def ports(self) -> tuple[ServedPort, ...]:
        """Its ports and the numbers behind them."""
        return served_ports(self.original, self.targets, self.looked_into)


def origin_service(served: Served) -> Json:
    """The Service that leads to the team's own pods, whatever the served one's selector says."""
    spec: Json = {"type": "ClusterIP", "selector": served.selector, "ports": _ports(served)}
    spec |= {name: served.original[name] for name in _SHARED_FIELDS if name in served.original}
    return _object("v1", "Service", naming.origin_of(served.ref), served, {"spec": spec})


def router_account(served: Served) -> Json:
    """Who the Router is; it has no rights in the cluster."""
    content = {"automountServiceAccountToken": False}
    return _object("v1", "ServiceAccount", naming.router_of(served.ref), served, content)


def router_service(served: Served) -> Json:
    """The Service by whose slices we see whether the Router is ready: it selects exactly what the switched one will, through the same ports."""
    spec: Json = {"type": "ClusterIP", "clusterIP": "None", "selector": served.switched, "ports": _ports(served)}
    spec |= {name: served.original[name] for name in ("ipFamilies", "ipFamilyPolicy") if name in served.original}
    return _object("v1", "Service", naming.router_of(served.ref), served, {"spec": spec})


def router_deployment(served: Served, *, origin: str, settings: RouterSettings, trust: Trust) -> Json:
    """The Router. `origin` is the origin Service's ClusterIP; routes are not part of it, they travel by stream."""
    spec: Json = {
        "replicas": settings.replicas,
        "revisionHistoryLimit": 1,
        "selector": {"matchLabels": {naming.SERVICE: naming.hash_of(served.ref)}},
        # A new pod is ready before an old one goes.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": router_labels(served), "annotations": {naming.SERVICE: served.ref.name}},
            "spec": _pod(served, origin=origin, settings=settings, trust=trust),
        },
    }
    return _object("apps/v1", "Deployment", naming.router_of(served.ref), served, {"spec": spec})


def router_budget(served: Served) -> Json:
    """Let nodes be drained one Router at a time: the next one goes when the first is ready elsewhere.

    One Router alone may always go, and one that is not ready is in nobody's way: no drain waits for what does not come by itself.
    """
    spec: Json = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": {naming.SERVICE: naming.hash_of(served.ref)}},
    }
    return _object("policy/v1", "PodDisruptionBudget", naming.router_of(served.ref), served, {"spec": spec})


def network_policy(served: Served, name: str, spec: Json) -> Json:
    """A NetworkPolicy of ours."""
    ref = ServiceRef(served.ref.namespace, name)
    return _object("networking.k8s.io/v1", "NetworkPolicy", ref, served, {"spec": spec})


def content_hash(content: object) -> str:
    """A short name for what an object should say."""
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:16]


def _object(api_version: str, kind: str, ref: ServiceRef, served: Served, content: Json) -> Json:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": ref.name,
            "namespace": ref.namespace,
            "labels": labels_of(served.ref),
            "annotations": {naming.SERVICE: served.ref.name, CONTENT: content_hash(content)},
            "ownerReferences": [owner_of(served.ref, served.uid)],
        },
        **content,
    }


def owner_of(service: ServiceRef, uid: str) -> Json:
    """The owner reference to a Service: what has it goes with that very Service, not with one made anew."""
    return {"apiVersion": "v1", "kind": "Service", "name": service.name, "uid": uid}


def labels_of(service: ServiceRef) -> dict[str, str]:
    """The labels of everything we make for a service."""
    return {MANAGED_BY: OURS, naming.SERVICE: naming.hash_of(service)}


def router_labels(served: Served) -> dict[str, str]:
    """The labels of Router pods. Where the team selects by a label that is ours too, theirs counts: the Service has to find the pods."""
    return {**labels_of(served.ref), **served.switched}


def _ports(served: Served) -> list[Json]:
    return [
        {name: port[name] for name in _PORT_FIELDS if port.get(name)}
        for port in map(as_object, as_list(served.original.get("ports")))
    ]


def _pod(served: Served, *, origin: str, settings: RouterSettings, trust: Trust) -> Json:
    plan = compile_plan(Serve(served.ref), origin=origin, ports=served.ports, holders={})
    targets = {port.target for port in served.ports}
    probes = next(number for number in range(_PROBE_PORT, 65536) if number not in targets)
    environment: list[Json] = [
        {"name": "CODEZERO_PLAN", "value": msgspec.json.encode(to_wire(plan)).decode()},
        {"name": "CODEZERO_SYSTEM", "value": settings.system},
        {"name": "CODEZERO_AUTHORITY", "value": trust.authority},
        {"name": "CODEZERO_TEAMSPACE", "value": trust.teamspace},
        {"name": "CODEZERO_TOKEN_FILE", "value": f"{TOKEN_FOLDER}/token"},
        {"name": "CODEZERO_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "CODEZERO_PROBES", "value": f"0.0.0.0:{probes}"},
        {"name": "CODEZERO_DRAIN_SECONDS", "value": str(int(settings.drain))},
        {"name": "CODEZERO_ROUTER_FOLDER", "value": FOLDER},
        {"name": "CODEZERO_LOG_LEVEL", "value": settings.log_level},
        {"name": "CODEZERO_LOG_FORMAT", "value": settings.log_format},
    ]
    router: Json = {
        "name": "router",
        "image": settings.image,
        # The only container: one beside it would take the pod's readiness, and with it the team's traffic, along when it dies.
        "command": ["czrouter", "run"],
        "env": environment,
        # Those of the Service alone: by them it is seen where a Router listens.
        "ports": _container_ports(served),
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": probes},
            "periodSeconds": 1,
            "timeoutSeconds": 2,
            "failureThreshold": 3,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": probes},
            "periodSeconds": 10,
            "timeoutSeconds": 2,
            "failureThreshold": 6,
        },
        "volumeMounts": [
            {"name": "router", "mountPath": FOLDER},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - the container's own
        ],
        "resources": {name: amounts for name, amounts in msgspec.to_builtins(settings.resources).items() if amounts},
        "securityContext": _confined(),
    }
    return {
        "serviceAccountName": naming.router_of(served.ref).name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": int(settings.drain) + 15,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
            # A Router listens where the pods do, also below 1024; restricted pods may set this one.
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {naming.SERVICE: naming.hash_of(served.ref)}},
            }
        ],
        "containers": [router],
        "volumes": [
            {"name": "router", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "64Mi"}},
            {
                "name": "token",
                "projected": {
                    "sources": [
                        {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
                    ]
                },
            },
        ],
    }


def _confined() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _container_ports(served: Served) -> list[Json]:
    """Ports with the names by which the Service asks for them: a name means the same number in all pods of a Router."""
    found: dict[tuple[str, int], Json] = {}
    for port in map(as_object, as_list(served.original.get("ports"))):
        number = target_of(port, served.targets)
        name = as_text(port.get("targetPort"))
        found[name, number] = {"containerPort": number, "protocol": "TCP", **({"name": name} if name else {})}
    named = {number for name, number in found if name}
    return [content for (name, number), content in sorted(found.items()) if name or number not in named]


def targets_of(original: Json, known: Mapping[str, int], seen: Mapping[str, int]) -> dict[str, int]:
    """The numbers for named target ports: those decided before, else what pods have now (`seen`, by the port's name), else any free one.

    Two names never share a number by accident: a Router could not tell them apart.
    """
    ports = [as_object(port) for port in as_list(original.get("ports"))]
    taken = {port["targetPort"] for port in ports if isinstance(port.get("targetPort"), int)}
    found: dict[str, int] = {}
    for port in ports:
        name = port.get("targetPort")
        if not isinstance(name, str) or name in found:
            continue
        wanted = known.get(name) or seen.get(as_text(port.get("name"))) or port["port"]
        while wanted in taken and seen.get(as_text(port.get("name"))) != wanted:
            wanted = wanted + 1 if wanted < 65535 else 1024
        taken.add(wanted)
        found[name] = wanted
    return found


def same_content(existing: Json, wanted: Json) -> bool:
    """Whether an object of ours says what is wanted: it was last written so, and nobody turned where it leads."""
    if _annotation(existing) != _annotation(wanted):
        return False
    spec, asked = as_object(existing.get("spec")), as_object(wanted.get("spec"))
    if wanted["kind"] != "Service":
        return True
    return spec.get("selector") == asked["selector"] and ports_of(spec) == ports_of(asked)


def ports_of(spec: Json) -> list[Json]:
    """The ports of a Service's spec as far as they decide where connections go, defaults filled in."""
    ports = [as_object(port) for port in as_list(spec.get("ports"))]
    return [
        {
            "name": as_text(port.get("name")),
            "protocol": port.get("protocol") or "TCP",
            "port": port.get("port"),
            "targetPort": port.get("targetPort") or port.get("port"),
            "appProtocol": port.get("appProtocol"),
        }
        for port in ports
    ]


def _annotation(content: Json) -> str:
    return as_text(at(content, "metadata", "annotations", CONTENT))


def owned_by(content: Json, uid: str) -> bool:
    """Whether an object has an owner reference to that uid."""
    references: Sequence[Any] = as_list(at(content, "metadata", "ownerReferences"))
    return any(as_object(reference).get("uid") == uid for reference in references)


def is_ours(content: Json) -> bool:
    """Whether an object bears our label."""
    return at(content, "metadata", "labels", MANAGED_BY) == OURS
