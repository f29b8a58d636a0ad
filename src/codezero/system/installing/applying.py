"""Makes a cluster hold exactly the objects of a Teamspace, and says what that changes. Nothing is touched that somebody else made.

Order: everything that could be refused is looked at first; then the namespace, the record of what is about to be made, policy and identity, the objects;
at last what an earlier installation made and this one does not have.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, cast

import msgspec

from codezero import __version__
from codezero.deploy import identity, objects, values
from codezero.deploy.access import JOIN
from codezero.deploy.identity import Issuers
from codezero.deploy.manifest import PART_OF, Release, labelled
from codezero.model import problems
from codezero.model.access import Policy
from codezero.model.problems import CodezeroError
from codezero.system.installing import record as records
from codezero.system.installing.kinds import Kinds, Ref, ref_of
from codezero.system.installing.record import MANAGED_BY, MANAGER, Record
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_object, as_text, at, texts
from codezero.system.kubernetes.objects import SERVES
from codezero.system.serving.observing import find, listed

RELEASE: Final = Release(manager=MANAGER)
# What nobody puts into a namespace that is meant for a Teamspace. Pull secrets, quotas and roles are put there beforehand.
_OCCUPANTS: Final = (
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("apps/v1", "DaemonSet"),
    ("batch/v1", "Job"),
    ("batch/v1", "CronJob"),
    ("v1", "Service"),
    ("v1", "Pod"),
)
_KEPT_BY_SERVERS: Final = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_MOST_SHOWN: Final = 80
# An object that could not be understood, or breaks the rules of its kind.
_NOT_TAKEN: Final = (400, 422)


class Action(StrEnum):
    """What becomes of an object."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    DELETE = "delete"


class Change(msgspec.Struct, frozen=True):
    """What becomes of one object; `fields` are those that change, with the values before and after where they are short."""

    action: Action
    object: Ref
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.action} {self.object}{': ' if self.fields else ''}{', '.join(self.fields)}"


@dataclass(frozen=True, slots=True)
class Present:
    """What of a Teamspace is in the namespace already."""

    namespace: Json | None
    record: Record | None
    secret: Json | None
    policy: Json | None


@dataclass(frozen=True, slots=True)
class Wish:
    """What to install: values as they were given, and the identity of a new Teamspace or None where there is one already.

    With a Hub there are no issuers, and `join_token` is the one by which a new cluster joins it. `policy` is written where it is not None. `keep` is called before anything that `issuers` signed reaches the cluster, `forget` where the cluster
    has refused it.
    """

    name: str
    values: Json
    issuers: Issuers | None
    policy: Policy | None
    join_token: str | None = field(default=None, repr=False)
    keep: Callable[[], None] = lambda: None
    forget: Callable[[], None] = lambda: None


class Installer:
    """Installs into one namespace. `tell` hears of each object as it is changed."""

    def __init__(self, api: ApiClient, *, namespace: str, tell: Callable[[Change], None] = lambda _: None) -> None:
        self._api = api
        self._namespace = namespace
        self._home = f"/api/v1/namespaces/{namespace}"
        self._kinds = Kinds(api)
        self._join = Ref("v1", "Secret", JOIN, namespace)
        self._tell = tell

    async def present(self) -> Present:
        """What there is."""
        record = await find(self._api, records.path(self._namespace))
        return Present(
            namespace=await find(self._api, self._home),
            record=None if record is None else records.decode(record),
            secret=await find(self._api, f"{self._home}/secrets/{objects.IDENTITY}"),
            policy=await find(self._api, f"{self._home}/configmaps/{objects.POLICY}"),
        )

    def manifests(self, wish: Wish) -> list[Json]:
        """The namespace and the objects that are wished for, without identity and policy; raises `CodezeroError` for values that cannot be used."""
        chosen = values.from_json(wish.values)
        return [self._namespace_object(), *objects.objects(chosen, namespace=self._namespace, release=RELEASE)]

    async def install(self, wish: Wish, present: Present, *, dry_run: bool) -> list[Change]:
        """Make the cluster hold what is wished for; what was changed, or with `dry_run` would be.

        Raises `CodezeroError` before anything is changed where something stands in the way, and where the API does not take an object as the values
        make it; `ApiError` where it refuses for another reason.
        """
        wanted, chosen = self.manifests(wish), values.from_json(wish.values)
        await self._refuse_another()
        if present.record is None:
            await self._refuse_occupied(present)
        living = await self._living([*wanted, *self._identity_stubs(wish)])
        await self._refuse_missing_namespaces(wanted)
        await self._refuse_to_leave_serves(chosen, present)
        own = [ref_of(one) for one in wanted[1:]]
        refs = (*own, *([self._join] if chosen.hub.url else ()))
        known = () if present.record is None else present.record.objects
        # What is in these two exists nowhere else.
        kept = (objects.IDENTITY, objects.POLICY)
        gone = [ref for ref in reversed(known) if ref not in refs and ref.name not in kept]
        planned = (*refs, *reversed(gone))
        changes = await self._identify(wish, present, dry_run=dry_run, version=__version__, planned=planned)
        for one in wanted[1:]:
            before = living.get(ref_of(one))
            try:
                change = await self._apply(one, before, dry_run=dry_run, is_possible=present.namespace is not None)
            except ApiError as error:
                if error.status not in _NOT_TAKEN:
                    raise
                if not dry_run:
                    await self._take_values_back(wish, present, planned=planned)
                raise _not_taken(ref_of(one), error) from error
            changes.append(change)
        for ref in gone:
            if await self.delete(ref, dry_run=dry_run):
                changes.append(Change(Action.DELETE, ref))
        if not dry_run:
            await self._write(Record(wish.name, __version__, wish.values, refs))
        return changes

    @staticmethod
    def refuse_foreign_identity(present: Present) -> None:
        """Raise `CodezeroError` where somebody else's Secret has the name of the identity."""
        if present.secret is not None and manager_of(present.secret) != MANAGER:
            ref = Ref("v1", "Secret", objects.IDENTITY, as_text(at(present.secret, "metadata", "namespace")))
            raise _not_ours([(ref, present.secret)])

    @staticmethod
    def refuse_downgrade(present: Present) -> None:
        """Raise `CodezeroError` where a newer release than this one has installed the Teamspace."""
        installed = "" if present.record is None else present.record.version
        if records.is_newer(installed, __version__):
            raise CodezeroError(
                problems.OLDER_CZCTL,
                f"the Teamspace is of version {installed[:80]}, and this czctl of {__version__}",
                fix=f"use czctl {installed[:80]} or newer; to go back to {__version__} all the same, add --allow-downgrade",
            )

    async def identify(self, wish: Wish, present: Present, *, dry_run: bool) -> list[Change]:
        """Namespace, identity and policy alone, for whoever installs all else in another way."""
        await self._refuse_another()
        await self._living(self._identity_stubs(wish))
        version, known = ("", ()) if present.record is None else (present.record.version, present.record.objects)
        return await self._identify(wish, present, dry_run=dry_run, version=version, planned=known)

    async def delete(self, ref: Ref, *, dry_run: bool = False) -> bool:
        """Delete an object of ours; false where it is gone already, or is somebody else's by now."""
        if not await self._kinds.knows(ref):
            return False
        path = await self._kinds.path(ref)
        found = await find(self._api, path)
        if found is None or manager_of(found) != MANAGER:
            return False
        if not dry_run:
            try:
                await self._api.delete(path, uid=as_text(at(found, "metadata", "uid")), propagation=_propagation(ref))
            except ApiError as error:
                if not error.is_missing:
                    raise
        self._tell(Change(Action.DELETE, ref))
        return True

    # --- identity -------------------------------------------------------------------------------------------------------------------------

    async def _identify(
        self, wish: Wish, present: Present, *, dry_run: bool, version: str, planned: tuple[Ref, ...]
    ) -> list[Change]:
        changes: list[Change] = []
        is_possible = present.namespace is not None
        if present.namespace is None or manager_of(present.namespace) == MANAGER:
            changes.append(await self._apply(self._namespace_object(), present.namespace, dry_run=dry_run))
        if not dry_run:
            await self._write(Record(wish.name, version, wish.values, planned))
        if wish.join_token is not None:
            changes.append(await self._bring_token(wish.join_token, dry_run=dry_run, is_possible=is_possible))
        if wish.policy is not None:
            content = identity.policy_object(wish.policy, namespace=self._namespace)
            (labelled_policy,) = labelled([content], RELEASE)
            changes.append(await self._apply(labelled_policy, present.policy, dry_run=dry_run, is_possible=is_possible))
        # After the policy: an identity without one is then always one that has lost it, and no installation that was interrupted.
        if present.secret is None and wish.issuers is not None:
            changes.append(Change(Action.CREATE, Ref("v1", "Secret", objects.IDENTITY, self._namespace)))
            if not dry_run:
                await self._create_identity(wish)
            self._tell(changes[-1])
        return changes

    async def _bring_token(self, token: str, *, dry_run: bool, is_possible: bool) -> Change:
        """Put the token where the System takes it from. Nobody is shown the fields of this object."""
        before = await find(self._api, await self._kinds.path(self._join)) if is_possible else None
        change = Change(Action.CREATE if before is None else Action.CHANGE, self._join)
        if not dry_run:
            (content,) = labelled([identity.join_object(token, namespace=self._namespace)], RELEASE)
            await self._api.patch(await self._kinds.path(self._join), content, kind="apply")
        self._tell(change)
        return change

    async def _create_identity(self, wish: Wish) -> None:
        assert wish.issuers is not None
        wish.keep()
        content = identity.secret(wish.issuers, wish.issuers.keys(), namespace=self._namespace)
        (secret,) = labelled([identity.secret_object(content, namespace=self._namespace)], RELEASE)
        # Created and never applied: an identity that is there must not be replaced by another.
        try:
            await self._api.create(f"{self._home}/secrets", secret)
        except ApiError as error:
            # Without an answer, or where the API server failed, it may have been done all the same, and nobody could give access then.
            if error.status is not None and error.status < 500:
                wish.forget()
            raise

    async def _take_values_back(self, wish: Wish, present: Present, *, planned: tuple[Ref, ...]) -> None:
        """The values of before go on being those that a next installation starts from: the refused ones would be refused again."""
        before = {} if present.record is None else present.record.values
        # Which Hub it joins is no matter of taste: without that the next installation would be of a Teamspace that stands alone.
        hub = {name: value for name, value in wish.values.items() if name == "hub"}
        await self._write(Record(wish.name, __version__, {**before, **hub}, planned))

    async def _write(self, record: Record) -> None:
        (content,) = labelled([records.encode(record, self._namespace)], RELEASE)
        await self._api.patch(records.path(self._namespace), content, kind="apply")

    def _namespace_object(self) -> Json:
        (content,) = labelled([objects.namespace_of(self._namespace)], RELEASE)
        return content

    def _identity_stubs(self, wish: Wish) -> list[Json]:
        names = [("Secret", objects.IDENTITY), ("ConfigMap", objects.POLICY), ("ConfigMap", records.NAME)]
        if wish.join_token is not None:
            names.append(("Secret", JOIN))
        return [
            {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": self._namespace}}
            for kind, name in names
        ]

    # --- objects --------------------------------------------------------------------------------------------------------------------------

    async def _apply(self, content: Json, before: Json | None, *, dry_run: bool, is_possible: bool = True) -> Change:
        ref = ref_of(content)
        if dry_run and before is None and ref.namespace == self._namespace and not is_possible:
            # Nothing can be tried in a namespace that is not there.
            after = content
        else:
            answer = await self._api.patch(await self._kinds.path(ref), content, kind="apply", dry_run=dry_run)
            after = as_object(msgspec.json.decode(answer))
        change = _change(ref, before, after)
        if change.action is not Action.KEEP:
            self._tell(change)
        return change

    async def _living(self, wanted: Sequence[Json]) -> dict[Ref, Json]:
        """Which of the objects there are; raises `CodezeroError` where one of them is not ours."""
        found: dict[Ref, Json] = {}
        for one in wanted:
            ref = ref_of(one)
            content = await find(self._api, await self._kinds.path(ref))
            if content is not None:
                found[ref] = content
        foreign = [
            (ref, content)
            for ref, content in found.items()
            if ref.kind != "Namespace" and manager_of(content) != MANAGER
        ]
        if foreign:
            raise _not_ours(foreign)
        return found

    async def _refuse_another(self) -> None:
        """A cluster has one Teamspace: rights, fence and definition bear the same names in each, so a second one would take them from the first."""
        selector = {"labelSelector": f"app.kubernetes.io/part-of={PART_OF},{MANAGED_BY}={MANAGER}"}
        for one in await listed(self._api, "/api/v1/configmaps", selector):
            namespace = as_text(at(one, "metadata", "namespace"))
            if at(one, "metadata", "name") == records.NAME and namespace != self._namespace:
                raise CodezeroError(
                    problems.IN_THE_WAY,
                    f"this cluster has a Teamspace already, in namespace {namespace}",
                    fix=f"go on with that one: --namespace {namespace}; or first: czctl teamspace uninstall --namespace {namespace}",
                )

    async def _refuse_occupied(self, present: Present) -> None:
        """A namespace with somebody's application in it is no place for a Teamspace: who uninstalls it would not know what belongs to whom."""
        if present.namespace is None or manager_of(present.namespace) == MANAGER:
            return
        for api_version, kind in _OCCUPANTS:
            ref = Ref(api_version, kind, "", self._namespace)
            if not await self._kinds.knows(ref):
                continue
            collection = (await self._kinds.path(ref)).rstrip("/")
            others = [one for one in await listed(self._api, collection) if not _is_part(one)]
            if others:
                name = as_text(at(others[0], "metadata", "name"))
                raise CodezeroError(
                    problems.IN_THE_WAY,
                    f"namespace {self._namespace} is in use: it holds {kind} {name}",
                    fix="name another one with --namespace; it is made where it does not exist",
                )

    async def _refuse_missing_namespaces(self, wanted: Iterable[Json]) -> None:
        for name in sorted({ref_of(one).namespace for one in wanted} - {"", self._namespace}):
            if await find(self._api, f"/api/v1/namespaces/{name}") is None:
                raise CodezeroError(
                    problems.NOT_FOUND,
                    f"namespace {name}, whose services are to be served, does not exist",
                    fix=f"kubectl create namespace {name}, or leave it out",
                )

    async def _refuse_to_leave_serves(self, chosen: values.Values, present: Present) -> None:
        """Without its rights in a namespace the System could not put back what is served there. What lies where it never had any keeps nobody."""
        if present.record is None or chosen.serve.is_everywhere:
            return
        settings = await find(self._api, f"{self._home}/configmaps/{objects.SETTINGS}")
        # Without the settings of before nobody knows what was enabled.
        before = texts(at(settings, "data")).get("CODEZERO_SERVE_NAMESPACES", values.EVERY_NAMESPACE).split(",")
        for serve in await listed(self._api, SERVES.path):
            namespace, name = (as_text(at(serve, "metadata", field)) for field in ("namespace", "name"))
            if namespace not in chosen.serve.namespaces and {namespace, values.EVERY_NAMESPACE} & {*before}:
                raise CodezeroError(
                    problems.IN_THE_WAY,
                    f"{namespace}/{name} is being served, or lingers, in a namespace that would not be enabled any more",
                    fix=f"kubectl delete serve {name} -n {namespace}, wait until it is gone, and run this again",
                )


def manager_of(content: Json) -> str:
    """Who made an object, as its label says."""
    return texts(at(content, "metadata", "labels")).get(MANAGED_BY, "")


def _not_taken(ref: Ref, error: ApiError) -> CodezeroError:
    return CodezeroError(
        problems.CLUSTER_REFUSED,
        f"the Kubernetes API does not take {ref} as the values make it: {error}",
        fix="choose another value with --set KEY=VALUE or --values FILE; the refused ones were not kept, so name all that you change",
    )


def _is_part(content: Json) -> bool:
    return texts(at(content, "metadata", "labels")).get("app.kubernetes.io/part-of") == PART_OF


def _propagation(ref: Ref) -> str:
    """A Deployment goes after its pods: who waits for it waits for them."""
    return "Foreground" if ref.kind == "Deployment" else "Background"


def _not_ours(foreign: Sequence[tuple[Ref, Json]]) -> CodezeroError:
    ref, content = foreign[0]
    others = f" (and {len(foreign) - 1} more)" if len(foreign) > 1 else ""
    release = texts(at(content, "metadata", "annotations")).get("meta.helm.sh/release-name", "codezero")
    if manager_of(content) == "Helm" and all(other.kind == "CustomResourceDefinition" for other, _ in foreign):
        return CodezeroError(
            problems.IN_THE_WAY,
            f"{ref} was left behind by the Helm release {release}",
            fix=f"see that `kubectl get serves -A` finds nothing, then: kubectl delete crd {ref.name}",
        )
    if manager_of(content) == "Helm":
        home = texts(at(content, "metadata", "annotations")).get("meta.helm.sh/release-namespace", "codezero")
        return CodezeroError(
            problems.IN_THE_WAY,
            f"{ref} belongs to the Helm release {release}{others}",
            fix=f"go on with helm, or first: helm uninstall {release} --namespace {home}",
        )
    made_by = f"was made by {manager_of(content)}" if manager_of(content) else "was not made by czctl"
    return CodezeroError(
        problems.IN_THE_WAY,
        f"{ref} is there already and {made_by}{others}",
        fix="see whose it is; rename or delete it, or choose another --namespace",
    )


def _change(ref: Ref, before: Json | None, after: Json) -> Change:
    if before is None:
        return Change(Action.CREATE, ref)
    fields = tuple(_differences(_lasting(before), _lasting(after)))
    return Change(Action.CHANGE if fields else Action.KEEP, ref, fields)


def _lasting(content: Json) -> Json:
    """An object without what the API server and controllers keep in it."""
    metadata = {
        name: value for name, value in as_object(content.get("metadata")).items() if name not in _KEPT_BY_SERVERS
    }
    return {**{name: value for name, value in content.items() if name != "status"}, "metadata": metadata}


def _differences(before: object, after: object, path: str = "") -> Iterable[str]:
    match before, after:
        case dict(), dict():
            old, new = cast("Json", before), cast("Json", after)
            for name in sorted({*old, *new}):
                yield from _differences(old.get(name), new.get(name), f"{path}.{name}" if path else name)
        case list(), list() if len(cast("list[Any]", before)) == len(cast("list[Any]", after)):
            for number, (old, new) in enumerate(zip(cast("list[Any]", before), cast("list[Any]", after), strict=True)):
                yield from _differences(old, new, f"{path}[{number}]")
        case _:
            if before != after:
                shown = f"{path}: {_short(before)} → {_short(after)}"
                yield shown if len(shown) <= _MOST_SHOWN else path


def _short(value: object) -> str:
    return "nothing" if value is None else msgspec.json.encode(value).decode()
