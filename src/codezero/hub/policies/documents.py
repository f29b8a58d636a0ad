"""The policy documents of Teamspaces in versions: saved when they can be used and their tests pass, never changed, compared, and brought back.

Everything is read through its organization (T29). Who may do it, and what the audit is told, is the caller's to know.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.policies import checking
from codezero.hub.signals import Changed
from codezero.hub.storage.tables import PolicyVersion, Space
from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_COMMENT: Final = 500
_PAGE: Final = 50


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a document; `author` is a user's ULID. The text of listed ones is left out."""

    number: int
    text: str
    comment: str
    author: str
    created_at: datetime


async def current(session: AsyncSession, organization: str, space: str) -> Version:
    """The version in force; raises `CodezeroError` (NOT_FOUND, POLICY_UNKNOWN)."""
    found = await _space(session, organization, space)
    return await version(session, organization, space, found.policy_number)


async def version(session: AsyncSession, organization: str, space: str, number: int) -> Version:
    """One version; raises `CodezeroError` (NOT_FOUND, POLICY_UNKNOWN)."""
    await _space(session, organization, space)
    found = await session.scalar(
        select(PolicyVersion).where(
            PolicyVersion.space_id == space,
            PolicyVersion.organization_id == organization,
            PolicyVersion.number == number,
        )
    )
    if found is None:
        raise CodezeroError(
            problems.POLICY_UNKNOWN, f"the Teamspace has no policy version {number}", fix="czctl policy versions"
        )
    return Version(found.number, found.text, found.comment, found.author, found.created_at)


async def versions(
    session: AsyncSession, organization: str, space: str, *, before: int | None = None, limit: int = _PAGE
) -> Sequence[Version]:
    """Versions without their texts, newest first, those older than number `before`; raises `CodezeroError` (NOT_FOUND)."""
    await _space(session, organization, space)
    wanted = (
        select(PolicyVersion.number, PolicyVersion.comment, PolicyVersion.author, PolicyVersion.created_at)
        .where(PolicyVersion.space_id == space, PolicyVersion.organization_id == organization)
        .order_by(PolicyVersion.number.desc())
        .limit(limit)
    )
    if before is not None:
        wanted = wanted.where(PolicyVersion.number < before)
    return [Version(number, "", comment, author, at) for number, comment, author, at in await session.execute(wanted)]


async def save(
    hub: Hub,
    session: AsyncSession,
    organization: str,
    space: str,
    *,
    text: str,
    author: str,
    comment: str = "",
    expected: int | None = None,
) -> Version:
    """Make `text` the document in force, as a new version; a text that is in force already makes none.

    Raises `CodezeroError`: `PolicyError` where it cannot be used or its tests fail, POLICY_CHANGED unless the number in force is `expected`, NOT_FOUND.
    """
    checked = checking.check(text)
    found = await _space(session, organization, space, to_change=True)
    if expected is not None and expected != found.policy_number:
        raise CodezeroError(
            problems.POLICY_CHANGED,
            f"version {found.policy_number} is in force by now, not {expected}",
            fix="read it again, and put your change on top of it",
        )
    if found.policy_number:
        before = await version(session, organization, space, found.policy_number)
        if before.text == text:
            return before
    made = PolicyVersion(
        space_id=space,
        number=found.policy_number + 1,
        organization_id=organization,
        text=text,
        compiled=checked.compiled,
        comment=comment[:MAX_COMMENT],
        author=author,
        created_at=hub.clock(),
    )
    session.add(made)
    found.policy_number = made.number
    await session.flush()
    hub.signals.tell(session, Changed("policy", organization, space))
    return Version(made.number, made.text, made.comment, made.author, made.created_at)


async def begin(hub: Hub, session: AsyncSession, organization: str, space: str, *, author: str) -> Version:
    """Give a new Teamspace its first policy."""
    return await save(
        hub,
        session,
        organization,
        space,
        text=checking.default(),
        author=author,
        comment="the policy of new Teamspaces",
    )


async def roll_back(
    hub: Hub,
    session: AsyncSession,
    organization: str,
    space: str,
    *,
    number: int,
    author: str,
    expected: int | None = None,
) -> Version:
    """Bring back the text of version `number`, as a new version; raises as `save` does, and POLICY_UNKNOWN."""
    before = await version(session, organization, space, number)
    return await save(
        hub,
        session,
        organization,
        space,
        text=before.text,
        author=author,
        comment=f"back to version {number}",
        expected=expected,
    )


def difference(before: Version, after: Version) -> str:
    """What `after` says otherwise, as a unified diff; empty where nothing."""
    lines = difflib.unified_diff(
        before.text.splitlines(keepends=True),
        after.text.splitlines(keepends=True),
        f"version {before.number}",
        f"version {after.number}",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


async def _space(session: AsyncSession, organization: str, space: str, *, to_change: bool = False) -> Space:
    wanted = select(Space).where(Space.id == space, Space.organization_id == organization, Space.removed_at.is_(None))
    found = await session.scalar(wanted.with_for_update() if to_change else wanted)
    if found is None:
        raise CodezeroError(problems.NOT_FOUND, f"there is no Teamspace {space}")
    return found
