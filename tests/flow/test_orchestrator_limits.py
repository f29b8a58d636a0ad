"""One laptop that asks for everything all the time is its own trouble, and not everybody's."""

import asyncio
from pathlib import Path

from codezero.model.services import ServiceRef
from codezero.orchestrator.server import MAX_CONSUMED
from codezero.testing.teamspace import RealTeamspace
from codezero.wire.coordination import ConsumeAssertion

ASKED = 20


async def test_a_laptop_that_floods_the_orchestrator_waits_and_others_do_not(tmp_path: Path) -> None:
    """Two thousand laptops share one Orchestrator."""
    many = tuple(ServiceRef("shop", f"service-{number}") for number in range(MAX_CONSUMED))
    async with RealTeamspace(tmp_path).running() as teamspace:
        tunnels = [await teamspace.connect(teamspace.authorities.device()) for _ in range(2)]
        modest, greedy = [await teamspace.coordinate(tunnel) for tunnel in tunnels]

        async def flood() -> None:
            for number in range(1, ASKED + 1):
                await greedy.stream.send(ConsumeAssertion(number, many[number % 2 :]))

        flooding = [asyncio.ensure_future(task) for task in (flood(), greedy.hear())]
        await modest.until(lambda picture: any(other.consumes for other in picture.presences.values()))
        for number in range(1, ASKED + 1):
            await modest.stream.send(ConsumeAssertion(number, ()))
            await modest.until(
                lambda picture, number=number: picture.decisions and picture.decisions[-1].number == number
            )

        assert max(answer.number for answer in greedy.decisions) < ASKED / 2
        for task in flooding:
            task.cancel()
        await asyncio.gather(*flooding, return_exceptions=True)
        for coordination, tunnel in zip((modest, greedy), tunnels, strict=True):
            coordination.stream.close()
            tunnel.abandon()
