"""Envoy's files for small plans are reviewed as text; its patterns must match exactly what the conditions say.

`CODEZERO_GOLDEN=write` writes the expected files anew, to be reviewed as a difference.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from codezero.model.serve import (
    Baggage,
    Cookie,
    PortPair,
    Query,
    Request,
    Serve,
    User,
    Variant,
    condition_of,
    parse_condition,
)
from codezero.model.services import ServicePort, ServiceRef
from codezero.model.variants import Mirror
from codezero.routing import envoy
from codezero.routing.compile import ServedPort, compile_plan
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule

GOLDEN = Path(__file__).parents[2] / "golden" / "routing"
ORDERS = ServiceRef("shop", "orders")
ALICE = "01J0000000000000000000000A"


def plan_of(case: dict[str, Any]) -> RoutePlan:
    variants = tuple(
        Variant(
            one["id"], ORDERS, ALICE, "alice", parse_condition([(kind, text) for kind, text in one["condition"]]),
            tuple(PortPair(remote, local) for remote, local in one["ports"].items()), 0, Mirror(one["mirror"]) if "mirror" in one else None,
        )
        for one in case["variants"]
    )  # fmt: skip
    ports = [
        ServedPort(ServicePort(one["port"], name=one.get("name"), app_protocol=one.get("app_protocol")), one["target"])
        for one in case["ports"]
    ]
    holders = {name: at.rpartition(":") for name, at in case["holders"].items()}
    return compile_plan(
        Serve(ORDERS, variants),
        origin=case["origin"],
        ports=ports,
        holders={name: Address(host.strip("[]"), int(port)) for name, (host, _, port) in holders.items()},
    )


@pytest.mark.parametrize("case", sorted(path.name.removesuffix(".in.yaml") for path in GOLDEN.glob("*.in.yaml")))
def test_a_plan_becomes_the_reviewed_files(case: str) -> None:
    """A change of what Envoy is told must be seen by whoever reviews it."""
    given_, expected = GOLDEN / f"{case}.in.yaml", GOLDEN / f"{case}.out.yaml"
    case_ = yaml.safe_load(given_.read_text())
    content: Any = envoy.files(plan_of(case_), folder="/etc/router")
    if not case_.get("whole"):
        content = without_the_constant(content)
    if os.environ.get("CODEZERO_GOLDEN") == "write":
        expected.write_text(yaml.dump(content, Dumper=PlainDumper, sort_keys=False, width=140, allow_unicode=True))

    assert content == yaml.safe_load(expected.read_text())


# The same in every cluster, route and listener; the case marked `whole` shows them.
CONSTANT = {
    "circuit_breakers", "typed_extension_protocol_options", "common_lb_config", "outlier_detection", "upstream_connection_options", "connect_timeout",
    "retry_policy", "timeout", "idle_timeout", "transport_socket", "typed_config", "version_info", "@type", "domains", "append_action",
    "listener_filters", "resource_api_version", "cluster_name", "access_log", "per_connection_buffer_limit_bytes",
    "upstream_bind_config",
}  # fmt: skip


def without_the_constant(content: Any) -> Any:
    match content:
        case {"name": str(name), "typed_config": {"clusters": list(clusters)}}:
            return {"name": name, "clusters": clusters}
        case dict():
            return {key: without_the_constant(value) for key, value in content.items() if key not in CONSTANT}
        case list():
            return [without_the_constant(one) for one in content]
        case _:
            return content


class PlainDumper(yaml.SafeDumper):
    """Writes everything out: a reviewer follows no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def fits(pattern: str, text: str) -> bool:
    """What RE2's full match says; `\\C` (any byte) is its only word Python does not know."""
    return re.fullmatch(pattern.replace(r"\C", r"[\s\S]"), text) is not None


VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=4)
PIECES = st.sampled_from(
    ["k", "=", "v", ",", ";", " ", "\t", "%76", "%", "%2C", "%c3%A9", "\xe9", '"', "K", "+", "&", "a"]
)
TEXTS = st.lists(PIECES, max_size=12).map("".join)


@given(TEXTS, VALUES | st.sampled_from(["v", "a,", "\N{LATIN SMALL LETTER E WITH ACUTE}", "v v"]))
@example("a=1, k = v ;p", "v")
@example("k= v", " v")
def test_the_baggage_pattern_says_what_the_condition_says(text: str, value: str) -> None:
    predicate = Baggage("k", value)

    assert fits(envoy.baggage_pattern(predicate), text) == predicate.met_by(
        Request("GET", "/", (("baggage", text),)), ""
    )


@given(VALUES)
def test_the_baggage_pattern_finds_every_encoded_value(value: str) -> None:
    assert fits(envoy.baggage_pattern(Baggage("k", value)), f"a=b,k={quote(value, safe='')},c")


@given(TEXTS, st.sampled_from(["v", "v=v", "a%76", '"v"']))
def test_the_cookie_pattern_says_what_the_condition_says(text: str, value: str) -> None:
    predicate = Cookie("k", value)

    assert fits(envoy.cookie_pattern(predicate), text) == predicate.met_by(Request("GET", "/", (("cookie", text),)), "")


@given(TEXTS.filter(lambda text: not set(text) & set("&#")), VALUES | st.sampled_from(["v", "v v", "+", "%"]))
def test_the_query_pattern_says_what_the_condition_says(text: str, value: str) -> None:
    predicate = Query("q", value)

    assert fits(envoy.query_pattern(predicate), text) == predicate.met_by(Request("GET", f"/?q={text}"), "")


def test_serves_that_come_and_go_change_no_listener() -> None:
    """A changed listener drains its connections: everybody's WebSockets would end when a colleague begins to serve."""
    rule = Rule("01JV0000000000000000000001", 80, condition_of([]), Address("10.244.1.7", 8801))
    ports = [PortPlan(8080, kind, Address("10.96.0.10", 80)) for kind in PortKind]
    for port in ports:
        without = envoy.files(RoutePlan(ORDERS, (port,)), folder="/f")
        within = envoy.files(RoutePlan(ORDERS, (PortPlan(port.listen, port.kind, port.origin, (rule,)),)), folder="/f")

        assert within[envoy.LISTENERS_FILE] == without[envoy.LISTENERS_FILE]
        assert within[envoy.CLUSTERS_FILE] != without[envoy.CLUSTERS_FILE]


def test_clusters_are_written_before_the_routes_that_name_them_and_listeners_last() -> None:
    names = list(envoy.files(plan_of(yaml.safe_load((GOLDEN / "one_variant.in.yaml").read_text())), folder="/f"))

    assert names == ["cds.json", "rds-8080.json", "lds.json"]


def test_a_condition_without_its_owner_is_a_defect_found_at_once() -> None:
    rule = Rule("01JV0000000000000000000001", 80, condition_of([User()]), None)
    plan = RoutePlan(ORDERS, (PortPlan(8080, PortKind.HTTP, Address("10.96.0.10", 80), (rule,)),))

    with pytest.raises(ValueError, match="bound to their owners"):
        envoy.files(plan, folder="/f")


def test_the_router_speaks_to_the_system_alone() -> None:
    """T22: whoever takes over the System's address must not be given requests."""
    content = envoy.secrets(certificate="CERT", key="KEY", authorities="CA", system_id="spiffe://a.codezero/system")
    trusted = content[envoy.AUTHORITY_FILE]["resources"][0]["validation_context"]

    assert trusted["match_typed_subject_alt_names"] == [
        {"san_type": "URI", "matcher": {"exact": "spiffe://a.codezero/system"}}
    ]
    assert "KEY" not in str(content[envoy.AUTHORITY_FILE])


def test_the_admin_api_is_no_network_listener() -> None:
    admin = envoy.bootstrap(folder="/f", node="n", admin_socket="/run/admin")["admin"]

    assert admin == {"address": {"pipe": {"path": "/run/admin", "mode": 0o600}}}


def test_callers_values_and_queries_are_not_logged() -> None:
    """Logs are read by more people than requests are."""
    plan = RoutePlan(ORDERS, (PortPlan(8080, PortKind.UNKNOWN, Address("10.96.0.10", 80)),))
    line = str(envoy.files(plan, folder="/f")[envoy.LISTENERS_FILE])

    assert set(re.findall(r"%REQ\(([^)]*)\)", line.partition("early_header")[0])) == {":METHOD"}
    assert "%REQ(:PATH)%" not in line
