"""The relay: machines keep a WebSocket here, and the pages of their users ask them through it. What they answer is theirs: it is passed on as it is, or not at all."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated, Final, cast

from fastapi import Depends, WebSocket
from pydantic import Field, StringConstraints
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from codezero.hub.api import document, operations, repeating
from codezero.hub.api.permissions import Need, TheCaller, TheHub, needs
from codezero.hub.api.shapes import NAME, Asked, Told
from codezero.hub.api.sockets import SEND_SECONDS, Messages, by_token, stranger
from codezero.hub.context import Hub
from codezero.hub.organizations import PERSON
from codezero.hub.relay import connections
from codezero.hub.relay.answers import Answer
from codezero.hub.relay.connections import Connection, Question
from codezero.hub.relay.relaying import Relay
from codezero.hub.signin import standing
from codezero.hub.signin.callers import Caller
from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.ids import is_ulid
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json
from codezero.wire.paired import (
    ALLOWED,
    ANSWERED_BY,
    ANSWERED_BY_MACHINE,
    HELLO_SECONDS,
    MAX_BODY,
    MAX_PROOF,
    Head,
    Hello,
)

NDJSON: Final = "application/x-ndjson"
# What no browser takes for a page or a program.
KINDS: Final = frozenset({"application/json", problem_json.CONTENT_TYPE, NDJSON})
# Statuses that HTTP gives no content.
_EMPTY: Final = frozenset({204, 205, 304})
# Of an answer that does not last: how long the next piece may take.
PIECE_SECONDS: Final = 60.0
_MAX_TARGET: Final = 2048
_NAME: Final = re.compile(NAME)

# The characters that the Hub's own queries may have, and those of a compact JWS.
Target = Annotated[
    str, StringConstraints(min_length=1, max_length=_MAX_TARGET, pattern=r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*$")
]
Method = Annotated[str, StringConstraints(pattern=r"^[A-Z]{1,10}$")]
Proof = Annotated[
    str, StringConstraints(max_length=MAX_PROOF, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")
]

routes = operations.router("machines")

_log = logs.get_logger("relay")


class Machine(Told):
    """A machine of one's own that is connected to the Hub."""

    machine: str
    name: str
    connected_at: datetime


class MachineAsked(Asked):
    """A request for a machine, as the machine knows it, signed by the page's key."""

    method: Method = Field(description="Together with the path of `target` one of a closed list.")
    target: Target = Field(description="Path and query at the machine.")
    proof: Proof = Field(
        repr=False, description="A compact JWS by the page's key, for this request and once; the machine looks at it."
    )
    body: str = Field(
        "", max_length=MAX_BODY, repr=False, description="The request's content, JSON as text; empty for none."
    )


def _relay(request: Request) -> Relay:
    return cast("Relay", request.app.state.relay)


TheRelay = Annotated[Relay, Depends(_relay)]


@routes.get("/machines", openapi_extra=needs(Need.SIGN_IN), responses=document.raises(403))
async def machines(caller: TheCaller, relay: TheRelay) -> list[Machine]:
    """One's own machines that are connected, so that a page that is paired with one reaches it through the Hub."""
    _check(caller, relay)
    return [Machine.model_validate(one) for one in await relay.machines(caller.user)]


@routes.post(
    "/machines/{machine}/ask",
    # A proof is good once: the machine sees to it that nothing is done twice.
    openapi_extra={**needs(Need.SIGN_IN), **repeating.NEVER},
    response_class=Response,
    responses={
        200: {
            "description": "The machine's answer, with its status; `X-Codezero-Answered-By: machine` tells it from the Hub's own.",
            "content": {"application/json": {}, NDJSON: {}},
        },
        **document.raises(403, 502, 504),
    },
)
async def ask(machine: str, body: MachineAsked, caller: TheCaller, hub: TheHub, relay: TheRelay) -> Response:
    """Pass a page's signed request on to one's own machine, which alone decides about it."""
    _check(caller, relay)
    if not is_ulid(machine):
        raise CodezeroError(problems.NOT_FOUND, "there is no such machine", fix="see GET /api/v1/machines")
    path = body.target.partition("?")[0]
    allowed = ALLOWED.get((body.method, path))
    if allowed is None:
        raise CodezeroError(
            problems.PAGE_MAY_NOT,
            "no machine does that for a page, nor would this Hub pass it on",
            fix="use czctl on the machine, or its own page: czctl ui",
        )
    question = Question(body.method, body.target, body.proof, body.body.encode())
    told = {"user": caller.user, "machine": machine, "method": body.method, "target": path}

    def passed() -> None:
        if allowed.acts:
            _log.info("passed to a machine", **told)

    return _Passing(hub, caller, relay.asked(caller.user, machine, question), passed=passed, lasts=allowed.streams)


@routes.websocket("/machines/relay")
async def machine_relay(websocket: WebSocket) -> None:
    """A machine's connection: `codezero.wire.paired`."""
    hub = cast("Hub", websocket.app.state.hub)
    relay = cast("Relay", websocket.app.state.relay)
    if websocket.headers.getlist("origin"):
        raise CodezeroError(problems.ROLE_FORBIDS, "the relay is for machines, not for pages")

    messages = Messages(websocket, send_seconds=SEND_SECONDS)
    try:
        with stranger(websocket):
            await websocket.accept()
            relay.check_on()
            async with asyncio.timeout(HELLO_SECONDS):
                hello = connections.decoded(await messages.receive())
            if not isinstance(hello, Hello):
                raise CodezeroError(problems.PROTOCOL, f"{type(hello).__name__} came instead of Hello")
            if not _NAME.fullmatch(hello.name):
                raise CodezeroError(problems.PROTOCOL, "the name of the machine is none that can be shown")
            caller = await by_token(hub, websocket.scope, hello.token)
        if caller is None:
            raise CodezeroError(
                problems.NOT_SIGNED_IN, "the token of the machine is good for nobody", fix="czctl auth login"
            )
        await relay.keep(Connection(hub, caller, hello, send=messages.send, receive=messages.receive))
    except EOFError:
        return
    except TimeoutError:
        await connections.part(messages.send, CodezeroError(problems.TIMED_OUT, "the machine did not say who it is"))
    except (SQLAlchemyError, OSError) as error:
        _log.warning("the database does not answer", error=type(error).__name__)
        await connections.part(
            messages.send, CodezeroError(problems.DATABASE_BUSY, "the Hub's database does not answer")
        )
    except CodezeroError as error:
        if not messages.is_accepted:
            raise
        await connections.part(messages.send, error)
    await messages.close()


class _Passing(Response):
    """A machine's answer on its way to the page that asked: ended where the page leaves, or is signed in no more; cut where the machine leaves."""

    def __init__(
        self,
        hub: Hub,
        caller: Caller,
        asked: AbstractAsyncContextManager[Answer],
        *,
        passed: Callable[[], None],
        lasts: bool,
    ) -> None:
        super().__init__()
        self._hub = hub
        self._caller = caller
        self._asked = asked
        self._passed = passed
        self._lasts = lasts
        self._is_begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on. Raises `CodezeroError` where nothing of it could be."""
        failed: CodezeroError | None = None
        try:
            async with task_group("answer") as tasks:
                passing = tasks.start("passing", self._pass(send))
                beside = [tasks.start("leaving", _ended_by_leaving(receive, passing))]
                if self._lasts:
                    beside.append(tasks.start("sign-in", self._while_signed_in()))
                await asyncio.wait([passing])
                for task in beside:
                    task.cancel()
        except* CodezeroError as errors:
            failed = cast("CodezeroError", errors.exceptions[0])
        except* TimeoutError:
            failed = CodezeroError(problems.TIMED_OUT, "the answer did not go on, or was not taken")
        except* (SQLAlchemyError, OSError):
            failed = CodezeroError(problems.DATABASE_BUSY, "the Hub's database does not answer")
        if failed is None:
            return
        if not self._is_begun:
            raise failed
        # Without its last chunk nobody takes it for whole.
        _log.info("the answer of a machine was cut", code=failed.problem.code, reason=failed.detail)

    async def _pass(self, send: Send) -> None:
        async with self._asked as answer:
            self._passed()
            head = await answer.head()
            kind = _kind(head)
            if kind is None:
                await _nothing_in(answer)
                await self._begin(send, head.status, {})
            else:
                await self._begin(send, head.status, {"Content-Type": kind})
                async for content in self._pieces(answer):
                    async with asyncio.timeout(SEND_SECONDS):
                        await send({"type": "http.response.body", "body": content, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send, status: int, headers: Mapping[str, str]) -> None:
        # nginx would gather it first.
        given = {ANSWERED_BY: ANSWERED_BY_MACHINE, "X-Accel-Buffering": "no", **headers}
        raw = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        self._is_begun = True

    async def _pieces(self, answer: Answer) -> AsyncGenerator[bytes]:
        pieces = aiter(answer.pieces())
        while True:
            try:
                async with asyncio.timeout(None if self._lasts else PIECE_SECONDS):
                    content = await anext(pieces)
            except StopAsyncIteration:
                return
            yield content

    async def _while_signed_in(self) -> None:
        await standing.until_ended(self._hub, self._caller)
        raise CodezeroError(problems.NOT_SIGNED_IN, "the sign-in has ended", fix="sign in again")


def _check(caller: Caller, relay: Relay) -> None:
    if caller.kind != PERSON:
        raise CodezeroError(
            problems.ROLE_FORBIDS, "machines are asked by the people whose they are, not with an API key"
        )
    relay.check_on()


def _kind(head: Head) -> str | None:
    """The content type of an answer; None where it has no content. Raises `CodezeroError` (PROTOCOL) for one that is not passed on."""
    if head.status in _EMPTY or not head.kind:
        return None
    kind = head.kind.partition(";")[0].strip().lower()
    if kind not in KINDS:
        raise CodezeroError(problems.PROTOCOL, "the machine answered with a content type that is not passed on")
    return kind


async def _nothing_in(answer: Answer) -> None:
    async with asyncio.timeout(PIECE_SECONDS):
        async for _content in answer.pieces():
            raise CodezeroError(problems.PROTOCOL, "the machine answered with content of no type")


async def _ended_by_leaving(receive: Receive, passing: asyncio.Task[None]) -> None:
    """End `passing` when whoever asked does not wait any more."""
    while (await receive())["type"] != "http.disconnect":
        pass
    passing.cancel()
