"""Another's opinion (OPA): only `true` is a yes, it reaches nothing it is not for, and streams and serves wait for it (T45, T46)."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.access import CONSUME, TERMINATE, allow_all, serve_acts
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart
from codezero.testing.bundles import bundle
from codezero.testing.decision_point import NO, YES, DecisionPoint, answered, decision_point
from codezero.testing.teamspace import RealTeamspace, echo_server
from codezero.testing.tunnels import Recorder
from codezero.transport import opinion
from codezero.transport.opinion import Opinion, Verdict
from codezero.wire.open_header import OpenHeader, StreamKind

ANNA = Device("hub", new_ulid(), new_ulid(), new_ulid())
ORDERS = ServiceRef("shop", "orders")
HELD = bundle([ANNA])
RULES = allow_all(ANNA.organization)


@pytest.fixture
async def point() -> AsyncIterator[DecisionPoint]:
    async with decision_point() as made:
        yield made


async def test_it_is_asked_what_is_documented(point: DecisionPoint) -> None:
    """Row 65: policies that people have written for the original go on working."""
    own = Opinion(point.url)
    header = serve_acts((ConditionPart("header", "x-team", "blue"),), (80,))
    assert await own.ask(HELD, ANNA, ORDERS, (CONSUME,)) == Verdict(
        True, "the policy decision point (OPA) allows consume"
    )
    assert (await own.ask(HELD, ANNA, ORDERS, header)).allowed
    assert (await own.ask(RULES, ANNA, ORDERS, serve_acts((), (80,), mirror=True))).allowed

    auth = {"userID": ANNA.user, "email": "user0@example.com"}
    resource = {"namespace": "shop", "service": "orders"}
    assert point.asked == [
        {"input": {"action": {"operation": "consume"}, "auth": auth, "resource": resource}},
        {
            "input": {
                "action": {"operation": "serve", "condition": {"type": "header", "key": "x-team", "value": "blue"}},
                "auth": auth,
                "resource": resource,
            }
        },
        {
            "input": {
                "action": {"operation": "serve", "condition": {"type": "default", "key": "", "value": ""}},
                "auth": {**auth, "email": ""},
                "resource": resource,
            }
        },
    ]
    assert all(head.startswith("POST /v1/data/codezero/allow HTTP/1.1\r\n") for head in point.heads)
    assert all(f"host: {point.url.split('/')[2]}" in head.lower() for head in point.heads)


async def test_nobody_is_asked_where_nobody_is_named(point: DecisionPoint) -> None:
    """Nor about what is no consuming and no serving."""
    assert (await Opinion().ask(HELD, ANNA, ORDERS, (CONSUME,))).allowed
    assert (await Opinion(point.url).ask(HELD, ANNA, ORDERS, (TERMINATE,))).allowed
    assert point.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        answered(b'{"result": null}'),
        answered(b'{"result": "true"}'),
        answered(b'{"result": 1}'),
        answered(b'{"result": [true]}'),
        answered(b'{"result": {"allow": true}}'),
        answered(b'{"Result": true}'),
        answered(b"{}"),
        answered(b"true"),
        answered(b""),
        answered(b"\xff"),
        answered(b"[" * 10_000),
        answered(b'{"result": true}', "500 Internal Server Error"),
        answered(b'{"result": true}', "201 Created"),
        answered(b'{"result": true}', "204 No Content"),
        answered(b"", "302 Found", "Location: http://127.0.0.1:1/"),
        answered(b'{"result": true}' + b" " * opinion.MAX_ANSWER),
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"result": true}',
        b'HTTP/1.1 200 OK\r\n\r\n{"result": true' + b" " * 10 * opinion.MAX_ANSWER,
        b"\x1f\x8b",
        b"",
    ],
    ids=lambda answer: repr(answer)[-60:],
)
async def test_an_odd_answer_is_no_yes(point: DecisionPoint, answer: bytes) -> None:
    """T46: an outage or a misspelt rule must never become an allow."""
    point.answer = answer
    verdict = await Opinion(point.url).ask(HELD, ANNA, ORDERS, (CONSUME,))

    assert (verdict.allowed, verdict.is_answer) == (False, False)
    assert verdict.reason.startswith("the policy decision point (OPA) ")
    assert verdict.reason.endswith("so nothing is allowed")


async def test_who_does_not_answer_in_time_says_no(point: DecisionPoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """And costs nobody more than that."""
    monkeypatch.setattr(opinion, "BUDGET_SECONDS", 0.05)
    point.may_answer.clear()

    verdict = await Opinion(point.url).ask(HELD, ANNA, ORDERS, (CONSUME,))
    assert (verdict.allowed, "did not answer within" in verdict.reason) == (False, True)


async def test_a_plain_no_says_whose_it_is(point: DecisionPoint) -> None:
    """Whoever is refused has to know whom to ask."""
    point.answer = NO
    with pytest.raises(CodezeroError) as caught:
        await Opinion(point.url).require(HELD, ANNA, ORDERS, serve_acts((), (80,)))

    assert caught.value.problem is problems.FORBIDDEN
    assert caught.value.detail == "the policy decision point (OPA) does not allow serve"


async def test_answers_are_remembered_for_a_moment_and_failures_for_less(point: DecisionPoint) -> None:
    """A page with a hundred requests asks once; whoever is back is heard soon."""
    now = [0.0]
    own = Opinion(point.url, clock=lambda: now[0])

    async def allowed() -> bool:
        return (await own.ask(HELD, ANNA, ORDERS, (CONSUME,))).allowed

    assert await allowed()
    point.answer = b""
    now[0] = 4.9
    assert await allowed()
    now[0] = 5.1
    assert not await allowed()
    point.answer = YES
    now[0] = 5.9
    assert not await allowed()
    now[0] = 6.2
    assert await allowed()
    assert len(point.asked) == 3


async def test_the_same_question_at_once_is_asked_once(point: DecisionPoint) -> None:
    """Also when the first who asked has given up."""
    point.may_answer.clear()
    own = Opinion(point.url)
    asking = [asyncio.ensure_future(own.ask(HELD, ANNA, ORDERS, (CONSUME,))) for _ in range(20)]
    async with asyncio.timeout(10):
        while not point.asked:
            await asyncio.sleep(0.001)
    point.may_answer.set()

    assert all(verdict.allowed for verdict in await asyncio.gather(*asking))
    assert len(point.asked) == 1


async def test_what_is_remembered_has_a_bound(point: DecisionPoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """A laptop may ask about any name."""
    monkeypatch.setattr(opinion, "REMEMBERED", 5)
    own = Opinion(point.url)
    for number in range(20):
        await own.ask(HELD, ANNA, ServiceRef("shop", f"s{number}"), (CONSUME,))

    assert len(own._known) <= 5  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "url",
    [
        "{http}",
        "https://localhost/allow",
        "https://127.0.0.1/allow",
        "https://[::1]/allow",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.1/allow",
        "https://[::ffff:127.0.0.1]/allow",
        "https://user@opa.example.com/allow",
        "file:///etc/passwd",
        "gopher://opa.example.com",
        "https://",
        "https://[",
    ],
)
async def test_a_hubs_url_leads_to_the_internet_alone(point: DecisionPoint, url: str) -> None:
    """T45: whoever sets it in the Hub is no administrator of the cluster, and must not make its Systems ask around in there."""
    held = bundle([ANNA], opa_url=url.format(http=point.url))
    verdict = await Opinion().ask(held, ANNA, ORDERS, (CONSUME,))

    assert (verdict.allowed, verdict.is_answer) == (False, False)
    assert point.asked == []


async def test_the_operators_url_goes_before_a_hubs(point: DecisionPoint) -> None:
    """And may be inside the cluster, where OPA usually is."""
    held = bundle([ANNA], opa_url="https://opa.example.com")

    assert (await Opinion(point.url).ask(held, ANNA, ORDERS, (CONSUME,))).allowed


PRIVATE = [
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8", "100.64.0.0/10", "224.0.0.0/4", "240.0.0.0/4",
    "198.18.0.0/15", "::1/128", "fc00::/7", "fe80::/10", "ff00::/8", "::ffff:10.0.0.0/104", "64:ff9b::a00:0/104", "2002:a00::/24", "2001:db8::/32",
]  # fmt: skip


@given(st.sampled_from(PRIVATE).map(ipaddress.ip_network), st.integers(min_value=0))
def test_no_private_address_passes_for_a_public_one(network: Any, offset: int) -> None:
    """T45, by class of address."""
    address = network[offset % network.num_addresses]

    assert not opinion.is_public(str(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_public(address: str) -> None:
    """Else nobody could be asked at all."""
    assert opinion.is_public(address)
    assert not opinion.is_public("opa.example.com")


async def test_streams_wait_for_the_opinion(
    point: DecisionPoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumed connection is not even dialled; asked again, it opens."""
    monkeypatch.setattr(opinion, "REMEMBERED_SECONDS", 0.0)
    teamspace = RealTeamspace(tmp_path, extra={"CODEZERO_OPA_URL": point.url})
    async with teamspace.system_alone(), echo_server(b"hello") as port:
        teamspace.offer("orders", port)
        tunnel = await teamspace.connect(teamspace.authorities.device())
        point.answer = NO
        refused = Recorder()
        tunnel.open(OpenHeader(StreamKind.CONSUME, "shop/orders:80"), refused)
        error = await asyncio.wait_for(refused.lost, 10)
        assert isinstance(error, CodezeroError)
        assert (error.problem, "OPA" in error.detail) == (problems.FORBIDDEN, True)
        assert refused.data == b""

        point.answer = YES
        reader, writer = await tunnel.open_stream(OpenHeader(StreamKind.CONSUME, "shop/orders:80"))
        assert await asyncio.wait_for(reader.readexactly(5), 10) == b"hello"
        writer.close()
        tunnel.abandon()


async def test_serves_wait_for_the_opinion(point: DecisionPoint, tmp_path: Path) -> None:
    """What is refused is not ordered from any System; what our own policy refuses is not asked about."""
    teamspace = RealTeamspace(tmp_path, extra={"CODEZERO_OPA_URL": point.url})
    async with teamspace.running():
        teamspace.offer("orders", 1)
        point.answer = NO
        tunnel = await teamspace.connect(teamspace.authorities.device())
        laptop = await teamspace.coordinate(tunnel)
        await laptop.until(lambda it: "shop/orders" in it.catalog)
        answer = await laptop.serve(ORDERS)
        assert (answer.code, "OPA" in answer.detail) == (problems.FORBIDDEN.code, True)
        asked = len(point.asked)
        assert asked == 1

        unknown = await laptop.serve(ServiceRef("shop", "nothing"), condition=())
        assert unknown.code in (problems.SERVICE_UNKNOWN.code, problems.FORBIDDEN.code)
        laptop.stream.close()
        tunnel.abandon()
