from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox import files, pods
from codezero.sandbox.pods import Addresses


@given(st.lists(st.booleans(), max_size=60))
def test_addresses_are_given_once_and_never_the_gateways(steps: list[bool]) -> None:
    """Two pods with one address would be a fault of the lab that looks like one of the product."""
    addresses = Addresses(IPv4Network("10.244.0.0/28"))
    held: list[str] = []
    for takes in steps:
        if takes and len(held) < 13:
            address, number = addresses.take()
            assert address not in held
            assert address == f"10.244.0.{number}"
            assert 2 <= number <= 14
            held.append(address)
        elif held:
            addresses.give_back(held.pop(0))


def test_an_address_that_was_given_back_is_not_used_again_at_once() -> None:
    """Whoever still talks to the old pod must not reach the new one."""
    addresses = Addresses(IPv4Network("10.244.0.0/16"))
    first, _ = addresses.take()
    addresses.give_back(first)

    assert addresses.take()[0] != first


def test_conditions_keep_the_time_of_their_last_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods, "_now", lambda: "then")
    before = {"conditions": pods._conditions({}, [("Ready", False, "Why", "because"), ("Initialized", True, "", "")])}
    monkeypatch.setattr(pods, "_now", lambda: "now")
    after = pods._conditions(before, [("Ready", True, "", ""), ("Initialized", True, "", "")])

    assert {one["type"]: (one["status"], one["lastTransitionTime"]) for one in after} == {
        "Ready": ("True", "now"),
        "Initialized": ("True", "then"),
    }


def test_new_places_to_mount_are_made_in_the_sandboxes_own_folders_only(tmp_path: Path) -> None:
    """Making /data on somebody's machine, for a pod that wants it, would be a trace."""
    with pytest.raises(OSError, match="does not exist on this machine"):
        files._make_mount_point(Path("/codezero-test/data"), folder=True)

    assert not Path("/codezero-test").exists()
    files._make_mount_point(tmp_path, folder=True)
