"""Where objects are in the API, as the cluster itself says it; and what we made, by name."""

from collections.abc import AsyncIterator
from typing import Final

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at

# Copies of what is elsewhere, or what comes and goes by itself.
_DERIVED: Final = frozenset({"events.k8s.io", "metrics.k8s.io"})


class Ref(msgspec.Struct, frozen=True):
    """An object by its names."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def ref_of(content: Json) -> Ref:
    """The names of an object."""
    metadata = as_object(content.get("metadata"))
    return Ref(
        as_text(content.get("apiVersion")),
        as_text(content.get("kind")),
        as_text(metadata.get("name")),
        as_text(metadata.get("namespace")),
    )


class Kinds:
    """The kinds of a cluster, each group asked for once."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api
        self._groups: dict[str, list[Json]] = {}

    async def path(self, ref: Ref) -> str:
        """Where an object is; raises `CodezeroError` where the cluster has no such kind."""
        found = next((one for one in await self._resources(ref.api_version) if one.get("kind") == ref.kind), None)
        if found is None:
            raise CodezeroError(
                problems.CLUSTER_REFUSED,
                f"this cluster has no {ref.kind} of {ref.api_version}",
                fix="use a cluster with Kubernetes 1.30 or newer",
            )
        return f"{_collection(ref.api_version, as_text(found.get('name')), ref.namespace)}/{ref.name}"

    async def knows(self, ref: Ref) -> bool:
        """Whether the cluster has that kind."""
        return any(one.get("kind") == ref.kind for one in await self._resources(ref.api_version))

    def forget(self) -> None:
        """Ask again: a definition came or went."""
        self._groups.clear()

    async def collections(self, namespace: str) -> AsyncIterator[tuple[str, str, str]]:
        """Everything that a namespace can hold and that can be listed: API version, kind, and where."""
        groups = as_object(msgspec.json.decode(await self._api.get("/apis", {})))
        named = [as_text(at(one, "preferredVersion", "groupVersion")) for one in as_list(groups.get("groups"))]
        for version in ("v1", *named):
            if version.partition("/")[0] in _DERIVED:
                continue
            for one in await self._resources(version, may_be_away=True):
                plural = as_text(one.get("name"))
                if one.get("namespaced") and "/" not in plural and "list" in as_list(one.get("verbs")):
                    yield version, as_text(one.get("kind")), _collection(version, plural, namespace)

    async def _resources(self, api_version: str, *, may_be_away: bool = False) -> list[Json]:
        if api_version not in self._groups:
            try:
                content = msgspec.json.decode(await self._api.get(_group(api_version), {}))
            except ApiError as error:
                if error.status == 503 and may_be_away:
                    # An aggregated API whose server is away: nobody can see what is in it.
                    return []
                if error.status != 404:
                    raise
                content = None
            found = [as_object(one) for one in as_list(at(content, "resources"))]
            self._groups[api_version] = [one for one in found if "/" not in as_text(one.get("name"))]
        return self._groups[api_version]


def _group(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _collection(api_version: str, plural: str, namespace: str) -> str:
    return f"{_group(api_version)}/{f'namespaces/{namespace}/' if namespace else ''}{plural}"
