from codezero.deploy.manifest import Release, labelled, manifest, selected_by


def test_an_object_has_its_name_its_labels_and_its_content() -> None:
    made = manifest("v1", "Service", "web", component="system", namespace="mine", annotations={"a": "b"}, spec={"x": 1})

    assert made == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "web",
            "namespace": "mine",
            "labels": selected_by("system"),
            "annotations": {"a": "b"},
        },
        "spec": {"x": 1},
    }


def test_what_is_absent_is_not_written() -> None:
    made = manifest("v1", "Node", "one", component="codezero", annotations={})

    assert set(made["metadata"]) == {"name", "labels"}


def test_labels_are_added_to_the_object_and_not_to_its_pods() -> None:
    """Those of the release change with it, and pods would restart."""
    template = {"metadata": {"labels": selected_by("system")}}
    deployment = manifest("apps/v1", "Deployment", "system", component="system", spec={"template": template})
    (made,) = labelled([deployment], Release("mine", "Helm"))

    assert selected_by("system").items() < made["metadata"]["labels"].items()
    assert made["metadata"]["labels"]["app.kubernetes.io/instance"] == "mine"
    assert made["spec"]["template"]["metadata"]["labels"] == selected_by("system")
    assert deployment["metadata"]["labels"] == selected_by("system")
