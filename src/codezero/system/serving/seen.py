"""What one look shows of a served Service, and the facts that follow from it; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from codezero.model.services import ServiceRef
from codezero.system.kubernetes.client import FIELD_MANAGER
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.serving import naming
from codezero.system.serving.manifests import Served
from codezero.system.serving.preflight import Surroundings
from codezero.system.serving.serves import ServeObject

_MOST_SAID: Final = 800


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The ready endpoints of a Service: for each address the ports it has there, as name and number."""

    ready: Mapping[str, frozenset[tuple[str, int]]] = field(default_factory=dict[str, frozenset[tuple[str, int]]])

    def with_ports(self, names: frozenset[str]) -> frozenset[str]:
        """The addresses that are ready on all ports of these names."""
        return frozenset(address for address, ports in self.ready.items() if names <= {name for name, _ in ports})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What there is now. `serve` None: the object is gone, and only residue of it may be left.

    `content` is the Serve object as JSON. `guards` are the NetworkPolicies of ours, `around` what others have there. `refusal` is why the Service
    cannot be served, if it cannot.
    """

    ref: ServiceRef
    serve: ServeObject | None
    content: Json
    service: Json | None
    origin: Json | None = None
    account: Json | None = None
    router: Json | None = None
    deployment: Json | None = None
    budget: Json | None = None
    guards: tuple[Json, ...] = ()
    own_endpoints: Endpoints = Endpoints()
    origin_endpoints: Endpoints = Endpoints()
    router_endpoints: Endpoints = Endpoints()
    refusal: str | None = None
    around: Surroundings = field(default_factory=Surroundings)


def is_lost(seen: Seen) -> bool:
    """Whether the Service that was served is gone; one of its name that was made anew is another one."""
    if seen.service is None:
        return True
    owner = None if seen.serve is None else seen.serve.owner_uid
    return owner is not None and owner != at(seen.service, "metadata", "uid")


def is_back(seen: Seen) -> bool:
    """Whether the Service leads to the team's own pods, and its slices show it."""
    own, routers = seen.own_endpoints.ready.keys(), seen.router_endpoints.ready.keys()
    if is_marked(seen):
        return False
    if at(seen.service, "spec", "type") == "ExternalName":
        return True  # a name has no endpoints; the slices of before stay, and nobody asks them
    if own & routers:
        return False
    # Where the team pointed it elsewhere meanwhile, the origin's pods are not what it should show.
    same = seen.origin is not None and texts(at(seen.origin, "spec", "selector")) == selector_of(seen.service)
    return not same or own >= seen.origin_endpoints.ready.keys()


def is_switched(seen: Seen) -> bool:
    """Whether the Service leads to its Router."""
    return naming.is_switched(selector_of(seen.service), seen.ref)


def is_marked(seen: Seen) -> bool:
    """Whether the Service bears our values: it is switched, or somebody made something of a switched selector."""
    return naming.bears_ours(selector_of(seen.service), seen.ref)


def selector_of(service: Json | None) -> dict[str, str]:
    """The selector of a Service."""
    return texts(at(service, "spec", "selector"))


def served_of(seen: Seen, serve: ServeObject) -> Served:
    """The Service as its team wants it, by the record."""
    uid = as_text(at(seen.service, "metadata", "uid"))
    status = serve.status
    return Served(seen.ref, uid, as_object(status.original), status.targets or {}, frozenset(status.looked_into))


def numbers_of(seen: Seen) -> dict[str, int]:
    """The number behind each of the Service's ports by its name, as its pods have them; the origin's while the Service leads to Routers."""
    endpoints = seen.origin_endpoints if is_switched(seen) else seen.own_endpoints
    found: dict[str, int] = {}
    for ports in endpoints.ready.values():
        for name, number in ports:
            found[name] = min(number, found.get(name, number))
    return found


def last_writer(seen: Seen) -> str:
    """The field manager that last wrote the selector, if it was not us."""
    others = [one for one in _writers(seen) if one[1] != FIELD_MANAGER]
    return max(others, default=("", "somebody"))[1] or "somebody"


def is_ours_to_say(seen: Seen) -> bool:
    """Whether the selector is as we wrote it last: whoever changes a field takes it over (managedFields)."""
    return any(manager == FIELD_MANAGER for _, manager in _writers(seen))


def _writers(seen: Seen) -> list[tuple[str, str]]:
    return [
        (as_text(as_object(entry).get("time")), as_text(as_object(entry).get("manager")))
        for entry in as_list(at(seen.service, "metadata", "managedFields"))
        if as_object(at(entry, "fieldsV1", "f:spec")).get("f:selector") is not None
    ]


def router_fits(seen: Seen, served: Served) -> bool:
    """Whether a Router is ready that listens where the Service's ports lead."""
    names = frozenset(as_text(as_object(port).get("name")) for port in as_list(served.original.get("ports")))
    if not seen.router_endpoints.with_ports(names):
        return False
    containers = as_list(at(seen.deployment, "spec", "template", "spec", "containers"))
    listens = {
        as_object(port).get("containerPort") for one in containers for port in as_list(as_object(one).get("ports"))
    }
    return all(port.target in listens for port in served.ports)


def is_rolled_out(deployment: Json | None) -> bool:
    """Whether no pod of an older template is left, which would listen elsewhere."""
    status = as_object(as_object(deployment).get("status"))
    generation = at(deployment, "metadata", "generation")
    return (
        status.get("observedGeneration") == generation
        and status.get("updatedReplicas", 0) == status.get("replicas", 0)
        and status.get("readyReplicas", 0) > 0
    )


def trouble_of(deployment: Json | None) -> str | None:
    """Why there are no pods or why they do not come up, in the cluster's words: quotas and admission speak here, and images that cannot be had."""
    found = {
        (one.get("type"), one.get("status")): one
        for one in map(as_object, as_list(at(deployment, "status", "conditions")))
    }
    if refused := found.get(("ReplicaFailure", "True")):
        # Each pod that is not made has another name, which says nothing to anybody.
        said = re.sub(r' "cz-router-[^"]*"', "", as_text(refused.get("message")))[:_MOST_SAID]
        return f"the cluster makes no Router: {said}; an administrator can change that quota or rule, or what Routers ask for (value router.resources)"
    if found.get(("Progressing", "False")):
        label = f"{naming.SERVICE}={at(deployment, 'metadata', 'labels', naming.SERVICE)}"
        return f"the Router's pods do not become ready; `kubectl describe pods -l {label}` says why"
    return None


def shows_routers(seen: Seen) -> bool:
    """Whether the slices of the Service show its Router, and nothing else."""
    own = seen.own_endpoints.ready.keys()
    return bool(own) and own <= seen.router_endpoints.ready.keys()


def has_routes(serve: ServeObject, now: float) -> bool:
    """Whether a route is followed whose time is not over."""
    return any(route.expires > now for route, _ in serve.followed)
