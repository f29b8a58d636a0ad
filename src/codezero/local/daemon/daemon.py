"""The Daemon: joins link, live picture, consumption, machine and local API into one process."""

import asyncio
import contextlib
import functools
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from codezero import __version__
from codezero.kit import logs, memory
from codezero.kit.tasks import Tasks, task_group
from codezero.kit.watched import Watched
from codezero.local.daemon import api, dns_server
from codezero.local.daemon.capture import Capture
from codezero.local.daemon.consumption import Consumption
from codezero.local.daemon.dns_server import NameService
from codezero.local.daemon.events import Events
from codezero.local.daemon.forwarding import Forwarder, Upstream
from codezero.local.daemon.health import Health
from codezero.local.daemon.host_client import HostClient
from codezero.local.daemon.link import Link, device_of, is_refusal
from codezero.local.daemon.machine import Machine
from codezero.local.daemon.names import NameTable, Responder
from codezero.local.daemon.picture import Picture, presences_of
from codezero.local.daemon.renewing import CLOCK_WRONG, HUB_REFUSED, RENEWAL_FAILED, Renewal
from codezero.local.daemon.served_streams import ServedStreams, check_ports
from codezero.local.daemon.serving import Held, Serving, served_view
from codezero.local.daemon.state import ServeWish, StateFolder
from codezero.local.daemon.traces import Traces
from codezero.model import problems
from codezero.model.consume import MAX_RULES, Rules, parse_namespace, parse_rules
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.serve import condition_from_parts, condition_parts
from codezero.model.services import ServiceRef
from codezero.model.sessions import Activity
from codezero.transport.tunnel import Tunnel
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.coordination import ServeAnswer, ServeEnding, ServeWanted, Traced
from codezero.wire.host_api import DNS_ADDRESS, HostMode, HostWarning
from codezero.wire.local_api import (
    ActivityView,
    ConsumeChange,
    ConsumeState,
    ConsumeView,
    HealthWarning,
    HostView,
    OrchestratorView,
    PresenceView,
    ServeChange,
    ServeEnd,
    ServeResult,
    ServesView,
    ServicesView,
    Severity,
    StatusView,
    TeamspaceView,
    TunnelState,
    TunnelView,
)

DNS_PORT = 53
# How long an answer waits for what it changed to be in place.
SETTLE_SECONDS = 2.0
# How long the answer to a serve waits for the service to be rewired.
SERVE_SECONDS = 20.0
SAVE_SECONDS = 2.0
SAVE_AGAIN_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 10.0
LEAVE_SECONDS = 2.0

NOT_SAVED = "STATE_NOT_SAVED"
TEAMSPACE_REFUSED = "TEAMSPACE_REFUSED"
TEAMSPACE_AWAY = "TEAMSPACE_NOT_CONNECTED"
PICTURE_STALE = "PICTURE_STALE"
CLUSTER_NOT_SEEN = "CLUSTER_NOT_SEEN"
NOTHING_ALLOWED = "NOTHING_ALLOWED"
NAME_SERVERS = "NAME_SERVERS"
NAME_SERVER_LOOPS = "NAME_SERVER_LOOP"

_SIGN_IN_AGAIN = (
    "czctl start, which is all that a machine with an API key needs; else sign in again: czctl auth login --force, "
    "or ask an administrator of the organization"
)

# After these a serve may be in place nevertheless.
_UNSURE = frozenset({problems.TIMED_OUT, problems.TUNNEL_DOWN, problems.SERVE_FAILED})

_log = logs.get_logger("daemon")


@dataclass(slots=True)
class _Joined:
    """The Teamspace the Daemon is connected to, with all that belongs to it."""

    access: TeamspaceAccess
    link: Link
    picture: Picture
    consumption: Consumption
    serving: Serving
    streams: ServedStreams
    renewal: Renewal
    task: asyncio.Task[None] | None = None

    def is_of(self, access: TeamspaceAccess, device: str) -> bool:
        """Whether this is `device` in the Teamspace of `access`."""
        return (self.access.teamspace, self.serving.device) == (access.teamspace, device)

    def goes_on_by(self, access: TeamspaceAccess) -> bool:
        """Whether the tunnel that stands is as good by `access`: of this device, at the same Teamspace, and for the same person."""
        now, tunnel = self.access, self.link.tunnel.value
        return (
            tunnel is not None
            and not tunnel.is_closed
            and self.is_of(access, str(device_of(access) or ""))
            and (now.hub is None) == (access.hub is None)
            and (now.host, now.port, now.roots, now.user) == (access.host, access.port, access.roots, access.user)
        )

    @property
    def is_settled(self) -> bool:
        """Whether admission has answered about everything, or cannot at the moment."""
        if not self.picture.is_connected or not self.picture.is_complete:
            return self.link.tunnel.value is None
        return all(one.state is not ConsumeState.PENDING for one in self.consumption.placements.values())


class Daemon:
    """The laptop's agent, as the local API sees it. Made by `running`."""

    def __init__(
        self, host: HostClient, state: StateFolder, tasks: Tasks, *, health: Health, is_supervised: bool
    ) -> None:
        self.events = Events()
        self.table = NameTable()
        self.forwarder = Forwarder(on_loop=self._name_server_loops)
        self.traces = Traces(wanted=self._traces_wanted)
        self.capture = Capture(self._tunnel, traces=self.traces)
        self.machine = Machine(host, self.capture, self.table, health=health, stepped=self._stepped)
        self.dns_port: int | None = None
        self._health = health
        self._host = host
        self._state = state
        self._tasks = tasks
        self._is_supervised = is_supervised
        self._started = time.time()
        self._rules, self._primary_namespace = state.rules()
        self._joined: _Joined | None = None
        self._switching = asyncio.Lock()
        self._addresses_due = asyncio.Event()
        self._unsaved: dict[str, Callable[[], None]] = {}
        # Touched at each change of anything, for those who wait for something to become true.
        self._pulse = Watched(0)

    # --- The local API ------------------------------------------------------------------------------------------------------------------

    def status(self) -> StatusView:
        """How everything is."""
        joined = self._joined
        placements = joined.consumption.placements.values() if joined else ()
        mode = self._host.mode
        if joined is not None:
            joined.renewal.ask_soon()
        return StatusView(
            release=__version__,
            pid=os.getpid(),
            started=self._started,
            supervised=self._is_supervised,
            tunnel=joined.link.view() if joined else TunnelView(TunnelState.NONE),
            orchestrator=joined.picture.view() if joined else OrchestratorView(connected=False),
            host=HostView(
                capture=mode.capture,
                names=mode.names,
                dns=DNS_ADDRESS if self.dns_port is not None else None,
                captured_ports=self.capture.captured_ports,
                published_names=self.machine.published_names,
            ),
            consumed=sum(one.state in {ConsumeState.ENABLED, ConsumeState.UNREADY} for one in placements),
            rules=len(self._rules.rules),
            primary_namespace=self._primary_namespace,
            teamspace=_teamspace_view(joined) if joined else None,
            served=len(joined.serving.held) if joined else 0,
            warnings=(*self._health.warnings, *self._connection_warnings(joined), *_serve_warnings(joined)),
            hub=joined.renewal.view if joined else None,
        )

    async def select_teamspace(self, access: TeamspaceAccess) -> None:
        """Connect to that Teamspace instead of the one before, whose connections end. Raises `CodezeroError` with nothing changed.

        The same Teamspace again, with a renewed certificate or another address, keeps its session; a tunnel that stands goes on where the Teamspace
        is where it was.
        """
        async with self._switching:
            before = self._joined
            if before is not None and before.access == access:
                before.link.hurry()
                joined = before
            elif before is not None and before.goes_on_by(access):
                joined = before
                self._use(before, access)
                before.renewal.use(access)
            else:
                joined = self._prepare(access)
                is_other = before is not None and not before.is_of(access, joined.serving.device)
                self._save("teamspace", lambda: self._state.save_teamspace(access))
                await self._leave("another Teamspace was selected", for_good=is_other)
                await self._join(joined)
        # Most Teamspaces answer within this time, and then the caller sees how it went.
        await self._until(lambda: joined.link.tunnel.value is not None or joined.link.attempt.value.cause is not None)

    async def forget_teamspace(self) -> None:
        """Leave the Teamspace and drop its key."""
        async with self._switching:
            self._save("teamspace", lambda: self._state.save_teamspace(None))
            await self._leave("the Teamspace was left", for_good=True)

    def services(self) -> ServicesView:
        """The catalog."""
        joined = self._teamspace()
        catalog = joined.consumption.catalog
        return ServicesView(tuple(catalog[ref] for ref in sorted(catalog)), joined.picture.stale_since)

    def consume(self) -> ConsumeView:
        """The rules and what they let in."""
        return self._consume_view(self._joined.consumption if self._joined else None)

    async def change_consume(self, change: ConsumeChange) -> ConsumeView:
        """Change the rules; what they let in is in place when this returns, unless it takes long. Raises `CodezeroError` with nothing changed."""
        rules, primary_namespace = self._changed_rules(change)
        await self._use_rules(rules, primary_namespace)
        return self.consume()

    def test_consume(self, change: ConsumeChange) -> ConsumeView:
        """What a change would let in."""
        rules, primary_namespace = self._changed_rules(change)
        if self._joined is None:
            return ConsumeView(rules.lines, primary_namespace, ())
        return self._consume_view(self._joined.consumption.preview(rules, primary_namespace=primary_namespace))

    async def select_primary_namespace(self, namespace: str | None) -> ConsumeView:
        """Choose whose services answer to bare names; raises `CodezeroError` when a rule needs one."""
        primary_namespace = parse_namespace(namespace) if namespace is not None else None
        rules = parse_rules(self._rules.lines, primary_namespace=primary_namespace)
        await self._use_rules(rules, primary_namespace)
        return self.consume()

    def serves(self) -> ServesView:
        """What this laptop serves."""
        joined = self._joined
        return ServesView(joined.serving.view(joined.consumption.catalog) if joined else ())

    async def serve(self, change: ServeChange) -> ServeResult:
        """Serve a service, or tell what that would do; the variant answers when this returns, unless it takes long.

        Raises `CodezeroError` with nothing changed, except where no answer came: then its text says that it may still be done.
        """
        joined = self._teamspace()
        wanted = _wanted(change, at=time.time())
        await joined.picture.until_connected()
        if wanted.preview:
            return self._serve_result(joined, wanted.service, await joined.picture.order(wanted))
        wish = ServeWish(wanted.service, wanted.condition, wanted.ports, wanted.mirror, time.time())
        # Known and kept before it is asked for: the variant is ours also when we die before the answer.
        joined.serving.wish(wish)
        self._serves_changed(joined)
        try:
            answer = await joined.picture.order(wanted)
        except CodezeroError as error:
            if error.problem not in _UNSURE:
                joined.serving.withdraw(wish)
                self._serves_changed(joined)
            raise
        is_wanted = joined.serving.withdraw(wish)
        if answer.variant is not None and not is_wanted and answer.variant.variant_id not in joined.serving.held:
            await self._tell_ended(joined, wanted.service, (answer.variant.variant_id,))
            raise CodezeroError(
                problems.SERVE_UNKNOWN, f"the serve of {wanted.service} was ended before it began", fix="serve it again"
            )
        if answer.variant is not None:
            joined.serving.hold(wanted.service, answer.variant, at=time.time())
            self._reconcile(joined)
        self._serves_changed(joined)
        if answer.variant is not None:
            key, catalog = answer.variant.variant_id, joined.consumption.catalog
            await self._until(
                lambda: joined.serving.is_settled(key, catalog) or self._joined is not joined, seconds=SERVE_SECONDS
            )
        return self._serve_result(joined, wanted.service, answer)

    async def end_serve(self, change: ServeEnd) -> ServeResult:
        """End variants of a service: those named, or all of this laptop's. Raises `CodezeroError`."""
        joined = self._teamspace()
        service = ServiceRef.parse(change.service)
        ids = tuple(dict.fromkeys(change.variants)) or joined.serving.of(service)
        if not change.variants and joined.serving.withdraw_all(service):
            # Its answer never came; if it was made nevertheless, it is ended as soon as the catalog shows it.
            self._serves_changed(joined)
            if not ids:
                return ServeResult()
        if not ids and joined.serving.dismiss(service):
            # Ended by somebody else, as status says until the user agrees.
            self._serves_told()
            return ServeResult()
        if not ids:
            raise CodezeroError(problems.SERVE_UNKNOWN, f"this laptop does not serve {service}", fix="czctl serve list")
        joined.serving.expect_end(ids, at=time.time())
        answer = await joined.picture.order(ServeEnding(0, service, ids, change.reason))
        self._release(joined, ids)
        return self._serve_result(joined, service, answer)

    async def reset(self) -> ConsumeView:
        """End everything the user consumes and serves."""
        await self._use_rules(Rules(), self._primary_namespace)
        if self._joined is not None:
            await self._end_all(self._joined)
        return self.consume()

    def presence(self) -> PresenceView:
        """Who is connected."""
        return PresenceView(presences_of(self._teamspace().picture.presences))

    def activity(self) -> ActivityView:
        """What happened."""
        return ActivityView(tuple(self._teamspace().picture.activities))

    async def shut_down(self) -> None:
        """Stop, and put the machine back."""
        _log.info("asked to stop")
        await self._host.stop()

    # --- Life ---------------------------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Join the Teamspace of last time, if there is one."""
        access = self._state.teamspace()
        for warning in self._state.warnings:
            self._health.add(warning)
        self._update_names()
        if access is None:
            return
        async with self._switching:
            try:
                joined = self._prepare(access)
            except CodezeroError as error:
                self._health.warn(TEAMSPACE_REFUSED, error.detail, fix=error.fix, severity=Severity.ERROR)
                return
            await self._join(joined)

    async def end(self) -> None:
        """Withdraw the names, leave the Teamspace, end all connections."""
        self.machine.leave_names()
        self.events.close()
        self.traces.close()
        async with self._switching:
            joined, self._joined = self._joined, None
            if joined is not None:
                await self._part(joined, for_good=True)
        self.forwarder.close()
        self.capture.close(_over("Codezero was stopped on this laptop"))

    def hear_host(self, message: HostMode | HostWarning) -> None:
        """The Supervisor says something unasked."""
        if isinstance(message, HostMode):
            self._use_name_servers(message)
        elif message.text:
            self._health.warn(message.code, message.text, fix=message.fix)
        else:
            self._health.clear(message.code)
        self.events.publish("status")

    async def tell_warnings(self) -> None:
        """Publish changes of warnings, for as long as this runs."""
        async for _ in self._health.changes.changes():
            self.events.publish("status")

    async def keep_addresses(self) -> None:
        """Save the virtual addresses now and then when they changed, for as long as this runs."""
        saved: dict[str, str] = {}
        while True:
            await self._addresses_due.wait()
            await asyncio.sleep(SAVE_SECONDS)
            self._addresses_due.clear()
            joined = self._joined
            known = joined.consumption.plan.known() if joined else saved
            if joined is None or known == saved:
                continue
            saved = known
            save = functools.partial(self._state.save_addresses, joined.access.teamspace, known)
            try:
                await asyncio.to_thread(save)
            except OSError as error:
                self._not_saved("addresses", save, error)

    async def save_again(self) -> None:
        """Save what could not be saved, as soon as it can be, for as long as this runs."""
        while True:
            await asyncio.sleep(SAVE_AGAIN_SECONDS)
            for what, save in tuple(self._unsaved.items()):
                self._save(what, save)

    async def keep_serves(self) -> None:
        """Look again now and then at what the catalog says of our variants, for as long as this runs: what time decides brings no message."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            if self._joined is not None:
                self._reconcile(self._joined)

    # --- Teamspace ----------------------------------------------------------------------------------------------------------------------

    def _prepare(self, access: TeamspaceAccess) -> _Joined:
        device = str(device_of(access) or "")
        before = self._joined
        if before is not None and before.is_of(access, device):
            serving = before.serving
        else:
            serving = Serving(self._state.serves(access.teamspace, device))
        streams = ServedStreams(serving, self._tasks, changed=self._serves_told, traces=self.traces)
        consumption = Consumption(
            self._state.plan(access.teamspace), self._rules, primary_namespace=self._primary_namespace
        )
        link = Link(
            access,
            session=self._state.session(access.teamspace),
            save_session=lambda session: self._save(
                "session", lambda: self._state.save_session(access.teamspace, session)
            ),
            acceptor=streams.accept,
        )
        picture = Picture(
            consumption,
            name=socket.gethostname()[:63],
            user_name=access.user,
            changed=self._picture_changed,
            happened=functools.partial(self._happened, serving),
            catalog_changed=serving.note_catalog,
            traced=self._traced,
        )
        picture.want_traces(self.traces.are_wanted)
        renewal = Renewal(
            access,
            health=self._health,
            renewed=lambda access: self._renewed(link, access),
            changed=lambda: self.events.publish("status"),
        )
        return _Joined(access, link, picture, consumption, serving, streams, renewal)

    def _renewed(self, link: Link, access: TeamspaceAccess) -> None:
        """The Hub has renewed our certificate: it is kept, and used from the next connection on."""
        joined = self._joined
        if joined is not None and joined.link is link:
            self._use(joined, access)

    def _use(self, joined: _Joined, access: TeamspaceAccess) -> None:
        joined.link.use(access)
        joined.access = access
        self._save("teamspace", lambda: self._state.save_teamspace(access))
        if joined.link.tunnel.value is None:
            joined.link.hurry()
        self.events.publish("status")

    async def _join(self, joined: _Joined) -> None:
        self._joined = joined
        # They may have changed while the Teamspace before was being left.
        joined.consumption.replace_rules(self._rules, primary_namespace=self._primary_namespace)
        self._update_names()
        self.machine.leave_ports(joined.serving.local_ports)
        await self.machine.follow(joined.consumption)
        joined.task = self._tasks.start("teamspace", self._live_in(joined))
        self._publish_all()

    async def _leave(self, why: str, *, for_good: bool) -> None:
        joined, self._joined = self._joined, None
        if joined is None:
            return
        self._update_names()
        for code in (TEAMSPACE_REFUSED, HUB_REFUSED, RENEWAL_FAILED, CLOCK_WRONG):
            self._health.clear(code)
        self.machine.leave_ports(frozenset())
        await self.machine.follow(None)
        self.capture.release_all(_over(why))
        await self._part(joined, for_good=for_good)
        self._publish_all()

    async def _part(self, joined: _Joined, *, for_good: bool) -> None:
        if for_good:
            # Serves end with their session.
            await joined.picture.leave()
            self._save("session", lambda: self._state.save_session(joined.access.teamspace, None))
            self._save("serves", lambda: self._state.save_serves(None))
        if joined.task is not None:
            joined.task.cancel()
            await asyncio.wait((joined.task,), timeout=LEAVE_SECONDS)

    async def _live_in(self, joined: _Joined) -> None:
        async with task_group("teamspace") as tasks:
            tasks.start_service("link", joined.link.keep())
            tasks.start_service("renewal", joined.renewal.keep())
            tasks.start_service("picture", self._follow_picture(joined))
            tasks.start_service("link-changes", self._follow_link(joined.link, joined.renewal))
            await asyncio.get_running_loop().create_future()

    async def _follow_picture(self, joined: _Joined) -> None:
        async for tunnel in joined.link.tunnel.changes():
            if tunnel is not None:
                await joined.picture.follow(tunnel)

    async def _follow_link(self, link: Link, renewal: Renewal) -> None:
        async for attempt in link.attempt.changes():
            cause = attempt.cause
            if link.tunnel.value is not None:
                self._health.clear(TEAMSPACE_REFUSED)
            elif cause is not None and is_refusal(cause):
                # What a Teamspace says as it ends a tunnel has no fix with it.
                fix = cause.fix or (_SIGN_IN_AGAIN if link.access.hub is not None else None)
                self._health.warn(TEAMSPACE_REFUSED, cause.detail, fix=fix, severity=Severity.ERROR)
                if cause.problem is not problems.VERSIONS:
                    # A certificate that ran out is replaced; of a device that was revoked the Hub says so.
                    renewal.hurry()
            self.events.publish("status")
            self._pulse.touch()

    def _connection_warnings(self, joined: _Joined | None) -> tuple[HealthWarning, ...]:
        """What is wrong between us and the Teamspace; looked at when asked, so that it is never later than the rest of the status."""
        if joined is None or any(one.code == TEAMSPACE_REFUSED for one in self._health.warnings):
            return ()
        tunnel = joined.link.view()
        if tunnel.state is not TunnelState.CONNECTED:
            if tunnel.cause is None:
                return ()
            text = f"the Teamspace is not connected, consumed services do not answer: {tunnel.cause}"
            return (
                HealthWarning(TEAMSPACE_AWAY, Severity.WARNING, text, "check the network; it is tried again by itself"),
            )
        return _picture_warnings(joined.picture)

    def _tunnel(self) -> Tunnel | None:
        tunnel = self._joined.link.tunnel.value if self._joined is not None else None
        return None if tunnel is None or tunnel.is_closed else tunnel

    def _teamspace(self) -> _Joined:
        if self._joined is None:
            raise CodezeroError(
                problems.NO_TEAMSPACE,
                "no Teamspace is selected",
                fix="czctl start --teamspace FILE",
            )
        return self._joined

    # --- Serving ------------------------------------------------------------------------------------------------------------------------

    def _serve_result(self, joined: _Joined, service: ServiceRef, answer: ServeAnswer) -> ServeResult:
        served = None
        if answer.variant is not None:
            held = joined.serving.held.get(answer.variant.variant_id) or Held(service, answer.variant, time.time())
            served = served_view(held, joined.consumption.catalog)
        return ServeResult(served, answer.effects, answer.taken, answer.ended)

    async def _end_all(self, joined: _Joined) -> None:
        """End all serves here and now; the Teamspace is told at once, or when it shows one that is not ours any more."""
        joined.serving.dismiss()
        if joined.serving.withdraw_all():
            self._serves_changed(joined)
        services = {held.service for held in joined.serving.held.values()}
        ids = {service: joined.serving.of(service) for service in services}
        for released in ids.values():
            self._release(joined, released)
        await asyncio.gather(*(self._tell_ended(joined, service, ids[service]) for service in sorted(ids)))

    async def _tell_ended(self, joined: _Joined, service: ServiceRef, ids: tuple[str, ...]) -> None:
        try:
            await joined.picture.order(ServeEnding(0, service, ids))
        except CodezeroError as error:
            _log.warning("variants could not be ended", service=str(service), reason=error.detail)
            if error.problem is problems.TUNNEL_DOWN:
                joined.serving.forget_end(ids)

    def _release(self, joined: _Joined, ids: tuple[str, ...]) -> None:
        for held in joined.serving.release(ids, at=time.time()):
            joined.streams.end(held.variant.variant_id)
        self._serves_changed(joined)

    def _reconcile(self, joined: _Joined) -> None:
        """Believe the catalog about our variants, where it is whole and current."""
        tunnel = joined.link.tunnel.value
        if not joined.picture.is_current or tunnel is None:
            return
        found = joined.serving.reconcile(
            joined.consumption.catalog,
            session=tunnel.session,
            at=time.time(),
            connected_at=joined.picture.connected_at,
        )
        for held in found.ended:
            _log.warning("a serve has ended", service=str(held.service), condition=held.condition)
            joined.streams.end(held.variant.variant_id)
        for service, variant_id in found.strangers:
            _log.warning("a variant of this laptop that it does not know is ended", service=str(service), id=variant_id)
            self._tasks.start(f"end-{variant_id}", self._tell_ended(joined, service, (variant_id,)))
        if found.changed:
            self._serves_changed(joined)

    def _serves_changed(self, joined: _Joined) -> None:
        if self._joined is not None and joined.serving is self._joined.serving:
            saved = joined.serving.saved()
            self._save("serves", lambda: self._state.save_serves(saved))
            self.machine.leave_ports(joined.serving.local_ports)
        self._serves_told()

    def _serves_told(self) -> None:
        self.events.publish("serve")
        self.events.publish("status")
        self._pulse.touch()

    def _happened(self, serving: Serving, activity: Activity) -> None:
        if serving.happened(activity):
            self.events.publish("status")
        self.events.publish("activity", activity)

    def _traces_wanted(self, wanted: bool) -> None:
        if self._joined is not None:
            self._joined.picture.want_traces(wanted)

    def _traced(self, message: Traced) -> None:
        self.traces.put(message.records, dropped=message.dropped)

    # --- Rules --------------------------------------------------------------------------------------------------------------------------

    def _changed_rules(self, change: ConsumeChange) -> tuple[Rules, str | None]:
        primary_namespace = self._primary_namespace
        if change.primary_namespace is not msgspec.UNSET:
            primary_namespace = (
                parse_namespace(change.primary_namespace) if change.primary_namespace is not None else None
            )
        # First alone, so that a mistake is told with its line in the file of the user.
        rules = parse_rules(change.rules, primary_namespace=primary_namespace)
        if change.append:
            rules = parse_rules((*self._rules.lines, *rules.lines), primary_namespace=primary_namespace)
        if len(rules.lines) > 2 * MAX_RULES:
            raise CodezeroError(problems.TOO_LARGE, f"the rules have {len(rules.lines)} lines; write fewer comments")
        return rules, primary_namespace

    async def _use_rules(self, rules: Rules, primary_namespace: str | None) -> None:
        self._rules, self._primary_namespace = rules, primary_namespace
        self._save("rules", lambda: self._state.save_rules(rules, primary_namespace=primary_namespace))
        joined = self._joined
        if joined is not None:
            joined.consumption.replace_rules(rules, primary_namespace=primary_namespace)
            joined.picture.wanted_changed()
            self.machine.changed()
        self.events.publish("consume")
        self.events.publish("status")
        if joined is not None:
            await self._until(lambda: joined.is_settled and self.machine.is_settled)

    def _consume_view(self, consumption: Consumption | None) -> ConsumeView:
        if consumption is None:
            return ConsumeView(self._rules.lines, self._primary_namespace, ())
        shadowed = consumption.shadowed_namespaces()
        warnings: tuple[HealthWarning, ...] = ()
        if shadowed:
            text = (
                f"namespaces named like domains of the internet ({', '.join(shadowed[:5])}): their services answer to "
                "service.namespace.svc, not to service.namespace"
            )
            warnings = (HealthWarning("NAMESPACE_IS_DOMAIN", Severity.INFO, text),)
        return ConsumeView(
            consumption.rules.lines,
            consumption.primary_namespace,
            tuple(
                msgspec.structs.replace(one, sessions=self.capture.sessions(one.service)) for one in consumption.view()
            ),
            warnings,
        )

    # --- What others report -------------------------------------------------------------------------------------------------------------

    def _picture_changed(self, what: str) -> None:
        if what in {"services", "consume"}:
            self._update_names()
            self.machine.changed()
        if what in {"services", "status"} and self._joined is not None:
            self._reconcile(self._joined)
        self.events.publish(what)
        if what == "services" and self._joined is not None and self._joined.serving.held:
            # How a variant's service fares is a part of how it is served.
            self.events.publish("serve")
        self._pulse.touch()

    def _stepped(self, has_changed: bool) -> None:
        if has_changed:
            self._addresses_due.set()
            self.events.publish("consume")
            self.events.publish("status")
        self._pulse.touch()

    def _update_names(self) -> None:
        """Whether a name of the cluster may be denied: not while it is still unknown which there are."""
        self.table.is_complete = self._joined is None or self._joined.picture.is_complete

    def _use_name_servers(self, mode: HostMode) -> None:
        self.forwarder.set_upstreams(mode.upstreams, own_ports=() if self.dns_port is None else (self.dns_port,))
        if mode.upstreams and not self.forwarder.upstreams:
            self._health.warn(NAME_SERVERS, f"none of the machine's name servers can be asked: {mode.upstreams}")
        else:
            self._health.clear(NAME_SERVERS)

    def _name_server_loops(self, upstream: Upstream) -> None:
        self._health.warn(
            NAME_SERVER_LOOPS,
            f"the name server {upstream} of this machine asks us, so it is not asked any more",
            fix="take 127.72.0.53 out of that server's configuration, then run `czctl restart`",
        )

    def _publish_all(self) -> None:
        for what in ("status", "services", "consume", "serve", "presence"):
            self.events.publish(what)

    # --- Small things -------------------------------------------------------------------------------------------------------------------

    def _save(self, what: str, save: Callable[[], None]) -> None:
        """Save one file of the state now, or say that it could not be and try again later."""
        try:
            save()
        except OSError as error:
            self._not_saved(what, save, error)
            return
        self._unsaved.pop(what, None)
        if not self._unsaved:
            self._health.clear(NOT_SAVED)

    def _not_saved(self, what: str, save: Callable[[], None], error: OSError) -> None:
        if what not in self._unsaved:
            _log.error("state could not be saved", what=what, reason=str(error))
        self._unsaved[what] = save
        self._health.warn(
            NOT_SAVED, f"changes will be lost when Codezero ends: {error.strerror}", fix="free space on this machine"
        )

    async def _until(self, is_true: Callable[[], bool], *, seconds: float = SETTLE_SECONDS) -> None:
        """Wait until something is true, or until an answer should not wait any longer."""
        try:
            async with asyncio.timeout(seconds):
                async for _ in self._pulse.changes():
                    if is_true():
                        return
        except TimeoutError:
            pass


def _teamspace_view(joined: _Joined) -> TeamspaceView:
    access, device = joined.access, joined.serving.device
    return TeamspaceView(
        access.teamspace,
        access.name,
        f"{access.host}:{access.port}",
        access.organization,
        access.user,
        user_id=Device.parse(device).user if device else "",
        organization_id=access.organization_id,
        device=access.device,
    )


def _serve_warnings(joined: _Joined | None) -> tuple[HealthWarning, ...]:
    if joined is None:
        return ()
    # What an old catalog says of serves is no news; that there is none at the moment is told already.
    catalog = joined.consumption.catalog if joined.picture.is_current else None
    return joined.serving.warnings(catalog, at=time.time())


def _wanted(change: ServeChange, *, at: float) -> ServeWanted:
    """The order that a request of the local API stands for; raises `CodezeroError` for what could never be served."""
    check_ports(change.ports)
    return ServeWanted(
        0,
        ServiceRef.parse(change.service),
        condition_parts(condition_from_parts(change.condition)),
        change.ports,
        at + change.expires_in if change.expires_in is not None else None,
        change.takeover,
        change.mirror,
        change.preview,
        change.restart,
    )


def _over(why: str) -> CodezeroError:
    return CodezeroError(problems.TUNNEL_DOWN, why)


def _picture_warnings(picture: Picture) -> tuple[HealthWarning, ...]:
    """What is wrong with what we know of the Teamspace while the tunnel stands."""
    if picture.closed is not None:
        fix = "ask an administrator of the Teamspace"
        return (HealthWarning(NOTHING_ALLOWED, Severity.ERROR, f"nothing may be consumed: {picture.closed}", fix),)
    if picture.is_connected and picture.stale_since is not None:
        since = datetime.fromtimestamp(picture.stale_since, UTC).strftime("%H:%M:%S")
        text = f"the Teamspace does not see its cluster since {since} UTC: what is consumed and served goes on as it was then"
        fix = "if it lasts, ask an administrator whether the cluster's API server answers"
        return (HealthWarning(CLUSTER_NOT_SEEN, Severity.WARNING, text, fix),)
    if picture.is_connected or picture.cause is None:
        return ()
    text = f"changes in the Teamspace are not seen at the moment: {picture.cause.detail}"
    return (HealthWarning(PICTURE_STALE, Severity.WARNING, text),)


@contextlib.asynccontextmanager
async def running(
    host: HostClient, state: StateFolder, *, listener: socket.socket, owner: int, is_supervised: bool
) -> AsyncGenerator[Daemon, None]:
    """A Daemon at work; the block's end ends it in order. `listener` is the bound socket of the local API.

    Raises `CodezeroError` when DNS cannot be served although the machine is to resolve names by it.
    """
    async with task_group("daemon") as tasks, contextlib.AsyncExitStack() as stack:
        daemon = Daemon(host, state, tasks, health=Health(), is_supervised=is_supervised)
        captures = host.mode.capture == "nftables"
        capture_port = await stack.enter_async_context(daemon.capture.listen_for_captured()) if captures else None
        service = NameService(Responder(daemon.table), daemon.forwarder, tasks)
        where = ("127.0.0.1", 0) if captures else (DNS_ADDRESS, DNS_PORT)
        try:
            daemon.dns_port = await stack.enter_async_context(dns_server.listen(service, *where))
        except CodezeroError as error:
            if captures or host.mode.names == "resolv.conf":
                raise
            _log.warning("no DNS server, which nothing depends on here", reason=error.detail)
        host.listen(daemon.hear_host)
        # Without nftables nothing is sent to the ports, and any stand for "ready".
        dns_port = daemon.dns_port or DNS_PORT
        await host.ready(capture_port=capture_port or dns_port, dns_port=dns_port)
        tasks.start_service("memory", memory.give_back())
        tasks.start_service("machine", daemon.machine.keep())
        tasks.start_service("warnings", daemon.tell_warnings())
        tasks.start_service("addresses", daemon.keep_addresses())
        tasks.start_service("save-again", daemon.save_again())
        tasks.start_service("serves", daemon.keep_serves())
        await stack.enter_async_context(api.serve(api.application(daemon, owner=owner), listener))
        try:
            await daemon.begin()
            yield daemon
        finally:
            await daemon.end()
