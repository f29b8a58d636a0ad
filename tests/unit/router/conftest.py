"""Plans of one service for all tests of the Router."""

import msgspec
import pytest

from codezero.kit.certificates import Authority
from codezero.model.serve import parse_condition
from codezero.model.services import ServiceRef
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule
from codezero.wire.route_plan import to_wire

ORIGIN = Address("10.0.0.1", 80)
HOLDER = Address("10.0.0.2", 8801)


class Plans:
    """Makes plans of `shop/orders`."""

    service = ServiceRef("shop", "orders")
    variant = "01JV0000000000000000000001"

    def rule(self, number: int = 1, *, holder: Address | None = HOLDER) -> Rule:
        return Rule(f"01JV{number:022d}", 80, parse_condition([("header", f"x-team:{number}")]), holder)

    def plan(self, *rules: Rule, ports: tuple[int, ...] = (8080,), service: ServiceRef | None = None) -> RoutePlan:
        return RoutePlan(
            service or self.service,
            tuple(PortPlan(port, PortKind.HTTP, ORIGIN, rules if port == ports[0] else ()) for port in ports),
        )


@pytest.fixture
def plans() -> Plans:
    return Plans()


@pytest.fixture
def variables(plans: Plans) -> dict[str, str]:
    return {
        "CODEZERO_PLAN": msgspec.json.encode(to_wire(plans.plan())).decode(),
        "CODEZERO_AUTHORITY": Authority.create("parts").certificate_pem,
        "CODEZERO_TEAMSPACE": "01J00000000000000000000000",
    }
