"""Refreshing a sign-in: each token is good once, and only with a proof by the device's key; a second use ends the sign-in (RFC 9700, 4.14).

One case is no theft: two processes of one laptop refresh at once, or the answer was lost (R28). So a token used less than ten seconds ago gives another
successor, to whoever proves the device's key anew. This is safe, because
- without the key a token is worth nothing at any time, used or not;
- successors are siblings: the first use of one uses up the others, so that after ten seconds only one line of them lives. A thief who copied token *and*
  key within those seconds has, at the latest at the next refresh of either, a token that was used up by the other, and its use ends the sign-in;
- what was used longer ago ends the sign-in at once.
"""

from datetime import timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import history, proofs, sign_ins
from codezero.hub.signin.attempts import ADDRESS, REFRESH, network
from codezero.hub.signin.proofs import Proof
from codezero.hub.signin.refusals import OAuthError, kept
from codezero.hub.signin.sign_ins import Granted
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import Device, RefreshToken, SignIn, User
from codezero.model import problems
from codezero.model.problems import CodezeroError

GRACE: Final = timedelta(seconds=10)
# More processes than one laptop has, and far fewer than would fill a table.
MOST_SIBLINGS: Final = 64
_LONGEST: Final = 128


async def refresh(hub: Hub, token: str, proof: Proof, visitor: Visitor) -> Granted:
    """Fresh tokens for a refresh token; raises `OAuthError` (invalid_grant)."""
    now = hub.clock()
    hub.attempts.count(REFRESH, now, proof.thumbprint)
    if not token.startswith(sign_ins.REFRESH_PREFIX) or len(token) > _LONGEST:
        hub.attempts.count(ADDRESS, now, network(visitor.address))
        raise _refused()

    async def work(session: AsyncSession) -> Granted | CodezeroError:
        row = await session.scalar(select(RefreshToken).where(RefreshToken.token_hash == hub.sealer.hash(token)))
        if row is None:
            return _refused()
        # Only now is something kept, or strangers could fill the table.
        if not await proofs.is_first_use(session, hub, proof):
            return proofs.used_before()
        sign_in = await session.get_one(SignIn, row.sign_in_id)
        user = await session.get_one(User, sign_in.user_id)
        device = await session.get_one(Device, sign_in.device_id)
        if not sign_ins.is_open(sign_in, hub) or user.disabled_at is not None or device.revoked_at is not None:
            return _refused()
        said = {"kind": "device", "id": device.id, "name": device.name}
        if not proof.is_by(device):
            # Somebody has a copy of the token and not the key. It is worth nothing to them, and the laptop keeps its sign-in.
            await history.tell(
                session,
                hub,
                user,
                "signin.refresh",
                visitor,
                outcome=history.REFUSED,
                target=said,
                reason="another device's key",
            )
            return _refused()
        if row.used_at is None:
            await sign_ins.supersede(session, hub, sign_in)
        elif now - row.used_at > GRACE:
            await sign_ins.end(session, hub, sign_in, why=sign_ins.REUSED)
            await history.tell(
                session,
                hub,
                user,
                "signin.reused",
                visitor,
                outcome=history.REFUSED,
                target=said,
                reason="a refresh token was used twice",
            )
            return _refused("the refresh token was used before, so the sign-in has ended")
        elif await _siblings(session, sign_in) >= MOST_SIBLINGS:
            return CodezeroError(problems.TOO_MANY_REQUESTS, "the sign-in is being refreshed by too many at once")
        device.last_seen_at, device.last_address = now, visitor.address
        return await sign_ins.grant(session, hub, sign_in, user)

    return await kept(hub, work)


async def _siblings(session: AsyncSession, sign_in: SignIn) -> int:
    return (
        await session.scalar(
            select(func.count()).where(RefreshToken.sign_in_id == sign_in.id, RefreshToken.used_at.is_(None))
        )
        or 0
    )


def _refused(detail: str = "the refresh token is wrong, has expired, or its sign-in has ended") -> OAuthError:
    return OAuthError("invalid_grant", detail)
