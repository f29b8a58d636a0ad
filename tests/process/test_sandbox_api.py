"""The sandbox's API server as its clients meet it: watches over HTTP, faults on demand, hostile requests."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from codezero.kit.certificates import Authority, client_context, server_context
from codezero.sandbox.api import MASTERS, ApiServer, Fault, Store, User, bootstrap

Json = dict[str, Any]
SERVICES = "/api/v1/namespaces/shop/services"
WATCH = f"{SERVICES}?watch=1"


@dataclass
class Api:
    store: Store
    server: ApiServer
    port: int
    tls: ssl.SSLContext
    client: httpx2.AsyncClient

    def add_service(self, name: str) -> None:
        self.store.create("services", "shop", {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}})

    @asynccontextmanager
    async def watching(self, path: str = WATCH) -> AsyncGenerator[AsyncIterator[Json]]:
        async with self.client.stream("GET", path) as response:
            assert response.status_code == 200, await response.aread()
            lines = response.aiter_lines()

            async def events() -> AsyncGenerator[Json]:
                async for line in lines:
                    yield json.loads(line)

            iterator = events()
            try:
                yield iterator
            finally:
                await iterator.aclose()


@pytest.fixture
async def api() -> AsyncGenerator[Api]:
    authority = Authority.create("test cluster")
    store = Store(history=50)
    bootstrap(store)
    store.create("namespaces", "", {"metadata": {"name": "shop"}})
    context = server_context(
        authority.issue("api", addresses=["127.0.0.1"], server=True),
        client_roots=authority.certificate_pem,
        require_client=False,
    )
    tokens = {"admin-token": User("admin", frozenset({MASTERS})), "plain-token": User("plain")}
    server = ApiServer(store, tls=context, tokens=tokens, bookmark_seconds=0.05)
    tls = client_context(roots=authority.certificate_pem)
    async with (
        server.listening("127.0.0.1", 0) as port,
        httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{port}",
            verify=tls,
            headers={"authorization": "Bearer admin-token"},
            timeout=20,
        ) as client,
    ):
        yield Api(store, server, port, tls, client)


async def test_watch_tells_what_is_there_and_what_comes(api: Api) -> None:
    api.add_service("a")
    async with api.watching() as events:
        first = await anext(events)
        api.add_service("b")
        second = await anext(events)

    assert [(event["type"], event["object"]["metadata"]["name"]) for event in (first, second)] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
    ]
    assert first["object"]["kind"] == "Service"


async def test_streamed_list_ends_with_a_marked_bookmark(api: Api) -> None:
    """Reflectors that list by watching wait for this mark."""
    api.add_service("a")
    query = "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    async with api.watching(WATCH + query) as events:
        first, mark = await anext(events), await anext(events)

    assert first["type"] == "ADDED"
    assert mark["type"] == "BOOKMARK"
    assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_bookmarks_move_on_when_others_write(api: Api) -> None:
    """A quiet watch can resume after a busy hour without a new list."""
    api.add_service("a")
    since = api.store.storage.revision
    async with api.watching(f"{WATCH}&allowWatchBookmarks=true&resourceVersion={since}") as events:
        api.store.create("configmaps", "shop", {"metadata": {"name": "c"}})
        event = await anext(events)
        while event["object"]["metadata"]["resourceVersion"] == str(since):
            event = await anext(events)

    assert event["type"] == "BOOKMARK"
    assert int(event["object"]["metadata"]["resourceVersion"]) > since


async def test_watch_ends_after_its_time(api: Api) -> None:
    async with api.watching(f"{WATCH}&timeoutSeconds=1") as events:
        assert [event async for event in events] == []


async def test_too_old_version_is_told_in_the_stream(api: Api) -> None:
    api.add_service("a")
    for number in range(60):
        api.store.patch("services", "shop", "a", {"metadata": {"labels": {"n": str(number)}}})

    async with api.watching(f"{WATCH}&resourceVersion=1") as events:
        told = [event async for event in events]

    assert [(event["type"], event["object"]["code"], event["object"]["reason"]) for event in told] == [
        ("ERROR", 410, "Expired")
    ]


async def test_pages_survive_changes(api: Api) -> None:
    for name in "abc":
        api.add_service(name)
    first = (await api.client.get(f"{SERVICES}?limit=2")).json()
    api.store.delete("services", "shop", "c")
    second = (await api.client.get(SERVICES, params={"limit": "2", "continue": first["metadata"]["continue"]})).json()
    api.store.lists.forget()
    gone = await api.client.get(SERVICES, params={"limit": "2", "continue": first["metadata"]["continue"]})

    assert first["metadata"]["remainingItemCount"] == 1
    assert [item["metadata"]["name"] for item in second["items"]] == ["c"]
    assert gone.status_code == 410


@pytest.mark.parametrize(
    ("kind", "status"),
    [("http-410", 410), ("429", 429), ("500", 500)],
)
@pytest.mark.parametrize("path", [SERVICES, WATCH])
async def test_faults_that_refuse(api: Api, kind: Any, status: int, path: str) -> None:
    api.server.faults.add(Fault(kind=kind, resource="services", phase="any", retry_after=7))

    struck = await api.client.get(path + ("&timeoutSeconds=1" if path == WATCH else ""))
    after = await api.client.get(path + ("&timeoutSeconds=1" if path == WATCH else ""))

    assert (struck.status_code, after.status_code) == (status, 200)
    assert struck.json()["kind"] == "Status"
    if kind == "429":
        assert struck.headers["retry-after"] == "7"


async def test_fault_in_stream_410(api: Api) -> None:
    async with api.watching() as events:
        api.server.faults.add(Fault(kind="stream-410", resource="services"))
        told = [event async for event in events]

    assert told[0]["object"]["code"] == 410


async def test_fault_end_of_stream(api: Api) -> None:
    async with api.watching() as events:
        api.server.faults.add(Fault(kind="eof", resource="services"))

        assert [event async for event in events] == []


@pytest.mark.parametrize("kind", ["rst", "cut-json"])
async def test_faults_that_break_the_connection(api: Api, kind: Any) -> None:
    with pytest.raises((httpx2.TransportError, json.JSONDecodeError)):
        async with api.watching() as events:
            api.server.faults.add(Fault(kind=kind, resource="services"))
            async for _ in events:
                pass


async def test_reset_is_a_reset(api: Api) -> None:
    """A clean end and a reset take different paths in clients; the fault must be the real thing."""
    api.server.faults.add(Fault(kind="rst", resource="services", phase="list"))
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls, server_hostname="127.0.0.1")
    writer.write(f"GET {SERVICES} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer admin-token\r\n\r\n".encode())

    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_lists_can_be_cut(api: Api) -> None:
    api.add_service("a")
    api.server.faults.add(Fault(kind="cut-json", resource="services", phase="list"))

    with pytest.raises(httpx2.TransportError):
        await api.client.get(SERVICES)


async def test_silence_holds_a_watch_without_events(api: Api) -> None:
    async with api.watching() as events:
        api.server.faults.add(Fault(kind="silence", resource="services"))
        api.add_service("unheard")

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await anext(events)


async def test_other_resources_are_not_struck(api: Api) -> None:
    api.server.faults.add(Fault(kind="500", resource="services", phase="any", times=0))

    storm = [(await api.client.get(SERVICES)).status_code for _ in range(3)]
    other = await api.client.get("/api/v1/pods")
    api.server.faults.clear()

    assert storm == [500] * 3
    assert other.status_code == (await api.client.get(SERVICES)).status_code == 200


async def test_switch_and_counter_over_http(api: Api) -> None:
    added = await api.client.post("/sandbox/faults", json={"kind": "429", "resource": "services", "phase": "list"})
    bad = [
        await api.client.post("/sandbox/faults", json=body)
        for body in ({}, {"kind": "x"}, {"kind": "eof", "times": -1}, [], {"kind": "eof", "x": 1})
    ]
    listed = (await api.client.get("/sandbox/faults")).json()
    refused = await api.client.get(SERVICES)
    cleared = (await api.client.request("DELETE", "/sandbox/faults")).json()
    counted = (await api.client.get("/sandbox/requests?since=0")).json()
    plain = await api.client.get("/sandbox/requests", headers={"authorization": "Bearer plain-token"})

    assert added.status_code == 201
    assert {response.status_code for response in bad} == {400}
    assert listed["faults"] == [{"kind": "429", "resource": "services", "phase": "list", "times": 1, "retry_after": 1}]
    assert refused.status_code == 429
    assert cleared == {"faults": []}
    assert (
        sum(
            entry["count"]
            for entry in counted["requests"]
            if (entry["resource"], entry["verb"]) == ("services", "list")
        )
        == 1
    )
    assert plain.status_code == 403


async def test_nobody_gets_in_without_identity(api: Api) -> None:
    """There is no unauthenticated path, health included."""
    for path in ("/api", "/healthz", SERVICES, "/sandbox/faults", "/nowhere"):
        for headers in ({"authorization": ""}, {"authorization": "Bearer x"}, {"authorization": "Basic YTpi"}):
            response = await api.client.get(path, headers=headers)
            assert (response.status_code, response.json()["reason"]) == (401, "Unauthorized"), path


async def test_certificates_of_others_are_refused(api: Api) -> None:
    stranger = Authority.create("stranger")
    foreign = client_context(
        roots=stranger.certificate_pem, credentials=stranger.issue("admin", client=True, organization=MASTERS)
    )
    foreign.check_hostname = False
    foreign.verify_mode = ssl.CERT_NONE
    async with httpx2.AsyncClient(base_url=f"https://127.0.0.1:{api.port}", verify=foreign, timeout=20) as client:
        with pytest.raises(httpx2.TransportError):
            await client.get("/api")


DEEP = b'{"a":' * 5_000 + b"1" + b"}" * 5_000
HOSTILE: list[tuple[str, str, dict[str, str], bytes]] = [
    ("POST", SERVICES, {}, b""),
    ("POST", SERVICES, {}, b"{"),
    ("POST", SERVICES, {}, b"[]"),
    ("POST", SERVICES, {}, b"null"),
    ("POST", SERVICES, {}, b"\xff\xfe"),
    ("POST", SERVICES, {}, DEEP),
    ("POST", SERVICES, {}, b'{"metadata":{"name":"a","labels":' + DEEP + b"}}"),
    ("POST", SERVICES, {}, b'{"metadata":{"name":"\xc3\x28"}}'),
    ("POST", SERVICES, {}, b'{"metadata":{"name":"a"},"spec":{"ports":[{"port":1e400}]}}'),
    ("POST", SERVICES, {"content-type": "text/plain"}, b"{}"),
    ("POST", SERVICES, {"content-type": "application/vnd.kubernetes.protobuf"}, b"k8s\x00\xff\xff"),
    ("POST", SERVICES, {"content-type": "application/yaml"}, b"a: &a [x]\nb: *a\n"),
    ("POST", SERVICES, {"content-type": "application/yaml"}, b"a: [&a"),
    ("POST", SERVICES, {"content-type": "application/yaml"}, b"!!python/object/apply:os.system [id]"),
    ("POST", SERVICES, {"content-type": "application/yaml"}, b"{1: 2, 2020-01-01: x}"),
    ("POST", f"{SERVICES}?dryRun=Some", {}, b'{"metadata":{"name":"a"}}'),
    ("POST", f"{SERVICES}?fieldValidation=Loud", {}, b'{"metadata":{"name":"a"}}'),
    ("POST", "/api/v1/services", {}, b'{"metadata":{"name":"a"}}'),
    ("POST", f"{SERVICES}/orders", {}, b"{}"),
    ("PUT", SERVICES, {}, b"{}"),
    ("PUT", f"{SERVICES}/orders", {}, b'{"metadata":{"name":"other"}}'),
    ("PUT", f"{SERVICES}/orders", {}, b"5"),
    ("PATCH", f"{SERVICES}/orders", {}, b"{}"),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/merge-patch+json"}, b"[]"),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/merge-patch+json"}, b'{"metadata":null}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/merge-patch+json"}, b'{"metadata":{"name":"x"}}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/merge-patch+json"}, b'{"spec":5}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/merge-patch+json"}, b'{"apiVersion":{},"kind":[]}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/json-patch+json"}, b"{}"),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/json-patch+json"}, b'[{"op":"remove","path":"/metadata"}]'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/json-patch+json"}, b'[{"op":"replace","path":"/metadata","value":[]}]'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/strategic-merge-patch+json"}, b'{"$patch":[]}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/strategic-merge-patch+json"}, b'{"spec":{"ports":[{}]}}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/strategic-merge-patch+json"}, b'{"metadata":{"$patch":"delete"}}'),
    ("PATCH", f"{SERVICES}/orders", {"content-type": "application/apply-patch+yaml"}, b"{}"),
    ("PATCH", f"{SERVICES}/orders?fieldManager=x", {"content-type": "application/apply-patch+yaml"}, b"{}"),
    ("PATCH", f"{SERVICES}/orders?fieldManager=x", {"content-type": "application/apply-patch+yaml"}, b'{"apiVersion":"v1","kind":"Service","metadata":{"uid":[]}}'),
    ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web/scale", {"content-type": "application/merge-patch+json"}, b'{"spec":{"replicas":"x"}}'),
    ("PATCH", "/apis/apps/v1/namespaces/shop/deployments/web/scale", {"content-type": "application/merge-patch+json"}, b"5"),
    ("DELETE", f"{SERVICES}/orders", {}, b'{"propagationPolicy":[]}'),
    ("DELETE", f"{SERVICES}/orders", {}, b'{"propagationPolicy":"Sideways"}'),
    ("DELETE", f"{SERVICES}/orders", {}, b'{"gracePeriodSeconds":"x"}'),
    ("DELETE", f"{SERVICES}/orders", {}, b'{"preconditions":{"uid":{}}}'),
    ("DELETE", f"{SERVICES}/orders?gracePeriodSeconds=-1", {}, b""),
    ("GET", f"{SERVICES}?labelSelector=((", {}, b""),
    ("GET", f"{SERVICES}?fieldSelector=spec.x%3D1", {}, b""),
    ("GET", f"{SERVICES}?limit=x", {}, b""),
    ("GET", f"{SERVICES}?limit=99999999999999999999", {}, b""),
    ("GET", f"{SERVICES}?continue=zz", {}, b""),
    ("GET", f"{SERVICES}?resourceVersion=abc", {}, b""),
    ("GET", f"{SERVICES}?resourceVersionMatch=Maybe", {}, b""),
    ("GET", f"{SERVICES}?watch=perhaps", {}, b""),
    ("GET", f"{WATCH}&sendInitialEvents=true", {}, b""),
    ("GET", f"{SERVICES}?" + "&".join(f"a{number}=1" for number in range(200)), {}, b""),
    ("GET", "/api/v1/namespaces/shop/unicorns", {}, b""),
    ("GET", "/api/v1/namespaces/shop/services/a/b/c", {}, b""),
    ("GET", "/api/v1/namespaces/shop/services/orders/scale", {}, b""),
    ("GET", "/apis/apps/v9/deployments", {}, b""),
    ("GET", "/apis/nothing.example", {}, b""),
    ("GET", SERVICES, {"accept": "application/vnd.kubernetes.protobuf"}, b""),
    ("TRACE", SERVICES, {}, b""),
    ("POST", "/version", {}, b""),
    ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, b'{"spec":[]}'),
    ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {}, b'{"kind":"Other"}'),
    ("POST", "/api/v1/namespaces/shop/serviceaccounts/default/token", {}, b'{"spec":{"expirationSeconds":1}}'),
    ("POST", "/api/v1/namespaces/shop/serviceaccounts/nobody/token", {}, b"{}"),
    ("GET", "/api/v1/namespaces/%2e%2e/services/%00", {}, b""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "headers", "body"),
    HOSTILE,
    ids=lambda value: None if isinstance(value, dict) else repr(value)[:60],
)
async def test_hostile_requests_are_refused(
    api: Api, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    """Each gets a Status that says why; nothing fails inside, and the server goes on."""
    api.add_service("orders")
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "b:1"}]}}
    api.store.create(
        "deployments.apps",
        "shop",
        {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels}, "template": template}},
    )

    response = await api.client.request(
        method, path, content=body, headers={"content-type": "application/json", **headers}
    )
    after = await api.client.get(f"{SERVICES}/orders")

    assert 400 <= response.status_code < 500, response.text
    assert response.json()["kind"] == "Status"
    assert response.json()["message"]
    assert after.status_code == 200


async def test_bodies_over_the_limit_are_refused(api: Api) -> None:
    async def endless() -> AsyncGenerator[bytes]:
        for _ in range(64):
            yield b"x" * 65_536

    declared = await api.client.post(
        SERVICES, content=b"x" * (3 * 1024 * 1024 + 1), headers={"content-type": "application/json"}
    )
    chunked = await api.client.post(SERVICES, content=endless(), headers={"content-type": "application/json"})

    assert declared.status_code == chunked.status_code == 413


async def test_broken_http_does_not_stop_the_server(api: Api) -> None:
    for bytes_sent in (
        b"\x16\x03\x01garbage",
        b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000,
        b"\r\n\r\n",
        b"G" * 70_000,
    ):
        with socket.create_connection(("127.0.0.1", api.port), timeout=5) as plain:
            plain.sendall(bytes_sent)
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", api.port, ssl=api.tls, server_hostname="127.0.0.1")
            writer.write(bytes_sent)
            await writer.drain()
            writer.close()
        except OSError:
            pass

    assert (await api.client.get("/readyz")).text == "ok"


async def test_reader_that_stops_does_not_hold_others(api: Api) -> None:
    """One stuck laptop must not delay the rest."""
    api.add_service("a")
    async with api.client.stream("GET", WATCH) as _stuck, api.watching() as events:
        for number in range(200):
            api.store.patch("services", "shop", "a", {"metadata": {"annotations": {"n": str(number) * 1000}}})
        seen = [await anext(events) for _ in range(201)]

    assert len(seen) == 201


async def test_stopping_ends_watches(api: Api) -> None:
    authority = Authority.create("second")
    context = server_context(authority.issue("api", addresses=["127.0.0.1"], server=True))
    server = ApiServer(api.store, tls=context, tokens={"t": User("a", frozenset({MASTERS}))})
    async with httpx2.AsyncClient(verify=client_context(roots=authority.certificate_pem), timeout=20) as client:
        async with server.listening("127.0.0.1", 0) as port:
            response = await client.send(
                client.build_request("GET", f"https://127.0.0.1:{port}{WATCH}", headers={"authorization": "Bearer t"}),
                stream=True,
            )
            assert response.status_code == 200
        with pytest.raises(httpx2.TransportError):
            await response.aread()
        await response.aclose()


async def test_forms_of_an_answer(api: Api) -> None:
    api.add_service("a")
    partial = (
        await api.client.get(
            f"{SERVICES}/a", headers={"accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
        )
    ).json()
    table = (
        await api.client.get(
            SERVICES, headers={"accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
        )
    ).json()
    yaml_text = (await api.client.get(f"{SERVICES}/a", headers={"accept": "application/yaml"})).text

    assert (partial["kind"], sorted(partial)) == ("PartialObjectMetadata", ["apiVersion", "kind", "metadata"])
    assert table["rows"][0]["cells"][0] == "a"
    assert "kind: Service" in yaml_text
