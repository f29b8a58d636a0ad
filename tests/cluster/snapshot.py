"""What is in a cluster, as far as its users wrote it: to compare before and after."""

import json
from typing import Any

from tests.cluster.base import KubernetesLab

# Written by the cluster itself, all the time.
_NOT_COMPARED = {"events", "leases", "endpointslices", "endpoints", "ipaddresses"}
_METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
_NOT_WRITTEN = {"metadata", "status", "apiVersion", "kind"}

Snapshot = dict[str, dict[str, Any]]


def snapshot(lab: KubernetesLab, *, but: tuple[str, ...] = ()) -> Snapshot:
    """Labels, annotations, finalizers, owners and content of every object by its name, without those of the namespaces in `but`."""
    names = lab.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    asked = ",".join(name for name in names if name.partition(".")[0] not in _NOT_COMPARED)
    found = json.loads(lab.kubectl("get", asked, "-A", "-o", "json", "--ignore-not-found"))["items"]
    return {_name(one): _content(one) for one in found if not _within(one, but)}


def _name(one: dict[str, Any]) -> str:
    metadata = one["metadata"]
    return f"{one['apiVersion']} {one['kind']} {metadata.get('namespace', '')}/{metadata['name']}"


def _content(one: dict[str, Any]) -> dict[str, Any]:
    metadata = {name: one["metadata"][name] for name in _METADATA if one["metadata"].get(name)}
    return {**metadata, **{name: value for name, value in one.items() if name not in _NOT_WRITTEN}}


def _within(one: dict[str, Any], namespaces: tuple[str, ...]) -> bool:
    metadata = one["metadata"]
    return metadata.get("namespace") in namespaces or (one["kind"] == "Namespace" and metadata["name"] in namespaces)
