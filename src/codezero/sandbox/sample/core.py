"""`core`: the middle of the sample project; asks `leaf` and the database, reads a file, and tells what came of it.

Whatever it depends on may be away: its answer then says so, and `core` itself stays ready.
"""

# asyncpg has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx2
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.sandbox.sample.propagation import PropagationMiddleware, carried_headers, propagating_client
from codezero.sandbox.sample.serving import Listener, health_routes, main, plain_listener
from codezero.sandbox.sample.settings import Settings

PATIENCE = 4.0
"""How long, in seconds, `core` waits for one of its dependencies."""
MAX_REPLY = 64 * 1024
"""How much of a reply of `leaf`, in bytes, `core` takes."""
MISSION = "Your mission, should you choose to accept it: put a text here, and see it on the page."

Reply = dict[str, Any]


def make(settings: Settings) -> tuple[Starlette, Sequence[Listener]]:
    """The application and where it listens."""
    app = Starlette(
        routes=[Route("/api", api), *health_routes()],
        # The page may be opened from another address than the one that serves it; nothing here depends on who asks.
        middleware=[
            Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["GET"], allow_headers=["*"]),
            Middleware(PropagationMiddleware),
        ],
        lifespan=_dependencies,
    )
    app.state.settings = settings
    return app, [plain_listener(settings)]


async def api(request: Request) -> JSONResponse:
    """Who and where this is, and how its dependencies fare."""
    state = request.app.state
    settings: Settings = state.settings
    get_logger("core").info(
        "asked", by=request.client and request.client.host, carried=[name for name, _ in carried_headers()]
    )
    async with task_group("api") as tasks:
        leaf = tasks.start("leaf", ask_leaf(state.client, settings.leaf_url))
        database = tasks.start("database", ask_database(state.pool, settings.database_url))
        file = tasks.start("file", read_file(settings))
    return JSONResponse(
        {
            "who": "core",
            "where": settings.where,
            "database": database.result(),
            "leaf": leaf.result(),
            "file": file.result(),
        }
    )


async def ask_leaf(client: httpx2.AsyncClient, url: str) -> Reply:
    """What `leaf` replied and which headers it was sent for the caller, or the error."""
    try:
        async with asyncio.timeout(PATIENCE), client.stream("GET", f"{url}/api") as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MAX_REPLY:
                    return {"url": url, "error": f"the reply is larger than {MAX_REPLY} bytes"}
        reply = msgspec.json.decode(body, type=dict[str, Any])
    except TimeoutError:
        return {"url": url, "error": f"no reply within {PATIENCE:.0f} s"}
    except (httpx2.HTTPError, httpx2.InvalidURL, msgspec.DecodeError, UnicodeError) as failure:
        return {"url": url, "error": _words(failure)}
    return {**reply, "url": url, "propagated-headers": dict(carried_headers())}


async def ask_database(pool: asyncpg.Pool, url: str) -> Reply:
    """A greeting out of the database, or the error."""
    try:
        async with asyncio.timeout(PATIENCE), pool.acquire() as connection:
            version = await connection.fetchval("SHOW server_version")
            count = await connection.fetchval("SELECT count(*) FROM greetings")
    except TimeoutError:
        return {"url": url, "error": f"no reply within {PATIENCE:.0f} s"}
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as failure:
        return {"url": url, "error": _words(failure)}
    return {"url": url, "success": f"PostgreSQL {version} answered with {count} greetings"}


async def read_file(settings: Settings) -> Reply:
    """The text of the message file, or what to do about its absence."""
    path = settings.message_file
    reply: Reply = {"path": str(path.absolute())}
    try:
        return reply | {"data": await asyncio.to_thread(_text, settings)}
    except FileNotFoundError:
        return reply | {"error": MISSION}
    except (OSError, UnicodeError) as failure:
        return reply | {"error": _words(failure)}


def _text(settings: Settings) -> str:
    with settings.message_file.open("rb") as file:
        return file.read(MAX_REPLY).decode()


@asynccontextmanager
async def _dependencies(app: Starlette) -> AsyncGenerator[None, None]:
    settings: Settings = app.state.settings
    # A minimum of none: connecting waits for the first question, so `core` starts without its database.
    pool = asyncpg.create_pool(
        settings.database_url,
        password=settings.database_password,
        min_size=0,
        max_size=4,
        timeout=PATIENCE,
        command_timeout=PATIENCE,
    )
    async with pool, propagating_client(timeout=PATIENCE) as client:
        app.state.pool = pool
        app.state.client = client
        yield


def _words(failure: BaseException) -> str:
    return str(failure) or type(failure).__name__


if __name__ == "__main__":
    main("core", make)
