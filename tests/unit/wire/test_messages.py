"""Every message of every channel comes back as itself, and hostile bytes only ever raise a decoding error."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import Activity, ActivityKind, Presence, PresenceState
from codezero.wire import control, coordination, forwarding, host_api

ORDERS = ServiceRef("shop", "orders")
SERVICE = Service(ORDERS, ServiceKind.HEADLESS, (ServicePort(80, name="http"),), 1, 2, ("db-0",))
SESSION = SessionId(new_ulid())
DEVICE = Device("hub.example", new_ulid(), new_ulid(), new_ulid())
CHANNELS = {
    "from system": (coordination.FromSystem, [
        coordination.SystemHello((1,), "0.1", "i"), coordination.CatalogReport((SERVICE,), (ORDERS,), True, False, 1.5),
        coordination.TunnelReport(SESSION, str(DEVICE), True), coordination.StreamRefused(SESSION, ORDERS, "C", "d"), coordination.Ping(),
    ]),
    "from daemon": (coordination.FromDaemon, [
        coordination.DaemonHello((1,), "0.1", "laptop", "E", 3), coordination.ConsumeAssertion(1, (ORDERS,)), coordination.Leave(),
    ]),
    "to daemon": (coordination.ToDaemon, [
        coordination.Welcome(1, "0.1", SESSION, "E"), coordination.Goodbye("C", "d", True),
        coordination.CatalogSnapshot(1, 0, True, (SERVICE,)), coordination.CatalogDelta(2, (SERVICE,), (ORDERS,)),
        coordination.ConsumeDecisions(1, ((ORDERS, "no"),)),
        coordination.PresenceChanged((Presence(SESSION, DEVICE, "laptop", PresenceState.ONLINE, 1.0, (ORDERS,)),), True),
        coordination.ActivityHappened((Activity(1.0, ActivityKind.JOINED, SESSION, DEVICE, ORDERS, "x"),)),
    ]),
    "first": (forwarding.FirstMessage, [forwarding.Forwarded(str(DEVICE), SESSION)]),
    "control": (control.Control, [
        control.TunnelHello((1,), "0.1"), control.TunnelWelcome(1, "0.1", SESSION, 1000), control.Farewell("C", "d", True),
        control.StreamEnded(3, "C", "d"), control.Heartbeat(),
    ]),
    "to supervisor": (host_api.ToSupervisor, [
        host_api.DaemonReady(1015, 1016), host_api.ChangeCapture(1, (("127.72.1.1", 80),), (("127.75.255.1", 81),), True),
        host_api.PublishNames(1, (("orders.shop", "127.72.1.1"),)), host_api.Alive(), host_api.Stop(),
    ]),
    "to daemon from supervisor": (host_api.ToDaemon, [
        host_api.HostMode("nftables", "resolv.conf", ("10.0.0.1",)), host_api.Done(1), host_api.HostWarning("C", "t"),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_message_comes_back_as_itself(channel: str) -> None:
    kind, messages = CHANNELS[channel]
    for message in messages:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=kind) == message


@pytest.mark.parametrize("channel", CHANNELS)
@given(st.binary(max_size=300))
def test_hostile_bytes_only_raise_a_decoding_error(channel: str, data: bytes) -> None:
    kind, _messages = CHANNELS[channel]
    try:
        msgspec.msgpack.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return


def test_fields_of_a_newer_release_are_ignored() -> None:
    """Additive messages keep releases compatible."""
    newer = msgspec.msgpack.encode(
        {"is": "Welcome", "version": 1, "release": "9", "session": "S", "epoch": "E", "novelty": [1]}
    )

    assert msgspec.msgpack.decode(newer, type=coordination.ToDaemon) == coordination.Welcome(
        1, "9", SessionId("S"), "E"
    )


@pytest.mark.parametrize(
    "message",
    [
        host_api.ChangeCapture(1, (("10.0.0.1", 80),)),
        host_api.ChangeCapture(1, (("127.72.0.1", 0),)),
        host_api.ChangeCapture(1, (("127.72.0.1; flush", 80),)),
        host_api.PublishNames(1, (("evil name", "127.72.0.1"),)),
        host_api.PublishNames(1, (("a\nb", "127.72.0.1"),)),
        host_api.DaemonReady(0, 53),
    ],
)
def test_the_supervisor_cannot_be_asked_for_anything_else(message: host_api.HostMessage) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=host_api.ToSupervisor)
