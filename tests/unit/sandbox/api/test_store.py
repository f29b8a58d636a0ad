"""Rules of objects that controllers and people rely on, whatever the transport."""

from collections.abc import Callable
from typing import Any

import pytest

from codezero.sandbox.api import ApiError, Options, Preconditions, Store

Json = dict[str, Any]
Make = Callable[..., Json]


def refused(action: Callable[[], object]) -> ApiError:
    with pytest.raises(ApiError) as caught:
        action()
    return caught.value


def fields_of(error: ApiError) -> set[str]:
    return {cause["field"] for cause in (error.details or {}).get("causes", [])}


def test_created_object_gets_identity_and_a_version(store: Store, service: Make) -> None:
    """Controllers compare uids and versions; both must come from the server."""
    created = store.create(
        "services", "shop", service() | {"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}
    )

    metadata = created.content["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"].endswith("Z")
    assert metadata["resourceVersion"] == str(store.storage.revision)
    assert created.content["status"] == {"loadBalancer": {}}


def test_versions_grow_over_all_resources(store: Store, service: Make) -> None:
    """One counter orders all writes: a list's version is a place to start any watch from."""
    first = store.create("services", "shop", service())
    second = store.create("configmaps", "shop", {"metadata": {"name": "settings"}})

    assert second.revision > first.revision


def test_taken_name_is_refused(store: Store, service: Make) -> None:
    store.create("services", "shop", service())

    error = refused(lambda: store.create("services", "shop", service()))

    assert (error.code, error.reason) == (409, "AlreadyExists")


def test_missing_namespace_is_refused(store: Store, service: Make) -> None:
    error = refused(lambda: store.create("services", "nowhere", service()))

    assert error.code == 404
    assert 'namespaces "nowhere" not found' in error.message


def test_generated_names_differ(store: Store, pod: Make) -> None:
    body = pod("x") | {"metadata": {"generateName": "orders-"}}

    names = {store.create("pods", "shop", body).name for _ in range(20)}

    assert len(names) == 20
    assert all(name.startswith("orders-") for name in names)


def test_update_of_an_old_version_is_refused(store: Store, service: Make) -> None:
    """Two writers must not overwrite each other unseen."""
    old = store.create("services", "shop", service()).copy()
    store.patch("services", "shop", "orders", {"metadata": {"labels": {"a": "b"}}})

    error = refused(lambda: store.update("services", "shop", old))

    assert (error.code, error.reason) == (409, "Conflict")


def test_writing_what_is_there_changes_nothing(store: Store, deployment: Make) -> None:
    """Level-triggered controllers write often; equal writes must not wake others, or two of them loop for ever."""
    created = store.create("deployments.apps", "shop", deployment())

    updated = store.update("deployments.apps", "shop", created.copy())
    patched = store.patch("deployments.apps", "shop", "orders", {"spec": {"replicas": 1}})

    assert updated.revision == patched.revision == created.revision


def test_generation_follows_the_specification_alone(store: Store, deployment: Make) -> None:
    """`rollout status` compares observedGeneration: labels or status must not move it."""
    store.create("deployments.apps", "shop", deployment())
    labelled = store.patch("deployments.apps", "shop", "orders", {"metadata": {"labels": {"a": "b"}}})
    reported = store.patch("deployments.apps", "shop", "orders", {"status": {"replicas": 1}}, subresource="status")
    scaled = store.patch("deployments.apps", "shop", "orders", {"spec": {"replicas": 2}})

    generations = [stored.content["metadata"]["generation"] for stored in (labelled, reported, scaled)]

    assert generations == [1, 1, 2]


def test_status_and_specification_are_written_apart(store: Store, deployment: Make) -> None:
    store.create("deployments.apps", "shop", deployment())
    store.patch(
        "deployments.apps", "shop", "orders", {"status": {"replicas": 5}, "spec": {"replicas": 9}}, subresource="status"
    )
    after = store.patch(
        "deployments.apps", "shop", "orders", {"status": {"replicas": 7}, "spec": {"replicas": 3}}
    ).content

    assert after["status"]["replicas"] == 5
    assert after["spec"]["replicas"] == 3


def test_scale_changes_replicas_alone(store: Store, deployment: Make) -> None:
    store.create("deployments.apps", "shop", deployment())

    scale = store.set_scale("deployments.apps", "shop", "orders", {"spec": {"replicas": 4}})

    assert scale["spec"]["replicas"] == 4
    assert scale["status"]["selector"] == "app=orders"
    assert store.get("deployments.apps", "shop", "orders").content["spec"]["replicas"] == 4
    assert (
        refused(lambda: store.set_scale("deployments.apps", "shop", "orders", {"spec": {"replicas": -1}})).code == 422
    )


def test_dry_run_keeps_nothing(store: Store, service: Make) -> None:
    """`--dry-run=server` shows the result, allocations included, and leaves no trace."""
    before = store.storage.revision

    shown = store.create("services", "shop", service(), Options(is_dry_run=True))

    assert shown.content["spec"]["clusterIP"].startswith("10.96.")
    assert store.find("services", "shop", "orders") is None
    assert store.storage.revision == before


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"ports": []}, "spec.ports"),
        ({"ports": [{"port": 0}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 65536}]}, "spec.ports[0].port"),
        ({"ports": [{"port": 1}, {"port": 2}]}, "spec.ports[0].name"),
        ({"ports": [{"port": 1, "name": "a"}, {"port": 2, "name": "a"}]}, "spec.ports[1].name"),
        ({"ports": [{"port": 1, "protocol": "ICMP"}]}, "spec.ports[0].protocol"),
        ({"ports": [{"port": 1, "targetPort": 70000}]}, "spec.ports[0].targetPort"),
        ({"ports": [{"port": 1, "targetPort": "NOT_A_NAME"}]}, "spec.ports[0].targetPort"),
        ({"ports": [{"port": 1, "nodePort": 30000}]}, "spec.ports[0].nodePort"),
        ({"type": "NodePort", "ports": [{"port": 1, "nodePort": 80}]}, "spec.ports[0].nodePort"),
        ({"type": "Sideways"}, "spec.type"),
        ({"type": "ExternalName"}, "spec.externalName"),
        ({"clusterIP": "300.1.1.1"}, "spec.clusterIPs[0]"),
        ({"clusterIP": "192.168.0.1"}, "spec.clusterIPs"),
        ({"sessionAffinity": "Sometimes"}, "spec.sessionAffinity"),
        ({"selector": {"app": "not valid!"}}, "spec.selector"),
    ],
)
def test_bad_service_is_refused_with_its_field(store: Store, service: Make, spec: Json, field: str) -> None:
    """People correct the field the message names."""
    error = refused(lambda: store.create("services", "shop", service(**spec)))

    assert (error.code, error.reason) == (422, "Invalid")
    assert field in fields_of(error)


@pytest.mark.parametrize("name", ["1orders", "Orders", "or.ders", "-a", "a" * 64])
def test_service_names_are_dns_labels(store: Store, service: Make, name: str) -> None:
    error = refused(lambda: store.create("services", "shop", service(name)))

    assert "metadata.name" in fields_of(error)


def test_service_is_completed(store: Store, service: Make) -> None:
    """What is left out has the values of a real cluster, so manifests mean the same in both."""
    spec = store.create("services", "shop", service()).content["spec"]

    assert spec["type"] == "ClusterIP"
    assert spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 80}]
    assert spec["sessionAffinity"] == "None"
    assert spec["internalTrafficPolicy"] == "Cluster"
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["clusterIPs"] == [spec["clusterIP"]]


def test_cluster_addresses_are_unique_and_come_back(store: Store, service: Make) -> None:
    first = store.create("services", "shop", service("a")).content["spec"]["clusterIP"]
    second = store.create("services", "shop", service("b")).content["spec"]["clusterIP"]
    taken = refused(lambda: store.create("services", "shop", service("c", clusterIP=first)))
    store.delete("services", "shop", "a")
    again = store.create("services", "shop", service("c", clusterIP=first)).content["spec"]["clusterIP"]

    assert first != second
    assert "already allocated" in taken.message
    assert again == first


def test_cluster_address_stays_and_may_not_change(store: Store, service: Make) -> None:
    before = store.create("services", "shop", service()).content["spec"]["clusterIP"]
    replaced = store.update("services", "shop", service(ports=[{"port": 81}]))
    error = refused(lambda: store.patch("services", "shop", "orders", {"spec": {"clusterIP": "10.96.7.7"}}))

    assert replaced.content["spec"]["clusterIP"] == before
    assert "spec.clusterIPs[0]" in fields_of(error)


def test_headless_and_external_name_services_have_no_address(store: Store, service: Make) -> None:
    headless = store.create("services", "shop", service("peers", clusterIP="None", ports=[])).content["spec"]
    external = store.create(
        "services", "shop", service("ext", type="ExternalName", externalName="www.example", ports=[])
    )

    assert headless["clusterIP"] == "None"
    assert "clusterIP" not in external.content["spec"]


def test_node_ports_are_given_kept_and_freed(store: Store, service: Make) -> None:
    given = store.create("services", "shop", service("a", type="NodePort")).content["spec"]["ports"][0]["nodePort"]
    kept = store.patch("services", "shop", "a", {"metadata": {"labels": {"x": "y"}}}).content["spec"]["ports"][0][
        "nodePort"
    ]
    clash = refused(
        lambda: store.create("services", "shop", service("b", type="NodePort", ports=[{"port": 1, "nodePort": given}]))
    )
    dropped = store.patch("services", "shop", "a", {"spec": {"type": "ClusterIP"}}).content["spec"]["ports"][0]

    assert given == kept
    assert given in range(30000, 32768)
    assert "already allocated" in clash.message
    assert "nodePort" not in dropped


def test_deployment_selector_must_match_and_stay(store: Store, deployment: Make) -> None:
    wrong = refused(
        lambda: store.create("deployments.apps", "shop", deployment(selector={"matchLabels": {"app": "other"}}))
    )
    store.create("deployments.apps", "shop", deployment())
    changed = deployment(selector={"matchLabels": {"app": "orders", "tier": "x"}})
    changed["spec"]["template"]["metadata"]["labels"]["tier"] = "x"
    moved = refused(lambda: store.update("deployments.apps", "shop", changed))

    assert fields_of(wrong) == {"spec.template.metadata.labels"}
    assert fields_of(moved) == {"spec.selector"}


def test_pod_stays_what_it_is(store: Store, pod: Make) -> None:
    """A running process cannot take on a new command; a controller replaces the pod."""
    store.create("pods", "shop", pod())
    store.patch("pods", "shop", "orders-1", {"spec": {"nodeName": "node-1"}})
    moved = refused(lambda: store.patch("pods", "shop", "orders-1", {"spec": {"nodeName": "node-2"}}))
    changed = refused(lambda: store.patch("pods", "shop", "orders-1", {"spec": {"hostname": "other"}}))

    assert fields_of(moved) == {"spec.nodeName"}
    assert fields_of(changed) == {"spec"}


def test_unknown_fields_are_dropped_or_refused(store: Store, service: Make) -> None:
    body = service(colour="red")
    options = Options(unknown_fields="Warn")
    kept = store.create("services", "shop", body, options)
    error = refused(
        lambda: store.create("services", "shop", service("b", colour="red"), Options(unknown_fields="Strict"))
    )

    assert "colour" not in kept.content["spec"]
    assert options.warnings == ['unknown field "spec.colour"']
    assert error.code == 400
    assert "spec.colour" in error.message


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": []},
        {"metadata": {"name": 5}},
        {"metadata": {"name": "a", "labels": {"x": 1}}},
        {"metadata": {"name": "a", "finalizers": "x"}},
        {"metadata": {"name": "a"}, "spec": []},
        {"metadata": {"name": "a"}, "spec": {"ports": {}}},
        {"metadata": {"name": "a"}, "spec": {"ports": [5]}},
        {"metadata": {"name": "a"}, "spec": {"ports": [{"port": "http"}]}},
        {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 1.5}]}},
        {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 2**70}]}},
        {"metadata": {"name": "a"}, "spec": {"selector": {"a": None, "b": {}}}},
        {"metadata": {"name": "a"}, "kind": "Pod", "apiVersion": "v1"},
        {"metadata": {"name": "a"}, "kind": 7},
        {"metadata": {"name": "a", "ownerReferences": [{"uid": "1"}]}, "spec": {"ports": [{"port": 1}]}},
        {"metadata": {"name": "a", "managedFields": [{"manager": 5, "fieldsV1": {"f:x": 7}}]}, "spec": {"ports": [{}]}},
        {"metadata": {"name": "a", "creationTimestamp": "yesterday"}, "spec": {"ports": [{"port": 1}]}},
        {},
    ],
)
def test_wrong_shapes_are_refused(store: Store, body: Json) -> None:
    """Hostile or broken bodies get an answer that says what is wrong, never a failure of ours."""
    assert refused(lambda: store.create("services", "shop", body)).code in {400, 422}


def test_finalizers_hold_an_object_until_they_are_gone(store: Store, service: Make) -> None:
    body = service()
    body["metadata"]["finalizers"] = ["codezero.io/hold"]
    store.create("services", "shop", body)
    held, is_gone = store.delete("services", "shop", "orders")
    added = refused(
        lambda: store.patch(
            "services", "shop", "orders", {"metadata": {"finalizers": ["codezero.io/hold", "codezero.io/more"]}}
        )
    )
    store.patch("services", "shop", "orders", {"metadata": {"finalizers": None}})

    assert not is_gone
    assert held.content["metadata"]["deletionTimestamp"]
    assert added.code == 422
    assert store.find("services", "shop", "orders") is None


def test_deletion_checks_what_the_caller_believes(store: Store, service: Make) -> None:
    store.create("services", "shop", service())

    error = refused(lambda: store.delete("services", "shop", "orders", preconditions=Preconditions(uid="other")))

    assert error.code == 409
    assert store.find("services", "shop", "orders") is not None


def test_running_pod_is_asked_to_end_first(store: Store, pod: Make) -> None:
    """The kubelet needs the time to stop the process before the object is gone."""
    body = pod()
    body["spec"]["nodeName"] = "node-1"
    store.create("pods", "shop", body)
    asked, is_gone = store.delete("pods", "shop", "orders-1")
    _, is_gone_twice = store.delete("pods", "shop", "orders-1")
    _, is_gone_at_last = store.delete("pods", "shop", "orders-1", grace_seconds=0)

    assert (is_gone, is_gone_twice, is_gone_at_last) == (False, False, True)
    assert asked.content["metadata"]["deletionGracePeriodSeconds"] == 30


def test_default_namespace_stays(store: Store) -> None:
    assert refused(lambda: store.delete("namespaces", "", "default")).code == 403


def test_secret_text_becomes_data(store: Store) -> None:
    secret = store.create("secrets", "shop", {"metadata": {"name": "s"}, "stringData": {"password": "hello"}}).content
    bad = refused(lambda: store.create("secrets", "shop", {"metadata": {"name": "t"}, "data": {"a": "***"}}))

    assert secret["data"] == {"password": "aGVsbG8="}
    assert "stringData" not in secret
    assert fields_of(bad) == {"data[a]"}


def test_listener_sees_writes_in_order_even_when_it_writes(store: Store, service: Make) -> None:
    """In-process controllers write from their listeners; nobody may see the effect before its cause."""
    seen: list[str] = []

    def follow_up(event: Any) -> None:
        if event.resource == "services":
            store.create("configmaps", "shop", {"metadata": {"name": "made"}})

    store.listen(follow_up)
    store.listen(lambda event: seen.append(event.resource))
    store.create("services", "shop", service())

    assert seen == ["services", "configmaps"]
