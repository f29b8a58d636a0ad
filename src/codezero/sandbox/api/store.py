"""The objects of the sandbox's cluster with all the rules of a Kubernetes API: what the HTTP server and the sandbox's own controllers write through.

Synchronous and single-threaded: a call has happened when it returns, deletions of dependents included.
"""

import secrets
import string
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from codezero.sandbox.api import behaviour, custom, errors, metadata, ownership, patches, schemas, structure
from codezero.sandbox.api.collection import FOREGROUND, Collector, is_terminating
from codezero.sandbox.api.documents import (
    JsonArray,
    JsonObject,
    JsonValue,
    as_list,
    as_object,
    as_objects,
    at,
    copy,
    is_list,
    is_object,
    put,
    without,
)
from codezero.sandbox.api.errors import Cause
from codezero.sandbox.api.kinds import ResourceType, TypeTable
from codezero.sandbox.api.lists import Lists
from codezero.sandbox.api.selectors import Selection
from codezero.sandbox.api.services import Allocator
from codezero.sandbox.api.storage import HISTORY, Event, Storage, Stored
from codezero.sandbox.api.watches import Watch

PatchKind = Literal["json", "merge", "strategic", "apply"]
Propagation = Literal["Background", "Foreground", "Orphan"]

_EVERYTHING = Selection()
# Kinds whose creator may set the status at once (the kubelet registers its node so).
_STATUS_AT_CREATION = frozenset({"nodes", "namespaces"})
_SERVER_FIELDS = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "selfLink",
)
_NAME_ALPHABET = string.ascii_lowercase + string.digits
# The models demand them; a real server fills in an empty value.
_OPTIONAL_IN_PRACTICE = frozenset({"endpoints", "spec.podSelector"})
_SYSTEM_NAMESPACES = frozenset({"default", "kube-system", "kube-public"})


@dataclass(slots=True, kw_only=True)
class Options:
    """How a write is to be done. `warnings` is filled by the write."""

    manager: str = "codezero-sandbox"
    is_dry_run: bool = False
    unknown_fields: Literal["Ignore", "Warn", "Strict"] = "Ignore"
    warnings: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Preconditions:
    """What must be true of an object for it to be deleted."""

    uid: str | None = None
    revision: str | None = None


class Store:
    """Every object of the cluster.

    `namespace` is empty for kinds of the whole cluster. Results are `Stored`: their `content` is shared and must not be changed, `copy()` is
    free. All methods raise `ApiError` for what a Kubernetes API would refuse.
    """

    def __init__(
        self,
        *,
        service_network: str = "10.96.0.0/16",
        history: int = HISTORY,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.types = TypeTable()
        self.storage = Storage(history=history)
        self.lists = Lists(self.storage)
        self._clock = clock or (lambda: datetime.now(UTC))
        self._allocator = Allocator(service_network)
        self.storage.listen(self._hear_service, "services")
        self.storage.listen(self._hear_definition, custom.KEY)
        self._collector = Collector(self)

    # Reading

    def get(self, resource: str, namespace: str, name: str) -> Stored:
        """The object of that name."""
        kind = self.type_of(resource)
        found = self.storage.get(kind.key, namespace, name)
        if found is None:
            raise errors.not_found(kind.plural, kind.group, name)
        return found

    def find(self, resource: str, namespace: str, name: str) -> Stored | None:
        """The object of that name, or None."""
        return self.storage.get(resource, namespace, name)

    def list(self, resource: str, namespace: str | None = None, *, selection: Selection = _EVERYTHING) -> list[Stored]:
        """The objects of a resource, in one namespace or (None) all, in the order of their names."""
        everything = self.storage.each(self.type_of(resource).key, namespace)
        return [stored for stored in everything if selection.matches(stored.content)]

    def watch(self, resource: str, *, selection: Selection = _EVERYTHING, since: int | None = None) -> Watch:
        """Every object now as ADDED and each change from now on; with `since`, only the changes after that version."""
        return Watch(self.storage, self.type_of(resource).key, selection=selection, since=since)

    def listen(self, listener: Callable[[Event], None], resource: str | None = None) -> Callable[[], None]:
        """Have `listener` called inside each write (to `resource`, or None: any); the result ends it."""
        return self.storage.listen(listener, resource)

    def type_of(self, resource: str) -> ResourceType:
        """The type stored under `resource`."""
        kind = self.types.named(resource)
        if kind is None:
            raise errors.no_such_path()
        return kind

    def now(self) -> str:
        """The time as objects carry it: seconds, UTC."""
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")

    # Writing

    def create(
        self,
        resource: str | ResourceType,
        namespace: str,
        content: JsonObject,
        options: Options | None = None,
        *,
        entries: ownership.Entries | None = None,
    ) -> Stored:
        """Add an object; 409 if it exists. `entries` replaces the usual bookkeeping of who set which field."""
        kind, options = self._kind(resource), options or Options()
        content = self._accepted(kind, namespace, content, options)
        meta = content["metadata"]
        if meta.pop("resourceVersion", None):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        for name in _SERVER_FIELDS:
            meta.pop(name, None)
        if "status" in kind.subresources and kind.key not in _STATUS_AT_CREATION:
            content.pop("status", None)
        if not meta.get("name") and meta.get("generateName"):
            meta["name"] = self._generated_name(kind, namespace, str(meta["generateName"]))
        meta["uid"] = str(uuid.uuid4())
        meta["creationTimestamp"] = self.now()
        if kind.has_generation:
            meta["generation"] = 1
        self._complete(kind, content, None)
        self._check_namespace(kind, namespace, content)
        if self.storage.get(kind.key, namespace, meta["name"]) is not None:
            raise errors.already_exists(kind.plural, kind.group, meta["name"])
        own = (
            entries
            if entries is not None
            else ownership.after_update(None, content, self._schema(kind), self._change(kind, options, ""))
        )
        meta["managedFields"] = ownership.write_entries(own)
        return self._commit(kind, content, options)

    def update(
        self,
        resource: str | ResourceType,
        namespace: str,
        content: JsonObject,
        options: Options | None = None,
        *,
        subresource: str = "",
    ) -> Stored:
        """Replace an object (or its status); 409 if it changed since the version in `content`."""
        kind, options = self._kind(resource), options or Options()
        content = self._accepted(kind, namespace, content, options)
        before = self.get(kind.key, namespace, str(content["metadata"].get("name", "")))
        return self._revise(kind, before, content, options, subresource=subresource)

    def patch(
        self,
        resource: str | ResourceType,
        namespace: str,
        name: str,
        patch: JsonValue,
        *,
        patch_kind: PatchKind = "merge",
        options: Options | None = None,
        subresource: str = "",
        force: bool = False,
    ) -> Stored:
        """Change a part of an object. `apply` creates it where it is missing."""
        kind, options = self._kind(resource), options or Options()
        if patch_kind == "apply":
            return self._apply(kind, namespace, name, patch, options, subresource=subresource, force=force)
        before = self.get(kind.key, namespace, name)
        patched = self.patched(kind, before.content | {"apiVersion": kind.api_version}, patch, patch_kind)
        self._same_name(patched, name)
        content = self._accepted(kind, namespace, patched, options)
        return self._revise(kind, before, content, options, subresource=subresource)

    def patched(self, kind: ResourceType, content: JsonObject, patch: JsonValue, patch_kind: PatchKind) -> JsonObject:
        """`content` after a patch that is not an apply."""
        if patch_kind == "json":
            return patches.json_patch(content, patch)
        if not is_object(patch):
            raise errors.bad_request("a patch is a JSON object")
        if patch_kind == "merge":
            return as_object(copy(patches.merge_patch(content, patch)))
        if kind.is_custom:
            accepted = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
            raise errors.unsupported_media_type("application/strategic-merge-patch+json", accepted)
        return as_object(copy(patches.strategic_merge(content, patch, self._schema(kind))))

    def delete(
        self,
        resource: str,
        namespace: str,
        name: str,
        *,
        propagation: Propagation = "Background",
        grace_seconds: int | None = None,
        preconditions: Preconditions | None = None,
        dry_run: bool = False,
    ) -> tuple[Stored, bool]:
        """Delete an object. Returns its last state, and whether it is gone: finalizers and pods that still run keep it for a while."""
        kind = self.type_of(resource)
        found = self.get(resource, namespace, name)
        self._check_preconditions(kind, found, preconditions or Preconditions())
        if resource == "namespaces" and name in _SYSTEM_NAMESPACES:
            raise errors.forbidden(
                f'namespaces "{name}" is forbidden: this namespace may not be deleted', plural="namespaces", name=name
            )
        content = found.copy()
        meta = content["metadata"]
        finalizers = as_list(meta.get("finalizers"))
        if not is_terminating(found.content):
            finalizers = self._finalizers_for(resource, finalizers, propagation)
        grace = self._grace(resource, found.content, grace_seconds)
        if dry_run:
            return found, not finalizers and not grace
        if propagation == "Orphan" and not is_terminating(found.content):
            self._orphan(found)
        if (
            not finalizers
            and not grace
            and not (resource == "namespaces" and as_list(at(content, "spec", "finalizers")))
        ):
            return self._remove(resource, found), True
        if is_terminating(found.content) and (not grace or grace >= meta.get("deletionGracePeriodSeconds", 0)):
            return found, False
        meta["deletionTimestamp"] = (self._clock() + timedelta(seconds=grace)).strftime("%Y-%m-%dT%H:%M:%SZ")
        meta["deletionGracePeriodSeconds"] = grace
        if finalizers:
            meta["finalizers"] = finalizers
        if kind.has_generation:
            meta["generation"] = meta.get("generation", 1) + 1
        if resource == "namespaces":
            put(content, "Terminating", "status", "phase")
        stored = self.storage.write(resource, content)
        self._collector.run()
        return stored, self.storage.get(resource, namespace, name) is None

    def write_back(self, resource: str, content: JsonObject) -> Stored:
        """Keep an object as it is, with no rule checked: for the API's own bookkeeping. Removes it when nothing holds it any more."""
        stored = self.storage.write(resource, content)
        if self._may_go(resource, content):
            stored = self._remove(resource, stored)
        self._collector.run()
        return stored

    # Scale: one number of an object as an object of its own

    def scale(self, resource: str | ResourceType, namespace: str, name: str) -> JsonObject:
        """The `Scale` of an object."""
        kind = self._kind(resource)
        return self._scale_of(kind, self.get(kind.key, namespace, name).content)

    def set_scale(
        self, resource: str | ResourceType, namespace: str, name: str, scale: JsonObject, options: Options | None = None
    ) -> JsonObject:
        """Change how many replicas an object wants; returns its new `Scale`."""
        kind, options = self._kind(resource), options or Options()
        if not is_object(scale.get("spec")):
            raise errors.invalid("Scale", "autoscaling", name, [Cause("spec", "Required value", structure.REQUIRED)])
        replicas = scale["spec"].get("replicas", 0)
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            cause = Cause("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0")
            raise errors.invalid("Scale", "autoscaling", name, [cause])
        before = self.get(kind.key, namespace, name)
        content = before.copy()
        put(content, replicas, *kind.scale_paths.get("specReplicasPath", ".spec.replicas").strip(".").split("."))
        if version := at(scale, "metadata", "resourceVersion"):
            content["metadata"]["resourceVersion"] = version
        return self._scale_of(kind, self._revise(kind, before, content, options, subresource="").content)

    def _scale_of(self, kind: ResourceType, content: JsonObject) -> JsonObject:
        paths = kind.scale_paths
        selector = as_object(at(content, "spec", "selector"))
        labels = as_object(selector.get("matchLabels"))
        text = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        if "labelSelectorPath" in paths:
            text = str(at(content, *paths["labelSelectorPath"].strip(".").split(".")) or "")
        names = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        return {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": {name: content["metadata"][name] for name in names if name in content["metadata"]},
            "spec": {
                "replicas": at(content, *paths.get("specReplicasPath", ".spec.replicas").strip(".").split(".")) or 0
            },
            "status": {
                "replicas": at(content, *paths.get("statusReplicasPath", ".status.replicas").strip(".").split("."))
                or 0,
                "selector": text,
            },
        }

    # Steps of writing

    def _kind(self, resource: str | ResourceType) -> ResourceType:
        return resource if isinstance(resource, ResourceType) else self.type_of(resource)

    def _schema(self, kind: ResourceType) -> JsonObject:
        return schemas.definition(kind.schema) if kind.schema is not None else kind.structure

    def _change(self, kind: ResourceType, options: Options, subresource: str) -> ownership.Change:
        return ownership.Change(
            manager=options.manager or "unknown", api_version=kind.api_version, time=self.now(), subresource=subresource
        )

    def _accepted(self, kind: ResourceType, namespace: str, content: JsonObject, options: Options) -> JsonObject:
        """A copy of what somebody sent, with known fields of the right types only, in the right place."""
        content = copy(content)
        content.setdefault("apiVersion", kind.api_version)
        content.setdefault("kind", kind.kind)
        if (content["apiVersion"], content["kind"]) != (kind.api_version, kind.kind):
            raise errors.bad_request(
                f"the object provided ({content['kind']}, {content['apiVersion']}) does not match "
                f"the resource ({kind.kind}, {kind.api_version})"
            )
        meta: JsonValue = content.setdefault("metadata", {})
        if not is_object(meta):
            raise errors.bad_request("metadata must be an object")
        self._conform(kind, content, options)
        if kind.namespaced:
            if meta.setdefault("namespace", namespace) != namespace:
                raise errors.bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
        else:
            meta.pop("namespace", None)
        return content

    def _conform(self, kind: ResourceType, content: JsonObject, options: Options) -> None:
        findings = structure.conform(content, self._schema(kind))
        if findings.unknown and options.unknown_fields != "Ignore":
            notes = [f'unknown field "{name}"' for name in findings.unknown]
            if options.unknown_fields == "Strict":
                raise errors.bad_request(f"strict decoding error: {', '.join(notes)}")
            options.warnings += notes
        causes = [cause for cause in findings.causes if kind.is_custom or not _is_forgiven(cause)]
        if not causes:
            return
        wrong_types = [cause for cause in causes if cause.reason == structure.WRONG_TYPE]
        if wrong_types and not kind.is_custom:
            message = "; ".join(f"{cause.field}: {cause.message}" for cause in wrong_types)
            raise errors.bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {message}'
            )
        raise errors.invalid(kind.kind, kind.group, _name_of(content), causes)

    def _complete(self, kind: ResourceType, content: JsonObject, before: JsonObject | None) -> None:
        """Defaults, allocations and rules; the object is valid afterwards."""
        rules = behaviour.of(kind)
        if before is not None:
            rules.carry_over(content, before)
        rules.set_defaults(content)
        causes = metadata.check(content["metadata"], rules.name_rule) + rules.check(content, before)
        if (
            kind.key == custom.KEY
            and (taken := self.types.named(_name_of(content))) is not None
            and not taken.is_custom
        ):
            causes.append(Cause("spec.names.plural", f'Invalid value: "{taken.plural}": the server serves it already'))
        if causes:
            raise errors.invalid(kind.kind, kind.group, _name_of(content), causes)
        if kind.key == "services":
            self._allocator.allocate(content, before)
        elif kind.key == custom.KEY:
            custom.accept(content, self.now())
            finalizers = content["metadata"].setdefault("finalizers", [])
            if custom.FINALIZER not in finalizers and "deletionTimestamp" not in content["metadata"]:
                finalizers.append(custom.FINALIZER)

    def _check_namespace(self, kind: ResourceType, namespace: str, content: JsonObject) -> None:
        if not kind.namespaced:
            return
        found = self.storage.get("namespaces", "", namespace)
        if found is None:
            raise errors.not_found("namespaces", "", namespace)
        if is_terminating(found.content):
            name = content["metadata"]["name"]
            message = f'{kind.plural} "{name}" is forbidden: unable to create new content in namespace {namespace} because it is being terminated'
            raise errors.forbidden(message, plural=kind.plural, group=kind.group, name=name)

    def _generated_name(self, kind: ResourceType, namespace: str, prefix: str) -> str:
        while True:
            name = prefix[:58] + "".join(secrets.choice(_NAME_ALPHABET) for _ in range(5))
            if self.storage.get(kind.key, namespace, name) is None:
                return name

    @staticmethod
    def _same_name(content: JsonObject, name: str) -> None:
        if at(content, "metadata", "name") != name:
            raise errors.bad_request("the name of the object does not match the name on the URL")

    def _revise(
        self, kind: ResourceType, before: Stored, content: JsonObject, options: Options, *, subresource: str
    ) -> Stored:
        """Write `content` (accepted) in place of `before`."""
        meta, old = content["metadata"], before.content["metadata"]
        self._check_versions(kind, before, meta)
        if subresource == "status":
            entries = meta.get("managedFields")
            content = before.copy() | {"status": content.get("status", {})}
            meta = content["metadata"]
            if entries is not None:
                meta["managedFields"] = entries
        elif "status" in kind.subresources:
            content.pop("status", None)
            if "status" in before.content:
                content["status"] = copy(before.content["status"])
        for name in (*_SERVER_FIELDS, "resourceVersion", "generateName"):
            if name in old:
                meta[name] = old[name]
            else:
                meta.pop(name, None)
        self._complete(kind, content, before.content)
        self._check_finalizers(kind, before, meta)
        if kind.has_generation and _wanted_part(content) != _wanted_part(before.content):
            meta["generation"] = old.get("generation", 0) + 1
        change = self._change(kind, options, subresource)
        entries = ownership.after_update(before.content, content, self._schema(kind), change)
        return self._keep(kind, before, content, entries, options)

    def _keep(
        self, kind: ResourceType, before: Stored, content: JsonObject, entries: ownership.Entries, options: Options
    ) -> Stored:
        """Store a revision, unless it changes nothing."""
        content["metadata"]["managedFields"] = ownership.write_entries(entries)
        content["apiVersion"] = before.content["apiVersion"]
        if content == before.content:
            return before
        return self._commit(kind, content, options)

    def _check_versions(self, kind: ResourceType, before: Stored, meta: JsonObject) -> None:
        name = before.name
        if meta.get("uid") not in {None, "", before.uid}:
            why = f"Precondition failed: UID in precondition: {meta['uid']}, UID in object meta: {before.uid}"
            raise errors.conflict(kind.plural, kind.group, name, why)
        if meta.get("resourceVersion") not in {None, "", str(before.revision)}:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise errors.conflict(kind.plural, kind.group, name, why)

    def _check_finalizers(self, kind: ResourceType, before: Stored, meta: JsonObject) -> None:
        if not is_terminating(before.content):
            return
        added = set(as_list(meta.get("finalizers"))) - set(as_list(before.content["metadata"].get("finalizers")))
        if added:
            message = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
            cause = Cause("metadata.finalizers", message, "FieldValueForbidden")
            raise errors.invalid(kind.kind, kind.group, before.name, [cause])

    def _apply(
        self,
        kind: ResourceType,
        namespace: str,
        name: str,
        wanted: JsonValue,
        options: Options,
        *,
        subresource: str,
        force: bool,
    ) -> Stored:
        if not is_object(wanted):
            raise errors.bad_request("an apply configuration is an object")
        for required in ("apiVersion", "kind"):
            if not wanted.get(required):
                raise errors.bad_request(f"invalid object: {required} must be set in an apply configuration")
        wanted = copy(wanted)
        if not is_object(wanted.setdefault("metadata", {})):
            raise errors.bad_request("metadata must be an object")
        if wanted["metadata"].get("managedFields"):
            raise errors.bad_request("metadata.managedFields must be nil")
        wanted["metadata"].setdefault("name", name)
        self._same_name(wanted, name)
        before = self.storage.get(kind.key, namespace, name)
        schema, change = self._schema(kind), self._change(kind, options, subresource)
        if before is None:
            if subresource:
                raise errors.not_found(kind.plural, kind.group, name)
            own = self._pruned(kind, wanted, options)
            empty: JsonObject = {"metadata": {}}
            _, entries = ownership.apply(empty, own, schema, change, force=True)
            return self.create(kind, namespace, wanted, options, entries=entries)
        wanted = self._pruned(kind, wanted, options)
        self._check_versions(kind, before, wanted["metadata"])
        if subresource == "status":
            wanted = {
                "apiVersion": wanted["apiVersion"],
                "kind": wanted["kind"],
                "metadata": {"name": name},
                "status": wanted.get("status", {}),
            }
        elif "status" in kind.subresources:
            wanted = without(wanted, "status")
        merged, entries = ownership.apply(before.content, wanted, schema, change, force=force)
        content = self._accepted(kind, namespace, merged | {"apiVersion": kind.api_version}, options)
        return self._revise_applied(kind, before, content, entries, options)

    def _pruned(self, kind: ResourceType, wanted: JsonObject, options: Options) -> JsonObject:
        """An apply configuration with known fields only; what it leaves out is not its business, so nothing is required."""
        wanted = copy(wanted)
        findings = structure.conform(wanted, self._without_defaults(kind))
        wrong = [cause for cause in findings.causes if cause.reason == structure.WRONG_TYPE]
        if wrong:
            raise errors.bad_request("; ".join(f"{cause.field}: {cause.message}" for cause in wrong))
        if findings.unknown and options.unknown_fields == "Strict":
            message = ", ".join(f'unknown field "{name}"' for name in findings.unknown)
            raise errors.bad_request(f"strict decoding error: {message}")
        return wanted

    def _without_defaults(self, kind: ResourceType) -> JsonObject:
        return self._schema(kind) if not kind.is_custom else as_object(_undefaulted(kind.structure))

    def _revise_applied(
        self, kind: ResourceType, before: Stored, content: JsonObject, entries: ownership.Entries, options: Options
    ) -> Stored:
        self._complete(kind, content, before.content)
        self._check_finalizers(kind, before, content["metadata"])
        if kind.has_generation and _wanted_part(content) != _wanted_part(before.content):
            content["metadata"]["generation"] = before.content["metadata"].get("generation", 0) + 1
        return self._keep(kind, before, content, entries, options)

    def _commit(self, kind: ResourceType, content: JsonObject, options: Options) -> Stored:
        if kind.stored_version:
            content["apiVersion"] = f"{kind.group}/{kind.stored_version}"
        if options.is_dry_run:
            return Stored.of(self.storage.revision, content)
        stored = self.storage.write(kind.key, content)
        if self._may_go(kind.key, content):
            stored = self._remove(kind.key, stored)
        if kind.key == "namespaces":
            self._furnish(stored)
        self._collector.run()
        return stored

    def _may_go(self, resource: str, content: JsonObject) -> bool:
        meta = content["metadata"]
        held = meta.get("finalizers") or meta.get("deletionGracePeriodSeconds")
        if resource == "namespaces":
            held = held or at(content, "spec", "finalizers")
        return is_terminating(content) and not held

    def _furnish(self, namespace: Stored) -> None:
        """Every namespace has a ServiceAccount that its pods use when they name none."""
        if not is_terminating(namespace.content) and self.find("serviceaccounts", namespace.name, "default") is None:
            self.create("serviceaccounts", namespace.name, {"metadata": {"name": "default"}})

    # Steps of deleting

    def _remove(self, resource: str, found: Stored) -> Stored:
        last = self.storage.remove(resource, found)
        self._collector.run()
        return last

    @staticmethod
    def _check_preconditions(kind: ResourceType, found: Stored, preconditions: Preconditions) -> None:
        for wanted, actual, what in (
            (preconditions.uid, found.uid, "UID"),
            (preconditions.revision, str(found.revision), "ResourceVersion"),
        ):
            if wanted and wanted != actual:
                why = f"Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}"
                raise errors.conflict(kind.plural, kind.group, found.name, why)

    def _finalizers_for(self, resource: str, finalizers: JsonArray, propagation: Propagation) -> JsonArray:
        kept = [finalizer for finalizer in finalizers if finalizer != FOREGROUND]
        return [*kept, FOREGROUND] if propagation == "Foreground" and resource != "namespaces" else kept

    @staticmethod
    def _grace(resource: str, content: JsonObject, wanted: int | None) -> int:
        """Seconds a pod on a node gets to end; the kubelet deletes it with 0 when it has."""
        if (
            resource != "pods"
            or not at(content, "spec", "nodeName")
            or at(content, "status", "phase") in {"Succeeded", "Failed"}
        ):
            return 0
        if wanted is not None:
            return max(wanted, 0)
        period = at(content, "spec", "terminationGracePeriodSeconds")
        return period if isinstance(period, int) else 30

    def _orphan(self, owner: Stored) -> None:
        for resource, namespace, name in self._collector.dependents(owner.uid):
            content = self.get(resource, namespace, name).copy()
            references = as_objects(content["metadata"].get("ownerReferences"))
            content["metadata"]["ownerReferences"] = [found for found in references if found.get("uid") != owner.uid]
            self.write_back(resource, content)

    # Listening to itself

    def _hear_service(self, event: Event) -> None:
        if event.before is not None:
            self._allocator.release(event.before.content)
        if event.type != "DELETED":
            self._allocator.hold(event.stored.content)

    def _hear_definition(self, event: Event) -> None:
        self.types.remove(event.stored.name)
        if event.type != "DELETED":
            for kind in custom.resource_types(event.stored.content):
                self.types.add(kind)


def _name_of(content: JsonObject) -> str:
    return str(content["metadata"].get("name", "") or content["metadata"].get("generateName", ""))


def _is_forgiven(cause: Cause) -> bool:
    return cause.reason == structure.REQUIRED and (
        cause.field in _OPTIONAL_IN_PRACTICE or cause.field.startswith("status.")
    )


def _wanted_part(content: Mapping[str, JsonValue]) -> JsonObject:
    return {name: value for name, value in content.items() if name not in {"metadata", "status", "apiVersion"}}


def _undefaulted(schema: JsonValue) -> JsonValue:
    if is_object(schema):
        return {name: _undefaulted(value) for name, value in schema.items() if name != "default"}
    if is_list(schema):
        return [_undefaulted(item) for item in schema]
    return schema
