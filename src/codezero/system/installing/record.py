"""What an installation has made and by which values: ConfigMap `codezero-install` beside it, so that any machine can go on from there."""

import re
from typing import Final

import msgspec

from codezero.deploy.manifest import Json, manifest
from codezero.deploy.objects import ENTRY
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.installing.kinds import Ref
from codezero.system.kubernetes.documents import texts

NAME: Final = "codezero-install"
MANAGER: Final = "czctl"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"

_LEADING: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")
_VALUES: Final = "values.json"
_OBJECTS: Final = "objects.json"


class Record(msgspec.Struct, frozen=True):
    """The Teamspace's name, the version that last began to install it, the values as they were given, and all objects in the order in which they came.

    The version is empty where `czctl` made the identity alone.
    """

    name: str
    version: str = ""
    values: Json = {}
    objects: tuple[Ref, ...] = ()


def is_newer(version: str, than: str) -> bool:
    """Whether a version's numbers are greater; a release and what was tried out before it count as the same, and what has no numbers as no newer."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> tuple[int, ...]:
    found = _LEADING.match(version)
    numbers = [int(one) for one in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def path(namespace: str) -> str:
    """Where it is."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{NAME}"


def encode(record: Record, namespace: str) -> Json:
    """As a Kubernetes object."""
    data = {
        "name": record.name,
        "version": record.version,
        _VALUES: msgspec.json.format(msgspec.json.encode(record.values), indent=2).decode(),
        _OBJECTS: msgspec.json.format(msgspec.json.encode(record.objects), indent=2).decode(),
    }
    return manifest("v1", "ConfigMap", NAME, component=ENTRY, namespace=namespace, data=data)


def decode(content: Json) -> Record:
    """The record that a Kubernetes object holds; raises `CodezeroError` where somebody has damaged it."""
    data = texts(content.get("data"))
    try:
        return Record(
            name=data["name"],
            version=data.get("version", ""),
            values=msgspec.json.decode(data.get(_VALUES, "{}"), type=Json),
            objects=msgspec.json.decode(data.get(_OBJECTS, "[]"), type=tuple[Ref, ...]),
        )
    except (KeyError, msgspec.DecodeError) as error:
        raise CodezeroError(
            problems.NOT_READY,
            f"the record of the installation, ConfigMap {NAME}, cannot be read: {error}",
            fix=f"kubectl delete configmap {NAME}, then czctl teamspace install with the values as before",
        ) from None
