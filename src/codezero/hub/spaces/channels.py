"""The channel of one Teamspace, for as long as its Orchestrator holds it: policy, keys and decisions go down, pictures and events come up.

Each channel listens to what changes by itself, so that it does not matter which of the Hub's replicas holds it. Of two channels of one Teamspace the
newer one stays: the Orchestrator that was active before has not noticed yet.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import msgspec
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from codezero import __version__
from codezero.hub import audit
from codezero.hub.audit import Entry
from codezero.hub.context import Hub
from codezero.hub.policies import bundle as bundles
from codezero.hub.signals import Changed
from codezero.hub.spaces import joining, pictures, proofs, teamspaces
from codezero.hub.spaces.pictures import Live
from codezero.hub.spaces.proofs import Proof
from codezero.hub.storage.tables import Membership, Space, User
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.model import cedar, problems
from codezero.model.access import Bundle
from codezero.model.ids import is_ulid, new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport.messages import decoded
from codezero.wire import policy_file
from codezero.wire.hub_channel import (
    HELLO_SECONDS,
    MAX_MESSAGE,
    PING_SECONDS,
    PROTOCOL_VERSIONS,
    SILENT_SECONDS,
    Acknowledged,
    CatalogTold,
    EndSession,
    EndVariant,
    EntryMoved,
    Event,
    Events,
    Farewell,
    FromTeamspace,
    Hello,
    KeysPush,
    Ping,
    PolicyPush,
    PresenceTold,
    Rotate,
    ToTeamspace,
    Welcome,
)

# What changes in between goes with one bundle.
GATHER_SECONDS: Final = 0.05
# A bundle holds for a day; a Teamspace whose Hub goes away has most of it.
PUSH_AGAIN_SECONDS: Final = 3600.0
SEEN_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.5
# With a key that was the pinned one until a moment ago, for mounts of Secrets follow slowly.
OLD_KEY_SECONDS: Final = 180.0
# What one Teamspace may say: a catalog of 10,000 services in a second.
BYTES_A_SECOND: Final = 8e6
LEAST_PAUSE_SECONDS: Final = 0.001
CHANNEL: Final = "channel"

_NOTHING: Final[dict[str, Any]] = {"templates": {}, "staticPolicies": {}, "templateLinks": []}

_IN_BUNDLES: Final = frozenset({"member", "user", "device", "apikey", "organization", "policy", "space"})
_ACTION: Final = re.compile(r"(session|consume|serve|stream|events)\.[a-z-]{1,40}")
# Clocks differ, and events wait while the Hub is away.
_OLDEST: Final = timedelta(days=31)
_NEWEST: Final = timedelta(minutes=5)

_DECODER: Final[msgspec.msgpack.Decoder[FromTeamspace]] = msgspec.msgpack.Decoder(FromTeamspace)
_ENCODER: Final = msgspec.msgpack.Encoder()

_log = get_logger("channel")

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


class Channel:
    """One channel of a Teamspace that has proven itself. `send` and `receive` carry whole messages; `receive` raises EOFError at the end."""

    def __init__(self, hub: Hub, space: str, organization: str, proof: Proof, *, send: Send, receive: Receive) -> None:
        """Use `opened`, which looks at the proof."""
        self._hub = hub
        self._space = space
        self._organization = organization
        self._proof = proof
        self._send_bytes = send
        self._receive_bytes = receive
        self._id = new_ulid()
        self._live = Live()
        self._is_dirty = asyncio.Event()
        self._next_end: datetime | None = None
        self._keys: KeysPush | None = None
        self._rotation: datetime | None = None
        self._old_key_since: float | None = None
        # When it was sent, by the loop's clock.
        self._orders: dict[str, float] = {}
        self._is_displaced = False

    async def run(self) -> None:
        """Until it ends, for whatever reason; the Teamspace is told why."""
        try:
            # Listened to before anything is read: what changes in between is heard.
            changed = self._hub.signals.changes()
            await self._begin()
            _log.info("channel stands", space=self._space)
            async with task_group("channel") as tasks:
                beside = [
                    tasks.start("listen", self._listen(changed)),
                    tasks.start("push", self._push()),
                    tasks.start("keep", self._keep_pictures()),
                    tasks.start("live", self._show_life()),
                ]
                try:
                    await self._receive()
                finally:
                    for task in beside:
                        task.cancel()
        except* EOFError:
            _log.info("channel gone", space=self._space)
        except* TimeoutError:
            _log.info("channel silent", space=self._space)
        except* (SQLAlchemyError, OSError) as errors:
            _log.warning("channel ended, the database does not answer", error=type(errors.exceptions[0]).__name__)
            await self._part(CodezeroError(problems.DATABASE_BUSY, "the Hub's database does not answer"))
        except* CodezeroError as errors:
            await self._part(cast("CodezeroError", errors.exceptions[0]))
        finally:
            await self._leave()

    # --- beginning and end -------------------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        async with asyncio.timeout(HELLO_SECONDS):
            hello = decoded(await self._receive_bytes(), _DECODER, limit=MAX_MESSAGE)
        if not isinstance(hello, Hello):
            raise CodezeroError(problems.PROTOCOL, f"{type(hello).__name__} came instead of Hello")
        common = set(hello.versions) & set(PROTOCOL_VERSIONS)
        if not common:
            raise CodezeroError(
                problems.VERSIONS,
                f"the Teamspace speaks versions {list(hello.versions)[:10]}, this Hub {list(PROTOCOL_VERSIONS)}",
            )

        async def work(session: AsyncSession) -> bool:
            space = await joining.known(session, self._space)
            if space is None or await self._is_replaced(session, space):
                return False
            now = self._hub.clock()
            space.connected_at = space.seen_at = now
            space.release = hello.release[:64]
            self._hub.signals.tell(session, Changed(CHANNEL, self._organization, self._space, self._id))
            self._hub.signals.tell(session, Changed("picture", self._organization, self._space, "connection"))
            return True

        is_known = await self._hub.database.run(work)
        await self._send(Welcome(max(common), __version__))
        if not is_known:
            await self._say_it_is_over()
        await self._push_keys()
        await self._push_policy()
        await self._give_orders()
        if hello.host is not None and hello.port is not None:
            await self._moved(hello.host, hello.port)
        await self._look_at_space()

    async def _part(self, error: CodezeroError) -> None:
        retry = error.problem not in (problems.VERSIONS, problems.PROTOCOL)
        _log.info("channel ended", space=self._space, code=error.problem.code, reason=error.detail)
        try:
            async with asyncio.timeout(2.0):
                await self._send(Farewell(error.problem.code, error.detail[:1000], retry))
        except (EOFError, TimeoutError):
            pass  # it is gone already

    async def _leave(self) -> None:
        async def work(session: AsyncSession) -> None:
            space = await joining.known(session, self._space)
            # Another channel may have taken over, which notes itself.
            if space is not None and not self._is_displaced:
                space.connected_at = None
                self._hub.signals.tell(session, Changed("picture", self._organization, self._space, "connection"))

        try:
            await self._hub.database.run(work)
        except (CodezeroError, SQLAlchemyError, OSError) as error:
            _log.warning("end of a channel not noted", space=self._space, error=type(error).__name__)

    async def _present(self, session: AsyncSession) -> Space:
        """The Teamspace, which may be no more, or believed by another key."""
        space = await joining.known(session, self._space)
        if space is None or space.authority is None or await self._is_replaced(session, space):
            raise CodezeroError(problems.NOT_JOINED, "this Teamspace is no more")
        return space

    async def _is_replaced(self, session: AsyncSession, space: Space) -> bool:
        return await joining.is_replaced(session, self._hub, space, self._proof)

    async def _say_it_is_over(self) -> None:
        """What is open in a Teamspace that is no more has to end, also where it was away when it was removed, or another cluster took its place.

        Raises `CodezeroError` (NOT_JOINED).
        """
        self._is_displaced = True

        async def work(session: AsyncSession) -> tuple[bytes, bool]:
            space = await joining.known(session, self._space)
            content = await bundles.bundle(self._hub, session, self._space, also_removed=True)
            return _closing(content), space is not None

        last, is_replaced = await self._hub.database.run(work)
        await self._send(PolicyPush(last))
        if is_replaced:
            raise CodezeroError(problems.NOT_JOINED, "another cluster has taken the place of this one at the Hub")
        raise CodezeroError(problems.NOT_JOINED, "this Teamspace is no more at the Hub")

    # --- down --------------------------------------------------------------------------------------------------------------------------

    async def _listen(self, changes: AsyncIterator[Changed | None]) -> None:
        async for changed in changes:
            await self._hear(changed)

    async def _hear(self, changed: Changed | None) -> None:
        if changed is None:
            await self._look_at_space()
            await self._give_orders()
            self._is_dirty.set()
            return
        if changed.kind == "authority":
            await self._push_keys()
        if changed.organization != self._organization or changed.space not in {None, self._space}:
            return
        match changed.kind:
            case "channel":
                if changed.id == self._id:
                    return
                self._is_displaced = True
                raise CodezeroError(problems.SPACE_AWAY, "a newer channel of this Teamspace took its place")
            case teamspaces.ORDER:
                await self._give_orders()
            case kind if kind in _IN_BUNDLES:
                self._is_dirty.set()
                if kind in {"space", "organization"}:
                    await self._look_at_space()
            case _:
                pass

    async def _give_orders(self) -> None:
        """Tell what administrators decided and was not told yet; done twice it is done once."""
        async with self._hub.database.reading() as session:
            orders = await teamspaces.orders(session, self._hub, self._space)
        for order in orders:
            if order.id in self._orders:
                continue
            self._orders[order.id] = asyncio.get_running_loop().time()
            kind = EndSession if order.kind == teamspaces.END_SESSION else EndVariant
            await self._send(kind(order.subject, order.reason))

    async def _forget_orders(self) -> None:
        """Those that have arrived: a Teamspace that was gone when they were sent would have been silent for too long by now, and hears them again."""
        before = asyncio.get_running_loop().time() - SILENT_SECONDS
        arrived = [order for order, sent in self._orders.items() if sent < before]
        if arrived:
            await self._hub.database.run(
                lambda session: teamspaces.forget_orders(session, self._hub, self._space, arrived)
            )
        for order in arrived:
            del self._orders[order]

    async def _look_at_space(self) -> None:
        async with self._hub.database.reading() as session:
            space = await joining.known(session, self._space)
            is_over = space is None or await self._is_replaced(session, space)
            is_pinned = space is not None and self._proof.is_of(space)
            wanted = None if space is None else space.rotate_at
        if is_over:
            await self._say_it_is_over()
        now = asyncio.get_running_loop().time()
        if is_pinned:
            self._old_key_since = None
        elif self._old_key_since is None:
            self._old_key_since = now
        elif now - self._old_key_since > OLD_KEY_SECONDS:
            raise CodezeroError(problems.BAD_IDENTITY, "the Teamspace has another key by now")
        if wanted is not None and wanted != self._rotation:
            await self._send(Rotate(wanted.timestamp()))
        self._rotation = wanted

    async def _push(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._push_again_in()):
                    await self._is_dirty.wait()
            except TimeoutError:
                pass  # so that it does not expire, and says which keys have
            await asyncio.sleep(GATHER_SECONDS)
            self._is_dirty.clear()
            await self._push_policy()

    def _push_again_in(self) -> float:
        if self._next_end is None:
            return PUSH_AGAIN_SECONDS
        return min(PUSH_AGAIN_SECONDS, max(0.0, (self._next_end - self._hub.clock()).total_seconds()))

    async def _push_policy(self) -> None:
        async def count(session: AsyncSession) -> None:
            await bundles.next_serial(self._hub, session, self._space)

        content: bytes | None = None
        try:
            # Others write while it is read and put together.
            await self._hub.database.run(count)
            async with self._hub.database.reading() as session:
                space = await joining.known(session, self._space)
                if space is not None and not await self._is_replaced(session, space):
                    content = await bundles.present(self._hub, session, space)
                    self._next_end = await bundles.next_end(self._hub, session, self._organization)
        except CodezeroError as error:
            if error.problem is not problems.NOT_FOUND:
                raise
        if content is None:
            await self._say_it_is_over()
        else:
            await self._send(PolicyPush(content))

    async def _push_keys(self) -> None:
        authorities = self._hub.authorities
        keys = KeysPush(msgspec.json.encode(authorities.jwks()).decode(), authorities.device_issuer_pem)
        if keys != self._keys:
            self._keys = keys
            await self._send(keys)

    async def _show_life(self) -> None:
        seen = 0.0
        while True:
            await asyncio.sleep(PING_SECONDS)
            await self._send(Ping())
            # Another replica may have renewed them, and read them after the signal.
            await self._push_keys()
            await self._look_at_space()
            await self._forget_orders()
            seen += PING_SECONDS
            if seen >= SEEN_SECONDS:
                seen = 0.0
                await self._hub.database.run(self._seen)

    async def _seen(self, session: AsyncSession) -> None:
        space = await self._present(session)
        space.seen_at = self._hub.clock()

    # --- up ----------------------------------------------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            async with asyncio.timeout(SILENT_SECONDS):
                content = await self._receive_bytes()
            await self._take(decoded(content, _DECODER, limit=MAX_MESSAGE))
            # Others want their turns, too, whatever this one has to say.
            await asyncio.sleep(LEAST_PAUSE_SECONDS + len(content) / BYTES_A_SECOND)

    async def _take(self, message: FromTeamspace) -> None:
        match message:
            case EntryMoved(host=host, port=port):
                await self._moved(host, port)
            case CatalogTold():
                self._live.catalog(message)
            case PresenceTold():
                self._live.presence(message)
            case Events(events=events):
                await self._told(events)
            case Ping():
                pass
            case Hello():
                raise CodezeroError(problems.PROTOCOL, "a second Hello")

    async def _moved(self, host: str, port: int) -> None:
        if not _HOST.fullmatch(host) or not 1 <= port <= 65535:
            raise CodezeroError(problems.PROTOCOL, "the Teamspace names a place that laptops cannot connect to")

        async def work(session: AsyncSession) -> None:
            space = await self._present(session)
            if (space.host, space.port) == (host, port):
                return
            space.host, space.port = host, port
            space.version += 1
            entry = Entry(
                {"kind": "space", "id": space.id, "name": space.name},
                "space.entry",
                teamspaces.target_of(space),
                details={"host": host, "port": port},
                at=self._hub.clock(),
            )
            await audit.record(session, self._organization, entry)
            self._hub.signals.tell(session, Changed("picture", self._organization, self._space, "entry"))

        await self._hub.database.run(work)

    async def _keep_pictures(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for kind in self._live.due:
                content = self._live.take(kind)

                async def work(session: AsyncSession, kind: pictures.Kind = kind, content: bytes = content) -> None:
                    await pictures.keep(session, self._hub, await self._present(session), kind, content)

                await self._hub.database.run(work)

    async def _told(self, events: Sequence[Event]) -> None:
        for event in events:
            if not _ACTION.fullmatch(event.action):
                raise CodezeroError(problems.PROTOCOL, f"{event.action[:60]!r} is no event")
        if not events:
            return

        async def work(session: AsyncSession) -> None:
            space = await self._present(session)
            names = await self._names(session, {one for event in events for one in (event.user, event.owner)})
            for event in events:
                await audit.record(session, self._organization, self._entry(event, space, names))
            self._hub.signals.tell(session, Changed("audit", self._organization))

        await self._hub.database.run(work)
        self._live.happened(tuple(events))
        await self._send(Acknowledged(max(event.number for event in events)))

    async def _names(self, session: AsyncSession, users: set[str]) -> dict[str, tuple[str, str]]:
        """Kind and name of those users who are, or were, in the organization; a Teamspace cannot speak of others."""
        wanted = [user for user in users if is_ulid(user)]
        found = await session.execute(
            select(User.id, User.kind, User.name)
            .join(Membership, Membership.user_id == User.id)
            .where(User.id.in_(wanted), Membership.organization_id == self._organization)
        )
        return {user: (kind, name) for user, kind, name in found}

    def _entry(self, event: Event, space: Space, names: dict[str, tuple[str, str]]) -> Entry:
        reporter = {"kind": "space", "id": space.id, "name": space.name}
        actor = reporter
        if event.user:
            kind, name = names.get(event.user, ("unknown", ""))
            actor = {"kind": kind, "id": event.user[:64], "name": name}
        service = None if event.service is None else str(event.service)
        target = reporter if service is None else {"kind": "service", "id": service, "name": service}
        details = {
            "space": space.id,
            "device": event.device,
            "session": event.session,
            "variant": event.variant,
            "owner": event.owner,
            "detail": event.detail,
            "count": event.count,
            "consumed": [str(ref) for ref in event.consumed] or None,
        }
        return Entry(
            actor,
            event.action,
            target,
            outcome="denied" if event.action == "stream.refuse" else "ok",
            details={name: value for name, value in details.items() if value not in ("", None)},
            source=f"{space.id}:{event.id}",
            at=self._moment(event.at),
        )

    def _moment(self, at: float) -> datetime:
        now = self._hub.clock()
        try:
            told = datetime.fromtimestamp(at, UTC)
        except (ValueError, OverflowError, OSError):
            return now
        return told if now - _OLDEST <= told <= now + _NEWEST else now

    async def _send(self, message: ToTeamspace) -> None:
        content = _ENCODER.encode(message)
        assert len(content) <= MAX_MESSAGE
        await self._send_bytes(content)


_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9a-fA-F:.]{2,45}")


async def opened(hub: Hub, header: str | None, space: str, *, send: Send, receive: Receive) -> Channel:
    """The channel of a Teamspace that proves itself by `header`; raises `CodezeroError` (BAD_IDENTITY, NOT_JOINED)."""
    proof = proofs.read(hub, header, space, by_part=True)

    async def work(session: AsyncSession) -> str:
        found = await joining.known_once(session, space)
        await proofs.use(session, hub, proof)
        # Who was replaced has yet to hear that.
        if found is None or not (proof.is_of(found) or await joining.is_replaced(session, hub, found, proof)):
            raise CodezeroError(
                problems.NOT_JOINED,
                "the Hub does not know this Teamspace, or not by this key",
                fix="czctl space join-token NAME gives a token by which it joins again",
            )
        return found.organization_id

    organization = await hub.database.run(work)
    return Channel(hub, space, organization, proof, send=send, receive=receive)


def _closing(content: bytes) -> bytes:
    """A bundle of that serial which lets nobody do anything, and says nothing about anybody."""
    held = policy_file.read(content)
    assert isinstance(held, Bundle)
    return policy_file.encode(replace(held, members={}, policies=cedar.compiled(_NOTHING), suspended=True))
