"""Serving under a Hub's policy: each permission by itself (T19), and each way to take it away while it is served (T41)."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codezero.model import problems
from codezero.model.access import Bundle
from codezero.model.ids import Device
from codezero.model.services import ServiceRef
from codezero.model.sessions import ActivityKind
from codezero.model.variants import ConditionPart, Mirror
from codezero.orchestrator import server
from codezero.testing.bundles import bundle, policy, scope
from codezero.testing.decision_point import NO, decision_point
from codezero.testing.scripted_system import Peers, ScriptedSystem, peers_of
from codezero.testing.teamspace import Coordination, RealTeamspace
from codezero.transport import opinion
from codezero.wire.coordination import EndVariants, ServeAnswer

ORDERS, CART = ServiceRef("shop", "orders"), ServiceRef("shop", "cart")
LOOK = {"look": policy(action=scope("Action", "consume"))}
HEADER = (ConditionPart("header", "x-team", "blue"),)
WISHES: dict[str, dict[str, Any]] = {
    "serve-user": {"condition": (ConditionPart("user"),)},
    "serve-header": {"condition": HEADER},
    "serve-default": {"condition": (ConditionPart("default"),)},
    "mirror": {"condition": HEADER, "mirror": Mirror.SAFE},
}


async def known(peers: Peers, device: Device, name: str) -> Coordination:
    picture = await peers.laptop(device, user_name=name)
    await picture.until(lambda it: "shop/orders" in it.catalog)
    return picture


async def served(system: ScriptedSystem, picture: Coordination, **wish: Any) -> ServeAnswer:
    answering = asyncio.ensure_future(picture.serve(ORDERS, **wish))
    await system.obey(await system.order())
    return await answering


@pytest.mark.parametrize("allowed", WISHES)
async def test_each_kind_of_serve_is_a_permission_of_its_own(tmp_path: Path, allowed: str) -> None:
    """Who may divert by header may neither take everybody's requests nor get copies of them; each refusal names what is missing."""
    teamspace = RealTeamspace(tmp_path)
    anna = teamspace.authorities.device()
    teamspace.write_policy(bundle([anna], {**LOOK, "one": policy(action=scope("Action", allowed))}))
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        laptop = await known(peers, anna, "anna")
        for operation, wish in WISHES.items():
            if operation == allowed:
                assert (await served(system, laptop, **wish)).code == ""
                continue
            refused = await laptop.serve(ORDERS, **wish)
            assert refused.code == problems.FORBIDDEN.code
            assert f"no policy allows {operation} of shop/orders" in refused.detail


async def test_taking_over_and_ending_are_permissions_of_their_own(tmp_path: Path) -> None:
    """For each kind of condition; one's own serves need neither."""
    teamspace = RealTeamspace(tmp_path)
    anna, ben, judge = (teamspace.authorities.device() for _ in range(3))
    policies = {
        **LOOK,
        "serve": policy(action=scope("Action", "serve", within=True)),
        "judge": policy(principal=scope("User", judge.user), action=scope("Action", "takeover", "terminate")),
    }
    teamspace.write_policy(bundle([anna, ben, judge], policies))
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        owner, other, third = [
            await known(peers, who, name) for who, name in ((anna, "anna"), (ben, "ben"), (judge, "judge"))
        ]
        first = await served(system, owner, condition=HEADER)
        assert first.variant is not None
        await other.until(lambda it: it.catalog["shop/orders"].serving is not None)
        await third.until(lambda it: it.catalog["shop/orders"].serving is not None)
        taking = await other.serve(ORDERS, condition=HEADER, takeover=True)
        assert (taking.code, "no policy allows takeover" in taking.detail) == (problems.FORBIDDEN.code, True)
        ending = await other.end(ORDERS, first.variant.variant_id)
        assert (ending.code, "no policy allows terminate" in ending.detail) == (problems.FORBIDDEN.code, True)
        taken = await served(system, third, condition=HEADER, takeover=True)
        assert [view.variant_id for view in taken.taken] == [first.variant.variant_id]

        again = await served(system, other, condition=(ConditionPart("default"),))
        assert again.variant is not None
        answering = asyncio.ensure_future(third.end(ORDERS, again.variant.variant_id))
        await system.obey(await system.order())
        assert [view.variant_id for view in (await answering).ended] == [again.variant.variant_id]


def of(*devices: Device, policies: Any = None, **changes: Any) -> Bundle:
    return bundle(devices, {"everything": policy()} if policies is None else policies, serial=2, **changes)


TAKEN: dict[str, tuple[Callable[[Device, Device], Bundle], str]] = {
    "device": (lambda it, other: of(it, other, revoked=[it.device]), "has been revoked"),
    "user": (lambda _, other: of(other), "is no member"),
    "role": (
        lambda it, other: of(it, other, policies={**LOOK, "a": policy(principal=scope("Role", "admin", within=True))}),
        "no policy allows serve-header of shop/orders",
    ),
    "policy": (
        lambda it, other: of(
            it,
            other,
            policies={
                "all": policy(),
                "freeze": policy("forbid", action=scope("Action", "serve", within=True), reason="until Monday"),
            },
        ),
        "policy 'freeze' forbids serve-header of shop/orders: until Monday",
    ),
    "Teamspace suspended": (lambda it, other: of(it, other, suspended=True), "is suspended"),
    "Hub away for too long": (lambda it, other: of(it, other, expires_at=time.time() + 1), "expired at"),
}


@pytest.mark.parametrize("how", TAKEN)
async def test_a_serve_ends_with_the_access_it_needs(tmp_path: Path, how: str) -> None:
    """Its team is told why; whoever keeps access, keeps its serves."""
    teamspace = RealTeamspace(tmp_path)
    anna, ben = teamspace.authorities.device(), teamspace.authorities.device()
    teamspace.write_policy(bundle([anna, ben]))
    change, reason = TAKEN[how]
    async with peers_of(teamspace) as peers:
        system = await peers.system(ORDERS)
        first = await served(system, await known(peers, anna, "anna"), condition=HEADER)
        assert first.variant is not None
        teamspace.write_policy(change(anna, ben))
        order = await system.order()
        await system.obey(order)

        assert isinstance(order, EndVariants)
        assert order.variants == (first.variant.variant_id,)
        assert reason in order.reason


async def test_what_is_seen_follows_the_policy(tmp_path: Path) -> None:
    """A service appears and goes with the right to consume it (T38), and laptops alike share one view."""
    teamspace = RealTeamspace(tmp_path)
    anna, ben = teamspace.authorities.device(), teamspace.authorities.device()
    teamspace.write_policy(bundle([anna, ben], LOOK))
    async with peers_of(teamspace) as peers:
        await peers.system(ORDERS, CART)
        pictures = [await known(peers, device, "somebody") for device in (anna, ben)]
        for picture in pictures:
            await picture.until(lambda it: set(it.catalog) == {"shop/orders", "shop/cart"})
        cart = policy("forbid", principal=scope("User", anna.user), resource=scope("Service", "shop/cart"))
        teamspace.write_policy(bundle([anna, ben], {**LOOK, "not anna": cart}, serial=2))
        await pictures[0].until(lambda it: set(it.catalog) == {"shop/orders"})
        teamspace.write_policy(bundle([ben], LOOK, serial=3))
        await pictures[0].until(lambda it: not it.catalog)

        assert set(pictures[1].catalog) == {"shop/orders", "shop/cart"}


async def test_an_opinion_that_turns_ends_what_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of whoever gives it does not: its team would lose what works."""
    monkeypatch.setattr(server, "OPINION_SECONDS", 0.05)
    monkeypatch.setattr(opinion, "REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr(opinion, "FAILURE_REMEMBERED_SECONDS", 0.0)
    async with decision_point() as point:
        teamspace = RealTeamspace(tmp_path, extra={"CODEZERO_OPA_URL": point.url})
        async with peers_of(teamspace) as peers:
            system = await peers.system(ORDERS)
            laptop = await known(peers, teamspace.authorities.device(), "anna")
            first = await served(system, laptop, condition=HEADER)
            assert first.variant is not None
            await laptop.until(lambda it: it.catalog["shop/orders"].serving is not None)
            point.answer = b""
            asked = len(point.asked)
            async with asyncio.timeout(20):
                while len(point.asked) < asked + 3:
                    await asyncio.sleep(0.01)
            point.answer = NO
            order = await system.order()
            await system.obey(order)

            assert isinstance(order, EndVariants)
            assert (order.variants, "OPA" in order.reason) == ((first.variant.variant_id,), True)
            await laptop.until(lambda it: any(one.kind is ActivityKind.TERMINATED for one in it.activities))
