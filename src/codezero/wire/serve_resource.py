"""The Serve custom resource (`serves.codezero.io/v1beta1`): what is served, durably, in the cluster's own store. One object for each served Service.

A superset of the original's schema (`codezero.md` 1.3): a route needs user, condition and ports there; ours carry an id and a seal too. Only
the System can make a seal, so that a route written by hand, or changed, is refused and reported (T25). Anybody with the right to may remove
routes or the object: that ends serves.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from codezero.model import problems
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError
from codezero.model.serve import Variant, condition_from_parts
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair

GROUP = "codezero.io"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "Serve"
PLURAL = "serves"
FINALIZER = f"{GROUP}/restore"
# On everything dynamic that we make; people find residue by it.
MANAGED_BY = "app.kubernetes.io/managed-by"
OURS = "codezero"

_Text = Annotated[str, msgspec.Meta(max_length=1000)]
_Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class RouteCondition(msgspec.Struct, frozen=True, omit_defaults=True):
    """One predicate: `type` is a kind of condition; `key` and `value` where the kind has them."""

    type: Annotated[str, msgspec.Meta(max_length=20)]
    key: _Text | None = None
    value: _Text | None = None


class RoutePort(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """Requests to `remotePort` of the Service go to `localPort` of the laptop, or of `host` as seen from it."""

    local_port: _Port
    remote_port: _Port
    host: _Text | None = None


class Route(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """One variant. `also` are further predicates that a request must meet. `since` is in ms, `expires` in s of UNIX time."""

    user: _Text
    condition: RouteCondition
    ports: Annotated[tuple[RoutePort, ...], msgspec.Meta(min_length=1, max_length=64)]
    id: Annotated[str, msgspec.Meta(max_length=26)] = ""
    also: Annotated[tuple[RouteCondition, ...], msgspec.Meta(max_length=16)] = ()
    user_name: _Text = ""
    device: _Text = ""
    session: _Text = ""
    since: int = 0
    expires: float = 0.0
    mirror: Mirror | None = None
    seal: _Text = ""

    @property
    def parts(self) -> tuple[ConditionPart, ...]:
        """The condition's parts."""
        return tuple(ConditionPart(one.type, one.key, one.value) for one in (self.condition, *self.also))

    def variant(self, service: ServiceRef) -> Variant:
        """The variant of `service` that the route describes; raises `CodezeroError` naming what is wrong with it."""
        if not is_ulid(self.id) or not is_ulid(self.user):
            raise CodezeroError(problems.BAD_SERVE, f"route {self.id[:40]!r}: id and user have to be ULIDs")
        return Variant(
            self.id,
            service,
            self.user,
            self.user_name,
            condition_from_parts(self.parts),
            tuple(PortPair(port.remote_port, port.local_port, port.host) for port in self.ports),
            self.since,
            self.mirror,
        )


class RouteStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """How one route is: `holder` is `address:port` of the System pod that holds its laptop's tunnel, empty while it is away.

    `awaySince` is UNIX seconds; `problem` says why the route is not followed; `applied` is whether Routers have known it once.
    """

    id: str
    holder: str = ""
    away_since: float | None = None
    problem: str = ""
    applied: bool = False


class Condition(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """A condition as all Kubernetes objects have them (metav1.Condition)."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


class RouterConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The generation of this object that all Routers of the Service have applied."""

    revision: int = 0


class ServeStatus(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of it. `original` is the Service's `spec` as its team wants it, recorded before anything is changed; `state` a `ServingState`.

    `selectorSeal` is the System's over the recorded selector: whoever may write a status shall not choose by it where the Service leads.
    `reversals` are the UNIX seconds at which somebody put the selector back. `unservedSince` is since when no route is left. `targets` are the
    numbers on which Routers listen for target ports that have names, kept so that they stay the same while pods change. `lookedInto` are the
    ports on which requests are told apart although they do not say that they speak HTTP.
    """

    state: str = ""
    message: str = ""
    observed_generation: int = 0
    original: dict[str, Any] | None = None
    origin_selector: dict[str, str] | None = None
    selector_seal: _Text = ""
    router_config: RouterConfig = RouterConfig()
    routes: tuple[RouteStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()
    reversals: tuple[float, ...] = ()
    unserved_since: float | None = None
    targets: dict[str, int] | None = None
    looked_into: tuple[int, ...] = ()


class ServeSpec(msgspec.Struct, frozen=True, rename="camel"):
    """What is wanted: the Service's name and the routes."""

    service: str
    routes: Annotated[tuple[Route, ...], msgspec.Meta(max_length=500)] = ()


def sealed(route: Route, *, service_uid: str, key: bytes) -> Route:
    """`route` with the seal that binds it to the Service of that UID."""
    return msgspec.structs.replace(route, seal=_seal(route, service_uid, key))


def is_sealed(route: Route, *, service_uid: str, key: bytes) -> bool:
    """Whether the System sealed exactly this route for exactly this Service."""
    return hmac.compare_digest(route.seal.encode(), _seal(route, service_uid, key).encode())


def selector_seal(selector: Mapping[str, str], *, service_uid: str, key: bytes) -> str:
    """The seal that binds the recorded selector to the Service of that UID."""
    # The word keeps it apart from routes. All else of the record is compared with the Service itself, so it needs none.
    return _mac(key, ["selector", service_uid, sorted(selector.items())])


def is_selector_sealed(status: ServeStatus, selector: Mapping[str, str], *, service_uid: str, key: bytes) -> bool:
    """Whether the System recorded exactly this selector for exactly this Service."""
    expected = selector_seal(selector, service_uid=service_uid, key=key)
    return hmac.compare_digest(status.selector_seal.encode(), expected.encode())


def _seal(route: Route, service_uid: str, key: bytes) -> str:
    return _mac(key, [service_uid, msgspec.structs.replace(route, seal="")])


def _mac(key: bytes, content: object) -> str:
    return hmac.new(key, msgspec.json.encode(content), hashlib.sha256).hexdigest()
