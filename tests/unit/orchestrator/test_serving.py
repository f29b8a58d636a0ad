"""What may be asked to serve: each part is checked, and the error names it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.ids import Device, SessionId, is_ulid, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.variants import ConditionPart, Mirror, PortPair, VariantView
from codezero.orchestrator import serving
from codezero.orchestrator.serving import Owner
from codezero.transport import messages
from codezero.wire.coordination import ServeWanted

ORDERS = ServiceRef("shop", "orders")
SERVICE = Service(
    ORDERS,
    ServiceKind.CLUSTER_IP,
    (ServicePort(80), ServicePort(443), ServicePort(53, Protocol.UDP), ServicePort(5432)),
)
ANNA = Device("hub", new_ulid(), new_ulid(), new_ulid())
OWNER = Owner(ANNA, SessionId(new_ulid()), "anna")
NOW = 1_800_000_000.25
HEADER = ConditionPart("header", "x-team", "blue")
PORTS = (PortPair(80, 3000),)


def wanted(**changes: object) -> ServeWanted:
    return ServeWanted(**{"number": 1, "service": ORDERS, "condition": (HEADER,), "ports": PORTS, **changes})  # type: ignore[arg-type]


def view(**changes: object) -> VariantView:
    plain = serving.variant_of(wanted(), SERVICE, OWNER, now=NOW)
    return replace(plain, variant_id=new_ulid(), **changes)  # type: ignore[arg-type]


def test_a_wish_becomes_a_variant_of_its_laptop() -> None:
    """Who it is, the tunnel has proven; the wish says nothing of it."""
    parts = (ConditionPart("path", None, "/api/"), ConditionPart("header", "X-Team", " blue "))
    wish = wanted(condition=parts, ports=(PortPair(443, 8443, "::1"), PortPair(80, 80)), mirror=Mirror.ALL)
    variant = serving.variant_of(wish, SERVICE, OWNER, now=NOW)

    assert is_ulid(variant.variant_id)
    assert (variant.user, variant.device, variant.session) == (ANNA.user, str(ANNA), OWNER.session)
    assert variant.condition == (HEADER, ConditionPart("path", None, "/api"))
    assert [port.remote for port in variant.ports] == [80, 443]
    assert (variant.since, variant.expires) == (1_800_000_000_250, NOW + serving.LONGEST_SECONDS)
    assert variant.mirror is Mirror.ALL


@pytest.mark.parametrize("host", [None, "db.local", "10.0.0.7", "::1", "fe80::1", "my_host", "a"])
def test_hosts_the_laptop_may_reach(host: str | None) -> None:
    """Names and addresses; the laptop itself is no host at all."""
    assert serving.checked_ports((PortPair(80, 1, host),), SERVICE) == (PortPair(80, 1, host),)


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ((), "no port"),
        ((PortPair(80, 1),) * 65, "at most 64"),
        ((PortPair(80, 1), PortPair(80, 2)), "twice"),
        ((PortPair(53, 1),), "no TCP port 53"),
        ((PortPair(81, 1),), "no TCP port 81"),
        ((PortPair(0, 1),), "from 1"),
        ((PortPair(80, 65536),), "from 1"),
        ((PortPair(80, -1),), "from 1"),
        ((PortPair(80, 1, ""),), "no host"),
        ((PortPair(80, 1, "a b"),), "no host"),
        ((PortPair(80, 1, "a/../b"),), "no host"),
        ((PortPair(80, 1, "-x"),), "no host"),
        ((PortPair(80, 1, "a\n"),), "no host"),
        ((PortPair(80, 1, "a" * 254),), "no host"),
    ],
)
def test_bad_ports_are_named(ports: tuple[PortPair, ...], said: str) -> None:
    """With what the service has."""
    with pytest.raises(CodezeroError, match=said) as caught:
        serving.checked_ports(ports, SERVICE)

    assert caught.value.problem is problems.BAD_SERVE
    assert "80, 443, 5432" in (caught.value.fix or "")


@pytest.mark.parametrize("ports", [(), (ServicePort(53, Protocol.UDP),)])
def test_a_service_without_tcp_ports_is_of_a_kind_that_cannot_be_served(ports: tuple[ServicePort, ...]) -> None:
    """Whatever port is named; an ExternalName mostly has none."""
    outside = Service(ORDERS, ServiceKind.EXTERNAL_NAME, ports)
    with pytest.raises(CodezeroError, match="no TCP port in the cluster") as caught:
        serving.checked_ports(PORTS, outside)

    assert caught.value.problem is problems.NOT_SERVABLE


@given(st.floats() | st.none())
def test_no_variant_outlives_its_day(expires: float | None) -> None:
    """Whatever is asked: an error, or a time between now and the longest."""
    try:
        at = serving.checked_expiry(expires, now=NOW)
    except CodezeroError as error:
        assert error.problem is problems.BAD_SERVE
        assert expires is not None
        assert not NOW < expires <= NOW + serving.LONGEST_SECONDS
    else:
        assert NOW < at <= NOW + serving.LONGEST_SECONDS


def test_a_laptop_whose_clock_is_ahead_may_ask_for_the_longest() -> None:
    """A few seconds are no reason to refuse; hours are."""
    longest = NOW + serving.LONGEST_SECONDS
    assert serving.checked_expiry(longest + 60, now=NOW) == longest
    with pytest.raises(CodezeroError, match="expire in 9 hours; 8 are the longest"):
        serving.checked_expiry(NOW + 9 * 3600, now=NOW)


def test_who_is_in_the_way_is_who_has_the_condition() -> None:
    """Of another user, on a common port; what nobody can read is in nobody's way."""
    mine = view()
    other = new_ulid()
    theirs = view(user=other, user_name="ben")
    existing = (
        view(),
        view(user=other, condition=(ConditionPart("default"),)),
        view(user=other, ports=(PortPair(443, 1),)),
        view(user=other, mirror=Mirror.SAFE),
        view(user=other, condition=(ConditionPart("weather", "rain"),)),
        theirs,
    )

    assert [each.variant_id for each in serving.in_the_way(ORDERS, existing, mine)] == [theirs.variant_id]


def test_nobody_fills_a_service_up() -> None:
    """A user has a part of the room; a variant that is replaced takes none."""
    own = [view(condition=(ConditionPart("header", "x-n", str(number)),)) for number in range(50)]
    serving.check_room(own[:39], view())
    with pytest.raises(CodezeroError, match="you have 40 variants"):
        serving.check_room(own[:40], view())
    serving.check_room(own[:40], replace(own[3], variant_id=new_ulid()))
    serving.check_room(own[:40], view(user=new_ulid()))
    crowd = [view(user=new_ulid()) for _ in range(serving.MAX_VARIANTS)]
    with pytest.raises(CodezeroError, match="the service has 400 variants"):
        serving.check_room(crowd, view())
    heavy = tuple(PortPair(port, 1, "h" * 253) for port in range(1, 65))
    with pytest.raises(CodezeroError, match="you have 3 variants"):
        serving.check_room([replace(each, ports=heavy) for each in own[:3]], view(ports=heavy))


PARTS = st.builds(
    ConditionPart, st.text(max_size=20), st.none() | st.text(max_size=128), st.none() | st.text(max_size=512)
)
PAIRS = st.builds(PortPair, st.integers(1, 65535), st.integers(1, 65535), st.none() | st.text(max_size=253))


@given(st.lists(PARTS, max_size=8).map(tuple), st.lists(PAIRS, max_size=64).map(tuple), st.text(max_size=63))
def test_a_variant_is_no_heavier_than_is_reckoned(
    condition: tuple[ConditionPart, ...], ports: tuple[PortPair, ...], name: str
) -> None:
    """Or a message with many of them would be too large to be sent."""
    variant = view(condition=condition, ports=ports, user_name=name)
    try:
        size = len(messages.frame(variant))
    except UnicodeEncodeError:
        return  # lone surrogates never come over the wire
    assert size <= serving.variant_weight(variant)


def test_variants_are_described_for_people() -> None:
    """Also those made by hand."""
    assert serving.described((HEADER,), PORTS) == "header x-team:blue, port 80"
    assert serving.described((), (*PORTS, PortPair(443, 1))) == "user, ports 80, 443"
    assert serving.described((ConditionPart("weather"),), ()).startswith("a condition that cannot be read")
