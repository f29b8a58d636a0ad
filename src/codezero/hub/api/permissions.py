"""The one place where the API decides who may do what: each operation says what it needs, and nothing runs before that was looked at. Closed when unsure.

Somebody who is no member of an organization is told that there is none (404), as is everybody about what belongs to another organization; a member
without the permission is told so (403).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, TypeVar, cast

from fastapi import Depends
from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.organizations import Member
from codezero.hub.signin.callers import Caller
from codezero.hub.storage.tables import Device
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission

T = TypeVar("T")

# Where an operation says what it needs; part of the OpenAPI document.
FIELD: Final = "x-codezero-needs"


class Need(StrEnum):
    """What an operation needs that no role gives."""

    # Whoever asks shows in the body what they have: a password, a one-time token.
    NOTHING = "nothing"
    SIGN_IN = "sign-in"


def needs(need: Need | Permission) -> dict[str, Any]:
    """What goes into the OpenAPI document of an operation, from where it is read and kept to."""
    return {FIELD: need.value}


@dataclass(frozen=True, slots=True)
class Acting:
    """A caller in an organization, let in for what needs `permission` (None: for being a member)."""

    hub: Hub
    caller: Caller
    organization: str
    permission: Permission | None
    request: str

    async def change(self, work: Callable[[AsyncSession, Member], Awaitable[T]]) -> T:
        """Do `work` in a transaction, as what the caller is by then: who lost the permission a moment ago does it no more."""

        async def done(session: AsyncSession) -> T:
            return await work(session, await self._member(session))

        return await self.hub.database.run(done)

    async def look(self, work: Callable[[AsyncSession, Member], Awaitable[T]]) -> T:
        """Do `work`, which changes nothing."""
        async with self.hub.database.reading() as session:
            return await work(session, await self._member(session))

    async def check(self) -> None:
        """Raise `CodezeroError` where the caller may not: NOT_FOUND for who is no member, ROLE_FORBIDS for a member without the permission."""
        async with self.hub.database.reading() as session:
            await self._member(session)

    async def _member(self, session: AsyncSession) -> Member:
        caller = self.caller
        if caller.organization is not None and caller.organization != self.organization:
            raise no_organization()
        member = await organizations.member(
            session,
            self.organization,
            caller.user,
            scopes=caller.scopes,
            address=caller.address,
            request=self.request,
        )
        if self.permission is not None:
            member.need(self.permission)
        return member


async def memberships(session: AsyncSession, caller: Caller) -> dict[str, Member]:
    """All organizations that `caller` is a member of, by their ids."""
    found = await organizations.of_user(session, caller.user)
    return {
        organization.id: await organizations.member(session, organization.id, caller.user, scopes=caller.scopes)
        for organization, _ in found
        if caller.organization in {None, organization.id}
    }


def no_organization() -> CodezeroError:
    """What somebody is told who is no member."""
    return CodezeroError(
        problems.NOT_FOUND,
        "there is no such organization, or you are not one of its members",
        fix="see `czctl organization list`",
    )


def own_devices(caller: Caller) -> Select[str]:
    """The ids of the caller's own devices."""
    return select(Device.id).where(Device.user_id == caller.user)


def hub_of(request: Request) -> Hub:
    """The Hub that a request is for."""
    return cast("Hub", request.app.state.hub)


def _caller(request: Request) -> Caller:
    return cast("Caller", request.state.caller)


def _acting(request: Request) -> Acting:
    return cast("Acting", request.state.acting)


TheHub = Annotated[Hub, Depends(hub_of)]
TheCaller = Annotated[Caller, Depends(_caller)]
TheActing = Annotated[Acting, Depends(_acting)]
