from importlib.resources import files
from pathlib import Path

import pytest

from codezero.deploy.manifest import Release
from codezero.deploy.objects import objects
from codezero.model.problems import CodezeroError
from codezero.sandbox import cluster
from codezero.sandbox.api import Store
from codezero.sandbox.cluster import Cluster
from codezero.sandbox.identities import Identities
from codezero.sandbox.kubelet import Kubelet
from codezero.sandbox.pods import Node


@pytest.fixture
def empty(store: Store, tmp_path: Path) -> Cluster:
    kubelet = Kubelet(store, Node(tmp_path, lambda *_, **__: ("", 0), ""))
    return Cluster(store, None, kubelet)  # type: ignore[arg-type] - no server is needed to install


def test_the_teamspace_installs_with_what_it_mounts(empty: Cluster) -> None:
    cluster.install_teamspace(empty, Identities.create())

    mounted = {
        volume[kind][name]
        for stored in empty.store.list("deployments.apps", "codezero")
        for volume in stored.content["spec"]["template"]["spec"]["volumes"]
        for kind, name in (("secret", "secretName"), ("configMap", "name"))
        if kind in volume
    }
    there = {found.name for kind in ("secrets", "configmaps") for found in empty.store.list(kind, "codezero")}
    assert mounted <= there
    assert mounted == {"codezero-identity", "codezero-policy"}


def test_a_teamspace_that_is_installed_again_changes_nothing(empty: Cluster) -> None:
    """What the API server adds by itself must not look like a difference."""
    cluster.install_teamspace(empty, Identities.create())
    before = empty.store.storage.revision
    empty.install(iter(objects(cluster.TEAMSPACE_VALUES, release=Release(manager="codezero-sandbox"))))

    assert empty.store.storage.revision == before


def test_the_sample_project_installs_and_installs_again(empty: Cluster) -> None:
    empty.install(cluster.sample_manifests())
    before = empty.store.storage.revision
    empty.install(cluster.sample_manifests())

    assert empty.store.storage.revision == before
    assert len(empty.store.list("services", "sample-project")) >= 6


def test_a_manifest_that_does_not_fit_is_named(empty: Cluster) -> None:
    with pytest.raises(CodezeroError, match="Strange thing"):
        empty.apply({"apiVersion": "v1", "kind": "Strange", "metadata": {"name": "thing"}})
    with pytest.raises(CodezeroError, match="Service web"):
        empty.apply({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": "none"}})


def test_documents_come_in_the_order_of_their_kustomization(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: A\n---\n---\nkind: B\n")
    (tmp_path / "z.yaml").write_text("kind: Z\n")
    assert [one["kind"] for one in cluster.documents(tmp_path)] == ["A", "B", "Z"]

    (tmp_path / "kustomization.yaml").write_text("resources: [z.yaml, a.yaml]\n")
    assert [one["kind"] for one in cluster.documents(tmp_path)] == ["Z", "A", "B"]


def test_manifests_are_part_of_the_package() -> None:
    assert (files("codezero.sandbox.sample") / "manifests" / "kustomization.yaml").is_file()
