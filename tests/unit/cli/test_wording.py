"""How durations, services, ports and conditions are read and written."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from codezero.cli import wording
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, PortPair


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h1m1s", 3661), (" 5m ", 300)]
)
def test_durations(text: str, seconds: float) -> None:
    assert wording.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "0h0m", "90", "-5m", "5 m", "1.5h", "h", "30m1h", "2H", "٣m", "9999999999h"]
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(CodezeroError) as caught:
        wording.duration(text)

    assert caught.value.problem is problems.BAD_SERVE
    assert "2h" in (caught.value.fix or "")


@pytest.mark.parametrize("text", ["shop/orders", "orders.shop"])
def test_services_in_both_forms(text: str) -> None:
    assert wording.service(text) == ServiceRef("shop", "orders")


@pytest.mark.parametrize(
    "text", ["", "orders", "/orders", "shop/", "a.b.c", "a/b/c", "Shop/orders", "shop/orders:80", "*.shop", "shop/\x1b"]
)
def test_what_names_no_service_is_refused(text: str) -> None:
    with pytest.raises(CodezeroError) as caught:
        wording.service(text)

    assert caught.value.problem is problems.BAD_SERVE


@pytest.mark.parametrize(
    ("text", "pair", "is_alone"),
    [
        ("8080", PortPair(8080, 8080), True),
        ("3000:80", PortPair(80, 3000), False),
        ("db.lan:5432:5432", PortPair(5432, 5432, "db.lan"), False),
        ("10.0.0.7:3000:80", PortPair(80, 3000, "10.0.0.7"), False),
        ("[fd00::7]:3000:80", PortPair(80, 3000, "fd00::7"), False),
        ("localhost:3000:80", PortPair(80, 3000), False),
    ],
)
def test_ports(text: str, pair: PortPair, is_alone: bool) -> None:
    assert wording.port_pair(text) == (pair, is_alone)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "0",
        "65536",
        "http",
        "80:",
        ":80",
        "80:http",
        ":3000:80",
        "a b:3000:80",
        "fd00::7:3000:80",
        "[x]:1:2",
        "-1",
        "3000:80:",
        "host:3000",
        "٣:80",
        "²:80",
        "9" * 5000,
    ],
)
def test_what_is_no_port_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(CodezeroError) as caught:
        wording.port_pair(text)

    assert caught.value.problem is problems.BAD_SERVE
    assert "3000:80" in (caught.value.fix or "")


@given(st.text(alphabet="0123456789:.[]abh-", max_size=30))
@example("0100000")
def test_any_text_is_ports_or_an_error_of_ours(text: str) -> None:
    try:
        pair, _ = wording.port_pair(text)
    except CodezeroError:
        return
    assert wording.port_pair(wording.ports([pair]))[0] == pair


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([ConditionPart("default")], "default"),
        ([ConditionPart("user")], "user"),
        ([ConditionPart("header", "x-debug", "1")], "header x-debug:1"),
        ([ConditionPart("moon", "phase", "full"), ConditionPart("user")], "moon phase full and user"),
    ],
)
def test_conditions_are_told_also_those_of_a_later_release(parts: list[ConditionPart], text: str) -> None:
    assert wording.condition(parts) == text


def test_sizes_and_spans_are_short() -> None:
    assert [wording.size(count) for count in (0, 999, 1000, 2_500_000, 3_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 MB",
        "3.0 GB",
    ]
    assert [wording.span(seconds) for seconds in (-1, 59, 60, 7200, 90_000)] == ["0 s", "59 s", "1 min", "2 h", "1 d"]


def test_what_was_just_served_for_eight_hours_ends_in_eight_hours() -> None:
    """And nobody has to guess whether seven hours are seven or nearly eight."""
    now = time.time()
    assert [wording.until(now + seconds) for seconds in (28_799, 27_000, 1800, 10, -60)] == [
        "in 8 h",
        "in 7 h 30 min",
        "in 30 min",
        "in 0 min",
        "in 0 min",
    ]
