"""The way to the agent: the local API of the Daemon, by the same paths below `/agent`, over its UNIX socket as the user of this process.

The list is closed. What takes keys (`PUT /v1/teamspace`) is not on it: the page says which Teamspace, and the process gets the access (`selecting`).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

import h11

from codezero.cli.loopback.asking import Asked
from codezero.kit.http_connection import MAX_HEAD
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.local_client import DEADLINE_SECONDS, END_DEADLINE_SECONDS, SERVE_DEADLINE_SECONDS
from codezero.wire import problem_json
from codezero.wire.local_api import HOST

PREFIX: Final = "/agent"
# Deadline of the whole answer in seconds; None for a stream, which lasts until one end leaves.
ROUTES: Final[Mapping[tuple[str, str], float | None]] = {
    ("GET", "/v1/status"): DEADLINE_SECONDS,
    ("DELETE", "/v1/teamspace"): DEADLINE_SECONDS,
    ("GET", "/v1/services"): DEADLINE_SECONDS,
    ("GET", "/v1/consume"): DEADLINE_SECONDS,
    ("PUT", "/v1/consume"): DEADLINE_SECONDS,
    ("POST", "/v1/consume/test"): DEADLINE_SECONDS,
    ("PUT", "/v1/primary-namespace"): DEADLINE_SECONDS,
    ("GET", "/v1/serve"): DEADLINE_SECONDS,
    ("POST", "/v1/serve"): SERVE_DEADLINE_SECONDS,
    ("POST", "/v1/serve/end"): END_DEADLINE_SECONDS,
    ("GET", "/v1/traces"): None,
    ("GET", "/v1/presence"): DEADLINE_SECONDS,
    ("GET", "/v1/activity"): DEADLINE_SECONDS,
    ("GET", "/v1/events"): None,
    ("POST", "/v1/reset"): END_DEADLINE_SECONDS,
    ("POST", "/v1/shutdown"): DEADLINE_SECONDS,
}

_KINDS: Final = frozenset({"application/json", problem_json.CONTENT_TYPE, "application/x-ndjson"})
_WITH_BODY: Final = frozenset({"PUT", "POST"})
_PIECE: Final = 64 * 1024


class AgentPassage:
    """Passes requests on to the Daemon behind `socket_path`."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path

    async def pass_on(self, asked: Asked) -> None:
        """Answer with what the Daemon answers; raises `CodezeroError`, NOT_RUNNING where there is none."""
        path = asked.path.removeprefix(PREFIX)
        if (asked.method, path) not in ROUTES or asked.target != asked.path:
            raise CodezeroError(problems.NOT_FOUND, f"no {asked.method} {path[:200]} is passed on to the agent")
        if asked.body and asked.method not in _WITH_BODY:
            raise CodezeroError(problems.BAD_REQUEST, f"a {asked.method} has no body")
        async with asked.present():
            await self._pass_on(asked, path, ROUTES[asked.method, path])

    async def _pass_on(self, asked: Asked, path: str, deadline: float | None) -> None:
        with _failures():
            async with asyncio.timeout(deadline or DEADLINE_SECONDS) as limit, self._opened() as exchange:
                status, headers = await exchange.request(asked.method, path, asked.body)
                if deadline is None and status == HTTPStatus.OK:
                    limit.reschedule(None)
                await asked.begin(status, headers)
                async for piece in exchange.pieces():
                    await asked.more(piece)
                await asked.more(b"", is_last=True)

    @contextlib.asynccontextmanager
    async def _opened(self) -> AsyncGenerator["_Exchange"]:
        try:
            # Not more is read ahead of the page than this.
            reader, writer = await asyncio.open_unix_connection(str(self._socket_path), limit=_PIECE)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise CodezeroError(problems.NOT_RUNNING, "the Daemon does not run", fix="czctl start") from None
        except PermissionError:
            raise CodezeroError(
                problems.NOT_YOURS,
                "the Daemon's socket belongs to another user",
                fix="open the page as the user who ran `czctl start`",
            ) from None
        try:
            yield _Exchange(reader, writer)
        finally:
            # At once: what is not sent yet, nobody waits for.
            writer.transport.abort()


class _Exchange:
    """One request and its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)

    async def request(self, method: str, path: str, body: bytes) -> tuple[int, Mapping[str, str]]:
        """Send it; gives status and headers of the answer."""
        headers = [("Host", HOST), ("Accept", "application/json"), ("Connection", "close")]
        if body:
            headers.append(("Content-Type", "application/json"))
        if method in _WITH_BODY:
            headers.append(("Content-Length", str(len(body))))
        events = (h11.Request(method=method, target=path, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        # A server that refuses a request by its head does not read the body. Its answer says why.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
            await self._writer.drain()
        answer = await self._next()
        if not isinstance(answer, h11.Response):
            raise h11.RemoteProtocolError("the answer does not begin with its head")
        told = {name.decode("ascii"): value.decode("latin-1") for name, value in answer.headers}
        kind = told.get("content-type", "")
        if kind not in _KINDS:
            raise h11.RemoteProtocolError(f"the answer is of the type {kind[:80]!r}")
        given = {"content-type": kind}
        if (length := told.get("content-length")) is not None:
            given["content-length"] = length
        return answer.status_code, given

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The content of the answer as it comes."""
        while not isinstance(event := await self._next(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                yield bytes(event.data)

    async def _next(self) -> h11.Event:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_PIECE))
        if isinstance(event, h11.Event) and not isinstance(event, h11.ConnectionClosed):
            return event
        raise EOFError("the connection ended within the answer")


@contextlib.contextmanager
def _failures() -> Generator[None]:
    try:
        yield
    except TimeoutError:
        raise CodezeroError(
            problems.TIMED_OUT, "the Daemon did not answer in time", fix="czctl cleanup, then czctl start"
        ) from None
    except (OSError, EOFError) as error:
        raise CodezeroError(
            problems.NOT_RUNNING, f"the Daemon ended while it was asked ({error})", fix="czctl status"
        ) from None
    except h11.RemoteProtocolError as error:
        raise CodezeroError(
            problems.PROTOCOL, f"what answers at the Daemon's socket is not a Daemon: {error}", fix="czctl restart"
        ) from None
