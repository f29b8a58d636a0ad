"""The door beside the tunnel, on the same port: `CONNECT service.namespace:port` with a token of the Hub, for clients without a Daemon.

Whoever has no token learns nothing here but that the process lives. One request each connection; after 200 the bytes are the service's.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from codezero.kit import http_head
from codezero.kit.http_head import Head, HeadError, HeadProtocol
from codezero.kit.logs import get_logger
from codezero.kit.tasks import Tasks, task_group
from codezero.model import problems
from codezero.model.access import CONSUME
from codezero.model.ids import Device, TeamspaceId
from codezero.model.problems import CodezeroError
from codezero.model.services import CatalogId, ServiceRef, is_label
from codezero.system.dialling import Dialler
from codezero.system.forward import Side
from codezero.system.grants import Grant, Grants
from codezero.system.tokens import TokenVerifier
from codezero.transport.opinion import Opinion
from codezero.transport.tls import TlsConnection
from codezero.wire import problem_json

DIAL_SECONDS: Final = 10.0
MAX_CONNECTIONS: Final = 2000
MAX_CONNECTIONS_OF_A_DEVICE: Final = 256
ALPN: Final = "http/1.1"

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_TARGET: Final = re.compile(r"([a-z0-9-]{1,63})\.([a-z0-9-]{1,63})(?:\.svc(?:\.cluster\.local)?)?:([1-9][0-9]{0,4})")
_BEARER: Final = re.compile(r"(?:[Bb]earer +)?([A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+)")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

_log = get_logger("door")


@dataclass(frozen=True, slots=True)
class _Request:
    """A request that stands on its own: what it wants and the token it shows."""

    wanted: CatalogId
    token: str | None


class ConnectDoor:
    """Answers HTTP/1.1 on the tunnel's port. `unready` gives the reason why the System cannot serve yet, None when it can."""

    def __init__(
        self,
        *,
        tokens: TokenVerifier,
        teamspace: Callable[[], TeamspaceId],
        grants: Grants,
        dialler: Dialler,
        unready: Callable[[], str | None],
        opinion: Opinion | None = None,
    ) -> None:
        self._tokens = tokens
        self._teamspace = teamspace
        self._grants = grants
        self._dialler = dialler
        self._unready = unready
        self._opinion = opinion or Opinion()
        self._tasks: Tasks | None = None
        self._open: dict[TlsConnection, Device] = {}

    @property
    def connections(self) -> int:
        """How many connections go through the door now."""
        return len(self._open)

    async def run(self) -> None:
        """Keep connections going until cancelled."""
        async with task_group("door") as tasks:
            self._tasks = tasks
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                for connection in list(self._open):
                    connection.abort()

    def connection(self, connection: TlsConnection) -> asyncio.BaseProtocol:
        """The owner of a new connection."""

        def handle(_: asyncio.Transport, head: Head, rest: bytes) -> None:
            self._handle(connection, head, rest)

        return HeadProtocol(handle, _refuse_head)

    def _handle(self, connection: TlsConnection, head: Head, rest: bytes) -> None:
        if head.method == "GET" and head.target in ("/healthz", "/readyz"):
            ready = head.target == "/healthz" or self._unready() is None
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            _finish(connection, http_head.answer(status, b"ok\n" if ready else b"not ready\n"))
            return
        try:
            device, wanted = self._admit(head)
        except CodezeroError as error:
            _refuse(connection, error)
            return
        if self._tasks is None or not self._tasks.is_open or len(self._open) >= MAX_CONNECTIONS:
            _refuse(connection, CodezeroError(problems.TUNNEL_DOWN, "the System takes no more connections"))
            return
        if sum(other == device for other in self._open.values()) >= MAX_CONNECTIONS_OF_A_DEVICE:
            detail = f"this device has {MAX_CONNECTIONS_OF_A_DEVICE} connections already"
            _refuse(connection, CodezeroError(problems.TOO_MANY_STREAMS, detail))
            return
        connection.accept()
        near = _Near(lambda: self._open.pop(connection, None))
        self._open[connection] = device
        connection.set_protocol(near)
        near.connection_made(connection)
        near.task = self._tasks.start("connect", self._connect(near, connection, device, wanted=wanted, rest=rest))

    def _admit(self, head: Head) -> tuple[Device, CatalogId]:
        request = _read(head)
        if request.token is None:
            raise CodezeroError(
                problems.TOKEN_REFUSED,
                "a request needs one Proxy-Authorization header with a token for this Teamspace",
                fix="fetch a token from the Hub",
            )
        device = self._tokens.verify(request.token, self._teamspace())
        try:
            self._grants.require(device, request.wanted.service)
        except CodezeroError as error:
            if error.problem is problems.ACCESS_ENDED:
                # What the token was given for has been taken away: to a client it is a token that is good no longer.
                raise CodezeroError(problems.TOKEN_REFUSED, error.detail, fix=error.fix) from None
            raise
        return device, request.wanted

    async def _connect(
        self, near: "_Near", connection: TlsConnection, device: Device, *, wanted: CatalogId, rest: bytes
    ) -> None:
        far = Side()
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await self._opinion.require(self._grants.policy, device, wanted.service, (CONSUME,))
                await self._dialler.dial(wanted, lambda: far, client=device.device)
            # The policy may have changed while we dialled, and has not seen this connection yet.
            self._grants.require(device, wanted.service)
        except CodezeroError as error:
            if far.transport is not None:
                far.transport.abort()
            _refuse(connection, error)
            return
        except TimeoutError:
            _refuse(connection, CodezeroError(problems.DIAL_FAILED, f"{wanted} did not answer in time"))
            return
        finally:
            near.task = None
        if near.transport is None or far.transport is None:
            for side in (near, far):
                if side.transport is not None:
                    side.transport.abort()
            return

        def end(_: CodezeroError) -> None:
            connection.abort()

        self._grants.note(Grant(device, wanted.service, connection.is_closing, end))
        _log.info("connected", device=str(device), wanted=str(wanted))
        near.join(far)
        connection.write(_ESTABLISHED)
        if rest:
            far.transport.write(rest)
        connection.resume_reading()


class _Near(Side):
    """Owner of the client's connection once its request is good."""

    def __init__(self, lost: Callable[[], object]) -> None:
        super().__init__()
        self.task: asyncio.Task[None] | None = None
        self._lost = lost

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()
        self._lost()
        super().connection_lost(exc)


def _read(head: Head) -> _Request:
    """What a head asks for; raises `CodezeroError` (BAD_REQUEST, NOT_FOUND)."""
    if len(hosts := head.values("host")) != 1 or _HOST.fullmatch(hosts[0]) is None:
        raise CodezeroError(problems.BAD_REQUEST, "a request needs one valid Host header")
    if head.method != "CONNECT":
        if not head.target.startswith("/"):
            raise CodezeroError(problems.BAD_REQUEST, "only CONNECT is proxied here")
        raise CodezeroError(
            problems.NOT_FOUND, "there is nothing here but CONNECT", fix="use CONNECT service.namespace:port"
        )
    match = _TARGET.fullmatch(head.target)
    if match is None or int(match[3]) > 65535 or not (is_label(match[1]) and is_label(match[2])):
        raise CodezeroError(problems.BAD_REQUEST, "the target of CONNECT has to be service.namespace:port")
    credentials = head.values("proxy-authorization")
    bearer = _BEARER.fullmatch(credentials[0].strip()) if len(credentials) == 1 else None
    return _Request(CatalogId(ServiceRef(match[2], match[1]), int(match[3])), None if bearer is None else bearer[1])


def _refuse_head(transport: asyncio.Transport, error: HeadError) -> None:
    # The head could not be read, so its status is HTTP's own.
    problem = problems.TIMED_OUT if error.status is HTTPStatus.REQUEST_TIMEOUT else problems.BAD_REQUEST
    body = problem_json.encode(CodezeroError(problem, error.reason))
    _finish(transport, http_head.answer(error.status, body, content_type=problem_json.CONTENT_TYPE))


def _refuse(transport: asyncio.Transport, error: CodezeroError) -> None:
    status = HTTPStatus(error.problem.status)
    headers = (
        (("Proxy-Authenticate", 'Bearer realm="codezero"'),)
        if status is HTTPStatus.PROXY_AUTHENTICATION_REQUIRED
        else ()
    )
    body = problem_json.encode(error)
    _finish(transport, http_head.answer(status, body, content_type=problem_json.CONTENT_TYPE, headers=headers))


def _finish(transport: asyncio.Transport, answer: bytes) -> None:
    transport.write(answer)
    transport.close()
