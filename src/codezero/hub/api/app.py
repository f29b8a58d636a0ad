"""The Hub's API as one ASGI application."""

from collections import Counter
from pathlib import Path

from fastapi import APIRouter, FastAPI
from starlette.types import ASGIApp

from codezero import __version__
from codezero.gui.files import Site, Where
from codezero.hub.api import (
    apikeys,
    audit,
    auth,
    channel,
    connect_rpc,
    devices,
    document,
    events,
    invitations,
    machines,
    members,
    organizations,
    policies,
    problems,
    sessions,
    spaces,
    version,
)
from codezero.hub.api.guard import Guard
from codezero.hub.api.limits import Limits
from codezero.hub.context import Hub
from codezero.hub.pages import routes as pages
from codezero.hub.pages import ui
from codezero.hub.relay.relaying import Relay

ROUTERS: tuple[APIRouter, ...] = (
    version.routes,
    auth.routes,
    auth.plain,
    pages.router,
    ui.router,
    organizations.routes,
    members.routes,
    invitations.routes,
    apikeys.routes,
    devices.routes,
    machines.routes,
    spaces.routes,
    policies.routes,
    sessions.routes,
    audit.routes,
    events.routes,
    channel.routes,
    connect_rpc.routes,
)


def create(hub: Hub, *, limits: Limits | None = None, gui: Path | None = None, relay: Relay | None = None) -> ASGIApp:
    """The API of `hub` and its pages, to be served at its public URL's root.

    `gui` is the folder of the GUI, if not the one that was built into us; `relay` is the one that runs beside it, where it is not by itself.
    """
    app = application()
    app.state.hub = hub
    app.state.limits = limits or Limits()
    where = Where("hub", hub.public_url)
    app.state.gui = Site(where) if gui is None else Site(where, gui)
    app.state.open_events = Counter[str]()
    app.state.strangers = Counter[str]()
    app.state.relay = Relay(hub) if relay is None else relay
    return Guard(problems.Answering(app), public_url=hub.public_url, limits=app.state.limits)


def application() -> FastAPI:
    """The routes and their document, without a Hub behind them."""
    app = FastAPI(
        title="Codezero Hub",
        version=__version__,
        description="Organizations, their people, Teamspaces and policies, sign-in and audit.",
        openapi_url=document.PATH,
        # Their pages load programs from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    document.install(app)
    return app
