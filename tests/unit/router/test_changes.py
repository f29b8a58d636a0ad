"""From one set of files to the next without a moment in which a route leads nowhere."""

from collections.abc import Mapping
from typing import Any

import pytest

from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.router.changes import leads_to_variants, refuse_foreign, steps
from codezero.routing.envoy import CLUSTERS_FILE, LISTENERS_FILE, files
from codezero.routing.plan import RoutePlan


def made(plan: RoutePlan) -> dict[str, Any]:
    return files(plan, folder="/run/router")


def clusters(content: Mapping[str, Any]) -> set[str]:
    return {cluster["name"] for cluster in content[CLUSTERS_FILE]["resources"]}


def test_equal_files_need_no_step(plans: Any) -> None:
    assert steps(made(plans.plan()), made(plans.plan())) == ()


def test_clusters_come_before_the_routes_that_name_them(plans: Any) -> None:
    wanted = made(plans.plan(plans.rule()))

    first, second = steps(made(plans.plan()), wanted)

    assert first == {CLUSTERS_FILE: wanted[CLUSTERS_FILE]}
    assert second == {"rds-8080.json": wanted["rds-8080.json"]}


def test_clusters_go_after_the_routes_that_named_them(plans: Any) -> None:
    """Envoy answers 503 to a request whose route names a cluster that is gone."""
    old, new = made(plans.plan(plans.rule(1))), made(plans.plan(plans.rule(2)))

    first, second, third = steps(old, new)

    assert clusters(first) == clusters(old) | clusters(new)
    assert second == {"rds-8080.json": new["rds-8080.json"]}
    assert third == {CLUSTERS_FILE: new[CLUSTERS_FILE]}


def test_what_is_there_for_a_moment_has_a_version_of_its_own(plans: Any) -> None:
    """Otherwise Envoy would seem to have taken the last step when it took the first."""
    first, _, third = steps(made(plans.plan(plans.rule(1))), made(plans.plan(plans.rule(2))))

    assert first[CLUSTERS_FILE]["version_info"] != third[CLUSTERS_FILE]["version_info"]


def test_a_laptop_that_moves_to_another_system_is_a_change_of_clusters_alone(plans: Any) -> None:
    moved = plans.rule(1).__class__(plans.rule(1).variant_id, 80, plans.rule(1).condition, plans.plan().ports[0].origin)

    assert [list(step) for step in steps(made(plans.plan(plans.rule(1))), made(plans.plan(moved)))] == [[CLUSTERS_FILE]]


def test_listeners_come_last(plans: Any) -> None:
    new = made(plans.plan(plans.rule(), ports=(8080, 9090)))

    written = [name for step in steps(made(plans.plan()), new) for name in step]

    assert written[0] == CLUSTERS_FILE
    assert written[-1] == LISTENERS_FILE


def test_a_plan_of_another_service_or_without_a_port_is_refused(plans: Any) -> None:
    first = plans.plan(ports=(8080, 9090))

    with pytest.raises(CodezeroError, match="shop/payments"):
        refuse_foreign(plans.plan(ports=(8080, 9090), service=ServiceRef("shop", "payments")), first)
    with pytest.raises(CodezeroError, match="leaves out port 9090"):
        refuse_foreign(plans.plan(), first)


def test_a_plan_with_more_ports_is_taken(plans: Any) -> None:
    refuse_foreign(plans.plan(ports=(8080, 9090)), plans.plan())


def test_only_a_variant_within_reach_asks_for_an_identity(plans: Any) -> None:
    assert leads_to_variants(plans.plan(plans.rule()))
    assert not leads_to_variants(plans.plan(plans.rule(holder=None)))
    assert not leads_to_variants(plans.plan())
