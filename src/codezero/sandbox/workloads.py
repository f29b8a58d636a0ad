"""Deployments, ReplicaSets and StatefulSets become pods, and their status tells how far that is.

Level-triggered: whatever happened, one look at the objects says what to do next. All within the store, so nothing here awaits.
"""

import asyncio
import hashlib
import json
import math
from collections.abc import Callable, Sequence

from codezero.kit import logs
from codezero.sandbox.api import selectors
from codezero.sandbox.api.collection import is_terminating
from codezero.sandbox.api.documents import JsonObject, as_object, as_objects, at, copy, without
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.storage import Event, Stored
from codezero.sandbox.api.store import Options, Store
from codezero.sandbox.happenings import Recorder
from codezero.sandbox.queues import WorkQueue

DEPLOYMENTS = "deployments.apps"
REPLICA_SETS = "replicasets.apps"
STATEFUL_SETS = "statefulsets.apps"
PODS = "pods"

_HASH_LABEL = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_REVISION_LABEL = "controller-revision-hash"
_POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
_POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
_KINDS = {"Deployment": DEPLOYMENTS, "ReplicaSet": REPLICA_SETS, "StatefulSet": STATEFUL_SETS}
# Letters and digits that make no words, as Kubernetes has them.
_SAFE = "bcdfghjklmnpqrstvwxz2456789"
_RETRY = 1.0
_log = logs.get_logger("workloads")
_OPTIONS = Options(manager="codezero-sandbox-workloads")

Key = tuple[str, str, str]


async def keep_workloads(store: Store) -> None:
    """Bring about what Deployments, ReplicaSets and StatefulSets want, for as long as this runs."""
    await Workloads(store).run()


def controller_of(content: JsonObject) -> JsonObject | None:
    """The owner reference of the object that manages this one."""
    for owner in as_objects(content["metadata"].get("ownerReferences")):
        if owner.get("controller"):
            return owner
    return None


def is_ready(pod: JsonObject) -> bool:
    """Whether a pod's Ready condition is true."""
    conditions = as_objects(at(pod, "status", "conditions"))
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)


def is_active(pod: JsonObject) -> bool:
    """Whether a pod counts for its owner: neither ended nor ending."""
    return not is_terminating(pod) and at(pod, "status", "phase") not in {"Succeeded", "Failed"}


def template_hash(template: JsonObject) -> str:
    """A short name for a pod template; equal templates have equal ones."""
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).digest()
    return "".join(_SAFE[byte % len(_SAFE)] for byte in digest[:9])


def resolved(value: object, total: int, *, up: bool) -> int:
    """What `maxSurge` or `maxUnavailable` come to, a number or a percentage of `total`."""
    if isinstance(value, str) and value.endswith("%"):
        share = int(value[:-1]) * total / 100
        return math.ceil(share) if up else math.floor(share)
    return value if isinstance(value, int) else 0


class Workloads:
    """The controllers; `run` once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: WorkQueue[Key] = WorkQueue()
        self._recorders = {
            DEPLOYMENTS: Recorder(store, "deployment-controller"),
            REPLICA_SETS: Recorder(store, "replicaset-controller"),
            STATEFUL_SETS: Recorder(store, "statefulset-controller"),
        }
        self._reconcile: dict[str, Callable[[Stored], None]] = {
            DEPLOYMENTS: self._deployment,
            REPLICA_SETS: self._replica_set,
            STATEFUL_SETS: self._stateful_set,
        }

    async def run(self) -> None:
        """Follow the store and act."""
        ends = [self._store.listen(self._hear, resource) for resource in (*_KINDS.values(), PODS)]
        try:
            for resource in _KINDS.values():
                for stored in self._store.list(resource):
                    self._queue.add((resource, stored.namespace, stored.name))
            while True:
                self.look_at(await self._queue.take())
                await asyncio.sleep(0)
        finally:
            for end in ends:
                end()

    def look_at(self, key: Key) -> None:
        """Do what one object wants next."""
        resource, namespace, name = key
        found = self._store.find(resource, namespace, name)
        if found is None or is_terminating(found.content):
            return
        try:
            self._reconcile[resource](found)
        except ApiError as error:
            _log.warning("will be tried again", resource=resource, namespace=namespace, name=name, error=str(error))
            asyncio.get_running_loop().call_later(_RETRY, self._queue.add, key)

    def _hear(self, event: Event) -> None:
        content = event.stored.content
        if event.resource != PODS:
            self._queue.add((event.resource, event.stored.namespace, event.stored.name))
        owner = controller_of(content)
        if owner is not None and owner.get("kind") in _KINDS:
            self._queue.add((_KINDS[owner["kind"]], event.stored.namespace, owner["name"]))

    # Deployments

    def _deployment(self, deployment: Stored) -> None:
        spec = deployment.content["spec"]
        sets = self._owned(REPLICA_SETS, deployment)
        current = self._current_set(deployment, sets)
        old = [found for found in sets if current is None or found.uid != current.uid]
        if not spec.get("paused"):
            if current is None:
                current = self._new_set(deployment, sets)
            if at(spec, "strategy", "type") == "Recreate":
                self._recreate(deployment, current, old)
            else:
                self._roll(deployment, current, old)
            self._drop_old(deployment, old)
        self._tell_deployment(deployment)

    def _current_set(self, deployment: Stored, sets: Sequence[Stored]) -> Stored | None:
        wanted = deployment.content["spec"]["template"]
        return next((found for found in sets if _plain_template(found.content) == wanted), None)

    def _new_set(self, deployment: Stored, sets: Sequence[Stored]) -> Stored:
        template = copy(deployment.content["spec"]["template"])
        short = template_hash(template)
        labels = {**as_object(at(template, "metadata", "labels")), _HASH_LABEL: short}
        template.setdefault("metadata", {})["labels"] = labels
        selector = copy(deployment.content["spec"]["selector"])
        selector.setdefault("matchLabels", {})[_HASH_LABEL] = short
        revision = 1 + max((_revision(found) for found in sets), default=0)
        created = self._store.create(
            REPLICA_SETS,
            deployment.namespace,
            {
                "metadata": {
                    "name": f"{deployment.name}-{short}",
                    "labels": labels,
                    "annotations": {_REVISION: str(revision)},
                    "ownerReferences": [_owner(deployment)],
                },
                "spec": {"replicas": 0, "selector": selector, "template": template},
            },
            _OPTIONS,
        )
        self._annotate(deployment, revision)
        return created

    def _annotate(self, deployment: Stored, revision: int) -> None:
        content = self._store.get(DEPLOYMENTS, deployment.namespace, deployment.name).copy()
        content["metadata"].setdefault("annotations", {})[_REVISION] = str(revision)
        self._store.update(DEPLOYMENTS, deployment.namespace, content, _OPTIONS)

    def _recreate(self, deployment: Stored, current: Stored, old: Sequence[Stored]) -> None:
        for found in old:
            self._scale(deployment, found, 0)
        # Pods that are ending still count: two must not run side by side.
        if not any(self._owned(PODS, found) for found in old):
            self._scale(deployment, current, deployment.content["spec"]["replicas"])

    def _roll(self, deployment: Stored, current: Stored, old: Sequence[Stored]) -> None:
        wanted = deployment.content["spec"]["replicas"]
        rolling = as_object(at(deployment.content, "spec", "strategy", "rollingUpdate"))
        surge = resolved(rolling.get("maxSurge"), wanted, up=True)
        missing = resolved(rolling.get("maxUnavailable"), wanted, up=False)
        if surge == 0 and missing == 0:
            missing = 1
        others = sum(_replicas(found) for found in old)
        room = max(0, wanted + surge - others)
        target = min(wanted, max(room, min(_replicas(current), wanted)))
        self._scale(deployment, current, target)
        available = sum(_available(found) for found in (current, *old))
        spare = available - (wanted - missing)
        for found in sorted(old, key=_revision):
            unhealthy = _replicas(found) - min(_available(found), _replicas(found))
            healthy = max(0, min(_replicas(found) - unhealthy, spare))
            spare -= healthy
            self._scale(deployment, found, _replicas(found) - unhealthy - healthy)

    def _drop_old(self, deployment: Stored, old: Sequence[Stored]) -> None:
        empty = [found for found in sorted(old, key=_revision) if _replicas(found) == 0 and not _pods_left(found)]
        for found in empty[: max(0, len(empty) - deployment.content["spec"]["revisionHistoryLimit"])]:
            self._store.delete(REPLICA_SETS, found.namespace, found.name)

    def _scale(self, deployment: Stored, found: Stored, replicas: int) -> None:
        before = _replicas(found)
        if before == replicas:
            return
        content = found.copy()
        content["spec"]["replicas"] = replicas
        self._store.update(REPLICA_SETS, found.namespace, content, _OPTIONS)
        way = "up" if replicas > before else "down"
        self._recorders[DEPLOYMENTS].record(
            deployment, "ScalingReplicaSet", f"Scaled {way} replica set {found.name} from {before} to {replicas}"
        )

    def _tell_deployment(self, deployment: Stored) -> None:
        deployment = self._store.get(DEPLOYMENTS, deployment.namespace, deployment.name)
        wanted = deployment.content["spec"]["replicas"]
        sets = self._owned(REPLICA_SETS, deployment)
        current = self._current_set(deployment, sets)
        total = sum(_number(found, "replicas") for found in sets)
        ready = sum(_number(found, "readyReplicas") for found in sets)
        updated = _number(current, "replicas") if current is not None else 0
        missing = resolved(
            at(deployment.content, "spec", "strategy", "rollingUpdate", "maxUnavailable"), wanted, up=False
        )
        enough = ready >= wanted - missing
        complete = updated == wanted == total == ready
        name = current.name if current is not None else deployment.name
        status = {
            "observedGeneration": deployment.content["metadata"]["generation"],
            "replicas": total,
            "updatedReplicas": updated,
            "readyReplicas": ready,
            "availableReplicas": ready,
            "unavailableReplicas": max(0, max(wanted, total) - ready),
            "conditions": self._conditions(
                deployment,
                ("Available", enough, *_AVAILABLE[enough]),
                (
                    "Progressing",
                    True,
                    "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated",
                    f'ReplicaSet "{name}" has successfully progressed.'
                    if complete
                    else f'ReplicaSet "{name}" is progressing.',
                ),
            ),
        }
        self._tell(DEPLOYMENTS, deployment, {key: value for key, value in status.items() if value != 0})

    def _conditions(self, about: Stored, *conditions: tuple[str, bool, str, str]) -> list[JsonObject]:
        now = self._store.now()
        known = {one["type"]: one for one in as_objects(at(about.content, "status", "conditions"))}
        found: list[JsonObject] = []
        for kind, fact, reason, message in conditions:
            status = "True" if fact else "False"
            before = known.get(kind, {})
            same = before.get("status") == status
            unchanged = same and before.get("reason") == reason and before.get("message") == message
            found.append(
                {
                    "type": kind,
                    "status": status,
                    "reason": reason,
                    "message": message,
                    "lastUpdateTime": before["lastUpdateTime"] if unchanged else now,
                    "lastTransitionTime": before["lastTransitionTime"] if same else now,
                }
            )
        return found

    # ReplicaSets

    def _replica_set(self, replica_set: Stored) -> None:
        pods = self._owned(PODS, replica_set)
        active = [pod for pod in pods if is_active(pod.content)]
        wanted = _replicas(replica_set)
        for _ in range(wanted - len(active)):
            created = self._store.create(
                PODS,
                replica_set.namespace,
                _pod_of(replica_set, {"generateName": f"{replica_set.name[:57]}-"}),
                _OPTIONS,
            )
            self._recorders[REPLICA_SETS].record(replica_set, "SuccessfulCreate", f"Created pod: {created.name}")
        # Those that do least go first: not ready before ready, young before old.
        by_worth = sorted(active, key=lambda pod: (is_ready(pod.content), -pod.revision))
        for pod in by_worth[: max(0, len(active) - wanted)]:
            self._store.delete(PODS, pod.namespace, pod.name)
            self._recorders[REPLICA_SETS].record(replica_set, "SuccessfulDelete", f"Deleted pod: {pod.name}")
        self._tell_replica_set(replica_set)

    def _tell_replica_set(self, replica_set: Stored) -> None:
        active = [pod for pod in self._owned(PODS, replica_set) if is_active(pod.content)]
        ready = sum(is_ready(pod.content) for pod in active)
        status = {
            "observedGeneration": replica_set.content["metadata"]["generation"],
            "replicas": len(active),
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        kept = {key: value for key, value in status.items() if value != 0 or key == "replicas"}
        self._tell(REPLICA_SETS, replica_set, kept)

    # StatefulSets

    def _stateful_set(self, stateful_set: Stored) -> None:
        spec = stateful_set.content["spec"]
        wanted: int = spec["replicas"]
        revision = f"{stateful_set.name}-{template_hash(spec['template'])}"
        pods = {_ordinal(pod): pod for pod in self._owned(PODS, stateful_set)}
        ordered = spec["podManagementPolicy"] == "OrderedReady"
        self._fill(stateful_set, pods, wanted=wanted, revision=revision, ordered=ordered)
        surplus = sorted((ordinal for ordinal in pods if ordinal >= wanted), reverse=True)
        if surplus:
            # From the last on, in ordered sets one after the other.
            for ordinal in surplus[:1] if ordered else surplus:
                self._remove_pod(stateful_set, pods[ordinal])
        elif at(spec, "updateStrategy", "type") == "RollingUpdate":
            self._replace_next(stateful_set, pods, wanted=wanted, revision=revision)
        self._tell_stateful_set(stateful_set, revision)

    def _fill(
        self, stateful_set: Stored, pods: dict[int, Stored], *, wanted: int, revision: str, ordered: bool
    ) -> None:
        for ordinal in range(wanted):
            pod = pods.get(ordinal)
            if pod is None:
                self._create_pod(stateful_set, ordinal, revision)
            elif at(pod.content, "status", "phase") in {"Succeeded", "Failed"}:
                self._remove_pod(stateful_set, pod)
            if ordered and (pod is None or is_terminating(pod.content) or not is_ready(pod.content)):
                return

    def _create_pod(self, stateful_set: Stored, ordinal: int, revision: str) -> None:
        name = f"{stateful_set.name}-{ordinal}"
        pod = _pod_of(stateful_set, {"name": name})
        pod["metadata"]["labels"] |= {
            _REVISION_LABEL: revision,
            _POD_NAME_LABEL: name,
            _POD_INDEX_LABEL: str(ordinal),
        }
        pod["spec"] |= {"hostname": name, "subdomain": stateful_set.content["spec"].get("serviceName", "")}
        self._store.create(PODS, stateful_set.namespace, pod, _OPTIONS)
        self._recorders[STATEFUL_SETS].record(
            stateful_set, "SuccessfulCreate", f"create Pod {name} in StatefulSet {stateful_set.name} successful"
        )

    def _remove_pod(self, stateful_set: Stored, pod: Stored) -> None:
        if is_terminating(pod.content):
            return
        self._store.delete(PODS, pod.namespace, pod.name)
        self._recorders[STATEFUL_SETS].record(
            stateful_set, "SuccessfulDelete", f"delete Pod {pod.name} in StatefulSet {stateful_set.name} successful"
        )

    def _replace_next(self, stateful_set: Stored, pods: dict[int, Stored], *, wanted: int, revision: str) -> None:
        """Replace the last pod of an older revision, once all others are well."""
        partition = at(stateful_set.content, "spec", "updateStrategy", "rollingUpdate", "partition") or 0
        for ordinal in range(wanted - 1, partition - 1, -1):
            pod = pods.get(ordinal)
            if pod is None or is_terminating(pod.content):
                return
            if pod.content["metadata"].get("labels", {}).get(_REVISION_LABEL) != revision:
                self._remove_pod(stateful_set, pod)
                return
            if not is_ready(pod.content):
                return

    def _tell_stateful_set(self, stateful_set: Stored, revision: str) -> None:
        wanted = stateful_set.content["spec"]["replicas"]
        active = [pod for pod in self._owned(PODS, stateful_set) if is_active(pod.content)]
        updated = sum(at(pod.content, "metadata", "labels", _REVISION_LABEL) == revision for pod in active)
        ready = sum(is_ready(pod.content) for pod in active)
        before = as_object(stateful_set.content.get("status"))
        complete = updated == len(active) == wanted and ready == wanted
        status = {
            "observedGeneration": stateful_set.content["metadata"]["generation"],
            "replicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "currentReplicas": len(active) if complete else len(active) - updated,
            "updatedReplicas": updated,
            "currentRevision": revision if complete else before.get("currentRevision", revision),
            "updateRevision": revision,
            "collisionCount": 0,
        }
        self._tell(STATEFUL_SETS, stateful_set, status)

    # All of them

    def _owned(self, resource: str, owner: Stored) -> list[Stored]:
        """What an object manages."""
        found = self._store.list(resource, owner.namespace)
        return [one for one in found if (controller_of(one.content) or {}).get("uid") == owner.uid]

    def _tell(self, resource: str, about: Stored, status: JsonObject) -> None:
        content = self._store.get(resource, about.namespace, about.name).copy()
        if content.get("status") != status:
            content["status"] = status
            self._store.update(resource, about.namespace, content, _OPTIONS, subresource="status")


_AVAILABLE = {
    True: ("MinimumReplicasAvailable", "Deployment has minimum availability."),
    False: ("MinimumReplicasUnavailable", "Deployment does not have minimum availability."),
}


def matches(selector: JsonObject, labels: JsonObject) -> bool:
    """Whether a label selector object (`matchLabels`, `matchExpressions`) chooses something with these labels."""
    return selectors.from_object(selector).matches(labels)


def _pod_of(owner: Stored, named: JsonObject) -> JsonObject:
    template = copy(owner.content["spec"]["template"])
    metadata = as_object(template.get("metadata"))
    return {
        "metadata": {
            **named,
            "labels": as_object(metadata.get("labels")),
            "annotations": as_object(metadata.get("annotations")),
            "ownerReferences": [_owner(owner)],
        },
        "spec": template["spec"],
    }


def _owner(owner: Stored) -> JsonObject:
    return {
        "apiVersion": owner.content["apiVersion"],
        "kind": owner.content["kind"],
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _plain_template(replica_set: JsonObject) -> JsonObject:
    template = copy(replica_set["spec"]["template"])
    metadata = as_object(template.get("metadata"))
    metadata["labels"] = without(as_object(metadata.get("labels")), _HASH_LABEL)
    return template


def _revision(replica_set: Stored) -> int:
    text = at(replica_set.content, "metadata", "annotations", _REVISION)
    return int(text) if isinstance(text, str) and text.isdigit() else 0


def _replicas(found: Stored) -> int:
    return found.content["spec"].get("replicas", 1)


def _available(found: Stored) -> int:
    return _number(found, "availableReplicas")


def _pods_left(found: Stored) -> int:
    return _number(found, "replicas")


def _number(found: Stored, name: str) -> int:
    return at(found.content, "status", name) or 0


def _ordinal(pod: Stored) -> int:
    last = pod.name.rpartition("-")[2]
    return int(last) if last.isdigit() else -1
