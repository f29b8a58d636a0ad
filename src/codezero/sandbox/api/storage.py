"""Versioned objects in memory: one counter for all writes, a window of history for each resource, and those who listen.

A write costs the same however many objects there are, and is encoded once for all who watch.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from codezero.sandbox.api.documents import JsonObject, decode, encode

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

HISTORY = 4096


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of an object: the document (shared: never change it) and its JSON."""

    revision: int
    content: JsonObject
    raw: bytes

    @staticmethod
    def of(revision: int, content: JsonObject) -> "Stored":
        """The version of an object that `content` is."""
        return Stored(revision, content, encode(content))

    @property
    def name(self) -> str:
        """The object's name."""
        return self.content["metadata"]["name"]

    @property
    def namespace(self) -> str:
        """The object's namespace; empty for those of the whole cluster."""
        return self.content["metadata"].get("namespace", "")

    @property
    def uid(self) -> str:
        """The object's unique id."""
        return self.content["metadata"]["uid"]

    def copy(self) -> JsonObject:
        """The document, to be changed at will."""
        return decode(self.raw)


@dataclass(frozen=True, slots=True)
class Event:
    """One write: what the object is now (for DELETED: what it was last) and what it was before."""

    type: EventType
    resource: str
    stored: Stored
    before: Stored | None = None

    @property
    def revision(self) -> int:
        """The version the write made."""
        return self.stored.revision


Listener = Callable[[Event], None]


class _Shelf:
    """The objects of one resource."""

    def __init__(self, history: int) -> None:
        self.by_namespace: dict[str, dict[str, Stored]] = {}
        self.history: deque[Event] = deque(maxlen=history)
        # Watches may start at this version or a later one.
        self.oldest = 0
        self.listeners: dict[int, Listener] = {}


class Storage:
    """All objects of the API. Used from one thread; listeners are called inside each write, before it returns."""

    def __init__(self, *, history: int = HISTORY) -> None:
        self._history = history
        self._shelves: dict[str, _Shelf] = {}
        self._everything: dict[int, Listener] = {}
        self._listener_count = 0
        self._untold: deque[tuple[_Shelf, Event]] = deque()
        self._telling = False
        self.revision = 1

    def get(self, resource: str, namespace: str, name: str) -> Stored | None:
        """The newest version of an object."""
        shelf = self._shelves.get(resource)
        return shelf.by_namespace.get(namespace, {}).get(name) if shelf is not None else None

    def each(self, resource: str, namespace: str | None = None) -> Iterator[Stored]:
        """The objects of a resource, in the order of namespace and name."""
        shelf = self._shelves.get(resource)
        if shelf is None:
            return
        for space in sorted(shelf.by_namespace) if namespace is None else (namespace,):
            objects = shelf.by_namespace.get(space, {})
            for name in sorted(objects):
                yield objects[name]

    def count(self, resource: str) -> int:
        """How many objects a resource has."""
        shelf = self._shelves.get(resource)
        return sum(map(len, shelf.by_namespace.values())) if shelf is not None else 0

    def has_content(self, resource: str, namespace: str) -> bool:
        """Whether a namespace holds an object of the resource."""
        shelf = self._shelves.get(resource)
        return shelf is not None and bool(shelf.by_namespace.get(namespace))

    def write(self, resource: str, content: JsonObject) -> Stored:
        """Keep `content` as the newest version of its object; it belongs to the storage afterwards."""
        shelf = self._shelf(resource)
        metadata = content["metadata"]
        objects = shelf.by_namespace.setdefault(metadata.get("namespace", ""), {})
        before = objects.get(metadata["name"])
        stored = self._version(content)
        objects[metadata["name"]] = stored
        self._tell(shelf, Event("MODIFIED" if before is not None else "ADDED", resource, stored, before))
        return stored

    def remove(self, resource: str, gone: Stored) -> Stored:
        """Forget an object; the result is its last state under the version of its end."""
        shelf = self._shelf(resource)
        objects = shelf.by_namespace[gone.namespace]
        before = objects.pop(gone.name)
        if not objects:
            del shelf.by_namespace[gone.namespace]
        last = self._version(gone.copy())
        self._tell(shelf, Event("DELETED", resource, last, before))
        return last

    def _version(self, content: JsonObject) -> Stored:
        self.revision += 1
        content["metadata"]["resourceVersion"] = str(self.revision)
        return Stored.of(self.revision, content)

    def _tell(self, shelf: _Shelf, event: Event) -> None:
        if len(shelf.history) == shelf.history.maxlen:
            shelf.oldest = shelf.history[0].revision
        shelf.history.append(event)
        self._untold.append((shelf, event))
        if self._telling:
            return
        # A listener may write; what it wrote is told when all have heard of the write before, so everybody sees the same order.
        self._telling = True
        try:
            while self._untold:
                told, event = self._untold.popleft()
                for listener in (*told.listeners.values(), *self._everything.values()):
                    listener(event)
        finally:
            self._telling = False

    def oldest(self, resource: str) -> int:
        """The version after which all writes to the resource are still known."""
        return self._shelf(resource).oldest

    def since(self, resource: str, revision: int) -> list[Event]:
        """The writes after `revision`, oldest first; only complete for a revision not before `oldest`."""
        found: list[Event] = []
        for event in reversed(self._shelf(resource).history):
            if event.revision <= revision:
                break
            found.append(event)
        return found[::-1]

    def forget_history(self, resource: str) -> None:
        """Drop the window of a resource, as a compaction does: watches cannot start before now."""
        shelf = self._shelf(resource)
        shelf.history.clear()
        shelf.oldest = self.revision

    def listen(self, listener: Listener, resource: str | None = None) -> Callable[[], None]:
        """Call `listener` with every later write to `resource` (None: to any); the result ends it."""
        listeners = self._shelf(resource).listeners if resource is not None else self._everything
        self._listener_count += 1
        number = self._listener_count
        listeners[number] = listener

        def end() -> None:
            listeners.pop(number, None)

        return end

    def _shelf(self, resource: str) -> _Shelf:
        shelf = self._shelves.get(resource)
        if shelf is None:
            shelf = self._shelves[resource] = _Shelf(self._history)
        return shelf
