"""Following changes in the same process: order, views, history, and the end of those who fall behind."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from codezero.sandbox.api import ApiError, Event, Selection, Store, watches
from codezero.sandbox.api.selectors import parse_fields, parse_labels

Json = dict[str, Any]
Make = Callable[..., Json]


def told(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.type, event.stored.name) for event in events]


def test_watch_begins_with_what_is_there(store: Store, service: Make) -> None:
    store.create("services", "shop", service("a"))

    with store.watch("services", selection=Selection("shop")) as watch:
        store.create("services", "shop", service("b"))
        store.patch("services", "shop", "a", {"metadata": {"labels": {"x": "y"}}})
        store.delete("services", "shop", "b")

        assert told(watch.take()) == [("ADDED", "a"), ("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]


def test_watch_continues_from_a_version(store: Store, service: Make) -> None:
    """After a lost connection a client resumes without a list."""
    created = store.create("services", "shop", service("a"))
    store.create("services", "shop", service("b"))

    with store.watch("services", since=created.revision) as watch:
        assert told(watch.take()) == [("ADDED", "b")]


def test_deletion_carries_the_version_of_the_end(store: Store, service: Make) -> None:
    """A client that resumes from the deletion must not hear of it again."""
    store.create("services", "shop", service("a"))
    store.delete("services", "shop", "a")
    revision = store.storage.revision

    with store.watch("services", since=revision - 1) as watch:
        [event] = watch.take()

    assert event.stored.content["metadata"]["resourceVersion"] == str(revision)


def test_objects_come_into_view_and_leave_it(store: Store, service: Make) -> None:
    """With a selector, a changed label looks like a creation or a deletion."""
    store.create("services", "shop", service("a"))
    selection = Selection(labels=parse_labels("tier=web"))

    with store.watch("services", selection=selection) as watch:
        store.patch("services", "shop", "a", {"metadata": {"labels": {"tier": "web"}}})
        store.patch("services", "shop", "a", {"metadata": {"labels": {"tier": "web", "x": "1"}}})
        left = store.patch("services", "shop", "a", {"metadata": {"labels": {"tier": "db"}}})
        events = watch.take()

    assert [event.type for event in events] == ["ADDED", "MODIFIED", "DELETED"]
    assert events[-1].stored.content["metadata"]["labels"] == {"tier": "web", "x": "1"}
    assert events[-1].stored.content["metadata"]["resourceVersion"] == str(left.revision)


def test_one_object_by_field(store: Store, service: Make) -> None:
    selection = Selection("shop", fields=parse_fields("metadata.name=b", known={"metadata.name"}))

    with store.watch("services", selection=selection) as watch:
        for name in "abc":
            store.create("services", "shop", service(name))

        assert told(watch.take()) == [("ADDED", "b")]


def test_too_old_version_is_gone(service: Make) -> None:
    store = Store(history=10)
    store.create("namespaces", "", {"metadata": {"name": "shop"}})
    first = store.create("services", "shop", service("a"))
    for number in range(20):
        store.patch("services", "shop", "a", {"metadata": {"labels": {"n": str(number)}}})

    with pytest.raises(ApiError) as caught:
        store.watch("services", since=first.revision)

    assert (caught.value.code, caught.value.reason) == (410, "Expired")


def test_history_of_one_resource_outlives_the_rush_of_another(service: Make) -> None:
    """A storm of events must not make the watches of Services start over."""
    store = Store(history=10)
    store.create("namespaces", "", {"metadata": {"name": "shop"}})
    first = store.create("services", "shop", service("a"))
    for number in range(50):
        store.create("configmaps", "shop", {"metadata": {"name": f"c{number}"}})

    with store.watch("services", since=first.revision) as watch:
        assert watch.take() == []


def test_version_of_the_future_is_refused(store: Store) -> None:
    """After a restart of the server the versions of its former life mean nothing."""
    with pytest.raises(ApiError) as caught:
        store.watch("services", since=store.storage.revision + 1)

    assert caught.value.code == 504


def test_compaction_makes_old_versions_gone(store: Store, service: Make) -> None:
    first = store.create("services", "shop", service("a"))
    store.patch("services", "shop", "a", {"metadata": {"labels": {"x": "y"}}})
    store.storage.forget_history("services")

    with pytest.raises(ApiError):
        store.watch("services", since=first.revision)


async def test_iteration_waits_for_changes(store: Store, service: Make) -> None:
    seen: list[tuple[str, str]] = []
    three = asyncio.Event()

    async def follow() -> None:
        async for event in watch:
            seen.append((event.type, event.stored.name))
            if len(seen) == 3:
                three.set()

    with store.watch("services", selection=Selection("shop")) as watch:
        following = asyncio.ensure_future(follow())
        for name in "abc":
            await asyncio.sleep(0)
            store.create("services", "shop", service(name))
        async with asyncio.timeout(5):
            await three.wait()
    async with asyncio.timeout(5):
        await following

    assert seen == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


def test_one_who_falls_behind_is_cut_off(store: Store, service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read must not fill our memory."""
    monkeypatch.setattr(watches, "MAXIMUM_BACKLOG", 10)
    store.create("services", "shop", service("a"))
    watch = store.watch("services", selection=Selection("shop"))
    for number in range(30):
        store.patch("services", "shop", "a", {"metadata": {"labels": {"n": str(number)}}})

    assert watch.is_behind
    assert len(watch.take()) == 10


def test_all_watchers_share_one_encoding(store: Store, service: Make) -> None:
    """A hundred laptops must not cost a hundred encodings."""
    watching = [store.watch("services", selection=Selection("shop")) for _ in range(3)]
    store.create("services", "shop", service("a"))

    raws = [watch.take()[0].stored.raw for watch in watching]

    assert raws[0] is raws[1] is raws[2]
