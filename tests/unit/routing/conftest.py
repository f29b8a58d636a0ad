"""What the routing tests share: variants and requests drawn from a few words, so that they often meet."""

from collections.abc import Sequence

import pytest
from hypothesis import strategies as st

from codezero.model.serve import PortPair, Predicate, Request, Serve, Variant, condition_of, parse_predicate
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror

SERVICE = ServiceRef("shop", "orders")
ALICE, BOB = "01J0000000000000000000000A", "01J0000000000000000000000B"

PREDICATES = [
    ("user", None), ("header", "x-team:blue"), ("header", "x-team:red"), ("baggage", "team:a b"), ("baggage", "k:v"),
    ("path", "/api"), ("path", "/api/v1"), ("path", "/"), ("query", "q:1"), ("query", "r:x y"), ("method", "GET"), ("method", "POST"),
    ("cookie", "beta:on"), ("percent", "40"), ("percent", "60%"), ("percent", "x-other:50"),
]  # fmt: skip
HEADERS = [
    ("x-team", "blue"), ("X-Team", "red"), ("x-c6o-userid", ALICE), ("x-c6o-userid", BOB), ("baggage", "team=a%20b"), ("Baggage", "k=v;p"),
    ("cookie", "a=1; beta=on"), ("x-other", "1"),
    ("X-Other", "2"), ("Upgrade", "websocket"),
]  # fmt: skip
TARGETS = ["/", "/api", "/api/v1/x", "/apis", "/?q=1", "/api?r=x+y&q=2", "/api/v1?r=x%20y", "*"]


def _compatible(drawn: Sequence[tuple[str, str | None]]) -> list[Predicate]:
    """One predicate of a kind and key, as far as `condition_of` asks for it."""
    found = {
        (kind, (text or "").rpartition(":")[0] if kind in ("header", "query", "percent") else ""): parse_predicate(
            kind, text
        )
        for kind, text in drawn
    }
    return [predicate for predicate in found.values() if predicate is not None]


def _variants() -> st.SearchStrategy[list[Variant]]:
    one = st.builds(
        lambda drawn, user, ports, since, number, mirror: Variant(
            f"01JV{number:022d}", SERVICE, user, "somebody", condition_of(_compatible(drawn)), tuple(PortPair(port, 3000) for port in ports), since,
            mirror,
        ),
        st.lists(st.sampled_from(PREDICATES), max_size=3),
        st.sampled_from([ALICE, BOB]),
        st.sets(st.sampled_from([80, 81, 5432]), min_size=1),
        st.integers(0, 3),
        st.integers(0, 99),
        st.sampled_from([None, None, *Mirror]),
    )  # fmt: skip
    return st.lists(one, max_size=8, unique_by=lambda variant: variant.variant_id)


@pytest.fixture
def serves() -> st.SearchStrategy[Serve]:
    return _variants().map(lambda variants: Serve(SERVICE, tuple(variants)))


@pytest.fixture
def requests() -> st.SearchStrategy[Request]:
    return st.builds(
        lambda method, target, headers, lot: Request(method, target, tuple(headers), lot),
        st.sampled_from(["GET", "POST"]),
        st.sampled_from(TARGETS),
        st.lists(st.sampled_from(HEADERS), max_size=4),
        st.integers(0, 99),
    )
