"""Routers at a real System: how they join, how they get plans, and what they cannot do to each other."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from codezero.kit import certificates
from codezero.kit.certificates import Credentials
from codezero.kit.mounted import MountedFiles
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import SessionId, TeamspaceId, Workload, new_ulid
from codezero.model.services import ServiceRef
from codezero.routing.plan import Address
from codezero.system import router_port
from codezero.system.kubernetes.client import ApiError
from codezero.system.router_port import Records, RouterPort
from codezero.system.serving import naming
from codezero.system.signing import REVIEWS_PATH
from codezero.testing.serves import RouterEnd, route
from codezero.testing.teamspace import RealTeamspace
from codezero.testing.tunnels import until
from codezero.transport import identity, tls
from codezero.transport.identity import workload_of
from codezero.transport.messages import MessageStream, frame
from codezero.wire import route_plan
from codezero.wire.router import (
    JOIN_ALPN,
    ROUTES_ALPN,
    AccessRecords,
    FromRouter,
    Join,
    Joined,
    PlanApplied,
    PlanSent,
    Refusal,
    RouterHello,
    RouterPing,
    RouterWelcome,
    ToRouter,
)
from codezero.wire.serve_resource import RouterConfig, RouteStatus
from codezero.wire.tracing import Direction, TraceRecord

ORDERS, CART = ServiceRef("shop", "orders"), ServiceRef("shop", "cart")
HELLO = RouterHello((1,), "test", "pod-1")

Conversation = MessageStream[FromRouter, ToRouter]


@pytest.fixture
async def teamspace(tmp_path: Path) -> AsyncIterator[RealTeamspace]:
    async with RealTeamspace(tmp_path).system_alone() as teamspace:
        teamspace.store.put(ORDERS)
        yield teamspace


def account(service: ServiceRef = ORDERS) -> str:
    return f"system:serviceaccount:{service.namespace}:{naming.router_of(service).name}"


async def join(teamspace: RealTeamspace, message: FromRouter | bytes) -> ToRouter:
    async with teamspace.router.conversation(JOIN_ALPN, None) as stream:
        if isinstance(message, bytes):
            stream.writer.write(message)
        else:
            await stream.send(message)
        return await stream.receive(within=10)


async def test_a_router_joins_by_its_account_s_token(teamspace: RealTeamspace) -> None:
    """An hour, for its own key, under the name that its account proves, to be a client and nothing else."""
    teamspace.store.tokens["good"] = account()
    key = certificates.new_key()
    answer = await join(teamspace, Join("good", certificates.certificate_request(key)))

    assert isinstance(answer, Joined)
    assert answer.authority == teamspace.authorities.parts.certificate_pem
    leaf = x509.load_pem_x509_certificate(answer.certificate.encode())
    assert leaf.public_key() == key.public_key()
    whose = workload_of(leaf.public_bytes(Encoding.DER))
    assert whose == Workload(teamspace.authorities.teamspace, "router", "shop/orders")
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [usage._name for usage in usages] == ["clientAuth"]
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).total_seconds() <= 3700

    async with routes(teamspace, Credentials(key, (leaf,))) as stream:
        assert isinstance(await stream.receive(within=10), PlanSent)


@pytest.mark.parametrize(
    ("username", "audiences"),
    [
        (account(CART), None),
        (account().replace(":shop:", ":other:"), None),
        ("system:serviceaccount:shop:default", None),
        ("system:serviceaccount:shop", None),
        (naming.router_of(ORDERS).name, None),
        ("system:node:a", None),
        ("admin", None),
        (account(), ()),
        (account(), ("https://kubernetes.default.svc",)),
        (None, None),
    ],
)
async def test_no_other_token_is_good_enough(
    teamspace: RealTeamspace, username: str | None, audiences: tuple[str, ...] | None
) -> None:
    """Of another account, for another audience, expired or made up."""
    if username is not None:
        teamspace.store.tokens["shown"] = username
    if audiences is not None:
        teamspace.store.audiences = audiences
    answer = await join(teamspace, Join("shown", certificates.certificate_request(certificates.new_key())))

    assert isinstance(answer, Refusal)
    assert answer.code == problems.BAD_IDENTITY.code
    assert "shown" not in answer.detail


def forged_request() -> str:
    request = x509.load_pem_x509_csr(certificates.certificate_request(certificates.new_key()).encode())
    body = bytearray(request.public_bytes(Encoding.DER))
    body[-1] ^= 1
    return x509.load_der_x509_csr(bytes(body)).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("request_pem", ["", "nonsense", forged_request()], ids=["empty", "nonsense", "forged"])
async def test_a_request_that_proves_no_key_is_refused(teamspace: RealTeamspace, request_pem: str) -> None:
    """A certificate for somebody else's key would be of use to that somebody."""
    teamspace.store.tokens["good"] = account()
    answer = await join(teamspace, Join("good", request_pem))

    assert isinstance(answer, Refusal)
    assert answer.code == problems.BAD_REQUEST.code


async def test_without_the_authority_s_key_nobody_joins_and_all_else_works(tmp_path: Path) -> None:
    """An installation whose Secret is older than serving."""
    teamspace = RealTeamspace(tmp_path)
    (tmp_path / "system" / "ca.key").unlink()
    async with teamspace.system():
        teamspace.store.put(ORDERS)
        teamspace.store.tokens["good"] = account()
        answer = await join(teamspace, Join("good", certificates.certificate_request(certificates.new_key())))
        async with routes(teamspace) as stream:
            assert isinstance(await stream.receive(within=10), PlanSent)

    assert isinstance(answer, Refusal)
    assert "no key to sign" in answer.detail


async def test_an_api_server_that_does_not_answer_is_no_proof(teamspace: RealTeamspace) -> None:
    """And the Router may come back."""
    teamspace.store.failing = ApiError("good is not a valid token", status=500)
    answer = await join(teamspace, Join("good", certificates.certificate_request(certificates.new_key())))

    assert isinstance(answer, Refusal)
    assert (answer.code, answer.retry) == (problems.UNREACHABLE.code, True)
    assert "good" not in answer.detail


async def test_a_pod_that_joins_all_the_time_is_told_to_wait(teamspace: RealTeamspace) -> None:
    """Each join is a question to the API server, which others need too."""
    wrong = Join("wrong", "")
    codes = [getattr(await join(teamspace, wrong), "code", "") for _ in range(router_port.JOIN_BURST + 5)]

    assert codes[0] == problems.BAD_IDENTITY.code
    assert codes[-1] == problems.TOO_MANY_STREAMS.code
    assert teamspace.store.requests.count(f"POST {REVIEWS_PATH}") < len(codes)


@pytest.mark.parametrize(
    "said",
    [HELLO, RouterPing(), b"\x00\x00\x00\x05hello", b"\x7f\xff\xff\xff"],
    ids=["hello", "ping", "nonsense", "endless"],
)
async def test_anything_but_a_join_is_refused(teamspace: RealTeamspace, said: FromRouter | bytes) -> None:
    answer = await join(teamspace, said)

    assert isinstance(answer, Refusal)


async def test_who_joins_says_no_more_than_a_stranger_may(teamspace: RealTeamspace) -> None:
    """T16: nothing is proven until the API server has said so."""
    with pytest.raises(EOFError):
        await join(teamspace, frame(Join("t" * 16384, "r" * 16384)) * 3)


@asynccontextmanager
async def routes(
    teamspace: RealTeamspace, credentials: Credentials | None = None, *, hello: FromRouter = HELLO
) -> AsyncIterator[Conversation]:
    """A stream of routes after its welcome."""
    own = credentials or teamspace.router.credentials(str(ORDERS))
    async with teamspace.router.conversation(ROUTES_ALPN, own) as stream:
        await stream.send(hello)
        welcome = await stream.receive(within=10)
        assert isinstance(welcome, RouterWelcome), welcome
        yield stream


async def plan_in(stream: Conversation) -> PlanSent:
    async with asyncio.timeout(20):
        while not isinstance(message := await stream.receive(), PlanSent):
            pass
    return message


async def test_a_router_gets_the_plan_of_its_service_now_and_at_each_change(teamspace: RealTeamspace) -> None:
    """And of no other service."""
    device = teamspace.authorities.device()
    session = SessionId(new_ulid())
    teamspace.store.put(CART, route(device, session, remote=81))
    async with routes(teamspace) as stream:
        first = await plan_in(stream)
        assert (first.plan.namespace, first.plan.service) == ("shop", "orders")
        assert first.plan.ports[0].rules == ()
        served = route(device, session)
        teamspace.store.put(CART)
        teamspace.store.put(ORDERS, served)
        second = await plan_in(stream)

    assert second.revision == first.revision + 1
    rules = route_plan.from_wire(second.plan).ports[0].rules
    assert [(rule.variant_id, rule.holder) for rule in rules] == [(served.id, None)]


async def test_what_changes_no_plan_is_not_sent(teamspace: RealTeamspace) -> None:
    """Status is written all the time, and each plan is work for Envoy."""
    async with routes(teamspace) as stream:
        first = await plan_in(stream)
        assert teamspace.store.serves is not None
        with teamspace.store.serves.subscribe() as changes:
            for number in range(3):
                teamspace.store.set_status(
                    ORDERS, lambda status, number=number: msgspec.structs.replace(status, message=str(number))
                )
                await changes.next()
        teamspace.store.put(ORDERS)

        assert (await plan_in(stream)).revision == first.revision + 1


async def test_a_plan_follows_its_laptop(teamspace: RealTeamspace) -> None:
    """The holder comes with the tunnel and goes with it, without a new revision."""
    device = teamspace.authorities.device()
    laptop = await teamspace.connect(device)
    async with routes(teamspace) as stream:
        await plan_in(stream)
        teamspace.store.put(ORDERS, route(device, laptop.session))

        async def holder() -> Address | None:
            rules = route_plan.from_wire((await plan_in(stream)).plan).ports[0].rules
            return rules[0].holder if rules else None

        while (found := await holder()) is None:
            pass
        assert found == Address("127.0.0.1", teamspace.routers_port)
        laptop.abandon()
        while await holder() is not None:
            pass


async def test_many_changes_are_sent_as_the_newest(teamspace: RealTeamspace) -> None:
    """A Router that was busy has nothing to catch up with."""
    device = teamspace.authorities.device()
    async with routes(teamspace) as stream:
        first = await plan_in(stream)
        for _ in range(50):
            teamspace.store.put(ORDERS, route(device, SessionId(new_ulid())))
        revisions: list[int] = []
        while not revisions or revisions[-1] < first.revision + 50:
            revisions.append((await plan_in(stream)).revision)

    assert len(revisions) < 50


async def test_what_all_routers_have_applied_is_written_once(teamspace: RealTeamspace) -> None:
    """The lowest counts, a failure counts for nothing, and nothing is written that is known."""
    teamspace.store.put(ORDERS, served := route(teamspace.authorities.device(), SessionId(new_ulid())))
    async with routes(teamspace) as one, routes(teamspace) as other:
        revision = (await plan_in(one)).revision
        await other.send(PlanApplied(revision, "no such file"))
        await one.send(PlanApplied(revision))
        await other.send(PlanApplied(revision - 1))
        await until(lambda: teamspace.store.status(ORDERS).router_config == RouterConfig(revision - 1))
        await other.send(PlanApplied(revision))
        await until(lambda: teamspace.store.status(ORDERS).router_config == RouterConfig(revision))
        written = len(teamspace.store.requests)
        await other.send(PlanApplied(revision))
        await one.send(PlanApplied(revision))
        teamspace.store.put(ORDERS, served, route(teamspace.authorities.device(), SessionId(new_ulid())))
        while (await plan_in(one)).revision != revision + 1:
            pass
        assert len(teamspace.store.requests) == written
        await one.send(PlanApplied(revision + 1))

    # The one that had not applied it has gone.
    async with routes(teamspace) as stream:
        await stream.send(PlanApplied(revision + 1))
        await until(lambda: teamspace.store.status(ORDERS).router_config == RouterConfig(revision + 1))


@pytest.mark.parametrize("who", ["nobody", "the Orchestrator", "the System", "another Teamspace", "no service"])
async def test_only_routers_get_routes(teamspace: RealTeamspace, who: str) -> None:
    """A plan says where laptops are."""
    parts = teamspace.authorities
    shown: Credentials | None = {
        "nobody": lambda: None,
        "the Orchestrator": lambda: parts.part("orchestrator"),
        "the System": lambda: parts.part("system"),
        "another Teamspace": lambda: teamspace.router.credentials(
            str(ORDERS), teamspace=TeamspaceId("01J00000000000000000000000")
        ),
        "no service": lambda: parts.parts.issue(
            "router", uris=[f"spiffe://{parts.teamspace.lower()}.codezero/router"], client=True
        ),
    }[who]()
    async with teamspace.router.conversation(ROUTES_ALPN, shown) as stream:
        await stream.send(HELLO)
        answer = await stream.receive(within=10)

    assert isinstance(answer, Refusal)
    assert answer.code == problems.BAD_IDENTITY.code


@pytest.mark.parametrize(
    ("hello", "code"),
    [
        (RouterPing(), problems.PROTOCOL),
        (Join("t", "r"), problems.PROTOCOL),
        (RouterHello((7,), "future", "pod"), problems.VERSIONS),
    ],
)
async def test_a_stream_begins_with_a_hello(
    teamspace: RealTeamspace, hello: FromRouter, code: problems.Problem
) -> None:
    async with teamspace.router.conversation(ROUTES_ALPN, teamspace.router.credentials(str(ORDERS))) as stream:
        await stream.send(hello)
        answer = await stream.receive(within=10)

    assert isinstance(answer, Refusal)
    assert answer.code == code.code


async def test_a_router_has_a_limit_of_streams(teamspace: RealTeamspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router_port, "MAX_STREAMS_OF_A_SERVICE", 1)
    async with routes(teamspace):
        async with teamspace.router.conversation(ROUTES_ALPN, teamspace.router.credentials(str(ORDERS))) as stream:
            await stream.send(HELLO)
            answer = await stream.receive(within=10)
        assert isinstance(answer, Refusal)
        async with routes(teamspace, teamspace.router.credentials(str(CART))):
            pass


async def test_a_silent_router_is_given_up(teamspace: RealTeamspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so to nobody; its stream ends."""
    monkeypatch.setattr(router_port, "SILENT_SECONDS", 0.1)
    async with routes(teamspace) as stream:
        await plan_in(stream)
        answer: Any = None
        while not isinstance(answer, Refusal):
            answer = await stream.receive(within=10)

    assert answer.code == problems.TIMED_OUT.code


@asynccontextmanager
async def port_of_its_own(
    teamspace: RealTeamspace, *, records: Records = lambda _service, _told: None, clock: Callable[[], float] = time.time
) -> AsyncIterator[RouterEnd]:
    """The end of a Router of a port for routes alone, beside the System's own."""
    own = identity.from_files(MountedFiles(teamspace.folder / "system", identity.FILES).read(), role="system")
    assert teamspace.store.serves is not None
    port = RouterPort(
        serves=teamspace.store.serves, identities=Watched(own), reviewer=None, records=records, clock=clock
    )
    context = certificates.server_context(own.credentials, client_roots=own.authority, require_client=False)
    async with task_group("test") as tasks:
        tasks.start_service("routers", port.run())
        listener = await tls.listen("127.0.0.1", 0, context, handlers={ROUTES_ALPN: port.routes})
        try:
            authorities = teamspace.authorities
            yield RouterEnd(listener.port, authority=authorities.parts, teamspace=authorities.teamspace)
        finally:
            listener.close()


async def test_a_stream_ends_with_its_certificate(teamspace: RealTeamspace) -> None:
    """Or a Router would need to prove itself but once."""
    async with (
        port_of_its_own(teamspace, clock=lambda: time.time() + 3600 - 0.1) as router,
        router.conversation(ROUTES_ALPN, router.credentials(str(ORDERS))) as stream,
    ):
        await stream.send(HELLO)
        answer: Any = None
        while not isinstance(answer, Refusal):
            answer = await stream.receive(within=10)

    assert (answer.code, answer.retry) == (problems.BAD_IDENTITY.code, True)
    assert "expired" in answer.detail


def record(service: ServiceRef, variant: str, **changes: Any) -> TraceRecord:
    told = TraceRecord(1.0, Direction.SERVE, service, 80, "HTTP/1.1", variant=variant, user="somebody else")
    return msgspec.structs.replace(told, **changes)


async def test_a_router_tells_of_its_own_variants_alone(teamspace: RealTeamspace) -> None:
    """T20: no records about others' variants, and none under others' names."""
    told: list[tuple[ServiceRef, AccessRecords]] = []
    device = teamspace.authorities.device()
    mine, theirs = route(device, SessionId(new_ulid())), route(device, SessionId(new_ulid()))
    teamspace.store.put(ORDERS, mine)
    teamspace.store.put(CART, theirs)
    async with (
        port_of_its_own(teamspace, records=lambda service, records: told.append((service, records))) as router,
        router.conversation(ROUTES_ALPN, router.credentials(str(ORDERS))) as stream,
    ):
        await stream.send(HELLO)
        await stream.send(
            AccessRecords(
                (
                    record(ORDERS, mine.id),
                    record(CART, mine.id),
                    record(CART, theirs.id),
                    record(ORDERS, theirs.id),
                    record(ORDERS, ""),
                    record(ORDERS, mine.id, direction=Direction.CONSUME),
                ),
                dropped=3,
            )
        )
        await until(lambda: told)

    assert told == [(ORDERS, AccessRecords((record(ORDERS, mine.id, user=device.user),), dropped=8))]


async def test_numbers_tell_of_routers_and_variants(teamspace: RealTeamspace) -> None:
    """By count and code, never by name (T38)."""
    await join(teamspace, Join("wrong", ""))
    async with routes(teamspace):
        reader, writer = await asyncio.open_connection("127.0.0.1", teamspace.probes["system"])
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        page = (await asyncio.wait_for(reader.read(), 10)).decode()
        writer.close()

    assert "codezero_system_routers 1.0" in page
    assert "codezero_system_variant_connections 0.0" in page
    assert f'codezero_system_routers_refused_total{{code="{problems.BAD_IDENTITY.code}"}} 1.0' in page
    assert "orders" not in page


async def test_holders_of_an_earlier_life_are_cleared(tmp_path: Path) -> None:
    """A System that was killed comes back at the same address without the tunnels."""
    teamspace = RealTeamspace(tmp_path)
    mine = str(Address("127.0.0.1", teamspace.routers_port))
    served = route(teamspace.authorities.device(), SessionId(new_ulid()))
    other = route(teamspace.authorities.device(), SessionId(new_ulid()))
    teamspace.store.put(ORDERS, served, other)
    teamspace.store.set_status(
        ORDERS,
        lambda status: msgspec.structs.replace(
            status, routes=(RouteStatus(served.id, mine), RouteStatus(other.id, "192.0.2.7:8801"))
        ),
    )
    async with teamspace.system():
        await until(lambda: teamspace.store.holder(served, ORDERS) == "")

    assert teamspace.store.holder(other, ORDERS) == "192.0.2.7:8801"
