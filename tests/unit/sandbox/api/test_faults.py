"""The fault switch and the counter."""

import pytest

from codezero.sandbox.api import ApiError, Fault
from codezero.sandbox.api.faults import Faults, Requests, parse


def test_fault_strikes_as_often_as_it_was_told() -> None:
    faults = Faults()
    faults.add(Fault(kind="500", resource="services", phase="list", times=2))

    struck = [faults.strike("services", "list") is not None for _ in range(3)]

    assert struck == [True, True, False]


def test_fault_without_a_number_strikes_until_cleared() -> None:
    faults = Faults()
    faults.add(Fault(kind="500", phase="any", times=0))
    struck = [faults.strike("anything", "watch") is not None for _ in range(100)]
    faults.clear()

    assert all(struck)
    assert faults.strike("anything", "watch") is None


def test_fault_leaves_others_alone() -> None:
    faults = Faults()
    faults.add(Fault(kind="eof", resource="services"))

    assert faults.strike("pods", "watch") is None
    assert faults.strike("services", "list") is None
    assert faults.strike("services", "watch") is not None


def test_watches_hear_of_a_new_fault() -> None:
    faults, heard = Faults(), []
    end = faults.wake_on_change(lambda: heard.append(1))
    faults.add(Fault(kind="eof"))
    end()
    faults.add(Fault(kind="eof"))

    assert heard == [1]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"kind": "x"},
        {"kind": "eof", "phase": "never"},
        {"kind": "eof", "times": 1.5},
        {"kind": "eof", "more": 1},
    ],
)
def test_bad_faults_are_refused(body: object) -> None:
    with pytest.raises(ApiError) as caught:
        parse(body)

    assert caught.value.code == 400


def test_requests_are_counted_by_second() -> None:
    """How a hot loop shows."""
    now = [100.0]
    requests = Requests(clock=lambda: now[0])
    for second in (100.0, 100.9, 101.0):
        now[0] = second
        requests.count("services", "watch")

    assert [(entry["at"], entry["count"]) for entry in requests.counts()] == [(100, 2), (101, 1)]
    assert [entry["at"] for entry in requests.counts(since=101)] == [101]
