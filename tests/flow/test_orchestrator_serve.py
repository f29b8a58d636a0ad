"""Serving through the Orchestrator: over TLS on loopback, with a System that answers orders by hand and laptops that ask."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule, allow_all
from codezero.model.ids import SessionId, new_ulid
from codezero.model.problems import Problem
from codezero.model.services import ServiceRef
from codezero.model.sessions import Activity, ActivityKind
from codezero.model.variants import ConditionPart, PortPair, ServingState, VariantState
from codezero.orchestrator import orders, server
from codezero.orchestrator import variants as variants_module
from codezero.orchestrator.leases import Leases
from codezero.testing.scripted_system import Peers, ScriptedSystem, peers_of
from codezero.testing.teamspace import Coordination, RealTeamspace
from codezero.wire.coordination import (
    EndVariants,
    Leave,
    OrderDone,
    PutVariant,
    ServeAnswer,
    ServeEnding,
    ServeWanted,
    TraceReport,
    VariantEnded,
)
from codezero.wire.tracing import Direction, TraceRecord

ORDERS = ServiceRef("shop", "orders")
CART = ServiceRef("shop", "cart")
HEADER = (ConditionPart("header", "x-team", "blue"),)
DEFAULT = (ConditionPart("default"),)


@pytest.fixture
async def peers(tmp_path: Path) -> AsyncIterator[Peers]:
    async with peers_of(RealTeamspace(tmp_path)) as everybody:
        yield everybody


async def known(picture: Coordination, *refs: ServiceRef) -> Coordination:
    await picture.until(lambda it: it.known and {str(ref) for ref in refs} <= set(it.catalog))
    return picture


async def someone(peers: Peers, user_name: str, *refs: ServiceRef) -> Coordination:
    picture = await peers.laptop(peers.teamspace.authorities.device(), user_name=user_name)
    return await known(picture, *refs or (ORDERS,))


async def served(
    system: ScriptedSystem, picture: Coordination, ref: ServiceRef = ORDERS, **wish: object
) -> ServeAnswer:
    """What a laptop is answered by a System that does as it is told."""
    answering = asyncio.ensure_future(picture.serve(ref, **wish))
    await system.obey(await system.order())
    return await answering


async def ended(system: ScriptedSystem, picture: Coordination, *ids: str, reason: str = "") -> ServeAnswer:
    answering = asyncio.ensure_future(picture.end(ORDERS, *ids, reason=reason))
    await system.obey(await system.order())
    return await answering


async def activity(picture: Coordination, kind: ActivityKind) -> Activity:
    await picture.until(lambda it: any(each.kind is kind for each in it.activities))
    return next(each for each in picture.activities if each.kind is kind)


def kinds(picture: Coordination) -> list[ActivityKind]:
    return [each.kind for each in picture.activities if each.variant]


async def test_a_laptop_serves_and_its_team_sees_it(peers: Peers) -> None:
    """The spine: asked, ordered, answered, told, and in everybody's catalog."""
    system = await peers.system(ORDERS)
    anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
    asking = asyncio.ensure_future(
        anna.serve(ORDERS, condition=HEADER, ports=(PortPair(5432, 5000), PortPair(80, 3000, "db.local")))
    )
    order = await system.order()
    assert isinstance(order, PutVariant)
    await system.obey(order)
    answer = await asking

    assert (answer.code, answer.effects, answer.taken) == ("", ("the source address changes",), ())
    assert answer.variant == replace(order.variant, state=VariantState.ACTIVE)
    assert (order.variant.user_name, order.variant.condition) == ("anna", HEADER)
    assert order.variant.ports == (PortPair(80, 3000, "db.local"), PortPair(5432, 5000))
    assert (order.takeover, order.preview, order.restart) == (False, False, False)
    told = await activity(ben, ActivityKind.SERVED)
    assert (told.service, told.variant, told.user) == (ORDERS, order.variant.variant_id, order.variant.user)
    assert told.detail == "anna: header x-team:blue, ports 80, 5432"
    await ben.until(lambda it: it.catalog["shop/orders"].serving is not None)
    assert ben.catalog["shop/orders"].serving.variants == (answer.variant,)
    assert told.session == order.variant.session


async def test_what_is_wrong_with_a_wish_is_told_and_nothing_is_ordered(peers: Peers) -> None:
    """Each part, with its own code; the connection stands."""
    system = await peers.system(ORDERS)
    anna = await someone(peers, "anna")
    wrong: list[tuple[dict[str, object], Problem]] = [
        ({"condition": (ConditionPart("weather", "rain"),)}, problems.BAD_CONDITION),
        ({"condition": (ConditionPart("header", "authorization", "x"),)}, problems.HEADER_REFUSED),
        ({"condition": (ConditionPart("header", "x-a", "b" * 100_000),)}, problems.BAD_CONDITION),
        ({"condition": HEADER * 5000}, problems.BAD_CONDITION),
        ({"ports": ()}, problems.BAD_SERVE),
        ({"ports": (PortPair(80, 3000), PortPair(80, 3001))}, problems.BAD_SERVE),
        ({"ports": (PortPair(81, 3000),)}, problems.BAD_SERVE),
        ({"ports": (PortPair(80, 0),)}, problems.BAD_SERVE),
        ({"ports": (PortPair(80, 1, "a b"),)}, problems.BAD_SERVE),
        ({"ports": (PortPair(80, 1, "\x1b[31m"),)}, problems.BAD_SERVE),
        ({"ports": (PortPair(80, 1, "a" * 100_000),)}, problems.BAD_SERVE),
        ({"ports": (PortPair(80, 1),) * 50_000}, problems.BAD_SERVE),
        ({"expires": 5.0}, problems.BAD_SERVE),
        ({"expires": float("nan")}, problems.BAD_SERVE),
        ({"expires": float("inf")}, problems.BAD_SERVE),
        ({"expires": 1e300}, problems.BAD_SERVE),
    ]
    for wish, problem in wrong:
        answer = await anna.serve(ORDERS, **wish)
        assert answer.code == problem.code, wish
        assert len(answer.detail) <= 1000
    assert (await anna.serve(CART)).code == problems.SERVICE_UNKNOWN.code

    assert (await served(system, anna)).code == ""


async def test_a_service_no_name_can_name_ends_the_connection(peers: Peers) -> None:
    """As in an assertion: that is no laptop of ours."""
    await peers.system(ORDERS)
    for message in (
        ServeWanted(1, ServiceRef("shop", "orders\x1b[31m"), (), (PortPair(80, 80),)),
        ServeEnding(1, ServiceRef("", ""), (new_ulid(),)),
    ):
        anna = await someone(peers, "anna")
        await anna.stream.send(message)
        with pytest.raises(EOFError):
            await asyncio.wait_for(anna.hear(), 10)


async def test_hostile_names_reach_nobodys_terminal(peers: Peers) -> None:
    """A laptop chooses what its user is called, and the reason it gives."""
    system = await peers.system(ORDERS)
    device = peers.teamspace.authorities.device()
    anna = await known(await peers.laptop(device, user_name="\x1b[2J\u202e" + "a" * 200), ORDERS)
    watching = await someone(peers, "ben")
    answer = await served(system, anna, condition=(ConditionPart("query", "q", "\u202eevil\u2028"),))
    assert answer.variant is not None
    assert answer.variant.user_name == "[2J" + "a" * 60
    await ended(system, anna, answer.variant.variant_id, reason="\x07done\r\n" + "x" * 900)
    told = await activity(watching, ActivityKind.UNSERVED)

    assert told.detail.isprintable()
    assert "done" in told.detail
    assert len(told.detail) <= 500
    assert answer.variant.user_name in {each.user_name for each in watching.presences.values()}
    unnamed = await known(await peers.laptop(device, name="\u202e", user_name="\x00"), ORDERS)
    again = await served(system, unnamed)
    assert again.variant is not None
    assert again.variant.user_name == "laptop"


def allowed(organization: str, *rules: PolicyRule) -> Policy:
    return Policy(organization, (PolicyRule(Effect.ALLOW, (Operation.CONSUME,), name="look"), *rules))


async def test_who_may_not_serve_is_told_why(tmp_path: Path) -> None:
    """And what may not be seen is not there."""
    teamspace = RealTeamspace(tmp_path)
    organization = teamspace.authorities.organization
    looks_only, blind = teamspace.authorities.device(), teamspace.authorities.device()
    teamspace.write_policy(
        Policy(
            organization,
            (
                PolicyRule(Effect.ALLOW, (Operation.CONSUME,), users=(looks_only.user,), name="look"),
                PolicyRule(Effect.ALLOW, (Operation.SERVE,), users=(blind.user,), name="serve"),
                PolicyRule(Effect.ALLOW, (Operation.CONSUME,), services=("cart",)),
            ),
        )
    )
    async with peers_of(teamspace) as peers:
        await peers.system(ORDERS, CART)
        anna = await known(await peers.laptop(looks_only), ORDERS)
        ben = await known(await peers.laptop(blind), CART)
        stranger = await peers.laptop(teamspace.authorities.device(organization=new_ulid()))
        answer = await anna.serve(ORDERS)
        assert answer.code == problems.FORBIDDEN.code
        assert "no rule allows serve-user of shop/orders" in answer.detail
        assert (await ben.serve(ORDERS)).code == problems.SERVICE_UNKNOWN.code
        foreign = await stranger.serve(ORDERS)
        assert (foreign.code, "another organization" in foreign.detail) == (problems.FORBIDDEN.code, True)

        teamspace.write_policy(b"{ broken")
        await anna.until(lambda it: it.catalog == {})
        closed = await anna.serve(ORDERS)
        assert (closed.code, "no valid policy" in closed.detail) == (problems.NO_POLICY.code, True)


async def test_of_two_laptops_that_want_the_same_one_gets_it(peers: Peers) -> None:
    """At the same instant: the System decides, and the loser hears the winner's name."""
    system = await peers.system(ORDERS)
    anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
    asking = [asyncio.ensure_future(each.serve(ORDERS, condition=HEADER)) for each in (anna, ben)]
    both = [await system.order(), await system.order()]
    for order in both:
        await system.obey(order)
    answers = await asyncio.gather(*asking)

    (won,) = [each for each in answers if each.code == ""]
    (lost,) = [each for each in answers if each.code == problems.CONDITION_TAKEN.code]
    assert won.variant is not None
    assert lost.detail.startswith(f"{won.variant.user_name} already serves")
    await activity(anna, ActivityKind.SERVED)
    assert kinds(anna) == [ActivityKind.SERVED]


async def test_a_take_over_is_told_to_who_loses(peers: Peers) -> None:
    """With who took it, and whose it was."""
    system = await peers.system(ORDERS)
    anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
    first = await served(system, anna, condition=HEADER)
    await ben.until(lambda it: it.catalog["shop/orders"].serving is not None)
    assert (await served(system, ben, condition=HEADER)).code == problems.CONDITION_TAKEN.code
    second = await served(system, ben, condition=HEADER, takeover=True)

    assert first.variant is not None
    assert second.variant is not None
    assert [view.variant_id for view in second.taken] == [first.variant.variant_id]
    told = await activity(anna, ActivityKind.TAKEN_OVER)
    assert (told.session, told.user, told.variant) == (
        second.variant.session,
        first.variant.user,
        first.variant.variant_id,
    )
    assert told.detail == "ben took over from anna: header x-team:blue, port 80"


async def test_taking_over_needs_a_permission_of_its_own(tmp_path: Path) -> None:
    """Only where somebody is in the way; and what the catalog does not show yet, the System refuses."""
    teamspace = RealTeamspace(tmp_path)
    organization = teamspace.authorities.organization
    teamspace.write_policy(allowed(organization, PolicyRule(Effect.ALLOW, (Operation.SERVE,), name="serve")))
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
        asking = asyncio.ensure_future(ben.serve(ORDERS, condition=DEFAULT, takeover=True))
        order = await system.order()
        assert isinstance(order, PutVariant)
        assert not order.takeover
        await system.obey(order)
        assert (await asking).code == ""
        await anna.until(lambda it: it.catalog["shop/orders"].serving is not None)
        refused = await anna.serve(ORDERS, condition=DEFAULT, takeover=True)

        assert refused.code == problems.FORBIDDEN.code
        assert "ben already serves shop/orders for default" in refused.detail
        assert "no rule allows takeover" in refused.detail


async def test_a_preview_changes_nothing(peers: Peers) -> None:
    """It passes through, and nobody hears of it."""
    system = await peers.system(ORDERS)
    anna = await someone(peers, "anna")
    answer = await served(system, anna, preview=True, restart=True)
    assert answer.effects
    assert answer.variant is not None
    assert (await anna.end(ORDERS, answer.variant.variant_id)).code == problems.SERVE_UNKNOWN.code
    await served(system, anna)
    await activity(anna, ActivityKind.SERVED)

    assert kinds(anna) == [ActivityKind.SERVED]


async def test_variants_end_for_their_user_and_for_who_may(tmp_path: Path) -> None:
    """From any laptop of the user; others need the permission, and say why."""
    teamspace = RealTeamspace(tmp_path)
    authorities = teamspace.authorities
    owner, judge = authorities.device(), authorities.device()
    other_laptop = replace(owner, device=new_ulid())
    teamspace.write_policy(
        allowed(
            authorities.organization,
            PolicyRule(Effect.ALLOW, (Operation.SERVE,)),
            PolicyRule(Effect.ALLOW, (Operation.TERMINATE,), users=(judge.user,)),
        )
    )
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        anna = await known(await peers.laptop(owner, user_name="anna"), ORDERS)
        also_anna = await known(await peers.laptop(other_laptop), ORDERS)
        ben = await someone(peers, "ben")
        chris = await known(await peers.laptop(judge, user_name="chris"), ORDERS)
        ids: list[str] = []
        for key in ("x-a", "x-b", "x-c"):
            answer = await served(system, anna, condition=(ConditionPart("header", key, "1"),))
            assert answer.variant is not None
            ids.append(answer.variant.variant_id)

        refused = await ben.end(ORDERS, ids[0])
        assert (refused.code, "no rule allows terminate" in refused.detail) == (problems.FORBIDDEN.code, True)
        assert (await ben.end(ORDERS, new_ulid())).code == problems.SERVE_UNKNOWN.code
        assert (await ben.end(ORDERS)).code == problems.BAD_SERVE.code
        assert (await ben.end(ORDERS, *(new_ulid() for _ in range(101)))).code == problems.BAD_SERVE.code
        assert (await anna.end(CART, ids[0])).code == problems.SERVE_UNKNOWN.code
        assert [view.variant_id for view in (await ended(system, anna, ids[0], new_ulid())).ended] == [ids[0]]
        assert [view.variant_id for view in (await ended(system, also_anna, ids[1])).ended] == [ids[1]]
        assert [view.variant_id for view in (await ended(system, chris, ids[2], reason="demo at noon")).ended] == [
            ids[2]
        ]
        told = await activity(anna, ActivityKind.TERMINATED)
        assert (told.variant, told.user, told.device) == (ids[2], owner.user, judge)
        assert told.detail == "anna: header x-c:1, port 80: demo at noon"
        assert kinds(anna) == [*[ActivityKind.SERVED] * 3, *[ActivityKind.UNSERVED] * 2, ActivityKind.TERMINATED]


async def test_without_a_system_the_laptop_may_try_again(peers: Peers) -> None:
    """At once, and not after the deadline."""
    nobody = await peers.laptop(peers.teamspace.authorities.device())
    assert (await nobody.serve(ORDERS)).code == problems.TUNNEL_DOWN.code
    system = await peers.system(ORDERS)
    anna = await someone(peers, "anna")
    answer = await served(system, anna)
    system.drop()
    await anna.until(lambda it: it.stale_since is not None)

    assert answer.variant is not None
    assert (await anna.serve(ORDERS)).code == problems.TUNNEL_DOWN.code
    assert (await anna.end(ORDERS, answer.variant.variant_id)).code == problems.TUNNEL_DOWN.code


async def test_a_system_lost_before_its_answer_is_told_at_once(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the deadline; what it did shows in the catalog of the next."""
    monkeypatch.setattr(variants_module, "ORDER_SECONDS", 600.0)
    system, standby = [await peers.system(ORDERS) for _ in range(2)]
    anna = await someone(peers, "anna")
    asking = asyncio.ensure_future(anna.serve(ORDERS))
    first = await system.order()
    system.drop()
    answer = await asking
    assert answer.code == problems.SERVE_FAILED.code
    assert "may still be done" in answer.detail

    # The next one knows nothing of that order.
    await standby.stream.send(OrderDone(first.order))
    assert (await served(standby, anna)).code == ""
    await activity(anna, ActivityKind.SERVED)
    assert kinds(anna) == [ActivityKind.SERVED]


async def test_a_silent_system_has_a_deadline_and_its_late_word_is_told(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has been done has been done, also when the laptop was told otherwise."""
    monkeypatch.setattr(variants_module, "ORDER_SECONDS", 0.1)
    system = await peers.system(ORDERS)
    anna = await someone(peers, "anna")
    asking = asyncio.ensure_future(anna.serve(ORDERS))
    order = await system.order()
    answer = await asking
    assert answer.code == problems.SERVE_FAILED.code
    await system.obey(order)

    told = await activity(anna, ActivityKind.SERVED)
    assert isinstance(order, PutVariant)
    assert told.variant == order.variant.variant_id


async def test_answers_to_no_order_change_nothing(peers: Peers) -> None:
    """Twice, of another System, of numbers nobody gave, and with endless lists."""
    system, other = [await peers.system(ORDERS) for _ in range(2)]
    anna = await someone(peers, "anna")
    asking = asyncio.ensure_future(anna.serve(ORDERS))
    order = await system.order()
    await other.stream.send(OrderDone(order.order, "CZ-X", "not mine"))
    for number in (0, -1, order.order + 1, 2**60):
        await system.stream.send(OrderDone(number, "CZ-X", "nobody asked"))
    result = system.result(order)
    assert result.variant is not None
    many = tuple(replace(result.variant, variant_id=new_ulid()) for _ in range(5000))
    flood = OrderDone(order.order, effects=("x" * 900,) * 1000, variant=result.variant, taken=many)
    await system.stream.send(flood)
    await system.stream.send(OrderDone(order.order, "CZ-X", "again"))
    answer = await asking

    assert (answer.code, len(answer.effects), len(answer.taken)) == ("", 50, 100)
    assert (await served(system, anna)).code == ""
    assert list(anna.answers) == [1, 2]


async def test_a_flood_of_wishes_has_a_bound_and_leaves_the_others_alone(peers: Peers) -> None:
    """Those above it are refused at once, so that a System that answers nobody costs no memory."""
    system = await peers.system(ORDERS)
    greedy, modest = await someone(peers, "greedy"), await someone(peers, "modest")
    for number in range(100, 100 + orders.MAX_ORDERS_OF_A_LAPTOP + 40):
        part = ConditionPart("header", "x-n", str(number))
        await greedy.stream.send(ServeWanted(number, ORDERS, (part,), (PortPair(80, 3000),), preview=True))
    await greedy.until(lambda it: len(it.answers) == 40)
    assert {answer.code for answer in greedy.answers.values()} == {problems.SERVE_FAILED.code}
    asking = asyncio.ensure_future(modest.serve(ORDERS))
    waiting = [await system.order() for _ in range(orders.MAX_ORDERS_OF_A_LAPTOP + 1)]
    for order in waiting:
        await system.obey(order)

    assert (await asking).code == ""
    await greedy.until(lambda it: len(it.answers) == orders.MAX_ORDERS_OF_A_LAPTOP + 40)


async def test_a_session_that_ends_takes_its_variants_along(peers: Peers) -> None:
    """Also those not in the catalog yet, and one that is done only after the laptop has left."""
    system = await peers.system(ORDERS)
    anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
    asking = asyncio.ensure_future(anna.serve(ORDERS, condition=HEADER))
    done = system.result(await system.order())
    await system.stream.send(done)  # and the catalog does not say so yet
    await asking
    await anna.stream.send(ServeWanted(9, ORDERS, DEFAULT, (PortPair(80, 3000),)))
    late = await system.order()
    await anna.stream.send(Leave())
    await activity(ben, ActivityKind.LEFT)
    await system.obey(late)
    gone: set[str] = set()
    while len(gone) < 2:
        order = await system.order()
        assert isinstance(order, EndVariants)
        assert order.reason == "its laptop has left"
        gone |= set(order.variants)
        await system.obey(order)

    assert done.variant is not None
    assert isinstance(late, PutVariant)
    assert gone == {done.variant.variant_id, late.variant.variant_id}
    await ben.until(lambda it: kinds(it).count(ActivityKind.UNSERVED) == 2)
    assert system.serves[ORDERS] == ()


async def test_a_laptop_lost_for_good_ends_its_variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one that returns in time keeps them."""
    monkeypatch.setattr(server, "Leases", lambda **_: Leases(grace=0.05, ttl=0.5))
    monkeypatch.setattr(server, "LEASE_LOOK_SECONDS", 0.02)
    teamspace = RealTeamspace(tmp_path)
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        device, session = teamspace.authorities.device(), SessionId(new_ulid())
        anna = await known(await peers.laptop(device, session=session), ORDERS)
        answer = await served(system, anna)
        ben = await someone(peers, "ben")
        anna.stream.abort()
        await activity(ben, ActivityKind.AWAY)
        back = await peers.laptop(device, session=session)
        await activity(ben, ActivityKind.RETURNED)
        back.stream.abort()
        order = await system.order()

        assert answer.variant is not None
        assert isinstance(order, EndVariants)
        assert (order.variants, order.reason) == ((answer.variant.variant_id,), "its laptop has not come back")
        assert any(each.kind is ActivityKind.RETURNED for each in ben.activities)


async def test_an_end_that_got_lost_is_ordered_again(peers: Peers) -> None:
    """Of the System that comes next; a lost order leaves no variant behind."""
    system = await peers.system(ORDERS)
    anna = await someone(peers, "anna")
    await served(system, anna)
    await anna.until(lambda it: it.catalog["shop/orders"].serving is not None)
    await anna.stream.send(Leave())
    first = await system.order()
    system.drop()
    following = await peers.system(ORDERS)
    following.serves = system.serves
    await following.report(ORDERS)
    second = await following.order()

    assert isinstance(first, EndVariants)
    assert isinstance(second, EndVariants)
    assert first.variants == second.variants


async def test_after_a_restart_variants_come_with_the_catalog(tmp_path: Path) -> None:
    """The Orchestrator keeps nothing: what is served stands in the cluster, and the owner may end it as before."""
    teamspace = RealTeamspace(tmp_path)
    device, session = teamspace.authorities.device(), SessionId(new_ulid())
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        anna = await known(await peers.laptop(device, session=session), ORDERS)
        answer = await served(system, anna)
        await anna.stream.send(ServeWanted(9, ORDERS, HEADER, (PortPair(80, 3000),)))
        await system.order()
    async with peers_of(teamspace) as peers:
        again = await peers.system(ORDERS)
        again.serves = system.serves
        await again.report(ORDERS, state=ServingState.CONTESTED)
        back = await known(await peers.laptop(device, session=session), ORDERS)
        await back.until(lambda it: it.catalog["shop/orders"].serving is not None)
        assert answer.variant is not None
        ending = await ended(again, back, answer.variant.variant_id)

        assert [view.variant_id for view in ending.ended] == [answer.variant.variant_id]


async def test_a_policy_that_forbids_ends_what_is_served(peers: Peers) -> None:
    """T41: within seconds, with the reason, and the owner hears of it though the service is hidden from it now."""
    authorities = peers.teamspace.authorities
    system = await peers.system(ORDERS, CART)
    anna = await someone(peers, "anna", ORDERS, CART)
    first = await served(system, anna)
    await served(system, anna, CART)
    await anna.until(lambda it: all(each.serving is not None for each in it.catalog.values()))
    everything = allow_all(authorities.organization)
    denied = PolicyRule(Effect.DENY, tuple(Operation), services=("orders",), name="freeze")
    peers.teamspace.write_policy(Policy(authorities.organization, (*everything.rules, denied)))
    order = await system.order()
    assert isinstance(order, EndVariants)
    await system.obey(order)

    assert first.variant is not None
    assert (order.service, order.variants) == (ORDERS, (first.variant.variant_id,))
    assert order.reason == "rule freeze denies consume of shop/orders"
    told = await activity(anna, ActivityKind.TERMINATED)
    assert (told.service, told.variant, told.user) == (ORDERS, first.variant.variant_id, first.variant.user)
    assert "rule freeze denies" in told.detail
    assert (await served(system, anna, CART)).code == ""


async def test_what_ends_by_itself_is_told_once(peers: Peers) -> None:
    """Each System may say it: expired, or ended for another reason."""
    systems = [await peers.system(ORDERS) for _ in range(2)]
    anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
    answers = [await served(systems[0], each, condition=HEADER[:0]) for each in (anna, ben)]
    expired, away = [answer.variant for answer in answers]
    assert expired is not None
    assert away is not None
    for system in systems:
        await system.stream.send(VariantEnded(ORDERS, replace(expired, expires=5.0), "its time is over"))
        await system.stream.send(VariantEnded(ORDERS, away, "its laptop was away for 30 minutes\x1b[2J"))
    told = await activity(ben, ActivityKind.EXPIRED)
    gone = await activity(ben, ActivityKind.UNSERVED)
    await served(systems[0], anna, condition=HEADER)
    await ben.until(lambda it: kinds(it).count(ActivityKind.SERVED) == 3)

    assert (told.detail, told.user) == ("anna: user, port 80: its time is over", expired.user)
    assert gone.detail == "ben: user, port 80: its laptop was away for 30 minutes[2J"
    assert len(kinds(ben)) == 5


async def test_a_contested_service_is_told_once_to_each_owner(peers: Peers) -> None:
    """However often the System reports it."""
    system = await peers.system(ORDERS)
    anna = await someone(peers, "anna")
    answer = await served(system, anna)
    assert answer.variant is not None
    for _ in range(3):
        await system.report(ORDERS, state=ServingState.CONTESTED, detail="argocd writes the selector")
    told = await activity(anna, ActivityKind.CONTESTED)
    await system.report(ORDERS)
    await system.report(ORDERS, state=ServingState.CONTESTED, detail="again")
    await anna.until(lambda it: kinds(it).count(ActivityKind.CONTESTED) == 2)

    assert (told.detail, told.variant, told.user) == (
        "argocd writes the selector",
        answer.variant.variant_id,
        answer.variant.user,
    )


def record(service: ServiceRef, variant: str, path: str = "/", user: str = "") -> TraceRecord:
    return TraceRecord(1.0, Direction.SERVE, service, 80, "http", user=user, variant=variant, path=path)


def paths(picture: Coordination) -> list[str]:
    return [each.path for part in picture.traced for each in part.records]


async def test_requests_are_told_to_the_variants_user_alone(peers: Peers) -> None:
    """T38: whatever the report says about whose they are; all laptops of the user that want them."""
    first, second = [await peers.system(ORDERS, CART) for _ in range(2)]
    device = peers.teamspace.authorities.device()
    anna = await known(await peers.laptop(device), ORDERS)
    also_anna = await known(await peers.laptop(replace(device, device=new_ulid())), ORDERS)
    unwilling = await known(await peers.laptop(replace(device, device=new_ulid())), ORDERS)
    ben = await someone(peers, "ben")
    mine, his = [(await served(first, each, condition=HEADER[:0])).variant for each in (anna, ben)]
    assert mine is not None
    assert his is not None
    for each in (anna, also_anna, ben):
        await each.trace()
    await first.until_traced(True)
    await second.until_traced(True)
    late = await peers.system(ORDERS)
    await late.until_traced(True)
    # The last two wishes may be on their way still; both are heard once these get an answer.
    for each in (also_anna, ben):
        await each.end(CART, new_ulid())
    await second.stream.send(
        TraceReport(
            (
                record(ORDERS, mine.variant_id, "/mine"),
                record(ORDERS, his.variant_id, "/his", user=mine.user),
                record(CART, mine.variant_id, "/forged"),
                record(ORDERS, new_ulid(), "/nobody", user=mine.user),
                record(ORDERS, "", "/origin"),
            ),
            dropped=3,
        )
    )
    for each in (anna, also_anna, ben):
        await each.until(lambda it: it.traced)

    assert (paths(anna), paths(also_anna), paths(ben)) == (["/mine"], ["/mine"], ["/his"])
    assert anna.traced[0].dropped == 3
    for each in (anna, also_anna):
        await each.trace(on=False)
    ben.stream.abort()
    for each in (first, second, late):
        await each.until_traced(False)
    assert (await served(first, unwilling)).code == ""
    assert unwilling.traced == []


async def test_a_laptop_that_does_not_read_its_traces_misses_some(peers: Peers) -> None:
    """They are counted; nobody waits for it, and the memory has a bound."""
    system = await peers.system(ORDERS)
    anna, ben = await someone(peers, "anna"), await someone(peers, "ben")
    answer = await served(system, anna)
    assert answer.variant is not None
    await anna.trace()
    await system.until_traced(True)
    sent = 0
    for _ in range(60):
        part = tuple(record(ORDERS, answer.variant.variant_id, "/" + "x" * 290) for _ in range(1000))
        await system.stream.send(TraceReport(part))
        sent += len(part)
    assert (await served(system, ben)).code == ""
    await anna.until(lambda it: sum(len(each.records) + each.dropped for each in it.traced) == sent)

    assert sum(each.dropped for each in anna.traced) > 0
    assert max(len(each.records) for each in anna.traced) <= 200
