"""The shared picture: what readers put together is the truth, whatever happens in between, and nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from codezero.model.access import Effect, Operation, PolicyRule, RuleSight
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import ActivityKind, Presence, PresenceState
from codezero.model.variants import ConditionPart, PortPair, Serving, ServingState, VariantView
from codezero.orchestrator import board as boards
from codezero.orchestrator.admission import Viewer
from codezero.orchestrator.board import Board, Placed, View
from codezero.transport import messages
from codezero.wire.coordination import CatalogDelta, CatalogReport, CatalogSnapshot, PresenceChanged

ORGANIZATION = "01J00000000000000000000000"
ALICE = Device("hub", ORGANIZATION, "01J0000000000000000000000A", "01J0000000000000000000000D")
BOB = Device("hub", ORGANIZATION, "01J0000000000000000000000B", "01J0000000000000000000000E")
STRANGER = Device("hub", "01J00000000000000000000009", "01J0000000000000000000000C", "01J0000000000000000000000F")


def viewer(namespaces: Sequence[str] = ("*",), organization: str = ORGANIZATION) -> Viewer:
    rule = PolicyRule(Effect.ALLOW, (Operation.CONSUME,), namespaces=tuple(namespaces))
    return Viewer(organization, RuleSight((rule,)))


EVERYTHING = viewer()
SHOP_ONLY = viewer(["shop"])
NOTHING = Viewer(ORGANIZATION, RuleSight(), "closed")
REFS = [ServiceRef(namespace, name) for namespace in ("shop", "bank") for name in ("a", "b", "c")]


def variant(ref: ServiceRef, number: int, owner: Device = ALICE, **changes: object) -> VariantView:
    plain = VariantView(
        f"{ref}-{number}", owner.user, "anna", str(owner), SessionId("s"), (), (PortPair(80, 3000),), 0, 0.0
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def service(ref: ServiceRef, ready: int = 1) -> Service:
    # As many variants as ready pods, so that what is served changes as all else does.
    serving = Serving(ServingState.ACTIVE, tuple(variant(ref, number) for number in range(ready))) if ready else None
    return Service(ref, ServiceKind.CLUSTER_IP, (ServicePort(80),), ready=ready, total=2, serving=serving)


class Reader:
    """Does what a Daemon does with what it gets."""

    def __init__(self, board: Board, view: View, session: SessionId) -> None:
        self.board, self.view, self.session = board, view, session
        self.revision: int | None = None
        self.presence_revision: int | None = None
        self.catalog: dict[ServiceRef, Service] = {}
        self.presence: dict[SessionId, Presence] = {}
        self.stale_since: float | None = None

    def catch_up(self, *, stop_after: int | None = None) -> None:
        news = self.board.catch_up_catalog(self.view, self.revision)
        for message in news if stop_after is None else news[:stop_after]:
            self._hear(message)
        if stop_after is not None:
            return
        for message in self.board.catch_up_presence(self.view, self.presence_revision):
            self._hear_presence(message)
        self.presence_revision = self.board.presence_revision

    def _hear(self, message: CatalogSnapshot | CatalogDelta) -> None:
        self.stale_since = message.stale_since
        if isinstance(message, CatalogSnapshot):
            if message.part == 0:
                self.catalog = {}
            self.catalog |= {each.ref: each for each in message.services}
            self.revision = message.revision if message.last else None
        else:
            self.catalog |= {each.ref: each for each in message.upserts}
            for ref in message.removes:
                self.catalog.pop(ref, None)
            self.revision = message.revision

    def _hear_presence(self, message: PresenceChanged) -> None:
        if message.reset:
            self.presence = {}
        for presence in message.presences:
            if presence.state is PresenceState.GONE:
                self.presence.pop(presence.session, None)
            else:
                self.presence[presence.session] = presence


class BoardMachine(RuleBasedStateMachine):
    """Systems come, report, see nothing and go; laptops come and go; readers lag, leave and resume anywhere."""

    @initialize()
    def begin(self) -> None:
        self.board = Board()
        self.clock = 1000.0
        self.truths: dict[int, dict[ServiceRef, Service]] = {}
        self.complete: set[int] = set()
        self.next_link = 0
        self.readers = [
            Reader(self.board, self.board.join_view(each), SessionId(f"reader-{number}"))
            for number, each in enumerate((EVERYTHING, SHOP_ONLY, EVERYTHING, NOTHING))
        ]

    @rule()
    def system_joins(self) -> None:
        if len(self.truths) < 3:
            self.board.system_joined(self.next_link)
            self.truths[self.next_link] = {}
            self.next_link += 1

    @precondition(lambda self: self.truths)
    @rule(data=st.data())
    def system_leaves(self, data: st.DataObject) -> None:
        link = data.draw(st.sampled_from(sorted(self.truths)))
        del self.truths[link]
        self.complete.discard(link)
        self.board.system_left(link, at=self.clock)

    @precondition(lambda self: self.truths)
    @rule(data=st.data(), refs=st.sets(st.sampled_from(REFS)), ready=st.integers(0, 2), parts=st.integers(1, 3))
    def system_reports_everything(self, data: st.DataObject, refs: set[ServiceRef], ready: int, parts: int) -> None:
        link = data.draw(st.sampled_from(sorted(self.truths)))
        self.truths[link] = {ref: service(ref, ready) for ref in refs}
        services = list(self.truths[link].values())
        for part in range(parts):
            self.board.catalog_reported(
                link,
                CatalogReport(
                    upserts=tuple(services[part::parts]), reset=part == 0, complete=part == parts - 1, stale_since=None
                ),
                at=self.clock,
            )
        self.complete.add(link)

    @precondition(lambda self: self.complete)
    @rule(
        data=st.data(),
        upserts=st.sets(st.sampled_from(REFS)),
        removes=st.sets(st.sampled_from(REFS)),
        ready=st.integers(0, 2),
        stale=st.sampled_from([None, None, 900.0]),
    )
    def system_reports_changes(
        self,
        data: st.DataObject,
        upserts: set[ServiceRef],
        removes: set[ServiceRef],
        ready: int,
        stale: float | None,
    ) -> None:
        link = data.draw(st.sampled_from(sorted(self.complete)))
        self.truths[link] |= {ref: service(ref, ready) for ref in upserts - removes}
        for ref in removes:
            self.truths[link].pop(ref, None)
        self.board.catalog_reported(
            link,
            CatalogReport(
                upserts=tuple(service(ref, ready) for ref in upserts - removes),
                removes=tuple(removes),
                stale_since=stale,
            ),
            at=self.clock,
        )

    @rule(
        session=st.sampled_from(["s1", "s2", "s3"]),
        device=st.sampled_from([ALICE, BOB, STRANGER]),
        refs=st.sets(st.sampled_from(REFS)),
    )
    def laptop_comes_and_consumes(self, session: str, device: Device, refs: set[ServiceRef]) -> None:
        known = self.board.device_of(SessionId(session))
        self.board.arrived(SessionId(session), known or device, "laptop", at=self.clock)
        self.board.consumes(SessionId(session), refs, at=self.clock)

    @rule(session=st.sampled_from(["s1", "s2", "s3"]))
    def laptop_leaves(self, session: str) -> None:
        self.board.left(SessionId(session), at=self.clock)

    @rule(number=st.integers(0, 3))
    def reader_catches_up(self, number: int) -> None:
        self.board.advance()
        self.readers[number].catch_up()

    @rule(number=st.integers(0, 3), count=st.integers(0, 2))
    def reader_is_cut_while_it_catches_up(self, number: int, count: int) -> None:
        self.board.advance()
        self.readers[number].catch_up(stop_after=count)

    @rule(number=st.integers(0, 3), other=st.sampled_from([EVERYTHING, SHOP_ONLY, NOTHING]))
    def reader_gets_another_view(self, number: int, other: Viewer) -> None:
        reader = self.readers[number]
        self.board.leave_view(reader.view)
        reader.view = self.board.join_view(other)
        reader.presence_revision = None

    @invariant()
    def everybody_who_catches_up_has_the_truth(self) -> None:
        if not hasattr(self, "board"):
            return
        self.board.advance()
        for number, reader in enumerate(self.readers):
            if number == 2:
                continue  # lags behind, and catches up by its rule alone
            reader.catch_up()
            self._compare(reader)

    @invariant()
    def each_variant_of_the_catalog_is_found(self) -> None:
        if hasattr(self, "board"):
            catalog = self.board_catalog().values()
            assert self.board.variants == {
                view.variant_id: Placed(each.ref, view)
                for each in catalog
                if each.serving is not None
                for view in each.serving.variants
            }
            assert all(self.board.service(each.ref) == each for each in catalog)

    def _compare(self, reader: Reader) -> None:
        visible = {ref: each for ref, each in self.board_catalog().items() if reader.view.viewer.sees(ref)}
        assert reader.catalog == visible
        if self.board.catalog_known:
            assert reader.stale_since == self.board.stale_since
            assert (self.board.stale_since is None) >= bool(not self.complete) or not self.complete
        for presence in reader.presence.values():
            assert presence.device.organization == ORGANIZATION
            assert all(reader.view.viewer.sees(ref) for ref in presence.consumes)
        assert set(reader.presence) == {
            session
            for session in (SessionId("s1"), SessionId("s2"), SessionId("s3"))
            if (device := self.board.device_of(session)) is not None and device.organization == ORGANIZATION
        }

    def board_catalog(self) -> dict[ServiceRef, Service]:
        # While any System has told everything, the catalog is what one of them says; afterwards what the last one said.
        everything = Reader(self.board, self.board.join_view(EVERYTHING), SessionId("truth"))
        everything.catch_up()
        self.board.leave_view(everything.view)
        if self.complete:
            assert everything.catalog in [self.truths[link] for link in self.complete]
        return everything.catalog


TestBoard = BoardMachine.TestCase
TestBoard.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def told(board: Board, count: int, *, namespace: str = "shop", ready: int = 1) -> None:
    board.catalog_reported(
        0,
        CatalogReport(
            upserts=tuple(service(ServiceRef(namespace, f"s{number}"), ready) for number in range(count)),
            reset=not board.catalog_known,
        ),
        at=0.0,
    )
    board.advance()


def test_nothing_is_told_before_a_whole_catalog_is_known() -> None:
    """After a restart of the Orchestrator laptops keep what they have, instead of dropping every name for a second."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    board.catalog_reported(0, CatalogReport(upserts=(service(REFS[0]),), reset=True, complete=False), at=0.0)
    board.advance()
    assert board.catch_up_catalog(view, None) == ()

    board.catalog_reported(0, CatalogReport(upserts=(service(REFS[1]),)), at=0.0)
    board.advance()

    (snapshot,) = board.catch_up_catalog(view, None)
    assert isinstance(snapshot, CatalogSnapshot)
    assert set(snapshot.services) == {service(REFS[0]), service(REFS[1])}


def test_an_empty_cluster_has_an_empty_snapshot() -> None:
    """Otherwise a laptop would wait for ever, and keep services that are gone."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    board.catalog_reported(0, CatalogReport(reset=True), at=0.0)
    board.advance()

    assert board.catch_up_catalog(view, None) == [CatalogSnapshot(view.revision, 0, True, ())]


def test_who_may_see_nothing_is_told_why() -> None:
    """An empty list alone looks as if the services were gone."""
    board = Board()
    view = board.join_view(NOTHING)
    board.system_joined(0)
    board.catalog_reported(0, CatalogReport(upserts=(service(REFS[0]),), reset=True), at=0.0)
    board.advance()

    assert board.catch_up_catalog(view, None) == [CatalogSnapshot(view.revision, 0, True, (), closed="closed")]


def test_what_a_laptop_may_not_see_leaves_no_trace() -> None:
    """T38: two clusters that differ in hidden services only look the same, byte for byte."""

    def bytes_seen(hidden: int) -> bytes:
        board = Board()
        view = board.join_view(SHOP_ONLY)
        board.system_joined(0)
        session = SessionId("reader")
        board.arrived(session, ALICE, "laptop", at=0.0)
        seen = b""
        revision: int | None = None
        presence: int | None = None
        activity = 0
        for round_ in range(20):
            told(board, 5, ready=round_ // 2)
            for each in range(hidden):
                told(board, each + 1, namespace="bank", ready=round_)
            if hidden:
                board.consumes(session, [ServiceRef("bank", "s0")] if round_ % 2 else [], at=0.0)
                board.advance()
            news = (
                *board.catch_up_catalog(view, revision),
                *board.catch_up_presence(view, presence),
                *board.catch_up_activity(view, SessionId("other"), activity),
            )
            revision, presence, activity = view.revision, board.presence_revision, board.activity_number
            # A presence that changed in what is hidden is told again, unchanged; how often depends on its owner alone.
            seen += b"".join(messages.frame(each) for each in news if not isinstance(each, PresenceChanged))
        return seen

    assert bytes_seen(0) == bytes_seen(3)


def test_a_refusal_of_a_hidden_service_is_told_to_its_laptop_alone() -> None:
    """The laptop named it; others may not even learn the name."""
    board = Board()
    view = board.join_view(SHOP_ONLY)
    board.arrived(SessionId("mine"), ALICE, "laptop", at=0.0)
    before = board.activity_number
    board.refused(SessionId("mine"), ServiceRef("bank", "vault"), "not allowed", at=0.0)

    (mine,) = board.catch_up_activity(view, SessionId("mine"), before)
    assert mine.activities[0].kind is ActivityKind.REFUSED
    assert board.catch_up_activity(view, SessionId("theirs"), before) == []
    assert board.concerns_alone(view, SessionId("mine"), before)
    assert not board.concerns_alone(view, SessionId("theirs"), before)


def test_a_picture_of_any_size_fits_into_messages() -> None:
    """Big services and many of them; no message may exceed what a receiver takes."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    big = tuple(
        Service(
            ServiceRef("namespace-" + "n" * 50, f"service-{number}-" + "s" * 40),
            ServiceKind.HEADLESS,
            tuple(ServicePort(port, name="p" * 15, app_protocol="kubernetes.io/h2c") for port in range(1, 50)),
            pods=tuple(f"pod-{pod}-" + "p" * 50 for pod in range(300)),
        )
        for number in range(300)
    )
    board.catalog_reported(0, CatalogReport(upserts=big, reset=True), at=0.0)
    board.advance()
    snapshot = board.catch_up_catalog(view, None)
    first = view.revision
    changed = tuple(Service(each.ref, each.kind, each.ports, 1, 1, each.pods) for each in big[:100])
    board.catalog_reported(0, CatalogReport(upserts=changed), at=0.0)
    board.advance()
    deltas = board.catch_up_catalog(view, first)

    for message in (*snapshot, *deltas):
        assert len(messages.frame(message)) < 300_000
    assert [message.part for message in snapshot if isinstance(message, CatalogSnapshot)] == list(range(len(snapshot)))
    assert all(message.revision == first for message in deltas[:-1])
    assert deltas[-1].revision == view.revision
    reader = Reader(board, view, SessionId("reader"))
    reader.catch_up()
    assert len(reader.catalog) == 300


def test_a_reader_that_missed_much_gets_a_snapshot() -> None:
    """A slow laptop must not cost more than one that has just come."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    told(board, 3000)
    first = view.revision
    told(board, 3000, ready=2)

    news = board.catch_up_catalog(view, first)

    assert all(isinstance(message, CatalogSnapshot) for message in news)


def test_many_changes_of_one_service_are_one() -> None:
    """What a slow reader missed is worked out by service, not by event."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    told(board, 100)
    first = view.revision
    for ready in range(2, 500):
        told(board, 1, ready=ready)

    assert board.catch_up_catalog(view, first) == [
        CatalogDelta(view.revision, (service(ServiceRef("shop", "s0"), 499),), (), None)
    ]


def test_memory_stays_bounded() -> None:
    """Names and laptops that come and go for ever must leave no more than the bounds say."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    told(board, 1)
    for number in range(boards.KEPT_REVISIONS + 100):
        ref = ServiceRef("shop", f"once-{number}")
        board.catalog_reported(0, CatalogReport(upserts=(service(ref),)), at=0.0)
        board.advance()
        board.catalog_reported(0, CatalogReport(removes=(ref,)), at=0.0)
        board.arrived(SessionId(str(number)), ALICE, "laptop", at=0.0)
        board.left(SessionId(str(number)), at=0.0)
        board.advance()
        board.leave_view(board.join_view(viewer([f"n{number}"])))

    assert len(view.marks) <= boards.KEPT_REVISIONS
    assert board.views <= boards.KEPT_VIEWS + 1
    assert board.services == 1
    assert board.sessions == 0
    assert len(board._gone) <= boards.KEPT_ACTIVITIES  # pyright: ignore[reportPrivateUsage]
    happened = board.catch_up_activity(view, SessionId("x"), 0)
    assert sum(len(each.activities) for each in happened) == boards.KEPT_ACTIVITIES


def test_a_reader_of_before_is_never_taken_for_one_of_now() -> None:
    """Revisions of two views must not be mixed up, or a laptop would miss changes for good."""
    board = Board()
    narrow, wide = board.join_view(SHOP_ONLY), board.join_view(EVERYTHING)
    board.system_joined(0)
    told(board, 2)

    for revision in (narrow.revision, 0, -1, 10**15):
        assert isinstance(board.catch_up_catalog(wide, revision)[0], CatalogSnapshot)


def test_a_flood_of_consumption_is_one_activity() -> None:
    """Somebody who consumes everything must not push all else out of the list."""
    board = Board()
    view = board.join_view(EVERYTHING)
    session = SessionId(new_ulid())
    board.arrived(session, ALICE, "laptop", at=0.0)
    board.consumes(session, [ServiceRef("shop", f"s{number}") for number in range(5000)], at=0.0)

    (happened,) = board.catch_up_activity(view, session, 0)
    assert [each.kind for each in happened.activities] == [ActivityKind.JOINED, ActivityKind.CONSUMED]
    assert "5000" in happened.activities[1].detail
    (shown,) = board.catch_up_presence(view, None)
    assert len(shown.presences[0].consumes) == boards.SHOWN_CONSUMES


def test_a_return_to_a_new_board_is_no_arrival() -> None:
    """After a restart of the Orchestrator 2,000 laptops come back; nobody has joined, and the list keeps what matters."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.arrived(SessionId("old"), ALICE, "laptop", at=0.0, again=True)
    board.arrived(SessionId("new"), BOB, "laptop", at=0.0)

    (happened,) = board.catch_up_activity(view, SessionId("x"), 0)
    assert [each.session for each in happened.activities] == ["new"]
    (shown,) = board.catch_up_presence(view, None)
    assert {each.session for each in shown.presences} == {"old", "new"}


def test_what_happens_after_a_moment_is_told_at_the_next() -> None:
    """Readers who go to the same place share the way, and nothing is told twice."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.arrived(SessionId("one"), ALICE, "laptop", at=0.0)
    moment = board.activity_number
    board.arrived(SessionId("two"), BOB, "laptop", at=0.0)

    (first,) = board.catch_up_activity(view, SessionId("x"), 0, until=moment)
    (second,) = board.catch_up_activity(view, SessionId("x"), moment)
    assert [each.session for each in (*first.activities, *second.activities)] == ["one", "two"]


def test_the_catalog_is_stale_while_no_system_sees_the_cluster() -> None:
    """And the last picture stands; a second System that sees it makes it current again."""
    board = Board()
    board.system_joined(0)
    board.catalog_reported(0, CatalogReport(upserts=(service(REFS[0]),), reset=True), at=1.0)
    board.system_left(0, at=2.0)
    assert (board.stale_since, board.services) == (2.0, 1)

    board.system_joined(1)
    board.catalog_reported(1, CatalogReport(upserts=(service(REFS[0]),), reset=True, stale_since=1.5), at=3.0)
    assert board.stale_since == 1.5
    board.system_joined(2)
    board.catalog_reported(2, CatalogReport(upserts=(service(REFS[0]),), reset=True), at=4.0)

    assert board.stale_since is None


def contested(ref: ServiceRef, *views: VariantView, state: ServingState = ServingState.CONTESTED) -> CatalogReport:
    return CatalogReport(upserts=(replace(service(ref), serving=Serving(state, views, "argocd\x1b[31m writes")),))


def test_a_contested_service_is_told_to_each_owner_once() -> None:
    """When it becomes so; not again while it is, and not when a board is new and finds it so."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    views = (variant(REFS[0], 0), variant(REFS[0], 1), variant(REFS[0], 2, BOB), variant(REFS[0], 3, STRANGER))
    board.catalog_reported(0, replace_reset(contested(REFS[0], *views)), at=1.0)
    assert board.catch_up_activity(view, SessionId("x"), 0) == ()
    board.catalog_reported(0, contested(REFS[0], *views, state=ServingState.ACTIVE), at=2.0)
    for _ in range(3):
        board.catalog_reported(0, contested(REFS[0], *views), at=3.0)

    (happened,) = board.catch_up_activity(view, SessionId("x"), 0)
    assert [(each.kind, each.user, each.variant) for each in happened.activities] == [
        (ActivityKind.CONTESTED, BOB.user, views[2].variant_id),
        (ActivityKind.CONTESTED, ALICE.user, views[0].variant_id),
    ]
    assert {each.detail for each in happened.activities} == {"argocd[31m writes"}
    assert board.catch_up_activity(board.join_view(NOTHING), SessionId("x"), 0) == []


def replace_reset(report: CatalogReport) -> CatalogReport:
    return CatalogReport(upserts=report.upserts, reset=True)


def test_a_thousand_owners_of_a_contested_service_leave_room_for_other_news() -> None:
    """The list is short, and is for people."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    told(board, 1)
    owners = [replace(ALICE, user=new_ulid()) for _ in range(1000)]
    views = (variant(REFS[0], number, owner) for number, owner in enumerate(owners))
    board.catalog_reported(0, contested(REFS[0], *views), at=1.0)

    (happened,) = board.catch_up_activity(view, SessionId("x"), 0)
    assert len(happened.activities) == boards.TOLD_CHANGES


def test_what_happens_to_a_variant_is_told_to_its_owner_though_the_service_is_hidden() -> None:
    """A user whose policy changed hears why the variant ended; others learn nothing of the service."""
    board = Board()
    view = board.join_view(SHOP_ONLY)
    for session, device in (("owner", ALICE), ("other", BOB)):
        board.arrived(SessionId(session), device, "laptop", at=0.0)
    before = board.activity_number
    vault = ServiceRef("bank", "vault")
    placed = Placed(vault, variant(vault, 1))
    board.happened(ActivityKind.TERMINATED, placed, at=1.0, detail="x\u202e" * 1000, by=(SessionId("judge"), BOB))

    (mine,) = board.catch_up_activity(view, SessionId("owner"), before)
    assert (mine.activities[0].user, mine.activities[0].device) == (ALICE.user, BOB)
    assert mine.activities[0].detail == "x" * 500
    assert board.concerns_alone(view, SessionId("owner"), before)
    for session in ("other", "nobody"):
        assert board.catch_up_activity(view, SessionId(session), before) == []
        assert not board.concerns_alone(view, SessionId(session), before)


def test_nothing_is_told_of_variants_that_are_nobodys() -> None:
    """A Serve object made by hand names no laptop; that must not end the System's connection."""
    board = Board()
    before = board.activity_number
    board.happened(ActivityKind.EXPIRED, Placed(REFS[0], variant(REFS[0], 1, device="me")), at=1.0, detail="")

    assert board.activity_number == before


def test_variants_count_for_the_size_of_messages() -> None:
    """Hundreds on one service, with long conditions: each message still fits."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.system_joined(0)
    condition = tuple(ConditionPart("header", f"x-{number}", "\u00e4" * 256) for number in range(8))
    many = tuple(
        replace(
            service(ServiceRef("shop", f"s{number}")),
            serving=Serving(
                ServingState.ACTIVE,
                tuple(variant(REFS[0], each, condition=condition, variant_id=new_ulid()) for each in range(20)),
            ),
        )
        for number in range(100)
    )
    board.catalog_reported(0, CatalogReport(upserts=many, reset=True), at=0.0)
    board.advance()

    for message in board.catch_up_catalog(view, None):
        assert len(messages.frame(message)) < 300_000


def test_a_laptop_that_is_heard_again_keeps_its_names() -> None:
    """It was only thought lost."""
    board = Board()
    view = board.join_view(EVERYTHING)
    board.arrived(SessionId("s"), ALICE, "laptop", user_name="anna", at=0.0)
    board.went_away(SessionId("s"), at=1.0)
    board.is_heard(SessionId("s"), at=2.0)

    (shown,) = board.catch_up_presence(view, None)
    assert shown.presences == (Presence(SessionId("s"), ALICE, "laptop", PresenceState.ONLINE, 0.0, user_name="anna"),)
