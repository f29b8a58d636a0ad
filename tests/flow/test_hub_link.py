"""The Orchestrator's channel to its Hub, from beginning to end: what a Hub hears when an end was planned, and what a later active time keeps of an earlier one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from codezero.orchestrator import hub_link
from codezero.orchestrator.events import REQUESTS
from codezero.testing.kubernetes import until
from codezero.testing.scripted_system import Peers, ScriptedSystem
from codezero.testing.teamspace import RealTeamspace
from codezero.wire.coordination import EntryReport, FromHub, HubLinkTold, KeysTold, RequestsCounted, RotationWanted
from codezero.wire.hub_channel import (
    Acknowledged,
    EntryMoved,
    Event,
    Events,
    FromTeamspace,
    KeysPush,
    Rotate,
    ToTeamspace,
    Welcome,
)

_DECODER: msgspec.msgpack.Decoder[FromTeamspace] = msgspec.msgpack.Decoder(FromTeamspace)
VARIANT = "01ARZ3NDEKTSV4RRFFQ69G5FAV"


class PlayedHub:
    """Greets, says `pushes`, and acknowledges events; `told` is what it has heard. It ends a channel at once while `greets` is off."""

    def __init__(self) -> None:
        self.url = ""
        self.told: list[FromTeamspace] = []
        self.pushes: tuple[ToTeamspace, ...] = ()
        self.greets = True
        self.channels = 0
        self.at_end: Callable[[], object] = lambda: None

    async def talk(self, socket: ServerConnection) -> None:
        try:
            await socket.recv()
            self.channels += 1
            if not self.greets:
                return
            for message in (Welcome(1, "test"), *self.pushes):
                await socket.send(msgspec.msgpack.encode(message))
            async for content in socket:
                assert isinstance(content, bytes)
                message = _DECODER.decode(content)
                self.told.append(message)
                if isinstance(message, Events):
                    await socket.send(msgspec.msgpack.encode(Acknowledged(message.events[-1].number)))
        except ConnectionClosed:
            return
        finally:
            self.at_end()

    @property
    def requests(self) -> list[Event]:
        return [
            event
            for one in self.told
            if isinstance(one, Events)
            for event in one.events
            if event.action == REQUESTS and event.variant == VARIANT
        ]


@pytest.fixture
async def hub() -> AsyncIterator[PlayedHub]:
    hub = PlayedHub()
    async with serve(hub.talk, "127.0.0.1", 0) as server:
        hub.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield hub


@pytest.fixture
def teamspace(tmp_path: Path, hub: PlayedHub) -> RealTeamspace:
    return RealTeamspace(tmp_path, extra={"CODEZERO_HUB_URL": hub.url})


async def count_requests(system: ScriptedSystem, hub: PlayedHub) -> None:
    """The Orchestrator has heard of five requests, and has not told them."""
    await until(lambda: hub.told)
    await system.stream.send(RequestsCounted(((VARIANT, 5),)))
    await system.stream.send(EntryReport("203.0.113.9", 443))
    await until(lambda: any(isinstance(one, EntryMoved) for one in hub.told))
    assert not hub.requests


async def words(system: ScriptedSystem, last: Callable[[FromHub], bool]) -> list[FromHub]:
    """What the System hears of the Hub, up to that."""
    heard: list[FromHub] = []
    async with asyncio.timeout(30):
        while not heard or not last(heard[-1]):
            message: Any = await system.stream.receive()
            if isinstance(message, KeysTold | RotationWanted | HubLinkTold):
                heard.append(message)
    return heard


async def test_an_orchestrator_that_is_stopped_tells_what_was_counted(teamspace: RealTeamspace, hub: PlayedHub) -> None:
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        await count_requests(await peers.system(), hub)

    peers.close()
    assert [event.count for event in hub.requests] == [5]


async def test_an_orchestrator_that_another_replaces_tells_what_was_counted(
    teamspace: RealTeamspace, hub: PlayedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_link, "INACTIVE_SECONDS", 0.1)
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        await count_requests(await peers.system(), hub)
        peers.close()
        await until(lambda: [event.count for event in hub.requests] == [5])


SAID = (KeysPush("keys", "issuers"), Rotate(5.0))


def is_lost(word: FromHub) -> bool:
    """Whether it is about a channel of the present active time."""
    return isinstance(word, HubLinkTold) and "the connection ended" in word.reason


async def test_one_that_is_active_again_says_nothing_of_what_its_hub_said_then(
    teamspace: RealTeamspace, hub: PlayedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another was active meanwhile, by which the Hub may have brought other keys."""
    monkeypatch.setattr(hub_link, "INACTIVE_SECONDS", 0.1)
    hub.pushes = SAID
    ended = asyncio.Event()
    hub.at_end = ended.set
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        heard = await words(await peers.system(), lambda word: isinstance(word, RotationWanted))
        assert KeysTold("keys", "issuers") in heard
        peers.close()
        await ended.wait()
        hub.greets = False

        heard = await words(await peers.system(), is_lost)

        assert [type(word) for word in heard] == [HubLinkTold]
        peers.close()


async def test_a_system_that_is_replaced_hears_what_the_channel_that_stands_has_said(
    teamspace: RealTeamspace, hub: PlayedHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_link, "INACTIVE_SECONDS", 1.0)
    hub.pushes = SAID
    async with teamspace.orchestrator():
        peers = Peers(teamspace)
        before = await peers.system()
        await words(before, lambda word: isinstance(word, RotationWanted))
        before.drop()

        heard = await words(await peers.system(), lambda word: isinstance(word, RotationWanted))

        assert [type(word) for word in heard] == [HubLinkTold, KeysTold, RotationWanted]
        assert hub.channels == 1
        peers.close()
