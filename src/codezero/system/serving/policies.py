"""NetworkPolicies around a served service: what has to be allowed so that a Router stands where the pods stood; pure functions.

Policies only ever add up, so an additional allowance takes nothing away: the pods also answer their Router, and the Router answers whom the pods
answer. A policy on the way out of callers names pods by labels that a Router does not have, which nothing of ours can mend: that is refused.
"""

from collections.abc import Iterable, Mapping, Sequence

from codezero.model.services import ServiceRef
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.serving import manifests, naming
from codezero.system.serving.manifests import Served


def selects(selector: object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (metav1.LabelSelector) chooses a pod with these labels; an empty one chooses all."""
    document = as_object(selector)
    if any(labels.get(name) != value for name, value in as_object(document.get("matchLabels")).items()):
        return False
    return all(_meets(as_object(one), labels) for one in as_list(document.get("matchExpressions")))


def _meets(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = as_text(expression.get("key")), as_list(expression.get("values"))
    match expression.get("operator"):
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case _:
            return False


def guarding(network_policies: Iterable[Json], pods: Sequence[Mapping[str, str]]) -> list[Json]:
    """The policies, not ours, that say who may reach pods with one of these sets of labels."""
    return [
        policy
        for policy in _of_others(network_policies)
        if _is_about(policy, "Ingress") and any(selects(at(policy, "spec", "podSelector"), labels) for labels in pods)
    ]


def _is_about(policy: Json, direction: str) -> bool:
    kinds = as_list(at(policy, "spec", "policyTypes"))
    return direction in kinds if kinds else direction == "Ingress" or at(policy, "spec", "egress") is not None


def refusal(ref: ServiceRef, spec: Json, network_policies: Iterable[Json]) -> str | None:
    """Why callers in the namespace could not reach a Router: a policy on their way out that allows the pods by their labels alone."""
    selector = texts(spec.get("selector"))
    router = {**selector, **naming.switched(selector, ref)}
    for policy in network_policies:
        if not _is_about(policy, "Egress"):
            continue
        chosen = [
            as_object(peer).get("podSelector")
            for rule in as_list(at(policy, "spec", "egress"))
            for peer in as_list(as_object(rule).get("to"))
            if as_object(peer).get("podSelector") is not None and as_object(peer).get("namespaceSelector") is None
        ]
        if any(selects(one, selector) and not selects(one, router) for one in chosen):
            name = as_text(at(policy, "metadata", "name"))
            return f"NetworkPolicy {name} lets callers out to the pods of {ref} by their labels, which a Router does not have"
    return None


def allowances(
    served: Served, network_policies: Sequence[Json], pods: Sequence[Mapping[str, str]], *, system: str
) -> list[Json]:
    """The policies to add: the Router reaches the pods, whoever reaches the pods reaches the Router, and the Router gets out where it has to.

    Only where policies of others guard the pods or hold the Router in; `system` is where Routers find the System.
    """
    router = {"matchLabels": {naming.SERVICE: naming.hash_of(served.ref)}}
    own_pods = {"matchLabels": served.selector}
    name = naming.router_of(served.ref).name
    found: list[Json] = []
    guards = guarding(network_policies, pods)
    if guards:
        rules = [rule for policy in guards for rule in as_list(at(policy, "spec", "ingress"))]
        found = [
            _policy(served, name, own_pods, "Ingress", [{"from": [{"podSelector": router}]}]),
            _policy(served, f"{name}-callers", router, "Ingress", rules),
        ]
    if _holding(network_policies, manifests.router_labels(served)):
        found.append(_policy(served, f"{name}-ways", router, "Egress", _ways(own_pods, system)))
    return found


def _policy(served: Served, name: str, pods: Json, direction: str, rules: list[Json]) -> Json:
    spec = {"podSelector": pods, "policyTypes": [direction], direction.lower(): rules}
    return manifests.network_policy(served, name, spec)


def _holding(network_policies: Iterable[Json], labels: Mapping[str, str]) -> bool:
    """Whether a policy says where pods with these labels may go."""
    return any(
        _is_about(policy, "Egress") and selects(at(policy, "spec", "podSelector"), labels)
        for policy in _of_others(network_policies)
    )


def _of_others(network_policies: Iterable[Json]) -> list[Json]:
    return [one for one in network_policies if naming.SERVICE not in as_object(at(one, "metadata", "labels"))]


def _ways(own_pods: Json, system: str) -> list[Json]:
    host, _, port = system.rpartition(":")
    namespace = host.split(".")[1:2]
    peers: list[Json] = [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": one}}} for one in namespace
    ]
    names: list[Json] = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    return [
        {"to": [{"podSelector": own_pods}]},
        {"to": peers, "ports": [{"protocol": "TCP", "port": int(port)}]},
        {"ports": names},
    ]


def effects(network_policies: Iterable[Json], pods: Sequence[Mapping[str, str]]) -> list[str]:
    """What is added to the policies, a sentence."""
    names = [as_text(at(policy, "metadata", "name")) for policy in guarding(network_policies, pods)]
    if not names:
        return []
    return [
        f"NetworkPolicy {', '.join(names)} guards the pods: more are added that let the Router in to them, and their callers in to the Router"
    ]
