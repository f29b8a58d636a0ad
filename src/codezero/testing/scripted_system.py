"""A System's connections to the Orchestrator, by hand: reports what it is told to, answers orders when told to, and brings laptops."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec

from codezero.kit import certificates
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.serve import condition_from_parts
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.variants import Serving, ServingState, VariantState, VariantView
from codezero.testing.teamspace import Coordination, RealTeamspace
from codezero.transport.messages import MessageStream, frame
from codezero.wire.coordination import (
    PROTOCOL_VERSIONS,
    CatalogReport,
    DaemonHello,
    EndVariants,
    FromDaemon,
    FromSystem,
    Goodbye,
    OrderDone,
    Ping,
    PutVariant,
    SystemHello,
    ToDaemon,
    ToSystem,
    TraceWanted,
    Welcome,
)
from codezero.wire.forwarding import ALPN, Forwarded

_TO_SYSTEM: msgspec.msgpack.Decoder[ToSystem] = msgspec.msgpack.Decoder(ToSystem)
_TO_DAEMON: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)


def plain_service(ref: ServiceRef) -> Service:
    """A service with TCP ports 80 and 5432."""
    return Service(ref, ServiceKind.CLUSTER_IP, (ServicePort(80), ServicePort(5432)), ready=1, total=1)


class ScriptedSystem:
    """One System as the Orchestrator sees it. `serves` is what stands in its Serve objects."""

    def __init__(self, stream: MessageStream[FromSystem, ToSystem]) -> None:
        self.stream = stream
        self.services: dict[ServiceRef, Service] = {}
        self.serves: dict[ServiceRef, tuple[VariantView, ...]] = {}
        self.traces: list[bool] = []

    async def order(self, *, within: float = 20.0) -> PutVariant | EndVariants:
        """The next order; what is said about traces goes to `traces`."""
        while True:
            match await self.stream.receive(within=within):
                case PutVariant() | EndVariants() as order:
                    return order
                case TraceWanted(on=on):
                    self.traces.append(on)
                case _:
                    pass

    async def until_traced(self, on: bool) -> None:
        """Wait until traces are wanted, or not."""
        while not self.traces or self.traces[-1] is not on:
            match await self.stream.receive(within=20):
                case TraceWanted(on=wanted):
                    self.traces.append(wanted)
                case _:
                    pass

    async def report(self, ref: ServiceRef, *, state: ServingState = ServingState.ACTIVE, detail: str = "") -> None:
        """Report a service as it is served now."""
        views = self.serves.get(ref, ())
        service = replace(self.services[ref], serving=Serving(state, views, detail) if views else None)
        await self.stream.send(CatalogReport(upserts=(service,)))

    async def obey(self, order: PutVariant | EndVariants) -> OrderDone:
        """Do an order as a real System does, report the service, and answer."""
        done = self.result(order)
        await self.report(order.service)
        await self.stream.send(done)
        return done

    def result(self, order: PutVariant | EndVariants) -> OrderDone:
        """Do an order; gives the answer."""
        views = self.serves.get(order.service, ())
        if isinstance(order, EndVariants):
            self.serves[order.service] = tuple(view for view in views if view.variant_id not in order.variants)
            return OrderDone(order.order, ended=tuple(view for view in views if view.variant_id in order.variants))
        wanted = replace(order.variant, state=VariantState.ACTIVE)
        condition = condition_from_parts(wanted.condition)
        alike = [view for view in views if condition_from_parts(view.condition) == condition]
        taken = tuple(view for view in alike if view.user != wanted.user and str(condition) != "user")
        if taken and not order.takeover:
            detail = f"{taken[0].user_name} already serves {order.service} for {condition}"
            return OrderDone(order.order, problems.CONDITION_TAKEN.code, detail, "add --takeover")
        mine = next((view for view in alike if view.user == wanted.user), None)
        if mine is not None:
            wanted = replace(wanted, variant_id=mine.variant_id)
        if not order.preview:
            gone = {view.variant_id for view in (*taken, wanted)}
            kept = tuple(view for view in views if view.variant_id not in gone)
            self.serves[order.service] = (*kept, wanted)
        return OrderDone(order.order, effects=("the source address changes",), variant=wanted, taken=taken)

    async def farewell(self) -> Goodbye:
        """What the Orchestrator says at the end."""
        while not isinstance(message := await self.stream.receive(within=20), Goodbye):
            pass
        return message

    def drop(self) -> None:
        """The System is gone."""
        self.stream.abort()


class Peers:
    """Who speaks with one Orchestrator; made by `peers_of`, which ends their connections."""

    def __init__(self, teamspace: RealTeamspace) -> None:
        self.teamspace = teamspace
        self._streams: list[MessageStream[Any, Any]] = []

    async def system(self, *refs: ServiceRef) -> ScriptedSystem:
        """A System that has said hello and reported those services."""
        stream: MessageStream[FromSystem, ToSystem] = await self._stream(_TO_SYSTEM)
        await stream.send(SystemHello(PROTOCOL_VERSIONS, "test", new_ulid()))
        assert isinstance(await stream.receive(within=10), Welcome)
        system = ScriptedSystem(stream)
        system.services = {ref: plain_service(ref) for ref in refs}
        await stream.send(CatalogReport(upserts=tuple(system.services.values()), reset=True))
        return system

    async def laptop(
        self, device: Device, *, session: SessionId | None = None, name: str = "laptop", user_name: str = ""
    ) -> Coordination:
        """A laptop's coordination as a System forwards it, after its hello."""
        stream: MessageStream[FromDaemon, ToDaemon] = await self._stream(_TO_DAEMON)
        forwarded = Forwarded(str(device), session or SessionId(new_ulid()))
        hello = DaemonHello(PROTOCOL_VERSIONS, "test", name, user_name=user_name)
        await stream.send_frames((frame(forwarded), frame(hello)))
        picture = Coordination(stream)
        await picture.until(lambda it: it.welcome is not None)
        return picture

    async def refused(self, device: Device) -> Goodbye:
        """What a laptop hears that is not let in."""
        stream: MessageStream[FromDaemon, ToDaemon] = await self._stream(_TO_DAEMON)
        hello = DaemonHello(PROTOCOL_VERSIONS, "test", "laptop")
        await stream.send_frames((frame(Forwarded(str(device), SessionId(new_ulid()))), frame(hello)))
        answer = await stream.receive(within=20)
        assert isinstance(answer, Goodbye), answer
        return answer

    async def greeted(self) -> Welcome:
        """What a System hears that goes right away again."""
        stream: MessageStream[FromSystem, ToSystem] = await self._stream(_TO_SYSTEM)
        await stream.send(SystemHello(PROTOCOL_VERSIONS, "test", new_ulid()))
        answer = await stream.receive(within=20)
        stream.abort()
        assert isinstance(answer, Welcome), answer
        return answer

    async def active(self) -> None:
        """Let the Orchestrator be the active one by a System that reports nothing, for as long as this runs."""
        stream: MessageStream[FromSystem, ToSystem] = await self._stream(_TO_SYSTEM)
        await stream.send(SystemHello(PROTOCOL_VERSIONS, "test", new_ulid()))
        with contextlib.suppress(EOFError):
            while True:
                await stream.send(Ping())
                await asyncio.sleep(1)
        await asyncio.get_running_loop().create_future()

    async def _stream(self, decoder: msgspec.msgpack.Decoder[Any]) -> MessageStream[Any, Any]:
        authorities = self.teamspace.authorities
        context = certificates.client_context(
            roots=authorities.parts.certificate_pem, credentials=authorities.part("system"), protocols=(ALPN,)
        )
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.teamspace.orchestrator_port, ssl=context, server_hostname="orchestrator.codezero"
        )
        stream: MessageStream[Any, Any] = MessageStream(reader, writer, decoder)
        self._streams.append(stream)
        return stream

    def close(self) -> None:
        """End all connections."""
        for stream in self._streams:
            stream.abort()


@asynccontextmanager
async def peers_of(teamspace: RealTeamspace) -> AsyncGenerator[Peers]:
    """The Orchestrator of `teamspace` runs and is active; gives those who speak with it."""
    async with teamspace.orchestrator(), task_group("peers") as tasks:
        peers = Peers(teamspace)
        tasks.start_service("active", peers.active())
        try:
            yield peers
        finally:
            peers.close()
