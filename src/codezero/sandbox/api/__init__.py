"""The Kubernetes API of the sandbox: enough of one for our System, for the sandbox's own controllers, and for a real `kubectl`.

Two layers. `Store` holds the objects in memory and knows the rules (validation, defaults, patches, server-side apply, finalizers, garbage
collection, ClusterIPs, custom resources); `ApiServer` serves a store over TLS (discovery, tables, OpenAPI, lists in pages, watches, RBAC).

    store = Store()
    bootstrap(store)                                   # namespaces, roles, Service "kubernetes"
    server = ApiServer(store, tls=context, tokens={"…": User("ci", frozenset({"system:masters"}))})
    tasks.start_service("api", server.serve("10.96.0.1", 6443))

For controllers in the same process (synchronous; use them from the event loop's thread only):

- `store.get(resource, namespace, name)`, `find` (None instead of an error), `list(resource, namespace=None, selection=…)`: `Stored` values; their
  `content` is shared and must not be changed, `copy()` gives one to change. `resource` is `services`, `deployments.apps`; `namespace` is "" for
  kinds of the whole cluster.
- `create(resource, namespace, content)`, `update(…)`, `patch(resource, namespace, name, patch, patch_kind="merge")`, `delete(resource, namespace,
  name, propagation=…, grace_seconds=…)`, `set_scale`. `update` and `patch` take `subresource="status"` for everything below `status`. They raise
  `ApiError` (`code` 404, 409, 422 …). Writing what is there already changes nothing and wakes nobody.
- `store.watch(resource, selection=…, since=…)`: a `Watch`; `async for event in watch` gives `Event`s: all that exists as ADDED, then each change.
- `store.listen(callback, resource=None)`: called inside each write, in order; a listener may write.
- A pod on a node (`spec.nodeName`) that is deleted first gets a `deletionTimestamp`; the kubelet ends its processes and then deletes it with
  `grace_seconds=0`. Pods on no node go at once.
- `server.tokens.issue(namespace, service_account, pod={"name": …, "uid": …})` gives the token to put into a pod.
- `server.faults.add(Fault(kind="rst", resource="services"))`, `server.requests.counts()`: misbehave, and count (also over HTTP: `POST`, `GET`,
  `DELETE /sandbox/faults`, `GET /sandbox/requests?since=…`, for `system:masters`).

What it is not: durable, replicated, or an admission chain. There is no exec, no port-forward and no eviction;
OpenAPI v2 is empty; protobuf bodies are read for what kubectl creates, and answers are JSON.
"""

from codezero.sandbox.api.application import LogRequest, PodLogs
from codezero.sandbox.api.bootstrap import bootstrap
from codezero.sandbox.api.documents import JsonObject
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.faults import Fault
from codezero.sandbox.api.rbac import MASTERS, User
from codezero.sandbox.api.selectors import Selection
from codezero.sandbox.api.server import ApiServer
from codezero.sandbox.api.storage import Event, Stored
from codezero.sandbox.api.store import Options, Preconditions, Store
from codezero.sandbox.api.watches import Watch

__all__ = [
    "MASTERS",
    "ApiError",
    "ApiServer",
    "Event",
    "Fault",
    "JsonObject",
    "LogRequest",
    "Options",
    "PodLogs",
    "Preconditions",
    "Selection",
    "Store",
    "Stored",
    "User",
    "Watch",
    "bootstrap",
]
