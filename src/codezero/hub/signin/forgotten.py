"""A password that was forgotten: whoever runs the Hub makes a link on its machine and hands it over. The Hub sends no mail, and nobody can ask for one."""

from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import browser, history, one_time, passwords, sign_ins
from codezero.hub.signin.attempts import ADDRESS, network
from codezero.hub.signin.browser import Opened
from codezero.hub.signin.refusals import kept, refused
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import User
from codezero.model import problems
from codezero.model.problems import CodezeroError

PATH: Final = "/new-password"
LIFETIME: Final = timedelta(hours=1)


async def link(hub: Hub, email: str) -> str:
    """The link by which the person with this address sets a new password, once; raises `CodezeroError` (NOT_FOUND)."""

    async def work(session: AsyncSession) -> str | CodezeroError:
        user = await browser.by_email(session, email.strip().lower())
        if user is None or user.disabled_at is not None:
            return CodezeroError(problems.NOT_FOUND, "nobody has this e-mail address")
        await history.tell(session, hub, user, "password.link", Visitor())
        return await one_time.make(session, hub, one_time.PASSWORD, lifetime=LIFETIME, user=user.id)

    return f"{hub.public_url}{PATH}?{urlencode({'token': await kept(hub, work)})}"


async def set_password(hub: Hub, token: str, password: str, visitor: Visitor) -> Opened:
    """Set the password and sign in; all that was signed in as this person ends. Raises `CodezeroError` (SIGN_IN_REFUSED, BAD_REQUEST)."""
    passwords.check(password)
    hub.attempts.count(ADDRESS, hub.clock(), network(visitor.address))
    async with hub.database.reading() as session:
        if not one_time.is_good(await one_time.find(session, hub, one_time.PASSWORD, token), hub):
            raise _refused()
    hashed = await hub.passwords.hash(password)

    async def work(session: AsyncSession) -> Opened | CodezeroError:
        row = await one_time.take(session, hub, one_time.PASSWORD, token)
        user = None if row is None else await session.get_one(User, row.user_id)
        if user is None or user.disabled_at is not None:
            return _refused()
        user.password_hash = hashed
        await sign_ins.end_all(session, hub, user.id, why=sign_ins.PASSWORD_CHANGED)
        await history.tell(session, hub, user, "password.reset", visitor)
        return browser.open_session(session, hub, user, visitor)

    return await kept(hub, work)


def _refused() -> CodezeroError:
    return refused("the link is wrong, has expired, or was used", fix="ask whoever runs this Hub for a new one")
