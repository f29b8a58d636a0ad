"""What clusters do at the Hub: join by a one-time token (T28), have their authority signed again, get another key, and leave.

The key of a Teamspace's authority is pinned when it joins. It may ask again and again for what it was given, because a cluster can die between
asking and writing the answer down; nobody else may, whatever token they show.
"""

from datetime import datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub import audit, changes
from codezero.hub.audit import Entry
from codezero.hub.authorities import TeamspaceCertificate
from codezero.hub.context import Hub
from codezero.hub.policies.bundle import bundle
from codezero.hub.signin import one_time
from codezero.hub.spaces import proofs, teamspaces
from codezero.hub.spaces.proofs import Proof
from codezero.hub.spaces.teamspaces import State
from codezero.hub.storage.tables import Organization, Space
from codezero.kit import certificates
from codezero.kit.certificates import CertificateError
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.hub_channel import Certified, JoinRequest

# As long as bundles hold: a cluster whose place another one took is told so, also when it was away.
REPLACED_FOR: Final = timedelta(days=1)
_MOST_RELEASE: Final = 64
_REPLACED: Final = "replaced-authority"


async def join(hub: Hub, request: JoinRequest, *, address: str | None) -> Certified:
    """Make the cluster that asks the Teamspace of its token. Raises `CodezeroError` (NOT_JOINED, SUSPENDED, BAD_REQUEST)."""
    wanted = _requested(request.csr)

    async def work(session: AsyncSession) -> Certified | CodezeroError:
        space = await session.scalar(
            select(Space)
            .join(Organization, Organization.id == Space.organization_id)
            .where(
                Space.join_hash == teamspaces.token_hash(hub, request.token),
                Space.removed_at.is_(None),
                Organization.deleted_at.is_(None),
            )
            .with_for_update(of=Space)
        )
        if space is None:
            return _not_joined("the join token is not one of this Hub, or another one has taken its place")
        is_used = space.join_expires_at is None
        is_again = is_used and space.authority is not None and proofs.key_of_certificate(space.authority) == wanted
        refusal = None if is_again else _refusal(hub, space)
        if refusal is not None:
            # Somebody has the token and is not the cluster that has joined: whoever looks after the Teamspace has to see that.
            await _told(session, hub, space, "space.join", address, outcome="denied", reason=refusal.detail)
            return refusal
        signed = hub.authorities.sign_teamspace(request.csr, space.id)
        is_known = space.certified_at is not None
        if space.authority is not None and not is_again:
            former = _replaced(space.id, proofs.key_of_certificate(space.authority))
            await one_time.is_first_use(session, hub, _REPLACED, former, lifetime=REPLACED_FOR)
            # That was the other one's channel, which ends.
            space.connected_at = None
        _pin(space, signed, hub.clock())
        # Remembered as one that was used: the same cluster may ask again, and another one is noticed.
        space.join_expires_at = None
        space.release = request.release[:_MOST_RELEASE]
        if not is_again:
            # That is another key; one that asks again has not made itself any.
            space.rotate_at = None
            action = "space.rejoin" if is_known else "space.join"
            await _told(session, hub, space, action, address, fingerprint=signed.fingerprint, release=space.release)
            await _tell(session, hub, space)
        return await _certified(session, hub, space, signed)

    return _raised(await hub.database.run(work))


async def certify(hub: Hub, space_id: str, proof: Proof, csr: str, *, address: str | None) -> Certified:
    """Sign the authority of a Teamspace again, with another key where that is wished for. Raises `CodezeroError` (BAD_IDENTITY, NOT_JOINED, BAD_REQUEST, NO_OTHER_KEY)."""
    wanted = _requested(csr)

    async def work(session: AsyncSession) -> Certified:
        space = await known(session, space_id)
        await proofs.use(session, hub, proof)
        if space is None or not proof.is_of(space):
            raise _unknown()
        assert space.authority is not None
        is_same = wanted == proofs.key_of_certificate(space.authority)
        if not is_same and space.rotate_at is None:
            raise CodezeroError(
                problems.NO_OTHER_KEY,
                "the Teamspace's authority keeps its key until an administrator wants another one",
                fix="czctl space rotate",
            )
        signed = hub.authorities.sign_teamspace(csr, space.id)
        # Who asks for a certificate of the old key while another one is wished for gets it, and is asked again.
        _pin(space, signed, hub.clock())
        if not is_same:
            space.rotate_at = None
            space.version += 1
        action = "space.renew" if is_same else "space.rekey"
        await _told(session, hub, space, action, address, fingerprint=signed.fingerprint)
        await _tell(session, hub, space)
        return await _certified(session, hub, space, signed)

    return await hub.database.run(work)


async def leave(hub: Hub, space_id: str, proof: Proof, *, address: str | None) -> None:
    """A cluster is a Teamspace no more: it was uninstalled. Raises `CodezeroError` (BAD_IDENTITY)."""

    async def work(session: AsyncSession) -> None:
        space = await known(session, space_id)
        await proofs.use(session, hub, proof)
        if space is None or not proof.is_of(space):
            raise _unknown()
        await _told(session, hub, space, "space.leave", address)
        # Its name, policy and audit stay: it may be installed again.
        space.state = State.INVITED.value
        space.authority = space.fingerprint = space.join_hash = space.join_expires_at = None
        space.certified_at = space.connected_at = space.rotate_at = None
        space.host = space.port = None
        space.version += 1
        await _tell(session, hub, space)

    await hub.database.run(work)


async def known(session: AsyncSession, space: str) -> Space | None:
    """A Teamspace that is not removed, whoever it belongs to: only for those who have shown to be it."""
    return await session.scalar(
        select(Space)
        .join(Organization, Organization.id == Space.organization_id)
        .where(Space.id == space, Space.removed_at.is_(None), Organization.deleted_at.is_(None))
    )


async def is_replaced(session: AsyncSession, hub: Hub, space: Space, proof: Proof) -> bool:
    """Whether the proof is by a cluster whose place as that Teamspace another one took, lately."""
    if proof.is_of(space):
        return False
    found = await one_time.find(session, hub, _REPLACED, _replaced(space.id, proof.authority))
    return found is not None and hub.clock() < found.expires_at


async def known_once(session: AsyncSession, space: str) -> Space | None:
    """As `known`, also of one that was removed: it has yet to hear that."""
    return await session.get(Space, space)


def _requested(csr: str) -> bytes:
    try:
        return proofs.key_of_request(certificates.requested_key(csr))
    except CertificateError as error:
        raise CodezeroError(problems.BAD_REQUEST, str(error)) from None


def _replaced(space: str, key: bytes) -> str:
    return f"{space} {key.hex()}"


def _refusal(hub: Hub, space: Space) -> CodezeroError | None:
    if space.join_expires_at is None:
        return _not_joined("the join token was used by another cluster, or by an earlier installation of this one")
    if hub.clock() >= space.join_expires_at:
        return _not_joined("the join token has expired")
    if space.suspended_at is not None:
        return CodezeroError(
            problems.SUSPENDED, f"Teamspace {space.name} is suspended", fix=f"czctl space resume {space.name}"
        )
    return None


def _pin(space: Space, signed: TeamspaceCertificate, now: datetime) -> None:
    space.authority, space.fingerprint = signed.pem, signed.fingerprint
    space.certified_at = space.certified_at or now
    if space.suspended_at is None:
        space.state = State.CERTIFIED.value


async def _certified(session: AsyncSession, hub: Hub, space: Space, signed: TeamspaceCertificate) -> Certified:
    return Certified(
        space=space.id,
        organization=space.organization_id,
        name=space.name,
        certificate=signed.pem,
        root=hub.authorities.root_pem,
        device_issuers=hub.authorities.device_issuer_pem,
        jwks=msgspec.json.encode(hub.authorities.jwks()).decode(),
        policy=(await bundle(hub, session, space.id)).decode(),
    )


async def _tell(session: AsyncSession, hub: Hub, space: Space) -> None:
    await changes.tell(session, hub, "space", organization=space.organization_id, space=space.id, what=space.id)


async def _told(
    session: AsyncSession,
    hub: Hub,
    space: Space,
    action: str,
    address: str | None,
    *,
    outcome: str = "ok",
    **details: object,
) -> None:
    actor, at = {"kind": "space", "id": space.id, "name": space.name}, hub.clock()
    entry = Entry(actor, action, teamspaces.target_of(space), outcome, details, address=address, at=at)
    await audit.record(session, space.organization_id, entry)


def _raised(answer: Certified | CodezeroError) -> Certified:
    if isinstance(answer, CodezeroError):
        raise answer
    return answer


def _not_joined(why: str) -> CodezeroError:
    return CodezeroError(problems.NOT_JOINED, why, fix="czctl space join-token NAME gives another one")


def _unknown() -> CodezeroError:
    return CodezeroError(
        problems.NOT_JOINED,
        "the Hub does not know this Teamspace, or not by this key",
        fix="czctl space join-token NAME gives a token by which it joins again",
    )
