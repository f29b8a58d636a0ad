"""The first owner of a Hub: by a link that `czhub` prints while there is nobody yet, good once and for a day."""

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import organizations
from codezero.hub.context import Hub
from codezero.hub.signin import accounts, browser, history, one_time, passwords
from codezero.hub.signin.browser import Opened
from codezero.hub.signin.refusals import kept, refused
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import OneTimeCode, User
from codezero.model.problems import CodezeroError

PATH: Final = "/first-owner"
LIFETIME: Final = timedelta(days=1)


async def link(hub: Hub) -> str | None:
    """The link, which ends those before it; None where there are people already."""

    async def work(session: AsyncSession) -> str | None:
        if await _people(session):
            return None
        await session.execute(delete(OneTimeCode).where(OneTimeCode.kind == one_time.FIRST_OWNER))
        return await one_time.make(session, hub, one_time.FIRST_OWNER, lifetime=LIFETIME)

    token = await hub.database.run(work)
    return None if token is None else f"{hub.public_url}{PATH}?{urlencode({'token': token})}"


async def create(
    hub: Hub, *, token: str, email: str, name: str, password: str, organization: str, visitor: Visitor
) -> Opened:
    """Make the first person, and their organization; raises `CodezeroError` (SIGN_IN_REFUSED, BAD_REQUEST)."""
    passwords.check(password)

    async def look(session: AsyncSession) -> bool:
        return one_time.is_good(await one_time.find(session, hub, one_time.FIRST_OWNER, token), hub)

    async with hub.database.reading() as session:
        is_good = await look(session)
    if not is_good:
        raise _refused()
    hashed = await hub.passwords.hash(password)

    async def work(session: AsyncSession) -> Opened | CodezeroError:
        if await one_time.take(session, hub, one_time.FIRST_OWNER, token) is None or await _people(session):
            return _refused()
        user = accounts.add_person(session, hub, email=email, name=name, password_hash=hashed)
        await session.flush()
        await organizations.create(session, hub, organization, owner=user)
        await history.tell(session, hub, user, "signin.first-owner", visitor)
        return browser.open_session(session, hub, user, visitor)

    return await kept(hub, work)


async def _people(session: AsyncSession) -> int:
    return await session.scalar(select(func.count()).select_from(User).where(User.kind == "person")) or 0


def _refused() -> CodezeroError:
    return refused(
        "the link is wrong, has expired, or was used",
        fix="run `czhub owner-link` on the machine of the Hub for a new one, as long as it has no owner",
    )
