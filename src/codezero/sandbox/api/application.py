"""The API as an ASGI application: who asks, may they, and what they get. The rules of objects are the store's."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, cast

import yaml

from codezero.kit.logs import get_logger
from codezero.sandbox.api import (
    authentication,
    discovery,
    errors,
    faults,
    openapi,
    patches,
    rbac,
    reviews,
    schemas,
    selectors,
    structure,
    tables,
)
from codezero.sandbox.api.authentication import Tokens
from codezero.sandbox.api.documents import JsonObject, as_list, as_object, as_objects, at, decode, encode, is_object
from codezero.sandbox.api.errors import ApiError
from codezero.sandbox.api.exchange import Exchange, Form, Receive, Send
from codezero.sandbox.api.faults import Faults, Requests
from codezero.sandbox.api.kinds import ResourceType
from codezero.sandbox.api.lists import Page
from codezero.sandbox.api.rbac import Action, User
from codezero.sandbox.api.reviews import Reviews
from codezero.sandbox.api.selectors import Selection
from codezero.sandbox.api.storage import Stored
from codezero.sandbox.api.store import Options, PatchKind, Preconditions, Propagation, Store
from codezero.sandbox.api.streams import BOOKMARK_SECONDS, WatchSettings, WatchStream, error_line, stored_bytes

_PATCHES: dict[str, PatchKind] = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_HEALTH = ("/healthz", "/livez", "/readyz")

_log = get_logger("sandbox-api")


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Which lines of which container of a pod somebody wants to read. `tail` and `since_seconds` are None for all."""

    namespace: str
    pod: str
    container: str | None = None
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since_seconds: int | None = None


PodLogs = Callable[[LogRequest], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class _Target:
    """What a path under /api or /apis points at."""

    kind: ResourceType
    namespace: str = ""
    name: str = ""
    subresource: str = ""


class _DeleteArguments(TypedDict):
    propagation: Propagation
    grace_seconds: int | None
    preconditions: Preconditions
    dry_run: bool


class Application:
    """Answers the requests of one API server."""

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        *,
        pod_logs: PodLogs | None = None,
        bookmark_seconds: float = BOOKMARK_SECONDS,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._pod_logs = pod_logs
        self._bookmark_seconds = bookmark_seconds
        self._reviews = Reviews(store, tokens)
        self._openapi = openapi.OpenApi(store.types)
        self.faults = Faults()
        self.requests = Requests()

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        except ApiError as error:
            if not exchange.is_started:
                await exchange.refuse(error)
        except Exception:  # noqa: BLE001 - the edge of a request: logged, and told as a Status
            _log.exception("request failed", method=exchange.method, path=exchange.path)
            if not exchange.is_started:
                await exchange.refuse(
                    ApiError(500, "InternalError", "an error on the server has prevented the request from succeeding")
                )

    async def _answer(self, exchange: Exchange) -> None:
        user = self._user(exchange)
        parts = [part for part in exchange.path.split("/") if part]
        match parts:
            case ["api", "v1", *rest] if rest:
                await self._on_objects(exchange, user, "", "v1", rest)
            case ["apis", group, version, *rest] if rest:
                await self._on_objects(exchange, user, group, version, rest)
            case ["sandbox", what]:
                await self._on_sandbox(exchange, user, what)
            case _:
                self._allow(user, Action(exchange.method.lower(), path=exchange.path))
                if exchange.method not in {"GET", "HEAD"}:
                    raise errors.method_not_allowed(exchange.method)
                await self._on_discovery(exchange, parts)

    # Who, and may they

    def _user(self, exchange: Exchange) -> User:
        user = self._own_user(exchange)
        if "impersonate-user" not in exchange.headers:
            return user
        name = exchange.headers["impersonate-user"]
        self._allow(user, Action("impersonate", resource="users", name=name))
        for group in exchange.header_values("impersonate-group"):
            self._allow(user, Action("impersonate", resource="groups", name=group))
        other = User(name, frozenset({*exchange.header_values("impersonate-group"), rbac.AUTHENTICATED}))
        account = other.service_account
        if account is None:
            return other
        return User(name, other.groups | {"system:serviceaccounts", f"system:serviceaccounts:{account[0]}"})

    def _own_user(self, exchange: Exchange) -> User:
        certificate = exchange.connection.certificate
        if certificate is not None and (user := authentication.certificate_user(certificate)):
            return user
        scheme, _, token = exchange.headers.get("authorization", "").partition(" ")
        found = self._tokens.user(token.strip()) if scheme.lower() == "bearer" and token else None
        if found is None:
            raise errors.unauthorized()
        return found[0]

    def _allow(self, user: User, action: Action) -> None:
        if not rbac.is_allowed(self._store, user, action):
            message = f'User "{user.name}" {action}'
            if action.resource:
                name = f' "{action.name}"' if action.name else ""
                resource = f"{action.resource}.{action.group}" if action.group else action.resource
                message = f"{resource}{name} is forbidden: {message}"
            else:
                message = f"forbidden: {message}"
            raise errors.forbidden(message, plural=action.resource, group=action.group, name=action.name)

    # What the server serves

    async def _on_discovery(self, exchange: Exchange, parts: list[str]) -> None:
        types = self._store.types
        wants_everything = "g=apidiscovery.k8s.io;v=v2;" in exchange.headers.get("accept", "") + ";"
        content: JsonObject | None = None
        match parts:
            case ["api" | "apis"] if wants_everything:
                body = encode(discovery.aggregated(types, core=parts == ["api"]))
                await exchange.answer(body, media_type=discovery.AGGREGATED)
                return
            case []:
                content = {
                    "paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]
                }
            case ["api"]:
                content = discovery.core_versions()
            case ["apis"]:
                content = discovery.group_list(types)
            case ["apis", group]:
                content = discovery.group(types, group)
            case ["api", "v1"]:
                content = discovery.resource_list(types, "", "v1")
            case ["apis", group, version]:
                content = discovery.resource_list(types, group, version)
            case ["version"]:
                content = dict(discovery.VERSION)
            case ["openapi", "v2"]:
                await exchange.answer(openapi.V2_EMPTY, media_type=openapi.V2_PROTOBUF)
                return
            case ["openapi", "v3"]:
                content = self._openapi.index()
            case ["openapi", "v3", *path]:
                document = self._openapi.document("/".join(path))
                if document is not None:
                    await exchange.answer(document)
                    return
            case _ if exchange.path in _HEALTH:
                await exchange.answer(b"ok", media_type="text/plain")
                return
            case _:
                pass
        if content is None:
            raise errors.no_such_path()
        await exchange.answer_object(content)

    # The switch for tests

    async def _on_sandbox(self, exchange: Exchange, user: User, what: str) -> None:
        if not user.is_master:
            raise errors.forbidden(f'forbidden: User "{user.name}" may not use the sandbox controls')
        match (exchange.method, what):
            case ("POST", "faults"):
                fault = faults.parse(await exchange.document())
                self.faults.add(fault)
                await exchange.answer_object(faults.describe(fault), status=201)
            case ("GET", "faults"):
                await exchange.answer_object({"faults": [faults.describe(fault) for fault in self.faults.all()]})
            case ("DELETE", "faults"):
                self.faults.clear()
                await exchange.answer_object({"faults": []})
            case ("GET", "requests"):
                await exchange.answer_object({"requests": self.requests.counts(since=exchange.number("since") or 0)})
            case (_, "faults" | "requests"):
                raise errors.method_not_allowed(exchange.method)
            case _:
                raise errors.no_such_path()

    # Objects

    async def _on_objects(self, exchange: Exchange, user: User, group: str, version: str, rest: list[str]) -> None:
        review = next((entry for entry in discovery.REVIEWS if entry[:2] == (group, rest[0])), None)
        if review is not None and version == "v1" and len(rest) == 1:
            await self._on_review(exchange, user, *review)
            return
        target = self._target(group, version, rest)
        verb = self._verb(exchange, target)
        kind = target.kind
        self.requests.count(kind.plural, verb)
        name = target.name
        if verb in {"list", "watch"}:
            name = self._selection(exchange, target).fields.exact("metadata", "name") or ""
        self._allow(user, Action(verb, kind.group, kind.plural, target.subresource, target.namespace, name))
        if target.subresource:
            await self._on_subresource(exchange, target)
        elif verb in {"list", "watch"}:
            await self._on_reading_many(exchange, target, verb)
        else:
            await self._on_object(exchange, target, verb)

    async def _on_review(self, exchange: Exchange, user: User, group: str, plural: str, kind: str) -> None:
        if exchange.method != "POST":
            raise errors.method_not_allowed(exchange.method)
        self._allow(user, Action("create", group, plural))
        review = await exchange.json_object()
        given = (review.get("kind", kind), review.get("apiVersion", f"{group}/v1"))
        if given != (kind, f"{group}/v1"):
            raise errors.bad_request(f"expected {kind} of {group}/v1")
        await exchange.answer_object(
            self._reviews.answer(plural, user, review | {"kind": kind, "apiVersion": f"{group}/v1"}), status=201
        )

    def _target(self, group: str, version: str, rest: list[str]) -> _Target:
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and not (not group and rest[2] in {"status", "finalize"}):
            namespace, rest = rest[1], rest[2:]
        kind = self._store.types.at_path(group, version, rest[0])
        if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
            raise errors.no_such_path()
        if kind.namespaced and not namespace and len(rest) > 1:
            raise errors.no_such_path()
        name, subresource = [*rest[1:], "", ""][:2]
        if subresource and subresource not in kind.subresources:
            raise errors.no_such_path()
        return _Target(kind, namespace, name, subresource)

    @staticmethod
    def _verb(exchange: Exchange, target: _Target) -> str:
        match exchange.method:
            case "GET" | "HEAD":
                return "get" if target.name else "watch" if exchange.flag("watch") else "list"
            case "POST":
                if target.name and target.subresource != "token":
                    raise errors.method_not_allowed("POST")
                return "create"
            case "PUT" if target.name:
                return "update"
            case "PATCH" if target.name:
                return "patch"
            case "DELETE":
                return "delete" if target.name else "deletecollection"
            case method:
                raise errors.method_not_allowed(method)

    @staticmethod
    def _selection(exchange: Exchange, target: _Target) -> Selection:
        return Selection(
            target.namespace or None,
            selectors.parse_labels(exchange.query.get("labelSelector", "")),
            selectors.parse_fields(exchange.query.get("fieldSelector", ""), known=target.kind.selectable),
        )

    # Reading many

    async def _on_reading_many(self, exchange: Exchange, target: _Target, verb: str) -> None:
        fault = (
            self.faults.strike(target.kind.plural, verb) if verb == "list" or self._strikes_start(target.kind) else None
        )
        match fault.kind if fault is not None else None:
            case None:
                pass
            case "http-410" | "stream-410":
                raise errors.expired()
            case "429":
                seconds = str(fault.retry_after if fault is not None else 1)
                raise ApiError(
                    429,
                    "TooManyRequests",
                    "too many requests, please try again later",
                    headers={"Retry-After": seconds},
                )
            case "500":
                raise ApiError(500, "InternalError", "etcdserver: request timed out")
            case "rst":
                await exchange.reset()
                return
            case "silence":
                await exchange.connection.lost.wait()
                return
            case "eof" | "cut-json":
                content = self._listed(exchange, target)
                await exchange.start_stream()
                await exchange.send(content[: len(content) // 2])
                await exchange.cut()
                return
        if verb == "watch":
            await self._on_watch(exchange, target)
        else:
            form = exchange.form()
            await self._answer_in(exchange, form, self._listed(exchange, target, form))

    def _strikes_start(self, kind: ResourceType) -> bool:
        """Whether the next fault of a watch is told instead of beginning it."""
        waiting = next((fault for fault in self.faults.all() if fault.concerns(kind.plural, "watch")), None)
        return waiting is not None and waiting.kind in {"http-410", "429", "500", "rst"}

    def _listed(self, exchange: Exchange, target: _Target, form: Form | None = None) -> bytes:
        kind, form = target.kind, form or Form()
        limit = exchange.number("limit") or 0
        if continuation := exchange.query.get("continue"):
            if exchange.query.get("resourceVersion") not in {None, "", "0"}:
                raise errors.bad_request("specifying resource version is not allowed when using continue")
            page = self._store.lists.following(continuation, limit)
        else:
            self._check_list_version(exchange)
            page = self._store.lists.first(kind.key, self._selection(exchange, target), limit)
        metadata = _list_metadata(page)
        if form.shape == "Table":
            include = exchange.query.get("includeObject", "Metadata")
            return encode(
                tables.table(kind, (stored.content for stored in page.items), include=include, metadata=metadata)
            )
        name, version = f"{kind.kind}List", kind.api_version
        if form.shape:
            name, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        head = encode({"kind": name, "apiVersion": version, "metadata": metadata})[:-1]
        return head + b',"items":[' + b",".join(stored_bytes(kind, stored, form.shape) for stored in page.items) + b"]}"

    def _check_list_version(self, exchange: Exchange) -> None:
        wanted = exchange.number("resourceVersion") or 0
        current = self._store.storage.revision
        if wanted > current:
            raise errors.too_new(wanted, current)
        match exchange.query.get("resourceVersionMatch", ""):
            case "" | "NotOlderThan":
                pass
            case "Exact" if wanted == current:
                pass
            case "Exact":
                raise errors.expired("The resourceVersion for the provided list is too old.")
            case other:
                raise errors.bad_request(f"resourceVersionMatch {other!r} is not supported")

    async def _on_watch(self, exchange: Exchange, target: _Target) -> None:
        settings = self._watch_settings(exchange)
        version = exchange.number("resourceVersion") or 0
        since = version or None
        if settings.marks_initial:
            if version > self._store.storage.revision:
                raise errors.too_new(version, self._store.storage.revision)
            since = None
        elif exchange.query.get("sendInitialEvents") == "false" and since is None:
            since = self._store.storage.revision
        try:
            watch = self._store.watch(target.kind.key, selection=self._selection(exchange, target), since=since)
        except ApiError as error:
            if error.code != 410:
                raise
            # A too old version is told inside the stream, as the servers of today do.
            await exchange.start_stream()
            await exchange.send(error_line(error))
            await exchange.end_stream()
            return
        stream = WatchStream(
            exchange, target.kind, watch, settings, faults=self.faults, bookmark_seconds=self._bookmark_seconds
        )
        await stream.run()

    @staticmethod
    def _watch_settings(exchange: Exchange) -> WatchSettings:
        query = exchange.query
        sends_initial = exchange.flag("sendInitialEvents")
        if "sendInitialEvents" in query and query.get("resourceVersionMatch") != "NotOlderThan":
            cause = errors.Cause(
                "resourceVersionMatch",
                "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                "FieldValueForbidden",
            )
            raise errors.invalid("ListOptions", "meta.k8s.io", "", [cause])
        has_bookmarks = exchange.flag("allowWatchBookmarks")
        return WatchSettings(
            shape=exchange.form().shape,
            include=query.get("includeObject", "Metadata"),
            has_bookmarks=has_bookmarks,
            marks_initial=sends_initial and has_bookmarks,
            seconds=exchange.number("timeoutSeconds"),
        )

    # One object

    async def _on_object(self, exchange: Exchange, target: _Target, verb: str) -> None:
        kind, namespace, name = target.kind, target.namespace, target.name
        form = exchange.form()
        match verb:
            case "get":
                await self._answer_stored(exchange, form, kind, self._store.get(kind.key, namespace, name))
            case "create":
                options = self._options(exchange)
                stored = self._store.create(kind, namespace, await exchange.json_object(), options)
                await self._answer_stored(exchange, form, kind, stored, status=201)
            case "update":
                options = self._options(exchange)
                content = await exchange.json_object()
                _check_name(content, name)
                await self._answer_stored(exchange, form, kind, self._store.update(kind, namespace, content, options))
            case "patch":
                await self._on_patch(exchange, target, form)
            case "delete":
                await self._on_delete(exchange, target)
            case _:
                await self._on_delete_collection(exchange, target)

    async def _on_patch(self, exchange: Exchange, target: _Target, form: Form) -> None:
        patch_kind, options = self._patch_kind(exchange), self._options(exchange)
        is_new = self._store.find(target.kind.key, target.namespace, target.name) is None
        stored = self._store.patch(
            target.kind,
            target.namespace,
            target.name,
            await exchange.document(),
            patch_kind=patch_kind,
            options=options,
            subresource=target.subresource,
            force=exchange.flag("force"),
        )
        await self._answer_stored(exchange, form, target.kind, stored, status=201 if is_new else 200)

    def _patch_kind(self, exchange: Exchange) -> PatchKind:
        given = exchange.headers.get("content-type", "").partition(";")[0].strip().lower()
        if given not in _PATCHES:
            raise errors.unsupported_media_type(given, tuple(_PATCHES))
        if _PATCHES[given] == "apply" and not exchange.query.get("fieldManager"):
            raise errors.bad_request("fieldManager is required for apply patch")
        return _PATCHES[given]

    async def _on_delete(self, exchange: Exchange, target: _Target) -> None:
        arguments = await self._delete_arguments(exchange)
        kind = target.kind
        last, is_gone = self._store.delete(kind.key, target.namespace, target.name, **arguments)
        if not is_gone:
            await self._answer_stored(exchange, Form(), kind, last)
            return
        details = {"name": last.name, "kind": kind.plural, "uid": last.uid} | (
            {"group": kind.group} if kind.group else {}
        )
        await exchange.answer_object(
            {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
        )

    async def _on_delete_collection(self, exchange: Exchange, target: _Target) -> None:
        kind = target.kind
        arguments = await self._delete_arguments(exchange)
        found = self._store.list(kind.key, target.namespace or None, selection=self._selection(exchange, target))
        for stored in found:
            # An earlier one may have taken this one along.
            if self._store.find(kind.key, stored.namespace, stored.name) is not None:
                self._store.delete(kind.key, stored.namespace, stored.name, **arguments)
        page = Page(found, self._store.storage.revision)
        head = encode({"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": _list_metadata(page)})[
            :-1
        ]
        await exchange.answer(head + b',"items":[' + b",".join(stored_bytes(kind, stored) for stored in found) + b"]}")

    async def _delete_arguments(self, exchange: Exchange) -> _DeleteArguments:
        document = await exchange.document(is_optional=True)
        given = as_object(document)
        if document is not None and not is_object(document):
            raise errors.bad_request("delete options must be an object")
        # A precondition that was misread would delete what the client meant to spare.
        found = structure.conform(given, schemas.definition("meta_v1.DeleteOptions"), root=False)
        if found.causes:
            raise errors.bad_request("; ".join(f"{cause.field}: {cause.message}" for cause in found.causes))
        propagation = exchange.query.get("propagationPolicy") or given.get("propagationPolicy")
        if propagation is None and given.get("orphanDependents") is not None:
            propagation = "Orphan" if given["orphanDependents"] else "Background"
        if propagation not in {None, "Background", "Foreground", "Orphan"}:
            cause = errors.Cause(
                "propagationPolicy",
                f'Unsupported value: "{propagation}": supported values: "Background", "Foreground", "Orphan"',
            )
            raise errors.invalid("DeleteOptions", "meta.k8s.io", "", [cause])
        grace = exchange.number("gracePeriodSeconds")
        grace = given.get("gracePeriodSeconds") if grace is None else grace
        uid, revision = at(given, "preconditions", "uid"), at(given, "preconditions", "resourceVersion")
        return {
            "propagation": cast("Propagation", propagation or "Background"),
            "grace_seconds": grace,
            "preconditions": Preconditions(uid=uid, revision=revision),
            "dry_run": _is_dry(exchange.query.get("dryRun", ""), as_list(given.get("dryRun"))),
        }

    # Parts of an object

    async def _on_subresource(self, exchange: Exchange, target: _Target) -> None:
        match target.subresource:
            case "status":
                await self._on_status(exchange, target)
            case "scale":
                await self._on_scale(exchange, target)
            case "token":
                if exchange.method != "POST":
                    raise errors.method_not_allowed(exchange.method)
                request = await exchange.json_object()
                answer = reviews.token_request(self._tokens, self._store, target.namespace, target.name, request)
                await exchange.answer_object(answer, status=201)
            case _:
                await self._on_log(exchange, target)

    async def _on_status(self, exchange: Exchange, target: _Target) -> None:
        kind, form = target.kind, exchange.form()
        if exchange.method == "GET":
            await self._answer_stored(exchange, form, kind, self._store.get(kind.key, target.namespace, target.name))
        elif exchange.method == "PATCH":
            await self._on_patch(exchange, target, form)
        elif exchange.method == "PUT":
            options, content = self._options(exchange), await exchange.json_object()
            _check_name(content, target.name)
            stored = self._store.update(kind, target.namespace, content, options, subresource="status")
            await self._answer_stored(exchange, form, kind, stored)
        else:
            raise errors.method_not_allowed(exchange.method)

    async def _on_scale(self, exchange: Exchange, target: _Target) -> None:
        kind, namespace, name = target.kind, target.namespace, target.name
        scale = self._store.scale(kind, namespace, name)
        if exchange.method in {"PUT", "PATCH"}:
            options = self._options(exchange)
            if exchange.method == "PUT":
                scale = await exchange.json_object()
            else:
                patch_kind, patch = self._patch_kind(exchange), await exchange.document()
                if patch_kind != "json" and not is_object(patch):
                    raise errors.bad_request("a patch is a JSON object")
                scale = (
                    patches.json_patch(scale, patch)
                    if patch_kind == "json"
                    else as_object(patches.merge_patch(scale, patch))
                )
            scale = self._store.set_scale(kind, namespace, name, scale, options)
        elif exchange.method != "GET":
            raise errors.method_not_allowed(exchange.method)
        await exchange.answer_object(scale)

    async def _on_log(self, exchange: Exchange, target: _Target) -> None:
        if exchange.method != "GET":
            raise errors.method_not_allowed(exchange.method)
        pod = self._store.get("pods", target.namespace, target.name)
        if self._pod_logs is None:
            raise errors.bad_request(f"no logs are kept of pod {pod.name}")
        spec = pod.content["spec"]
        first = [container["name"] for container in as_objects(spec.get("initContainers"))]
        names = [container["name"] for container in spec["containers"]]
        container = exchange.query.get("container") or None
        if container is not None and container not in {*first, *names}:
            raise errors.bad_request(f"container {container} is not valid for pod {pod.name}")
        request = LogRequest(
            target.namespace,
            target.name,
            container or names[0],
            follow=exchange.flag("follow"),
            previous=exchange.flag("previous"),
            timestamps=exchange.flag("timestamps"),
            tail=exchange.number("tailLines"),
            since_seconds=exchange.number("sinceSeconds"),
        )
        lines = self._pod_logs(request)
        await exchange.start_stream("text/plain")
        async for content in lines:
            await exchange.send(content)
        await exchange.end_stream()

    # Options and answers

    @staticmethod
    def _options(exchange: Exchange) -> Options:
        query = exchange.query
        validation = query.get("fieldValidation") or "Warn"
        if validation not in {"Ignore", "Warn", "Strict"}:
            raise errors.bad_request('fieldValidation must be "Ignore", "Warn" or "Strict"')
        agent = exchange.headers.get("user-agent", "").partition("/")[0]
        return Options(
            manager=(query.get("fieldManager") or agent or "unknown")[:128],
            is_dry_run=_is_dry(query.get("dryRun", ""), []),
            unknown_fields=cast('Literal["Ignore", "Warn", "Strict"]', validation),
            warnings=exchange.warnings,
        )

    async def _answer_stored(
        self,
        exchange: Exchange,
        form: Form,
        kind: ResourceType,
        stored: Stored,
        *,
        status: int = 200,
    ) -> None:
        if form.shape == "Table":
            include = exchange.query.get("includeObject", "Metadata")
            metadata: JsonObject = {"resourceVersion": stored.content["metadata"].get("resourceVersion", "")}
            content = encode(tables.table(kind, [stored.content], include=include, metadata=metadata))
        else:
            content = stored_bytes(kind, stored, form.shape)
        await self._answer_in(exchange, form, content, status=status)

    @staticmethod
    async def _answer_in(exchange: Exchange, form: Form, content: bytes, *, status: int = 200) -> None:
        if form.media_type != "application/json":
            content = yaml.safe_dump(decode(content), sort_keys=True, allow_unicode=True).encode()
        await exchange.answer(content, status=status, media_type=form.media_type)


def _list_metadata(page: Page) -> JsonObject:
    metadata: JsonObject = {"resourceVersion": str(page.revision)}
    if page.continuation:
        metadata["continue"] = page.continuation
        metadata["remainingItemCount"] = page.remaining
    return metadata


def _check_name(content: JsonObject, name: str) -> None:
    given = at(content, "metadata", "name")
    if given != name:
        raise errors.bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def _is_dry(query: str, body: list[Any]) -> bool:
    wanted = {query, *map(str, body)} - {""}
    if wanted - {"All"}:
        raise errors.bad_request(f"Invalid value for dryRun: {sorted(wanted)}: supported values: All")
    return bool(wanted)
