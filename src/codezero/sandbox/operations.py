"""What the control socket does: one request and one answer a connection, from the sandbox's owner alone."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import layout, network
from codezero.sandbox.cluster import Cluster
from codezero.sandbox.control import Answer, Request, Status
from codezero.sandbox.hub import SandboxHub
from codezero.sandbox.identities import Identities

_DEADLINE = 30.0
# Longer than the second between two heartbeats of a tunnel, so that both ends say something.
_RESET_SECONDS = 1.5
_log = logs.get_logger("control")


@dataclass(slots=True)
class Operations:
    """The sandbox, as far as requests are about it."""

    name: str
    identities: Identities
    since: float
    ready: bool = False
    # Laptops that are cut off.
    cut: set[str] = field(default_factory=set[str])
    cluster: Cluster | None = None
    hub: SandboxHub | None = None

    async def answer(self, request: Request) -> Any:  # noqa: ANN401 - each request has an answer of its own
        """Do what is asked; raises `CodezeroError`."""
        match request.do:
            case "status":
                return self._status()
            case "cut" | "mend":
                places = _laptops(request.place)
                self.cut = self.cut | places if request.do == "cut" else self.cut - places
                await network.cut(sorted(self.cut))
                return None
            case "reset":
                await network.reset(sorted(_laptops(request.place)), _RESET_SECONDS)
                return None
            case "kill":
                return self._kill(request.namespace, request.name, request.container)
            case "access-file":
                return str(layout.ACCESS_FOLDER / f"{self._own_user(request.name)}.json")
            case "token":
                return self.identities.token(self._own_user(request.name))
            case "hub":
                return self._hub().view()
            case "hub-stop":
                await self._hub().process.stop()
                return None
            case "hub-kill":
                await self._hub().process.kill()
                return None
            case "hub-start":
                await self._hub().process.start()
                return None
            case "approve":
                await asyncio.to_thread(self._hub().approve, request.name, request.text)
                return None
            case _:
                raise CodezeroError(problems.BAD_REQUEST, f"the sandbox knows no request {request.do[:40]!r}")

    def _hub(self) -> SandboxHub:
        if self.hub is None:
            raise CodezeroError(
                problems.NOT_FOUND, "this sandbox has no Hub", fix="start one that has: czctl sandbox up"
            )
        return self.hub

    def _own_user(self, name: str) -> str:
        """A developer to whom the sandbox itself gives access."""
        if self.hub is not None:
            raise CodezeroError(
                problems.NOT_FOUND,
                "access to this sandbox comes from its Hub",
                fix="czctl sandbox sign-in",
            )
        return self._user(name)

    def _user(self, name: str) -> str:
        if name not in self.identities.users:
            known = ", ".join(self.identities.users)
            raise CodezeroError(problems.NOT_FOUND, f"the sandbox has the developers {known}, and no {name[:40]!r}")
        return name

    def _kill(self, namespace: str, name: str, container: str) -> int:
        try:
            if self.cluster is not None:
                return self.cluster.kubelet.kill(namespace, name, container or None)
        except KeyError:
            pass
        which = f"container {container[:80]!r} of pod {name[:80]!r}" if container else f"pod {name[:80]!r}"
        raise CodezeroError(
            problems.NOT_FOUND,
            f"no {which} runs in namespace {namespace[:80]!r}",
            fix="czctl sandbox status",
        )

    def _status(self) -> Status:
        return Status(
            name=self.name,
            ready=self.ready,
            since=self.since,
            teamspace=self.hub.space if self.hub is not None else self.identities.teamspace,
            address=f"{layout.NODE_ADDRESS}:{layout.TUNNEL_PORT}",
            cut=tuple(sorted(self.cut)),
            places={
                layout.LAPTOP: layout.LAPTOP_ADDRESS,
                layout.LAPTOP2: layout.LAPTOP2_ADDRESS,
                layout.LAN: layout.LAN_PEER_ADDRESS,
                layout.INTERNET: layout.INTERNET_WEB,
                layout.CLUSTER: layout.NODE_ADDRESS,
            },
            pods=self.cluster.pods() if self.cluster is not None else (),
            api_requests=self.cluster.requests() if self.cluster is not None else {},
        )


def _laptops(place: str) -> set[str]:
    """The laptop of that name; without a name, all."""
    if place and place not in layout.LAPTOPS:
        raise CodezeroError(
            problems.BAD_REQUEST, f"{place[:40]!r} is no laptop; the sandbox has {', '.join(layout.LAPTOPS)}"
        )
    return {place} if place else set(layout.LAPTOPS)


@asynccontextmanager
async def answering(operations: Operations, listener: socket.socket) -> AsyncGenerator[None, None]:
    """Answer requests on the control socket while the block lasts."""
    listener.setblocking(False)
    with listener:
        async with task_group("control") as tasks:
            tasks.start_service("accept", _accept(operations, listener))
            yield


async def _accept(operations: Operations, listener: socket.socket) -> None:
    """Take connections by hand: asyncio's servers call listen(2) again, and clients know the keeper by who called it."""
    # Requests that are under way end with this.
    async with task_group("requests") as requests:
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            requests.start("request", _serve(operations, connection))


async def _serve(operations: Operations, connection: socket.socket) -> None:
    reader, writer = await asyncio.open_unix_connection(sock=connection)
    try:
        async with asyncio.timeout(_DEADLINE):
            writer.write(msgspec.json.encode(await _handle(operations, reader, writer)))
            await writer.drain()
    except (OSError, EOFError, TimeoutError):
        pass  # the client left
    finally:
        writer.close()


async def _handle(operations: Operations, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
    try:
        connection = writer.get_extra_info("socket")
        _, user, _ = struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        # In the sandbox's user namespace its owner is user 0, and everybody else is nobody.
        if user != os.geteuid():
            raise CodezeroError(problems.FORBIDDEN, "the sandbox belongs to another user")
        request = msgspec.json.decode(await reader.readline(), type=Request)
        return Answer(result=msgspec.Raw(msgspec.json.encode(await operations.answer(request))))
    except CodezeroError as error:
        return Answer(problem=error.problem.code, detail=error.detail, fix=error.fix)
    except (msgspec.DecodeError, ValueError) as error:
        return Answer(problem=problems.BAD_REQUEST.code, detail=f"not a request: {error}")
    except Exception as error:  # noqa: BLE001 - the edge of a request
        _log.exception("request failed")
        return Answer(problem=problems.INTERNAL.code, detail=f"{type(error).__name__}: {error}")
