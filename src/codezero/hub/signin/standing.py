"""Whether somebody who was let in may still be there: looked at again for whatever outlasts a request (T41)."""

import asyncio
import contextlib
from typing import Final

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signals import Changed
from codezero.hub.signin import browser
from codezero.hub.signin.callers import Caller, Via
from codezero.hub.storage.tables import ApiKey, BrowserSession, Device, SignIn, User

# Changes after which somebody may be another one, or no more.
OF_RIGHTS: Final = frozenset({"apikey", "device", "member", "organization", "user"})
# Also where nothing was told of an end.
LOOK_SECONDS: Final = 10.0


async def is_signed_in(hub: Hub, session: AsyncSession, caller: Caller) -> bool:
    """Whether what `caller` was let in by still stands."""
    user = await session.get(User, caller.user)
    if user is None or user.disabled_at is not None:
        return False
    now = hub.clock()
    match caller.via:
        case Via.API_KEY:
            key = await session.get(ApiKey, caller.api_key)
            return key is not None and key.revoked_at is None and (key.expires_at is None or now < key.expires_at)
        case Via.BROWSER:
            row = await session.get(BrowserSession, caller.session)
            return (
                row is not None
                and row.ended_at is None
                and now < row.expires_at
                and now < row.last_used_at + browser.IDLE
            )
        case Via.DEVICE:
            sign_in = await session.get(SignIn, caller.sign_in)
            device = await session.get(Device, caller.device)
            return (
                sign_in is not None
                and sign_in.ended_at is None
                and now < sign_in.expires_at
                and device is not None
                and device.revoked_at is None
            )


async def until_ended(hub: Hub, caller: Caller) -> None:
    """Return when `caller` is signed in no more."""
    # Listened to before anything is read: what changes in between is heard.
    changes = hub.signals.changes()
    concerned = {caller.user, caller.device, caller.sign_in, caller.session, caller.api_key}
    while True:
        async with hub.database.reading() as session:
            if not await is_signed_in(hub, session, caller):
                return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                while not _concerns(await anext(changes), concerned):
                    pass


def _concerns(changed: Changed | None, concerned: set[str | None]) -> bool:
    return changed is None or (changed.kind in OF_RIGHTS and changed.id in concerned)
