"""The route plan of one served service: for each port, who answers which request, in order.

A plan says everything a data plane needs and nothing of Kubernetes or Envoy. `PortPlan.chosen` is what every data plane must agree with.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from codezero.model.serve import Condition, Request, copies, matches
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror


class PortKind(StrEnum):
    """What is spoken on a port: HTTP of any version without TLS, anything else, or to be found out per connection."""

    HTTP = "http"
    RAW = "raw"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An IP address and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests that meet `condition` go to port `port` of the variant `variant_id`, through the System at `holder`.

    The owner is part of the condition already: it holds no `User`. `holder` None: the owner's laptop is away and the origin answers instead.
    A `mirror` answers nothing: the origin does, and the variant gets a copy of the requests that no other rule decides. Mirrors come after
    all others, so they never change who answers.
    """

    variant_id: str
    port: int
    condition: Condition
    holder: Address | None
    mirror: Mirror | None = None

    @property
    def server_name(self) -> str:
        """The TLS server name by which the System knows variant and port."""
        return f"{self.port}.{self.variant_id.lower()}.variant.codezero"


@dataclass(frozen=True, slots=True)
class PortPlan:
    """One port the Router listens on; the first of `rules` that a request meets and that is no mirror decides, else `origin` answers."""

    listen: int
    kind: PortKind
    origin: Address
    rules: tuple[Rule, ...] = ()

    def chosen(self, request: Request) -> Rule | None:
        """The rule that decides about an HTTP request; None is the origin."""
        return first_met([rule for rule in self.rules if rule.mirror is None], request)

    def mirrored(self, request: Request) -> Rule | None:
        """The mirror that gets a copy of an HTTP request; none does where a variant should answer, and one whose laptop is away gets nothing."""
        if self.chosen(request) is not None:
            return None
        present = [
            rule for rule in self.rules if rule.mirror and rule.holder is not None and copies(rule.mirror, request)
        ]
        return first_met(present, request)

    @property
    def raw(self) -> Rule | None:
        """The rule for connections that are not plain HTTP; None is the origin."""
        return next((rule for rule in self.rules if rule.mirror is None and rule.condition.is_default), None)


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """Where the requests of one service go, port by port, sorted by the port listened on."""

    service: ServiceRef
    ports: tuple[PortPlan, ...]


def first_met(rules: Sequence[Rule], request: Request) -> Rule | None:
    """The first of `rules` whose condition `request` meets."""
    return next((rule for rule in rules if matches(rule.condition, request, user="")), None)
