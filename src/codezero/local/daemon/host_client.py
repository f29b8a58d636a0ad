"""The Daemon's side of `wire.host_api`: asks the Supervisor to change the machine, or a `HostAgent` in this process when run by hand.

Losing the Supervisor means that nobody could undo what we do, so the Daemon then ends at once.
"""

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from typing import TypeVar

import msgspec

from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.local.daemon.consumption import Endpoint
from codezero.local.supervisor.host_agent import HostAgent, HostSettings, host_agent
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.host_api import (
    MAX_PACKET,
    PART,
    Alive,
    ChangeCapture,
    DaemonReady,
    Done,
    HostMode,
    HostWarning,
    PublishNames,
    Stop,
    ToDaemon,
    ToSupervisor,
)

ALIVE_SECONDS = 1.0
ANSWER_SECONDS = 15.0
MAX_QUEUED = 1000

T = TypeVar("T")
Told = Callable[[HostMode | HostWarning], None]
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ToDaemon] = msgspec.msgpack.Decoder(ToDaemon)
_log = logs.get_logger("host")


class SupervisorLostError(Exception):
    """There is no Supervisor."""


class HostClient(ABC):
    """Changes the machine on behalf of the Daemon. Requests are made by one task and answered in order; each raises `CodezeroError` when refused.

    `mode` says how the machine is set up; it is there once the client is.
    """

    def __init__(self) -> None:
        self.mode = HostMode("listeners", "none")
        self._told: Told | None = None
        self._untold: list[HostMode | HostWarning] = []
        self._number = 0

    def listen(self, told: Told) -> None:
        """Tell changes of the mode and warnings to `told`, beginning with those that came already."""
        self._told = told
        for message in self._untold:
            told(message)
        self._untold.clear()

    async def ready(self, *, capture_port: int, dns_port: int) -> None:
        """We listen at these ports of 127.0.0.1: the machine's resolver may point at us."""
        await self._ask(DaemonReady(capture_port, dns_port), 0)

    async def change_capture(
        self,
        *,
        add: Collection[Endpoint] = (),
        remove: Collection[Endpoint] = (),
        reset: bool = False,
        datagrams: bool = False,
    ) -> None:
        """Capture these endpoints, and those no longer; with `reset` nothing else either."""
        if reset:
            await self._change(reset=True, datagrams=datagrams)
        for part in _parts(tuple(remove)):
            await self._change(remove=part, datagrams=datagrams)
        for part in _parts(tuple(add)):
            await self._change(add=part, datagrams=datagrams)

    async def publish(self, names: Mapping[str, str]) -> None:
        """These names stand in the machine's hosts file, and no others of ours."""
        self._number += 1
        number = self._number
        parts = list(_parts(tuple(sorted(names.items())))) or [()]
        for index, part in enumerate(parts[:-1]):
            await self._send(PublishNames(number, part, index, last=False))
        await self._ask(PublishNames(number, parts[-1], len(parts) - 1), number)

    @abstractmethod
    async def stop(self) -> None:
        """End everything and put the machine back."""

    @abstractmethod
    async def _send(self, message: ToSupervisor) -> None:
        """Send a message that has no answer of its own."""

    @abstractmethod
    async def _ask(self, message: ToSupervisor, number: int) -> None:
        """Send a message and wait for the `Done` of that number."""

    async def _change(
        self,
        *,
        add: tuple[Endpoint, ...] = (),
        remove: tuple[Endpoint, ...] = (),
        reset: bool = False,
        datagrams: bool = False,
    ) -> None:
        self._number += 1
        await self._ask(ChangeCapture(self._number, add, remove, reset, datagrams), self._number)

    def _hear(self, message: HostMode | HostWarning) -> None:
        if isinstance(message, HostMode):
            self.mode = message
        if self._told is not None:
            self._told(message)
        elif len(self._untold) < MAX_QUEUED:
            self._untold.append(message)


class SupervisorClient(HostClient):
    """Over the socket pair from the Supervisor; made by `supervised`."""

    def __init__(self, channel: socket.socket, lost: Callable[[], None]) -> None:
        super().__init__()
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self._greeted = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[str | None]] = {}
        self._queue: deque[bytes] = deque()
        self._alive: asyncio.TimerHandle | None = None

    async def stop(self) -> None:
        """End everything and put the machine back."""
        await self._send(Stop())

    def open(self) -> None:
        """Begin to talk."""
        self._channel.setblocking(False)
        self._loop.add_reader(self._channel, self._readable)
        self._show_life()

    def close(self) -> None:
        """Talk no more."""
        if self._alive is not None:
            self._alive.cancel()
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()

    async def greeted(self) -> None:
        """Wait until the Supervisor has said how the machine is set up; raises `SupervisorLostError` when it does not."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._greeted.wait()
        except TimeoutError:
            raise SupervisorLostError from None

    async def _send(self, message: ToSupervisor) -> None:
        self._put(message)

    async def _ask(self, message: ToSupervisor, number: int) -> None:
        answer = self._waiting[number] = self._loop.create_future()
        try:
            self._put(message)
            async with asyncio.timeout(ANSWER_SECONDS):
                problem = await answer
        except TimeoutError:
            raise CodezeroError(problems.HOST_CHANGE_FAILED, "the Supervisor did not answer in time") from None
        finally:
            del self._waiting[number]
        if problem is not None:
            raise CodezeroError(problems.HOST_CHANGE_FAILED, problem)

    def _show_life(self) -> None:
        # From the event loop itself: a loop that hangs shows no life.
        self._put(Alive())
        self._alive = self._loop.call_later(ALIVE_SECONDS, self._show_life)

    def _put(self, message: ToSupervisor) -> None:
        packet = _encoder.encode(message)
        if len(packet) > MAX_PACKET:
            raise CodezeroError(problems.TOO_LARGE, f"a {type(message).__name__} of {len(packet)} bytes")
        if len(self._queue) >= MAX_QUEUED:
            raise CodezeroError(problems.HOST_CHANGE_FAILED, "the Supervisor does not listen")
        self._queue.append(packet)
        if len(self._queue) == 1:
            self._writable()

    def _writable(self) -> None:
        while self._queue:
            try:
                self._channel.send(self._queue[0])
            except BlockingIOError:
                self._loop.add_writer(self._channel, self._writable)
                return
            except OSError:
                self._end()
                return
            self._queue.popleft()
        self._loop.remove_writer(self._channel)

    def _readable(self) -> None:
        try:
            packet = self._channel.recv(MAX_PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self._end()
            return
        try:
            message = _decoder.decode(packet)
        except (msgspec.DecodeError, ValueError) as error:
            _log.error("the Supervisor's message cannot be read", reason=str(error))
            return
        if isinstance(message, Done):
            answer = self._waiting.get(message.number)
            if answer is not None and not answer.done():
                answer.set_result(message.problem)
            return
        self._hear(message)
        if isinstance(message, HostMode):
            self._greeted.set()

    def _end(self) -> None:
        self._queue.clear()
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._lost()


class OwnHost(HostClient):
    """Changes the machine in this process; made by `unsupervised`."""

    def __init__(self, agent: HostAgent, stopping: asyncio.Event) -> None:
        super().__init__()
        self._agent = agent
        self._stopping = stopping
        for message in agent.greeting():
            self.hear(message)

    def hear(self, message: ToDaemon) -> None:
        """What the agent says unasked."""
        if not isinstance(message, Done):
            self._hear(message)

    async def stop(self) -> None:
        """End everything; what was changed is undone when the block of `unsupervised` ends."""
        self._stopping.set()

    async def _send(self, message: ToSupervisor) -> None:
        await self._agent.handle(message)

    async def _ask(self, message: ToSupervisor, number: int) -> None:
        for answer in await self._agent.handle(message):
            if isinstance(answer, Done) and answer.number == number and answer.problem is not None:
                raise CodezeroError(problems.HOST_CHANGE_FAILED, answer.problem)


@contextlib.asynccontextmanager
async def supervised(channel: socket.socket, *, lost: Callable[[], None]) -> AsyncGenerator[SupervisorClient, None]:
    """The Supervisor behind `channel`, which is closed with the block; `lost` is called when the Supervisor goes.

    Raises `SupervisorLostError` when it does not say how the machine is set up.
    """
    client = SupervisorClient(channel, lost)
    client.open()
    try:
        await client.greeted()
        yield client
    finally:
        client.close()


@contextlib.asynccontextmanager
async def unsupervised(settings: HostSettings, stopping: asyncio.Event) -> AsyncGenerator[OwnHost, None]:
    """This process in charge of the machine; everything is undone when the block ends. Raises `CodezeroError` where it cannot be."""
    clients: list[OwnHost] = []

    def notify(message: ToDaemon) -> None:
        for client in clients:
            client.hear(message)

    async with host_agent(settings, notify=notify) as agent:
        client = OwnHost(agent, stopping)
        clients.append(client)
        async with task_group("host") as tasks:
            tasks.start_service("watch", agent.watch())
            yield client


def _parts(entries: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    return (entries[at : at + PART] for at in range(0, len(entries), PART))
