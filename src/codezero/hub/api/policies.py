"""Policies of Teamspaces: read, tried, put in force, brought back; and the question whether somebody may do something."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fastapi import Response
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.api import listing, operations, telling, versions
from codezero.hub.api.listing import ThePage
from codezero.hub.api.permissions import Acting, TheActing, TheHub, needs
from codezero.hub.api.shapes import (
    Checked,
    Listed,
    May,
    MayAsked,
    Mistake,
    Policy,
    PolicyAsked,
    PolicyBack,
    PolicyChange,
    PolicyVersion,
)
from codezero.hub.api.spaces import ONE
from codezero.hub.api.versions import TheVersion
from codezero.hub.organizations import Member
from codezero.hub.policies import beside, checking, documents, explain
from codezero.hub.policies.checking import PolicyError
from codezero.hub.policies.documents import Version
from codezero.hub.policies.explain import Explained
from codezero.hub.storage.tables import Membership, User
from codezero.model import problems, serve
from codezero.model.problems import CodezeroError
from codezero.model.roles import Permission
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart

# Of those who change a policy whatever it is by then.
_ATTEMPTS: Final = 5

routes = operations.router("policies")


@routes.get(ONE + "/policy", openapi_extra=needs(Permission.POLICIES_READ))
async def show(space: str, acting: TheActing, response: Response) -> Policy:
    """The policy in force."""

    async def work(session: AsyncSession, member: Member) -> Version:
        return await documents.current(session, member.organization, space)

    return _tagged(response, await acting.look(work))


@routes.put(ONE + "/policy", openapi_extra=needs(Permission.POLICIES_MANAGE))
async def save(space: str, body: PolicyChange, acting: TheActing, version: TheVersion, response: Response) -> Policy:
    """Put a document in force, as a new version: one that can be used, and whose tests pass. Teamspaces have it within seconds."""

    async def asked(_session: AsyncSession, _member: Member) -> tuple[str, str]:
        return body.text, body.comment

    return _tagged(response, await _put_in_force(acting, space, asked, expected=version))


@routes.get(ONE + "/policy/versions", openapi_extra=needs(Permission.POLICIES_READ))
async def history(space: str, acting: TheActing, page: ThePage) -> Listed[PolicyVersion]:
    """All versions, the latest first."""

    async def work(session: AsyncSession, member: Member) -> Listed[PolicyVersion]:
        async def read(after: str | None, limit: int) -> Sequence[Version]:
            before = None if after is None else listing.number(after)
            return await documents.versions(session, member.organization, space, before=before, limit=limit)

        shown, following = await listing.entries(page, read, lambda one: str(one.number))
        return Listed(items=[PolicyVersion.model_validate(one) for one in shown], next=following)

    return await acting.look(work)


@routes.get(ONE + "/policy/versions/{number}", openapi_extra=needs(Permission.POLICIES_READ))
async def show_version(space: str, number: str, acting: TheActing) -> Policy:
    """One version, with its text."""
    wanted = int(number) if number.isascii() and number.isdigit() and len(number) <= listing.MOST_DIGITS else 0

    async def work(session: AsyncSession, member: Member) -> Version:
        return await documents.version(session, member.organization, space, wanted)

    return Policy.model_validate(await acting.look(work))


@routes.post(ONE + "/policy/check", openapi_extra=needs(Permission.POLICIES_READ))
async def check(space: str, body: PolicyAsked, acting: TheActing) -> Checked:
    """Whether a document could be put in force, and what it would change; changes nothing."""

    async def work(session: AsyncSession, member: Member) -> Version:
        return await documents.current(session, member.organization, space)

    present = await acting.look(work)
    proposed = _proposed(acting, present, body.text)
    try:
        checked = await beside.check(body.text, by=acting.caller.user)
    except PolicyError as error:
        mistakes = [
            Mistake(
                code=one.problem.code, message=one.message, line=one.place.line, column=one.place.column, fix=one.fix
            )
            for one in error.mistakes
        ]
        is_too_long = len(body.text) > checking.MAX_TEXT
        difference = "" if is_too_long else await beside.difference(present, proposed, by=acting.caller.user)
        return Checked(valid=False, errors=mistakes, tests=0, diff=difference)
    difference = await beside.difference(present, proposed, by=acting.caller.user)
    return Checked(valid=True, errors=[], tests=len(checked.trials), diff=difference)


@routes.post(ONE + "/policy/rollback", openapi_extra=needs(Permission.POLICIES_MANAGE))
async def roll_back(space: str, body: PolicyBack, acting: TheActing, version: TheVersion, response: Response) -> Policy:
    """Put the text of an earlier version in force again, as a new version."""

    async def asked(session: AsyncSession, member: Member) -> tuple[str, str]:
        back = await documents.version(session, member.organization, space, body.version)
        return back.text, f"back to version {back.number}"

    return _tagged(response, await _put_in_force(acting, space, asked, expected=version))


@routes.post(ONE + "/can-i", openapi_extra=needs(Permission.SPACES_READ))
async def can_i(space: str, body: MayAsked, acting: TheActing, hub: TheHub) -> May:
    """Whether somebody may do that, and why; answered as the Teamspace would. About others with `policies.read` alone."""
    condition = (
        ()
        if body.condition is None
        else serve.condition_parts(
            serve.condition_from_parts((ConditionPart(body.condition.type, body.condition.key, body.condition.value),))
        )
    )

    async def work(session: AsyncSession, member: Member) -> Explained:
        user = await _user(session, member, body.as_user)
        return await explain.can_i(
            hub,
            session,
            member.organization,
            space,
            user=user,
            operation=body.operation,
            service=_service(body.service),
            condition=condition,
            ports=tuple(body.ports),
        )

    return May.model_validate(await acting.look(work))


async def _user(session: AsyncSession, member: Member, named: str | None) -> str:
    if named is None or named == member.user:
        return member.user
    member.need(Permission.POLICIES_READ)
    member.need(Permission.MEMBERS_READ)
    found = await session.scalar(
        select(User.id)
        .join(Membership, Membership.user_id == User.id)
        .where(
            Membership.organization_id == member.organization,
            (User.id == named) | (User.email == named.strip().lower()),
        )
    )
    if found is None:
        raise CodezeroError(problems.NOT_FOUND, "there is no such member of the organization")
    return found


def _service(text: str) -> ServiceRef:
    if "/" in text:
        return ServiceRef.parse(text)
    name, _, namespace = text.partition(".")
    return ServiceRef.parse(f"{namespace}/{name}")


def _tagged(response: Response, version: Version) -> Policy:
    versions.tag(response, version.number)
    return Policy.model_validate(version)


async def _put_in_force(
    acting: Acting,
    space: str,
    asked: Callable[[AsyncSession, Member], Awaitable[tuple[str, str]]],
    *,
    expected: int | None,
) -> Version:
    """Save the text and comment that are asked for: checked and compared before the transaction, and again where somebody else saved in between."""

    async def look(session: AsyncSession, member: Member) -> tuple[Version, tuple[str, str]]:
        before = await documents.current(session, member.organization, space)
        documents.expect(expected, before.number)
        return before, await asked(session, member)

    async def attempt() -> Version:
        before, (text, comment) = await acting.look(look)
        document = await beside.check(text, by=acting.caller.user)
        difference = await beside.difference(before, _proposed(acting, before, text), by=acting.caller.user)

        async def work(session: AsyncSession, member: Member) -> Version:
            made = await documents.save(
                acting.hub,
                session,
                member.organization,
                space,
                document=document,
                author=member.user,
                comment=comment,
                expected=before.number,
            )
            if made.number != before.number:
                await _told(session, acting, member, space, made=made, difference=difference)
            return made

        return await acting.change(work)

    for _ in range(_ATTEMPTS - 1):
        try:
            return await attempt()
        except CodezeroError as error:
            if error.problem is not problems.POLICY_CHANGED or expected is not None:
                raise
    return await attempt()


def _proposed(acting: Acting, before: Version, text: str) -> Version:
    return Version(before.number + 1, text, "", acting.caller.user, acting.hub.clock())


async def _told(
    session: AsyncSession, acting: Acting, member: Member, space: str, *, made: Version, difference: str
) -> None:
    target = {"kind": "policy", "id": space, "name": f"version {made.number}"}
    await telling.tell(
        session,
        acting.hub,
        member,
        "policy.save",
        target,
        version=made.number,
        comment=made.comment,
        difference=difference[:1000],
    )
