"""Events, as `kubectl describe` shows them."""

import secrets
from collections import OrderedDict

from codezero.sandbox.api.documents import JsonObject
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.storage import Stored
from codezero.sandbox.api.store import Store

MOST_EVENTS = 500


class Recorder:
    """Writes Events; the same one again raises its count, and the oldest of very many go."""

    def __init__(self, store: Store, component: str) -> None:
        self._store = store
        self._component = component
        self._known: OrderedDict[tuple[str, str, str], tuple[str, str]] = OrderedDict()

    def record(self, about: Stored, reason: str, message: str, *, warning: bool = False) -> None:
        """Something happened to an object."""
        key = (about.uid, reason, message)
        now = self._store.now()
        try:
            known = self._known.get(key)
            found = self._store.find("events", *known) if known is not None else None
            if found is not None:
                content = found.copy()
                content["count"] += 1
                content["lastTimestamp"] = now
                self._store.update("events", found.namespace, content)
                self._known.move_to_end(key)
                return
            event = self._event(about, reason, message, warning=warning, now=now)
            self._store.create("events", about.namespace or "default", event)
        except ApiError:
            return  # the namespace goes, and with it whom the event would be for
        self._known[key] = (event["metadata"]["namespace"], event["metadata"]["name"])
        while len(self._known) > MOST_EVENTS:
            self._forget(*self._known.popitem(last=False)[1])

    def _event(self, about: Stored, reason: str, message: str, *, warning: bool, now: str) -> JsonObject:
        content = about.content
        return {
            "metadata": {
                "name": f"{about.name}.{secrets.token_hex(8)}",
                "namespace": about.namespace or "default",
            },
            "involvedObject": {
                "apiVersion": content["apiVersion"],
                "kind": content["kind"],
                "name": about.name,
                "namespace": about.namespace,
                "uid": about.uid,
                "resourceVersion": str(about.revision),
            },
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }

    def _forget(self, namespace: str, name: str) -> None:
        try:
            self._store.delete("events", namespace, name)
        except ApiError:
            pass  # gone already
