"""Lists in pages and by selection."""

from collections.abc import Callable
from typing import Any

import pytest

from codezero.sandbox.api import ApiError, Selection, Store, lists
from codezero.sandbox.api.selectors import parse_fields, parse_labels

Json = dict[str, Any]
Make = Callable[..., Json]


def names(items: list[Any]) -> list[str]:
    return [stored.name for stored in items]


def test_pages_show_one_moment(store: Store, service: Make) -> None:
    """A reflector that lists in pages while the cluster changes must neither miss nor double anything."""
    for name in "abcde":
        store.create("services", "shop", service(name))
    first = store.lists.first("services", Selection("shop"), 2)
    store.delete("services", "shop", "d")
    store.create("services", "shop", service("cc"))
    second = store.lists.following(first.continuation, 2)
    third = store.lists.following(second.continuation, 2)

    assert [names(page.items) for page in (first, second, third)] == [["a", "b"], ["c", "d"], ["e"]]
    assert first.revision == second.revision == third.revision
    assert (first.remaining, second.remaining, third.continuation) == (3, 1, "")


def test_page_can_be_asked_for_again(store: Store, service: Make) -> None:
    """A lost answer is no reason to start over."""
    for name in "abc":
        store.create("services", "shop", service(name))
    first = store.lists.first("services", Selection("shop"), 1)

    assert names(store.lists.following(first.continuation, 1).items) == names(
        store.lists.following(first.continuation, 1).items
    )


def test_forgotten_list_is_gone(store: Store, service: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        store.create("services", "shop", service(name))
    monkeypatch.setattr(lists, "MAXIMUM_OPEN_LISTS", 2)
    pages = [store.lists.first("services", Selection("shop"), 1) for _ in range(3)]

    with pytest.raises(ApiError) as caught:
        store.lists.following(pages[0].continuation)

    assert caught.value.code == 410


@pytest.mark.parametrize("token", ["", "x", "%%%", "AAAA", "OjU=", "ä"])
def test_foreign_tokens_are_refused(store: Store, token: str) -> None:
    with pytest.raises(ApiError) as caught:
        store.lists.following(token)

    assert caught.value.code in {400, 410}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("tier=web", ["a"]),
        ("tier==web", ["a"]),
        ("tier!=web", ["b", "c"]),
        ("tier in (web, db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier,app=x", ["a"]),
        ("weight>5", ["b"]),
        ("weight<5", ["a"]),
    ],
)
def test_labels_select(store: Store, service: Make, selector: str, expected: list[str]) -> None:
    for name, labels in {
        "a": {"tier": "web", "app": "x", "weight": "1"},
        "b": {"tier": "db", "weight": "9"},
        "c": {},
    }.items():
        body = service(name)
        body["metadata"]["labels"] = labels
        store.create("services", "shop", body)

    assert names(store.list("services", "shop", selection=Selection(labels=parse_labels(selector)))) == expected


@pytest.mark.parametrize("selector", ["=", "a=b=c", "a in b", "a in (", "a b", ",", "!", "a>x", "(", "a" * 70_000])
def test_bad_label_selectors_are_refused(selector: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(selector)

    assert caught.value.code == 400


@pytest.mark.parametrize("selector", ["a", "spec.secret=x", "metadata.name", "=x"])
def test_bad_field_selectors_are_refused(selector: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_fields(selector, known={"metadata.name"})

    assert caught.value.code == 400
