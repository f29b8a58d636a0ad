"""When a certificate is renewed: by the wall clock, which may jump. The renewal itself is in `tests/flow/test_daemon_renewal.py`."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from codezero.kit.certificates import Authority, CertificateError, Credentials
from codezero.local.daemon import renewing
from codezero.local.daemon.health import Health
from codezero.local.daemon.renewing import Renewal
from codezero.model import problems
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError
from codezero.wire.access_file import HubReference, IssuedAccess, TeamspaceAccess
from codezero.wire.local_api import HubState

AUTHORITY = Authority.create("devices")
DEVICE = Device("hub.test", new_ulid(), new_ulid(), new_ulid())
OWN = AUTHORITY.issue("laptop", uris=[str(DEVICE)], lifetime=timedelta(hours=24), client=True)
NOW = datetime.now(UTC).timestamp()
HOUR = 3600.0


def access(credentials: Credentials = OWN, **changes: object) -> TeamspaceAccess:
    whole = TeamspaceAccess(
        teamspace=new_ulid(),
        name="shop",
        host="127.0.0.1",
        port=8800,
        roots=AUTHORITY.certificate_pem,
        certificate=credentials.certificate_pem,
        key=credentials.key_pem,
        organization="acme",
        organization_id=DEVICE.organization,
        device=DEVICE.device,
        hub=HubReference("http://127.0.0.1:1"),
    )
    return msgspec.structs.replace(whole, **changes)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def renewal(clock: Clock) -> Renewal:
    return Renewal(access(), health=Health(), renewed=lambda _: None, clock=clock)


@pytest.mark.parametrize(("hours", "due"), [(0, False), (15.9, False), (16.1, True), (30, True)])
async def test_it_is_time_when_a_third_of_the_life_is_left(
    renewal: Renewal, clock: Clock, hours: float, due: bool
) -> None:
    """Also when the machine slept all the time: the wall clock went on."""
    clock.now = NOW + hours * HOUR

    assert renewal.is_due is due


async def test_a_failure_is_followed_by_a_pause_that_grows(renewal: Renewal, clock: Clock) -> None:
    clock.now = NOW + 20 * HOUR

    renewal._failed(CodezeroError(problems.HUB_UNREACHABLE, "away"))

    assert not renewal.is_due
    clock.now += renewing.MOST_DELAY
    assert renewal.is_due


async def test_a_clock_that_jumps_back_does_not_hold_it_up(renewal: Renewal, clock: Clock) -> None:
    """R27."""
    clock.now = NOW + 20 * HOUR
    renewal._failed(CodezeroError(problems.HUB_UNREACHABLE, "away"))

    clock.now = NOW - 5 * HOUR

    assert renewal.is_due


async def test_a_clock_that_is_off_counts_as_the_hub_s(renewal: Renewal, clock: Clock) -> None:
    """Else a laptop that is a day ahead would renew each time it looks."""
    assert renewal._endpoint is not None
    clock.now = NOW + 24 * HOUR
    renewal._endpoint.skew = -24 * HOUR

    assert not renewal.is_due


async def test_a_refused_tunnel_asks_at_once_but_not_for_what_was_renewed_just_now(
    renewal: Renewal, clock: Clock
) -> None:
    renewal._renewed_at = clock.now
    renewal.hurry()
    assert not renewal.is_due

    clock.now += 2 * renewing.MOST_DELAY
    renewal.hurry()
    assert renewal.is_due


async def test_what_cannot_be_read_is_renewed_at_once(clock: Clock) -> None:
    broken = Renewal(access(certificate="-----BEGIN nothing"), health=Health(), renewed=lambda _: None, clock=clock)

    assert broken.is_due


@pytest.mark.parametrize(
    ("problem", "code", "state"),
    [
        (problems.HUB_UNREACHABLE, renewing.RENEWAL_FAILED, HubState.UNREACHABLE),
        (problems.HUB_NOT_BELIEVED, renewing.RENEWAL_FAILED, HubState.UNREACHABLE),
        (problems.DATABASE_BUSY, renewing.RENEWAL_FAILED, HubState.UNREACHABLE),
        (problems.SIGN_IN_REFUSED, renewing.HUB_REFUSED, HubState.REFUSED),
        (problems.SUSPENDED, renewing.HUB_REFUSED, HubState.REFUSED),
        (problems.NOT_FOUND, renewing.HUB_REFUSED, HubState.REFUSED),
    ],
)
async def test_what_passes_is_told_apart_from_what_does_not(
    clock: Clock, problem: problems.Problem, code: str, state: HubState
) -> None:
    health = Health()
    renewal = Renewal(access(), health=health, renewed=lambda _: None, clock=clock)

    renewal._failed(CodezeroError(problem, "because"))

    (warning,) = health.warnings
    assert warning.code == code
    assert "because" in warning.text
    assert renewal.view is not None
    assert (renewal.view.state, renewal.view.cause) == (state, "because")


@pytest.mark.parametrize("failing", ["asking", "taking"])
async def test_what_nobody_thought_of_is_a_renewal_that_failed(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The service goes on: its end would be the Daemon's, at each start again."""
    health = Health()
    renewal = Renewal(access(), health=health, renewed=lambda _: fail(), clock=clock)
    monkeypatch.setattr(renewal, "_next", fail if failing == "asking" else access)
    before = renewal._life

    await renewal._renew()

    (warning,) = health.warnings
    assert warning.code == renewing.RENEWAL_FAILED
    assert "ZeroDivisionError" in warning.text
    assert renewal._life == before
    assert not renewal.is_due


async def test_an_access_that_came_while_the_hub_was_asked_stays(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the old way to the Hub would be back with the next certificate."""
    health, taken = Health(), list[TeamspaceAccess]()
    before, other = access(), access()
    renewal = Renewal(before, health=health, renewed=taken.append, clock=clock)
    for answer in (lambda: before, fail):

        def meanwhile(answer: Callable[[], TeamspaceAccess] = answer) -> TeamspaceAccess:
            renewal.use(other)
            return answer()

        monkeypatch.setattr(renewal, "_access", before)
        monkeypatch.setattr(renewal, "_next", meanwhile)
        await renewal._renew()

        assert renewal._access is other
    assert taken == []
    assert health.warnings == ()


def fail() -> TeamspaceAccess:
    raise ZeroDivisionError


async def test_a_certificate_for_all_time_is_taken(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last day can be in no year here."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    monkeypatch.setattr(renewing, "_life", lambda _: (NOW, datetime.max.replace(tzinfo=UTC).timestamp()))
    taken: list[TeamspaceAccess] = []
    renewal = Renewal(access(), health=Health(), renewed=taken.append, clock=clock)
    monkeypatch.setattr(renewal, "_next", access)
    try:
        await renewal._renew()
    finally:
        monkeypatch.undo()
        time.tzset()

    assert len(taken) == 1
    assert renewal.view is not None
    assert renewal.view.state is HubState.REACHABLE


async def test_without_a_hub_there_is_nothing_to_show(clock: Clock) -> None:
    renewal = Renewal(access(hub=None), health=Health(), renewed=lambda _: None, clock=clock)
    renewal.ask_soon()

    assert renewal.view is None


def issued(before: TeamspaceAccess, **changes: object) -> IssuedAccess:
    whole = IssuedAccess(
        before.teamspace, "shop", DEVICE.organization, "ann", "10.0.0.1", 443, before.roots, before.certificate
    )
    return msgspec.structs.replace(whole, **changes)


def test_an_access_follows_with_another_address_and_the_same_key() -> None:
    before = access()

    after = renewing.check(issued(before), before)

    assert (after.key, after.host, after.port, after.user) == (before.key, "10.0.0.1", 443, "ann")
    assert (after.organization, after.device, after.hub) == ("acme", before.device, before.hub)


def test_a_certificate_of_another_key_is_not_taken() -> None:
    other = AUTHORITY.issue("laptop", uris=[str(DEVICE)], client=True)
    before = access()

    with pytest.raises(CertificateError):
        renewing.check(issued(before, certificate=other.certificate_pem), before)


@pytest.mark.parametrize("roots", ["-----BEGIN CERTIFICATE-----\nnonsense", "-----BEGIN CERTIFICATE-----\né"])
def test_roots_that_cannot_be_used_are_not_taken(roots: str) -> None:
    """Before anything is kept: the tunnel could not be made, and the next Daemon could not either."""
    before = access()

    with pytest.raises(CodezeroError, match="cannot be used") as refused:
        renewing.check(issued(before, roots=roots), before)

    assert refused.value.fix == "czctl start"


def test_one_of_another_device_or_teamspace_is_not_taken() -> None:
    before = access()
    stranger = Device("hub.test", DEVICE.organization, new_ulid(), new_ulid())
    leaf = AUTHORITY.sign(OWN.key.public_key(), "laptop", uris=[str(stranger)], client=True)

    for wrong in (
        issued(before, certificate=leaf.public_bytes(Encoding.PEM).decode()),
        issued(before, space=new_ulid()),
    ):
        with pytest.raises(CodezeroError, match="somebody else"):
            renewing.check(wrong, before)
