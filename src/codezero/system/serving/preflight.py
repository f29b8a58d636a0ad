"""Which services can be served, and what those who use them should know before; pure functions.

Refused is what would harm people who do not take part: a service whose pods are asked for by other ways than its address, whose callers could not
reach a Router, or whose protocols a Router cannot carry.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import Condition
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror, PortPair
from codezero.routing.compile import port_kind
from codezero.routing.plan import PortKind
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.serving import naming, policies
from codezero.system.serving.serves import served_ports

API_SERVICE = ServiceRef("default", "kubernetes")
# By what pods join the meshes that most people have.
_MESHED = {
    "sidecar.istio.io/inject": {"true"},
    "linkerd.io/inject": {"enabled", "ingress"},
    "consul.hashicorp.com/connect-inject": {"true"},
}
# Deployments give their pods the first label themselves, and the second is ours, so a Router cannot have them with the value it needs.
_UNAVAILABLE_KEYS = frozenset({"pod-template-hash", naming.SERVICE})


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a Service: the NetworkPolicies of its namespace and what makes pods there, all as JSON."""

    network_policies: tuple[Json, ...] = ()
    stateful_sets: tuple[Json, ...] = ()
    deployments: tuple[Json, ...] = ()


def refusal(ref: ServiceRef, spec: Json | None, around: Surroundings, *, own_namespace: str) -> str | None:
    """Why the Service with that `spec` (as its team wants it) cannot be led through a Router; None where it can."""
    if spec is None:
        return f"there is no service {ref}"
    if ref == API_SERVICE:
        return f"{ref} is the Kubernetes API itself"
    if ref.namespace == own_namespace:
        return f"{ref} is a part of Codezero"
    return (
        _kind_refusal(ref, spec, around)
        or _port_refusal(ref, spec)
        or policies.refusal(ref, spec, around.network_policies)
    )


def _kind_refusal(ref: ServiceRef, spec: Json, around: Surroundings) -> str | None:
    selector = as_object(spec.get("selector"))
    if spec.get("type") == "ExternalName":
        return f"{ref} is an ExternalName: it has no pods and no address in the cluster"
    if spec.get("clusterIP") in {"None", "", None}:
        governed = [one for one in around.stateful_sets if at(one, "spec", "serviceName") == ref.name]
        if governed:
            name = as_text(at(governed[0], "metadata", "name"))
            return f"{ref} is headless and gives the pods of StatefulSet {name} their names"
        return f"{ref} is headless: callers go to its pods directly, past any Router"
    if not selector:
        return f"{ref} has no selector: somebody else decides where it leads"
    if unavailable := sorted(_UNAVAILABLE_KEYS & selector.keys()):
        return f"{ref} selects its pods by {unavailable[0]}, a label that a Router cannot have"
    if spec.get("internalTrafficPolicy") == "Local":
        return f"{ref} has internalTrafficPolicy Local: callers on nodes without a Router would find nobody"
    if spec.get("publishNotReadyAddresses"):
        return f"{ref} publishes addresses that are not ready: callers would reach Routers that are not ready either"
    return None


def _port_refusal(ref: ServiceRef, spec: Json) -> str | None:
    ports = [as_object(port) for port in as_list(spec.get("ports"))]
    other = sorted({as_text(port.get("protocol")) for port in ports} - {"TCP", ""})
    if other:
        return f"{ref} also offers {' and '.join(other)}, which a Router cannot carry"
    return None if ports else f"{ref} has no port"


def refuse(ref: ServiceRef, spec: Json | None, around: Surroundings, *, own_namespace: str) -> Json:
    """`spec`, or raises `CodezeroError` (SERVICE_UNKNOWN, NOT_SERVABLE) with the reason of `refusal`."""
    reason = refusal(ref, spec, around, own_namespace=own_namespace)
    if spec is None:
        raise CodezeroError(problems.SERVICE_UNKNOWN, str(reason), fix="`czctl services list` shows what there is")
    if reason is not None:
        raise CodezeroError(
            problems.NOT_SERVABLE,
            f"{reason}, so it cannot be served",
            fix="serve another one, or make a plain Service for the same pods: type ClusterIP, a selector, TCP ports",
        )
    return spec


def refuse_variant(
    ref: ServiceRef, spec: Json, *, ports: Iterable[PortPair], condition: Condition, mirror: Mirror | None
) -> None:
    """Raises `CodezeroError` (BAD_SERVE, BAD_CONDITION) where the Service lacks a port, or one cannot be split by that condition."""
    offered = {one.port.port: one.port for one in served_ports(spec, None)}
    shown = ", ".join(map(str, sorted(offered)))
    for pair in ports:
        port = offered.get(pair.remote)
        if port is None:
            raise CodezeroError(
                problems.BAD_SERVE, f"{ref} has no TCP port {pair.remote}; it has {shown}", fix="name one of its ports"
            )
        if port_kind(port) is not PortKind.RAW:
            continue
        spoken = port.app_protocol or f"no HTTP, as its name {port.name} says"
        if mirror is not None:
            raise CodezeroError(
                problems.BAD_SERVE,
                f"port {pair.remote} of {ref} speaks {spoken}: there are no requests to copy",
                fix="mirror a port that speaks HTTP",
            )
        if not condition.is_default:
            raise CodezeroError(
                problems.BAD_CONDITION,
                f"port {pair.remote} of {ref} speaks {spoken}: whole connections can be taken, single requests cannot",
                fix="use --condition-type default, or serve a port that speaks HTTP",
            )


def effects(ref: ServiceRef, spec: Json, around: Surroundings, *, is_switched: bool) -> tuple[str, ...]:
    """What people who use the service should know, a sentence each."""
    found = [
        f"the pods of {ref} see the address of its Router, not of the caller; rules and logs by client address see the Router too"
    ]
    if spec.get("sessionAffinity") == "ClientIP":
        found.append("session affinity keeps callers at one Router, which is one client to the pods")
    if spec.get("type") in {"LoadBalancer", "NodePort"}:
        found.append(
            "health checks of load balancers reach the Router, which is healthy when it is, not when the pods are"
        )
        if spec.get("externalTrafficPolicy") == "Local":
            found.append("externalTrafficPolicy is Local: from outside only nodes that run a Router answer")
    if spec.get("trafficDistribution"):
        found.append("traffic distribution prefers near Routers, not near pods")
    unknown = [str(one.port.port) for one in served_ports(spec, None) if port_kind(one.port) is PortKind.UNKNOWN]
    if unknown:
        found.append(
            f"port {', '.join(unknown)} does not say what it speaks: with conditions other than `default` connections are looked at, and one "
            "whose client sends something and ends its side at once is lost; give the port an appProtocol, or a name like http-web or tcp-db"
        )
    if any(map(_is_meshed, makers_of(spec, (*around.deployments, *around.stateful_sets)))):
        found.append(
            "the pods are part of a service mesh and the Router is not: where only its members are let in, it is not"
        )
    if not is_switched:
        found.append(
            "connections opened before stay with the pods until they end; --restart ends them by restarting the pods"
        )
    found.extend(policies.effects(around.network_policies, pods_of(spec, around)))
    return tuple(found)


def pods_of(spec: Json, around: Surroundings) -> list[dict[str, str]]:
    """The labels of the pods behind a Service as far as Deployments and StatefulSets tell; at least those it selects by."""
    makers = makers_of(spec, (*around.deployments, *around.stateful_sets))
    return [template_labels(one) for one in makers] or [selector_of(spec)]


def makers_of(spec: Json, makers: Iterable[Json]) -> list[Json]:
    """Those of `makers` (Deployments, StatefulSets) whose pods a Service selects."""
    selector = selector_of(spec).items()
    return [one for one in makers if selector <= template_labels(one).items()]


def _is_meshed(maker: Json) -> bool:
    metadata = at(maker, "spec", "template", "metadata")
    said = {**texts(at(metadata, "labels")), **texts(at(metadata, "annotations"))}
    return any(said.get(name) in values for name, values in _MESHED.items())


def selector_of(spec: Json) -> dict[str, str]:
    """The selector of a Service's spec."""
    return texts(spec.get("selector"))


def template_labels(maker: Json) -> dict[str, str]:
    """The labels that a Deployment or StatefulSet gives its pods."""
    return texts(at(maker, "spec", "template", "metadata", "labels"))
