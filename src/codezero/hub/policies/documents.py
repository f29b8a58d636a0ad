"""The policy documents of Teamspaces in versions: saved when they can be used and their tests pass, never changed, and compared.

Everything is read through its organization (T29). Who may do it, and what the audit is told, is the caller's to know.
"""

import difflib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import changes
from codezero.hub.context import Hub
from codezero.hub.policies import checking
from codezero.hub.policies.checking import Checked
from codezero.hub.storage.tables import PolicyVersion, Space
from codezero.model import problems
from codezero.model.problems import CodezeroError

MAX_COMMENT: Final = 500
# What is compared line by line takes less than a second.
MAX_LINES: Final = 4000
MAX_PAIRS: Final = 40_000
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
    document: Checked,
    author: str,
    comment: str = "",
    expected: int | None = None,
) -> Version:
    """Make `document` the one in force, as a new version; a text that is in force already makes none. It was checked before the transaction began.

    Raises `CodezeroError`: POLICY_CHANGED unless the number in force is `expected`, NOT_FOUND.
    """
    found = await _space(session, organization, space, to_change=True)
    expect(expected, found.policy_number)
    if found.policy_number:
        before = await version(session, organization, space, found.policy_number)
        if before.text == document.text:
            return before
    made = PolicyVersion(
        space_id=space,
        number=found.policy_number + 1,
        organization_id=organization,
        text=document.text,
        compiled=document.compiled,
        comment=comment[:MAX_COMMENT],
        author=author,
        created_at=hub.clock(),
    )
    session.add(made)
    found.policy_number = made.number
    await session.flush()
    await changes.tell(session, hub, "policy", organization=organization, space=space)
    return Version(made.number, made.text, made.comment, made.author, made.created_at)


async def begin(hub: Hub, session: AsyncSession, organization: str, space: str, *, author: str) -> Version:
    """Give a new Teamspace its first policy."""
    return await save(
        hub,
        session,
        organization,
        space,
        document=checking.checked_default(),
        author=author,
        comment="the policy of new Teamspaces",
    )


def expect(expected: int | None, number: int) -> None:
    """Raise `CodezeroError` (POLICY_CHANGED) unless the version in force is the expected one, or any may be."""
    if expected is not None and expected != number:
        raise CodezeroError(
            problems.POLICY_CHANGED,
            f"version {number} is in force by now, not {expected}",
            fix="read it again, and put your change on top of it",
        )


def difference(before: Version, after: Version) -> str:
    """What `after` says otherwise, as a unified diff; empty where nothing. Of texts that take too long to compare: in how many lines they differ."""
    old, new = before.text.splitlines(keepends=True), after.text.splitlines(keepends=True)
    if not _is_comparable(old, new):
        left, right = Counter(old), Counter(new)
        many = (left - right).total() + (right - left).total()
        return f"version {before.number} and version {after.number} differ in {many} lines\n"
    lines = difflib.unified_diff(
        old,
        new,
        f"version {before.number}",
        f"version {after.number}",
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def _is_comparable(old: Sequence[str], new: Sequence[str]) -> bool:
    """Whether they have few lines, and few that are there again and again: what `difflib` has to do grows with the square of both."""
    left, right = Counter(old), Counter(new)
    # What is there more often it does not look for.
    popular = len(new) // 100 + 1 if len(new) >= 200 else len(new)
    pairs = sum(many * right[line] for line, many in left.items() if right[line] <= popular)
    return len(old) + len(new) <= MAX_LINES and pairs <= MAX_PAIRS


async def _space(session: AsyncSession, organization: str, space: str, *, to_change: bool = False) -> Space:
    wanted = select(Space).where(Space.id == space, Space.organization_id == organization, Space.removed_at.is_(None))
    found = await session.scalar(wanted.with_for_update() if to_change else wanted)
    if found is None:
        raise CodezeroError(problems.NOT_FOUND, f"there is no Teamspace {space}")
    return found
