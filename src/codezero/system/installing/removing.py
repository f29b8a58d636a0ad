"""Takes a Teamspace away and leaves the cluster as it was: served Services first, then what the record says, in the reverse order.

The parts end before anything is put back, or the System and its laptops would serve anew meanwhile; a Router leads everybody to the team's own pods when
they are gone. What cannot be put back is found out before that.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from codezero.deploy import objects
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system.installing import record as records
from codezero.system.installing.applying import Installer, Present, manager_of
from codezero.system.installing.kinds import Kinds, Ref
from codezero.system.installing.looking import PARTS
from codezero.system.installing.record import MANAGER
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_object, as_text, at, texts
from codezero.system.kubernetes.objects import SERVES, SERVICES
from codezero.system.serving import naming
from codezero.system.serving.leadership import LEASE
from codezero.system.serving.observing import find, listed
from codezero.system.serving.repair import repair

CANNOT: Final = "cannot "
_LOOK_SECONDS: Final = 0.5
_TRIES: Final = 5
# What every namespace has, or what goes with what it stands for.
_COMES_BY_ITSELF: Final = frozenset({"Event", "Endpoints", "EndpointSlice", "Lease", "PodMetrics"})
_STANDARD_NAMESPACES: Final = ("default", "kube-public", "kube-system")
_IN_EVERY_NAMESPACE: Final = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})


class Remover:
    """Removes the Teamspace of one namespace; `tell` hears what is done, a line for people each.

    `forget` is called before the identity goes: nobody could say any more whose keys lie outside the cluster.
    """

    def __init__(
        self, api: ApiClient, *, namespace: str, tell: Callable[[str], None], forget: Callable[[], None] = lambda: None
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._home = f"/api/v1/namespaces/{namespace}"
        self._identity = Ref("v1", "Secret", objects.IDENTITY, namespace)
        self._kinds = Kinds(api)
        self._tell = tell
        self._forget = forget
        self._installer = Installer(api, namespace=namespace)

    async def plan(self, present: Present) -> list[str]:
        """What `remove` would do, a line each. Raises `CodezeroError` where there is nothing of ours, or something could not be put back."""
        refs = await self._of_ours(present)
        planned = await repair(self._api, dry_run=True)
        if failed := [line for line in planned if line.startswith(CANNOT)]:
            raise CodezeroError(
                problems.PARTLY_DONE, "; ".join(failed), fix="apply the manifests of these Services, and run this again"
            )
        living = [ref for ref in refs if await self._is_living(ref)]
        lines = [f"delete {ref}" for ref in living if _is_part(ref)]
        lines += [*planned, *(f"delete {ref}" for ref in living if not _is_part(ref))]
        return [
            *lines,
            *([] if present.namespace is None or manager_of(present.namespace) != MANAGER else [self._last()]),
        ]

    async def remove(self, present: Present, *, seconds: float) -> list[str]:
        """Remove everything and wait until it is gone; what was kept and why, a line each. Raises `CodezeroError` (NOT_READY) after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await self._remove(present)
        except TimeoutError:
            raise CodezeroError(
                problems.NOT_READY,
                f"not gone after {seconds:.0f} s",
                fix="see what keeps it with `kubectl get all -n " + self._namespace + "`, and run this again",
            ) from None

    async def _remove(self, present: Present) -> list[str]:
        refs = await self._of_ours(present)
        parts = [ref for ref in refs if _is_part(ref)]
        await self._delete(parts)
        await self._until_pods_are_gone()
        await self._put_back()
        await self._delete([ref for ref in refs if not _is_part(ref) and ref != self._identity])
        await self._delete_lease()
        self._forget()
        await self._delete([self._identity])
        for name in (objects.POLICY, records.NAME):
            await self._delete([Ref("v1", "ConfigMap", name, self._namespace)])
        return await self._delete_namespace()

    async def _delete_lease(self) -> None:
        """The System's own, which no installation made."""
        try:
            await self._api.delete(f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases/{LEASE}")
        except ApiError as error:
            if not error.is_missing:
                raise

    async def _of_ours(self, present: Present) -> list[Ref]:
        """What to delete, the last made first, the record aside."""
        if present.record is not None:
            await self._refuse_helm()
            return [*reversed(present.record.objects), self._identity]
        if present.namespace is not None and manager_of(present.namespace) == MANAGER:
            # An uninstallation that was interrupted at its end.
            return [self._identity]
        raise CodezeroError(
            problems.NOT_INSTALLED,
            f"czctl has installed no Teamspace in namespace {self._namespace}",
            fix="name its namespace with --namespace; one that helm installed goes with `helm uninstall`",
        )

    async def _refuse_helm(self) -> None:
        """The System of a Helm release needs its identity as long as it runs."""
        for name in PARTS:
            found = await find(self._api, f"/apis/apps/v1/namespaces/{self._namespace}/deployments/{name}")
            if found is not None and manager_of(found) == "Helm":
                raise CodezeroError(
                    problems.IN_THE_WAY,
                    f"Deployment {self._namespace}/{name} belongs to a Helm release",
                    fix="first helm uninstall, then this for the identity that czctl made",
                )

    async def _is_living(self, ref: Ref) -> bool:
        if not await self._kinds.knows(ref):
            return False
        found = await find(self._api, await self._kinds.path(ref))
        return found is not None and manager_of(found) == MANAGER

    async def _delete(self, refs: Sequence[Ref]) -> None:
        going: list[str] = []
        for ref in refs:
            if await self._installer.delete(ref):
                self._tell(f"delete {ref}")
                going.append(await self._kinds.path(ref))
        for path in going:
            await self._until_gone(path)

    async def _until_gone(self, path: str) -> None:
        while await find(self._api, path) is not None:  # noqa: ASYNC110 - only the API server knows
            await asyncio.sleep(_LOOK_SECONDS)

    async def _until_pods_are_gone(self) -> None:
        told = False
        while True:
            pods = await listed(
                self._api, f"{self._home}/pods", {"labelSelector": "app.kubernetes.io/part-of=codezero"}
            )
            if not pods:
                return
            if not told:
                self._tell(f"waiting: {len(pods)} pods of namespace {self._namespace} end")
                told = True
            await asyncio.sleep(_LOOK_SECONDS)

    async def _put_back(self) -> None:
        """Until nothing is served: a System that was still ending may have written once more."""
        for _ in range(_TRIES):
            done = await repair(self._api, dry_run=False)
            for line in done:
                self._tell(line)
            if not await self._is_anything_served():
                return
        raise CodezeroError(
            problems.PARTLY_DONE,
            "Services still lead to Routers of ours; System and Orchestrator are gone, and Routers lead to the team's pods",
            fix="czctl teamspace repair, see what it says, and run this again",
        )

    async def _is_anything_served(self) -> bool:
        if await listed(self._api, SERVES.path):
            return True
        return any(_leads_to_us(one) for one in await listed(self._api, SERVICES.path))

    def _last(self) -> str:
        return f"delete Namespace {self._namespace}, if nothing of somebody else's is in it"

    async def _delete_namespace(self) -> list[str]:
        found = await find(self._api, self._home)
        if found is None:
            return []
        if manager_of(found) != MANAGER:
            return [f"namespace {self._namespace} stays: czctl did not make it"]
        self._kinds.forget()
        if others := await self._others():
            return [f"namespace {self._namespace} stays: it holds {', '.join(others[:5])}"]
        self._tell(f"delete Namespace {self._namespace}")
        try:
            await self._api.delete(self._home, uid=as_text(at(found, "metadata", "uid")))
        except ApiError as error:
            if not error.is_missing:
                raise
        await self._until_gone(self._home)
        return []

    async def _others(self) -> list[str]:
        """What is in the namespace, without what the cluster publishes into every one of them: bundles of authorities, accounts, their roles."""
        found = await self._held(self._namespace)
        if found:
            # Only now: for most clusters the two that Kubernetes itself makes are all there are.
            everywhere = found
            for namespace in _STANDARD_NAMESPACES:
                everywhere &= await self._held(namespace)
            found -= everywhere
        return sorted(f"{kind} {name}" for kind, name in found)

    async def _held(self, namespace: str) -> frozenset[tuple[str, str]]:
        found: set[tuple[str, str]] = set()
        async for _, kind, collection in self._kinds.collections(namespace):
            if kind in _COMES_BY_ITSELF:
                continue
            for one in await listed(self._api, collection):
                if at(one, "metadata", "deletionTimestamp") is None:
                    found.add((kind, as_text(at(one, "metadata", "name"))))
        return frozenset(found) - _IN_EVERY_NAMESPACE


def _is_part(ref: Ref) -> bool:
    return ref.kind == "Deployment" and ref.name in PARTS


def _leads_to_us(service: Json) -> bool:
    metadata = as_object(service.get("metadata"))
    ref = ServiceRef(as_text(metadata.get("namespace")), as_text(metadata.get("name")))
    return naming.bears_ours(texts(at(service, "spec", "selector")), ref)
