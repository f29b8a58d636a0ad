"""A request that is sent again is done once: with an `Idempotency-Key` the second one gets the first one's answer, whichever replica is asked.

What was refused changed nothing, so it is not remembered and may be tried again. A request that broke off without an answer (a killed process) may have
been done or not: its key says so for as long as it is remembered, and does it no second time.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import delete, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import Response

from codezero.hub.context import Hub
from codezero.hub.storage.tables import Answered
from codezero.model import problems
from codezero.model.problems import CodezeroError

HEADER: Final = "idempotency-key"
# Part of the OpenAPI document of an operation whose answers are neither kept nor given again.
_FIELD: Final = "x-codezero-repeats"
NEVER: Final = {_FIELD: False}
REPLAYED: Final = "idempotent-replay"
KEPT: Final = timedelta(hours=24)
_KEY: Final = re.compile(r"[\x21-\x7e]{1,200}")
# What an answer is besides its body; all other headers are made anew.
_HEADERS: Final = ("content-type", "etag", "location")
# One in so many keys sweeps: old answers go in good time, and few transactions are about other ones than their own.
_SWEEP_EACH: Final = 64


def is_for(operation: Mapping[str, Any]) -> bool:
    """Whether an operation (a POST) takes an `Idempotency-Key`."""
    return bool(operation.get(_FIELD, True))


@dataclass(frozen=True, slots=True)
class _Once:
    """One request with its key: what tells it from others, and what it asks for."""

    key: bytes
    asks: bytes

    @property
    def purpose(self) -> str:
        return f"answer {self.key.hex()}"


async def once(hub: Hub, request: Request, *, asker: str, work: Callable[[], Awaitable[Response]]) -> Response:
    """The answer to `request` of `asker`: by `work`, unless the same was answered before. Without a key it is simply `work`'s.

    Raises `CodezeroError`: NOT_VALID for a key that is none, KEY_REUSED for one that came with another request, UNDER_WAY for one whose first has no answer.
    """
    keys = request.headers.getlist(HEADER)
    if not keys:
        return await work()
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        raise CodezeroError(
            problems.NOT_VALID, "header.idempotency-key: is not one word of at most 200 characters", fix="use a UUID"
        )
    what = f"{request.method} {request.url.path}"
    asks = hashlib.sha256(f"{what}?{request.url.query}\n".encode() + await request.body()).digest()
    wanted = _Once(hub.sealer.hash(f"idempotency\n{asker}\n{what}\n{keys[0]}"), asks)
    if (before := await hub.database.run(lambda session: _begin(hub, session, wanted))) is not None:
        return before
    try:
        answer = await work()
    except Exception:
        await hub.database.run(lambda session: _forget(session, wanted))
        raise
    if answer.status_code >= 300:
        await hub.database.run(lambda session: _forget(session, wanted))
    else:
        await hub.database.run(lambda session: _remember(hub, session, wanted, answer))
    return answer


async def _begin(hub: Hub, session: AsyncSession, wanted: _Once) -> Response | None:
    """Take the key, or the answer that was given to it."""
    now = hub.clock()
    if wanted.key[0] % _SWEEP_EACH == 0:
        await session.execute(delete(Answered).where(Answered.created_at < now - KEPT))
    else:
        await session.execute(delete(Answered).where(Answered.key_hash == wanted.key, Answered.created_at < now - KEPT))
    insert = postgresql.insert if hub.database.is_postgresql else sqlite.insert
    taken = await session.scalar(
        insert(Answered)
        .values(key_hash=wanted.key, request_hash=wanted.asks, headers=dict[str, str](), created_at=now)
        .on_conflict_do_nothing()
        .returning(Answered.key_hash)
    )
    if taken is not None:
        return None
    before = await session.get_one(Answered, wanted.key)
    if before.request_hash != wanted.asks:
        raise CodezeroError(
            problems.KEY_REUSED,
            "this Idempotency-Key came with another request before",
            fix="a new request needs a new key",
        )
    if before.status is None or before.sealed is None:
        raise CodezeroError(
            problems.UNDER_WAY,
            "the first request with this Idempotency-Key has no answer yet",
            fix="wait, and ask again; if that goes on, see whether it was done, and use a new key where it was not",
        )
    content = hub.sealer.unseal(before.sealed, purpose=wanted.purpose)
    return Response(content, before.status, {**before.headers, REPLAYED: "true"})


async def _remember(hub: Hub, session: AsyncSession, wanted: _Once, answer: Response) -> None:
    sealed = hub.sealer.seal(bytes(answer.body), purpose=wanted.purpose)
    headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
    await session.execute(
        update(Answered)
        .where(Answered.key_hash == wanted.key)
        .values(status=answer.status_code, sealed=sealed, headers=headers)
    )


async def _forget(session: AsyncSession, wanted: _Once) -> None:
    await session.execute(delete(Answered).where(Answered.key_hash == wanted.key))
