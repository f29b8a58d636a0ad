"""Answers of the Daemon's local API as examples: one of each, with most fields set."""

from codezero.model.ids import Device, SessionId
from codezero.model.services import Protocol, Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.sessions import Activity, ActivityKind, Presence, PresenceState
from codezero.model.variants import ConditionPart, PortPair, ServingState, VariantState, VariantView
from codezero.wire import local_api

TEAMSPACE = "01JZ0000000000000000000001"
ORDERS = ServiceRef("shop", "orders")
SESSION = SessionId("01JZ0000000000000000000002")
ALICE = Device("hub.example", "01JZ0000000000000000000003", "01JZ0000000000000000000004", "01JZ0000000000000000000005")
SHOP = local_api.TeamspaceView(TEAMSPACE, "shop", "127.0.0.1:8800", "acme", "alice")
STATUS = local_api.StatusView(
    release="0.1.0",
    pid=4711,
    started=1_790_000_000.5,
    supervised=True,
    tunnel=local_api.TunnelView(local_api.TunnelState.CONNECTED, session=SESSION, since=1_790_000_001.0, streams=3),
    orchestrator=local_api.OrchestratorView(connected=True, epoch="e", revision=7, services=12),
    host=local_api.HostView("nftables", "resolv.conf", "127.72.0.53", 4, 8),
    consumed=2,
    rules=1,
    primary_namespace="shop",
    teamspace=SHOP,
    warnings=(local_api.HealthWarning("names-slow", local_api.Severity.WARNING, "slow", "wait"),),
)
SERVICES = local_api.ServicesView(
    (
        Service(ORDERS, ServiceKind.CLUSTER_IP, (ServicePort(80, Protocol.TCP, "http", "http"),), 1, 2),
        Service(ServiceRef("shop", "legacy"), ServiceKind.EXTERNAL_NAME, (), 1, 1, external_name="legacy.example"),
    ),
    stale_since=12.5,
)
CONSUME = local_api.ConsumeView(
    ("*.shop",),
    "shop",
    (
        local_api.ConsumedService(
            ORDERS, local_api.ConsumeState.ENABLED, "127.72.1.1", ("orders", "orders.shop"), (80,), 2
        ),
    ),
)
PRESENCE = local_api.PresenceView((Presence(SESSION, ALICE, "laptop", PresenceState.ONLINE, 5.0, (ORDERS,)),))
ACTIVITY = local_api.ActivityView((Activity(6.0, ActivityKind.CONSUMED, SESSION, ALICE, ORDERS, "by rule"),))
VARIANT = VariantView(
    variant_id="01JZ0000000000000000000006",
    user=ALICE.user,
    user_name="alice",
    device=str(ALICE),
    session=SESSION,
    condition=(ConditionPart("header", "x-debug", "alice"),),
    ports=(PortPair(80, 3000),),
    since=1_790_000_002_000,
    expires=1_790_028_802.0,
    state=VariantState.ACTIVE,
)
SERVED = local_api.ServedVariant(
    ORDERS,
    VARIANT,
    VariantState.ACTIVE,
    ServingState.ACTIVE,
    curl="curl -H 'x-debug: alice' http://orders.shop/",
    requests=7,
    failed=1,
)
SERVES = local_api.ServesView((SERVED,))
