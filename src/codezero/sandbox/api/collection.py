"""What goes when something else goes: dependents of deleted owners, contents of deleted namespaces, objects of deleted definitions.

Works through a queue right after each write of the store, so the effect of a deletion is complete when the deletion returns
(except for what finalizers or running pods hold back).
"""

from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from codezero.sandbox.api import custom
from codezero.sandbox.api.documents import JsonObject, as_list, as_objects
from codezero.sandbox.api.storage import Event, Stored

if TYPE_CHECKING:
    from codezero.sandbox.api.store import Store

FOREGROUND = "foregroundDeletion"
Key = tuple[str, str, str]


def is_terminating(content: JsonObject) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in content["metadata"]


def _in_foreground(content: JsonObject) -> bool:
    return is_terminating(content) and FOREGROUND in as_list(content["metadata"].get("finalizers"))


class Collector:
    """Follows all writes of a store and deletes what lost its reason to be."""

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._living: dict[str, Key] = {}
        self._dependents: defaultdict[str, set[Key]] = defaultdict(set)
        self._queue: deque[Callable[[], None]] = deque()
        self._is_running = False
        store.storage.listen(self._hear)

    def _hear(self, event: Event) -> None:
        content, stored = event.stored.content, event.stored
        key = (event.resource, stored.namespace, stored.name)
        owners = {str(owner.get("uid")) for owner in as_objects(content["metadata"].get("ownerReferences"))}
        if event.type == "DELETED":
            self._living.pop(stored.uid, None)
            self._hear_end(key, stored.uid, owners)
            return
        self._living[stored.uid] = key
        if event.before is not None:
            for owner in as_objects(event.before.content["metadata"].get("ownerReferences")):
                self._dependents[str(owner.get("uid"))].discard(key)
        for owner in owners:
            self._dependents[owner].add(key)
        if owners and (event.before is None or event.before.content["metadata"].get("ownerReferences") is None):
            self._queue.append(partial(self._check_owners, key))
        if is_terminating(content):
            self._hear_terminating(key, content)

    def _hear_end(self, key: Key, uid: str, owners: set[str]) -> None:
        for dependent in sorted(self._dependents.pop(uid, ())):
            self._queue.append(partial(self._check_owners, dependent))
        for owner in owners:
            self._dependents[owner].discard(key)
            if not self._dependents[owner]:
                del self._dependents[owner]
            if owner in self._living:
                self._queue.append(partial(self._finish_foreground, self._living[owner]))
        resource, namespace, _ = key
        if namespace:
            self._queue.append(partial(self._finish_namespace, namespace))
        kind = self._store.types.named(resource)
        if kind is not None and kind.is_custom:
            self._queue.append(partial(self._finish_definition, resource))

    def _hear_terminating(self, key: Key, content: JsonObject) -> None:
        resource, _, name = key
        if resource == "namespaces":
            self._queue.append(partial(self._empty_namespace, name))
        elif resource == custom.KEY:
            self._queue.append(partial(self._empty_definition, name))
        elif _in_foreground(content):
            self._queue.append(partial(self._delete_dependents, key))

    def run(self) -> None:
        """Work until nothing is left to do."""
        if self._is_running:
            return
        self._is_running = True
        try:
            while self._queue:
                self._queue.popleft()()
        finally:
            self._is_running = False

    def dependents(self, uid: str) -> list[Key]:
        """The objects that name `uid` as an owner."""
        return sorted(self._dependents.get(uid, ()))

    def _find(self, key: Key) -> Stored | None:
        return self._store.storage.get(*key)

    def _is_alive(self, owner: JsonObject, namespace: str) -> bool:
        key = self._living.get(str(owner.get("uid")))
        # An owner in another namespace counts as missing, as in any cluster.
        return key is not None and key[1] in {"", namespace}

    def _check_owners(self, key: Key) -> None:
        found = self._find(key)
        if found is None or is_terminating(found.content):
            return
        owners = as_objects(found.content["metadata"].get("ownerReferences"))
        alive = [owner for owner in owners if self._is_alive(owner, key[1])]
        if owners and not alive:
            self._store.delete(*key)
        elif len(alive) < len(owners):
            content = found.copy()
            content["metadata"]["ownerReferences"] = alive
            self._store.write_back(key[0], content)

    def _delete_dependents(self, key: Key) -> None:
        owner = self._find(key)
        if owner is None or not _in_foreground(owner.content):
            return
        for dependent in self.dependents(owner.uid):
            found = self._find(dependent)
            if found is not None and not is_terminating(found.content):
                self._store.delete(*dependent, propagation="Foreground" if self.dependents(found.uid) else "Background")
        self._finish_foreground(key)

    def _finish_foreground(self, key: Key) -> None:
        owner = self._find(key)
        if (
            owner is None
            or not _in_foreground(owner.content)
            or any(map(self._blocks(owner.uid), self.dependents(owner.uid)))
        ):
            return
        content = owner.copy()
        content["metadata"]["finalizers"].remove(FOREGROUND)
        self._store.write_back(key[0], content)

    def _blocks(self, uid: str) -> Callable[[Key], bool]:
        def blocks(key: Key) -> bool:
            found = self._find(key)
            return found is not None and any(
                owner.get("uid") == uid and owner.get("blockOwnerDeletion") is True
                for owner in as_objects(found.content["metadata"].get("ownerReferences"))
            )

        return blocks

    def _empty_namespace(self, namespace: str) -> None:
        for kind in self._store.types.stored():
            if kind.namespaced:
                for found in list(self._store.storage.each(kind.key, namespace)):
                    if not is_terminating(found.content):
                        self._store.delete(kind.key, namespace, found.name)
        self._finish_namespace(namespace)

    def _finish_namespace(self, namespace: str) -> None:
        found = self._find(("namespaces", "", namespace))
        if found is None or not is_terminating(found.content):
            return
        kinds = self._store.types.stored()
        if not any(self._store.storage.has_content(kind.key, namespace) for kind in kinds if kind.namespaced):
            content = found.copy()
            content["spec"]["finalizers"] = []
            self._store.write_back("namespaces", content)

    def _empty_definition(self, resource: str) -> None:
        for found in list(self._store.storage.each(resource)):
            if not is_terminating(found.content):
                self._store.delete(resource, found.namespace, found.name)
        self._finish_definition(resource)

    def _finish_definition(self, resource: str) -> None:
        found = self._find((custom.KEY, "", resource))
        if found is None or not is_terminating(found.content) or self._store.storage.count(resource):
            return
        content = found.copy()
        finalizers = as_list(content["metadata"].get("finalizers"))
        if custom.FINALIZER in finalizers:
            finalizers.remove(custom.FINALIZER)
            self._store.write_back(custom.KEY, content)
