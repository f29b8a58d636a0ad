"""Rows for people."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from codezero.sandbox.api import Store
from codezero.sandbox.api.kinds import BUILT_IN
from codezero.sandbox.api.tables import age, columns_of, table

Json = dict[str, Any]
NOON = datetime(2026, 1, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "shown"),
    [
        (timedelta(seconds=5), "5s"),
        (timedelta(seconds=119), "119s"),
        (timedelta(seconds=200), "3m20s"),
        (timedelta(minutes=3), "3m"),
        (timedelta(minutes=100), "100m"),
        (timedelta(hours=7, minutes=5), "7h5m"),
        (timedelta(hours=30), "30h"),
        (timedelta(days=3, hours=4), "3d4h"),
        (timedelta(days=9), "9d"),
        (timedelta(seconds=-5), "0s"),
    ],
)
def test_ages_read_as_in_kubectl(since: timedelta, shown: str) -> None:
    assert age((NOON - since).isoformat(), NOON) == shown


@pytest.mark.parametrize("value", [None, "yesterday", 5, {}])
def test_odd_times_do_not_break_a_table(value: Any) -> None:
    assert age(value, NOON) == "<unknown>"


@pytest.mark.parametrize("kind", BUILT_IN, ids=lambda kind: kind.key)
def test_every_column_stands_an_empty_object(kind: Any) -> None:
    """A controller that has not written the status yet is normal."""
    rows = table(kind, [{"metadata": {"name": "x"}}])["rows"]

    assert len(rows[0]["cells"]) == len(columns_of(kind))


def cells(store: Store, resource: str, name: str) -> list[Any]:
    return table(store.type_of(resource), [store.get(resource, "shop", name).content])["rows"][0]["cells"]


def test_services_show_where_they_lead(store: Store, service: Callable[..., Json]) -> None:
    store.create("services", "shop", service("plain", clusterIP="10.96.9.9"))
    store.create("services", "shop", service("out", type="ExternalName", externalName="www.example", ports=[]))
    store.create(
        "services",
        "shop",
        service("lb", type="LoadBalancer", clusterIP="10.96.9.8", ports=[{"port": 8800, "nodePort": 30880}]),
    )
    ingress = {"status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}}}
    pending = cells(store, "services", "lb")
    store.patch("services", "shop", "lb", ingress, subresource="status")

    assert cells(store, "services", "plain")[1:5] == ["ClusterIP", "10.96.9.9", "<none>", "80/TCP"]
    assert cells(store, "services", "out")[1:5] == ["ExternalName", "<none>", "www.example", "<none>"]
    assert pending[3] == "<pending>"
    assert cells(store, "services", "lb")[3:5] == ["198.51.100.10", "8800:30880/TCP"]


def test_pods_show_how_they_are(store: Store, pod: Callable[..., Json]) -> None:
    store.create("pods", "shop", pod())
    status: Json = {
        "phase": "Running",
        "containerStatuses": [
            {"name": "web", "ready": True, "restartCount": 2, "image": "", "imageID": "", "state": {"running": {}}}
        ],
    }
    store.patch("pods", "shop", "orders-1", {"status": status}, subresource="status")
    running = cells(store, "pods", "orders-1")[1:4]
    status["containerStatuses"][0] |= {"ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    store.patch("pods", "shop", "orders-1", {"status": status | {"phase": "Running"}}, subresource="status")

    assert running == ["1/1", "Running", "2"]
    assert cells(store, "pods", "orders-1")[1:3] == ["0/1", "CrashLoopBackOff"]


def test_sidecars_count_among_a_pods_containers_and_first_steps_do_not() -> None:
    """A pod is ready only with its sidecars."""
    kind = next(one for one in BUILT_IN if one.key == "pods")
    pod: Json = {
        "metadata": {"name": "router"},
        "spec": {
            "initContainers": [{"name": "once"}, {"name": "sidecar", "restartPolicy": "Always"}],
            "containers": [{"name": "main"}],
        },
        "status": {
            "phase": "Running",
            "initContainerStatuses": [
                {"name": "once", "ready": True, "restartCount": 5},
                {"name": "sidecar", "ready": False, "restartCount": 1},
            ],
            "containerStatuses": [{"name": "main", "ready": True, "restartCount": 2}],
        },
    }

    assert table(kind, [pod])["rows"][0]["cells"][:4] == ["router", "1/2", "Running", "3"]
