"""What the objects are called that we make for a served Service, and how they are told from others.

All names follow from namespace and name of the Service, so that whoever finds one knows what it belongs to, with nothing else at hand.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from codezero.model.services import ServiceRef
from codezero.wire.serve_resource import GROUP

# The label says which service an object of ours is for, as its hash; the annotation says its name.
SERVICE: Final = f"{GROUP}/service"
ORIGIN_PREFIX: Final = "cz-origin-"
ROUTER_PREFIX: Final = "cz-router-"
_SELECTED_PREFIX: Final = "cz-"
_HASH_LENGTH: Final = 10


def hash_of(service: ServiceRef) -> str:
    """The short name of a service in names and labels of ours."""
    return hashlib.sha256(str(service).encode()).hexdigest()[:_HASH_LENGTH]


def origin_of(service: ServiceRef) -> ServiceRef:
    """The Service that leads to the pods of `service` as its team wants it."""
    return ServiceRef(service.namespace, ORIGIN_PREFIX + hash_of(service))


def router_of(service: ServiceRef) -> ServiceRef:
    """The Router of `service`: a ServiceAccount, a Deployment and a Service have this name."""
    return ServiceRef(service.namespace, ROUTER_PREFIX + hash_of(service))


def selected(service: ServiceRef) -> str:
    """The value that each key of a switched selector has."""
    return _SELECTED_PREFIX + hash_of(service)


def switched(selector: Mapping[str, str], service: ServiceRef) -> dict[str, str]:
    """The selector that leads `service` to its Router: exactly the keys of its own, so that any foreign write yields its team's, never an empty one."""
    return dict.fromkeys(selector, selected(service))


def is_switched(selector: Mapping[str, str] | None, service: ServiceRef) -> bool:
    """Whether a selector leads `service` to its Router."""
    return bool(selector) and set((selector or {}).values()) == {selected(service)}


def bears_ours(selector: Mapping[str, str] | None, service: ServiceRef) -> bool:
    """Whether a selector has a value of ours: switched, or what somebody made of a switched one."""
    return selected(service) in (selector or {}).values()


def own_selector(selector: Mapping[str, str], service: ServiceRef, known: Mapping[str, str]) -> dict[str, str]:
    """The team's selector behind one that bears our values, the `known` one being that of before.

    Somebody may have edited a switched selector: what they wrote counts, and our values stand for those of before.
    """
    if is_switched(selector, service):
        return dict(known)
    ours = selected(service)
    return {
        name: known.get(name, "") if value == ours else value
        for name, value in selector.items()
        if value != ours or name in known
    }
