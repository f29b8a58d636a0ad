import base64
import os
from pathlib import Path

import pytest

from codezero.sandbox import pod_files
from codezero.sandbox.api import JsonObject, Store
from codezero.sandbox.pod_files import ACCOUNT_FOLDER, NotPossibleError, PodVolumes, environment_of, expanded


@pytest.fixture
def pod() -> JsonObject:
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "u", "labels": {"app": "web"}},
        "spec": {"enableServiceLinks": False},
        "status": {"podIP": "10.244.0.7"},
    }


@pytest.fixture
def volumes(store: Store, tmp_path: Path) -> PodVolumes:
    issued = iter(range(100))
    return PodVolumes(tmp_path, store, lambda *_, **__: (f"token-{next(issued)}", 0), "AUTHORITIES")


def config(store: Store, name: str = "config", **data: str) -> None:
    store.create("configmaps", "default", {"metadata": {"name": name}, "data": data})


def secret(store: Store, name: str = "secret", **data: str) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    store.create("secrets", "default", {"metadata": {"name": name}, "data": encoded})


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)/$(B)", "1/2"),
        ("$(MISSING)", "$(MISSING)"),
        ("$$(A)", "$(A)"),
        ("$A $ $( $(A", "$A $ $( $(A"),
        ("$$$(A)", "$1"),
    ],
)
def test_references_are_expanded_as_kubernetes_does(text: str, result: str) -> None:
    assert expanded(text, {"A": "1", "B": "2"}) == result


def test_the_environment_comes_from_everywhere(store: Store, pod: JsonObject) -> None:
    config(store, key="from config", other="too")
    secret(store, password="hidden")
    container = {
        "envFrom": [{"configMapRef": {"name": "config"}, "prefix": "C_"}],
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "BUILT", "value": "$(PLAIN)-$(C_key)"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "password"}}},
            {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k", "optional": True}}},
        ],
    }
    found = environment_of(container, pod, store)

    assert found["BUILT"] == "x-from config"
    assert (found["PASSWORD"], found["WHERE"], found["APP"], found["C_other"]) == (
        "hidden",
        "10.244.0.7",
        "web",
        "too",
    )
    assert "MAYBE" not in found
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"


@pytest.mark.parametrize(
    "container",
    [
        {"envFrom": [{"configMapRef": {"name": "none"}}]},
        {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "none", "key": "k"}}}]},
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.everything"}}}]},
    ],
)
def test_what_is_missing_is_named(store: Store, pod: JsonObject, container: JsonObject) -> None:
    with pytest.raises(NotPossibleError) as missing:
        environment_of(container, pod, store)
    assert missing.value.reason == "CreateContainerConfigError"


def test_files_of_a_volume_change_all_at_once(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    """A reader that opened the folder before sees one version or the other: a certificate never meets another's key."""
    secret(store, crt="1", key="1")
    pod["spec"]["volumes"] = [{"name": "v", "secret": {"secretName": "secret"}}]
    volumes.refresh(pod)
    folder = volumes.folder / "v"
    opened = os.open(folder / "..data", os.O_PATH)
    content = store.get("secrets", "default", "secret").copy()
    content["data"] = {"crt": base64.b64encode(b"2").decode(), "new": base64.b64encode(b"2").decode()}
    store.update("secrets", "default", content)
    volumes.refresh(pod)
    os.close(opened)

    assert sorted(file.name for file in folder.iterdir() if not file.name.startswith("..")) == ["crt", "new"]
    assert {(folder / name).read_text() for name in ("crt", "new")} == {"2"}
    assert len([entry for entry in folder.iterdir() if entry.name.startswith("..")]) == 2


def test_nothing_is_written_where_nothing_changed(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    config(store, a="1")
    pod["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "config"}}]
    volumes.refresh(pod)
    before = (volumes.folder / "v" / "..data").readlink()
    volumes.refresh(pod)

    assert (volumes.folder / "v" / "..data").readlink() == before


def test_items_choose_and_rename(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    config(store, a="1", b="2")
    items = [{"key": "a", "path": "deep/down"}]
    pod["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "config", "items": items}}]
    volumes.refresh(pod)

    assert (volumes.folder / "v" / "deep" / "down").read_text() == "1"
    assert not (volumes.folder / "v" / "b").exists()


@pytest.mark.parametrize("path", ["../out", "/etc/passwd", "a/../../b"])
def test_paths_that_leave_the_volume_are_refused(store: Store, pod: JsonObject, volumes: PodVolumes, path: str) -> None:
    config(store, a="1")
    pod["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "config", "items": [{"key": "a", "path": path}]}}]
    with pytest.raises(NotPossibleError):
        volumes.refresh(pod)


def test_every_pod_has_its_account_unless_it_wants_none(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    (mount,) = volumes.mounts({}, pod)
    assert (mount.target, mount.read_only) == (ACCOUNT_FOLDER, True)
    assert (mount.source / "token").read_text() == "token-0"
    assert (mount.source / "ca.crt").read_text() == "AUTHORITIES"

    pod["spec"]["automountServiceAccountToken"] = False
    assert volumes.mounts({}, pod) == []


def test_worn_tokens_are_replaced(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    (mount,) = volumes.mounts({}, pod)
    volumes.refresh(pod)

    assert (mount.source / "token").read_text() != "token-0"


def test_volumes_the_sandbox_has_not_are_named(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    pod["spec"]["volumes"] = [{"name": "v", "hostPath": {"path": "/"}}]
    with pytest.raises(NotPossibleError, match="hostPath"):
        volumes.refresh(pod)


def test_part_of_a_volume_can_be_mounted(store: Store, pod: JsonObject, volumes: PodVolumes) -> None:
    config(store, a="1")
    pod["spec"] |= {
        "volumes": [{"name": "v", "configMap": {"name": "config"}}, {"name": "e", "emptyDir": {}}],
        "automountServiceAccountToken": False,
    }
    mounts = volumes.mounts(
        {
            "volumeMounts": [
                {"name": "v", "mountPath": "/etc/a", "subPath": "a"},
                {"name": "e", "mountPath": "/tmp/e", "subPath": "x/y"},
            ]
        },
        pod,
    )

    assert [mount.source.is_file() for mount in mounts] == [True, False]
    assert mounts[0].source.read_text() == "1"


def test_what_a_field_says(pod: JsonObject) -> None:
    assert pod_files.field_of(pod, "metadata.labels") == 'app="web"'
    assert pod_files.field_of(pod, "metadata.name") == "p"
