"""An operation of the API: who asks is found out, what they need is looked at, and a repeated request is done once, before anything else happens."""

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from codezero.hub.api import guard, permissions, repeating
from codezero.hub.api.guard import TooManyError
from codezero.hub.api.limits import Limits
from codezero.hub.api.permissions import FIELD, Acting, Need
from codezero.hub.context import Hub
from codezero.hub.signin import callers
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

PREFIX: Final = "/api/v1"


class Operation(APIRoute):
    """A route that says what it needs; one that does not is a defect, seen when the Hub starts."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler, behind what it needs."""
        inner = super().get_route_handler()
        need = need_of(self)
        known = frozenset(_query_fields(self.dependant))
        takes_body = self.body_field is not None
        repeats = "POST" in (self.methods or ()) and repeating.is_for(self.openapi_extra or {})

        async def handler(request: Request) -> Response:
            hub = permissions.hub_of(request)
            await _admit(hub, request, need)
            for name in request.query_params:
                if name not in known:
                    raise CodezeroError(problems.NOT_VALID, f"query.{name[:60]}: there is no such field")
            if not takes_body and (await request.body()).strip() not in {b"", b"{}"}:
                raise CodezeroError(problems.NOT_VALID, "body: nothing is taken here")
            if not repeats:
                return await inner(request)
            caller: callers.Caller | None = request.state.caller
            asker = guard.address_of(request.scope) if caller is None else f"{caller.user} {caller.api_key or ''}"
            return await repeating.once(hub, request, asker=asker, work=lambda: inner(request))

        return handler


def router(tag: str) -> APIRouter:
    """A router for the operations on one noun."""
    return APIRouter(prefix=PREFIX, route_class=Operation, tags=[tag])


def need_of(route: APIRoute) -> Need | Permission:
    """What `route` needs."""
    word: str = (route.openapi_extra or {})[FIELD]
    return Need(word) if word in set(Need) else Permission(word)


def _query_fields(dependant: Dependant) -> Iterator[str]:
    """What an endpoint and all that it depends on read of the query."""
    yield from (field.alias for field in dependant.query_params)
    for below in dependant.dependencies:
        yield from _query_fields(below)


async def _admit(hub: Hub, request: Request, need: Need | Permission) -> None:
    """Let in whoever may do what is asked for, or raise `CodezeroError`."""
    request.state.caller = None
    if need is Need.NOTHING:
        return
    caller = await callers.caller(hub, request.scope)
    limits: Limits = request.app.state.limits
    if seconds := limits.caller.take(caller.user):
        raise TooManyError("this user", seconds)
    request.state.caller = caller
    organization = request.path_params.get("organization")
    if organization is None:
        assert isinstance(need, Need), "a permission is one in an organization"
        return
    permission = need if isinstance(need, Permission) else None
    acting = Acting(hub, caller, organization, permission, request.state.request_id)
    await acting.check()
    request.state.acting = acting
