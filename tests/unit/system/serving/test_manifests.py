"""What we put into a cluster: as restricted as pods can be, owned by the Service, and listening where its pods do."""

from typing import Any

import msgspec
import pytest

from codezero.deploy.values import Resources
from codezero.model.ids import TeamspaceId, new_ulid
from codezero.model.services import ServiceRef
from codezero.system.serving import manifests, naming
from codezero.system.serving.manifests import RouterSettings, Served, Trust
from codezero.wire.route_plan import Plan, from_wire

Json = dict[str, Any]

ORDERS = ServiceRef("shop", "orders")
TRUST = Trust(TeamspaceId(new_ulid()), "-----BEGIN CERTIFICATE-----")
PORTS = [
    {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP", "nodePort": 30080},
    {"name": "admin", "port": 81, "targetPort": 9090, "appProtocol": "http"},
    {"name": "probes", "port": 8803},
]


def served(**spec: Any) -> Served:
    original: Json = {"clusterIP": "10.96.0.9", "selector": {"app": "orders", "tier": "x"}, "ports": PORTS, **spec}
    return Served(ORDERS, "the-uid", original, {"http": 8080})


def deployment(of: Served, **settings: Any) -> Json:
    return manifests.router_deployment(of, origin="10.96.0.50", settings=RouterSettings(**settings), trust=TRUST)


def pod(of: Served) -> Json:
    return deployment(of)["spec"]["template"]["spec"]


def environment(container: Json) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in container["env"]}


def test_a_router_is_given_what_the_settings_say() -> None:
    """A quota of the namespace may ask for a limit that nobody else needs."""
    given = Resources(requests={"cpu": 1}, limits={"cpu": "2", "memory": "1Gi"})

    def resources(content: Json) -> Json:
        return content["spec"]["template"]["spec"]["containers"][0]["resources"]

    assert resources(deployment(served(), resources=given)) == {
        "requests": {"cpu": 1},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
    assert resources(deployment(served(), resources=Resources())) == {}
    assert resources(deployment(served())) == {
        "requests": {"cpu": "60m", "memory": "144Mi"},
        "limits": {"memory": "2Gi"},
    }


def test_the_origin_leads_where_the_service_led() -> None:
    """Same pods, same ports; neither its address nor its node ports."""
    spec = manifests.origin_service(served(sessionAffinity="ClientIP", type="NodePort"))["spec"]

    assert spec["selector"] == {"app": "orders", "tier": "x"}
    assert spec["type"] == "ClusterIP"
    assert spec["sessionAffinity"] == "ClientIP"
    assert spec["ports"][0] == {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}
    assert "clusterIP" not in spec


def test_everything_says_whose_it_is() -> None:
    of = served()
    made = [
        manifests.origin_service(of),
        manifests.router_account(of),
        manifests.router_service(of),
        deployment(of),
        manifests.router_budget(of),
        manifests.network_policy(of, "p", {}),
    ]
    for one in made:
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "codezero"
        assert one["metadata"]["labels"]["codezero.io/service"] == naming.hash_of(ORDERS)
        assert one["metadata"]["annotations"]["codezero.io/service"] == "orders"
        assert one["metadata"]["ownerReferences"][0]["uid"] == "the-uid"
        assert manifests.is_ours(one)
        assert manifests.owned_by(one, "the-uid")
        assert not manifests.owned_by(one, "another")


def test_a_drain_takes_one_router_at_a_time_and_waits_for_none_that_is_not_ready() -> None:
    """Whatever else the Service's team has with the same labels is not counted."""
    of = served()
    budget = manifests.router_budget(of)

    assert budget["metadata"]["name"] == deployment(of)["metadata"]["name"]
    assert budget["spec"]["selector"] == deployment(of)["spec"]["selector"]
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_router_pods_carry_the_switched_labels() -> None:
    """Both the switched Service and the one we watch readiness by find them."""
    of = served()
    labels = deployment(of)["spec"]["template"]["metadata"]["labels"]
    value = naming.selected(ORDERS)

    assert labels["app"] == labels["tier"] == value
    assert manifests.router_service(of)["spec"]["selector"].items() <= labels.items()
    assert deployment(of)["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_team_that_selects_by_a_label_of_ours_finds_the_router_too() -> None:
    of = served(selector={"app.kubernetes.io/managed-by": "Helm"})

    assert of.switched.items() <= manifests.router_labels(of).items()


def test_the_router_listens_where_the_pods_do() -> None:
    """Also under their names: a Service asks for `http`, not for a number."""
    (router,) = pod(served())["containers"]

    assert [(one["containerPort"], one.get("name")) for one in router["ports"]] == [
        (8803, None),
        (9090, None),
        (8080, "http"),
    ]


def test_probes_are_out_of_the_way() -> None:
    (router,) = pod(served())["containers"]

    assert environment(router)["CODEZERO_PROBES"] == "0.0.0.0:8804"
    assert router["readinessProbe"]["httpGet"]["port"] == router["livenessProbe"]["httpGet"]["port"] == 8804


def test_the_first_plan_leads_to_the_origin_alone() -> None:
    plan = from_wire(msgspec.json.decode(environment(pod(served())["containers"][0])["CODEZERO_PLAN"], type=Plan))

    assert [(one.listen, one.origin.host, one.origin.port, one.rules) for one in plan.ports] == [
        (8080, "10.96.0.50", 80, ()),
        (8803, "10.96.0.50", 8803, ()),
        (9090, "10.96.0.50", 81, ()),
    ]


def test_router_pods_are_restricted() -> None:
    """Pod Security `restricted` admits them; no token but the one that proves who they are."""
    spec = pod(served())

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert container["resources"]["limits"]["memory"]
    (source,) = next(one for one in spec["volumes"] if "projected" in one)["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "codezero.io/router"


def test_nothing_of_ours_in_a_pod_has_a_readiness_of_its_own_beside_the_router_s() -> None:
    """A pod is ready only with all its containers, so one that died would take the team's traffic along."""
    spec = pod(served())

    assert [one["command"] for one in spec["containers"]] == [["czrouter", "run"]]
    assert "initContainers" not in spec


def test_connections_get_their_time_to_end_before_the_pod_is_killed() -> None:
    spec = deployment(served(), drain=90)["spec"]["template"]["spec"]

    assert environment(spec["containers"][0])["CODEZERO_DRAIN_SECONDS"] == "90"
    assert spec["terminationGracePeriodSeconds"] > 90


def test_no_pod_goes_before_its_successor_is_ready() -> None:
    assert deployment(served())["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert deployment(served(), replicas=3)["spec"]["replicas"] == 3


def test_a_difference_is_seen_without_comparing_defaults() -> None:
    of, other = served(), served(ports=PORTS[:1])
    stored = deployment(of) | {"status": {"replicas": 2}}
    stored["spec"] = {**stored["spec"], "progressDeadlineSeconds": 600}

    assert manifests.same_content(stored, deployment(of))
    assert not manifests.same_content(stored, deployment(other))
    assert not manifests.same_content(stored, deployment(of, image="newer"))


def test_a_service_of_ours_that_somebody_turned_is_seen() -> None:
    wanted = manifests.origin_service(served())
    defaults = [{"protocol": "TCP", "targetPort": one["port"], **one} for one in wanted["spec"]["ports"]]
    stored = {**wanted, "spec": {**wanted["spec"], "clusterIP": "10.96.0.50", "ports": defaults}}

    assert manifests.same_content(stored, wanted)
    assert not manifests.same_content({**stored, "spec": {**stored["spec"], "selector": {"app": "other"}}}, wanted)
    assert not manifests.same_content({**stored, "spec": {**stored["spec"], "ports": defaults[:1]}}, wanted)


@pytest.mark.parametrize(
    ("ports", "known", "seen", "targets"),
    [
        ([{"port": 80, "targetPort": "http"}], {}, {"": 8080}, {"http": 8080}),
        ([{"port": 80, "targetPort": "http"}], {"http": 9000}, {"": 8080}, {"http": 9000}),
        ([{"port": 80, "targetPort": "http"}], {}, {}, {"http": 80}),
        ([{"port": 80, "targetPort": 80}], {"old": 5}, {}, {}),
        (
            [{"name": "a", "port": 80, "targetPort": 81}, {"name": "b", "port": 81, "targetPort": "x"}],
            {},
            {},
            {"x": 82},
        ),
        (
            [{"name": "a", "port": 80, "targetPort": "x"}, {"name": "b", "port": 81, "targetPort": "x"}],
            {},
            {"a": 8080, "b": 8080},
            {"x": 8080},
        ),
    ],
)
def test_named_ports_get_the_number_of_the_pods_and_keep_it(
    ports: list[Json], known: dict[str, int], seen: dict[str, int], targets: dict[str, int]
) -> None:
    """Numbers that changed with the pods would have Routers listen where nobody asks them."""
    assert manifests.targets_of({"ports": ports}, known, seen) == targets
