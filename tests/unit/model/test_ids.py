"""Identities are parsed strictly and never normalised (CVE-2021-27099)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.ids import Device, TeamspaceId, Workload, is_ulid, new_ulid
from codezero.model.problems import CodezeroError

U = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
DEVICE = f"spiffe://hub.example/org/{U}/user/{U}/device/{U}"


def test_ids_survive_the_way_through_text() -> None:
    device = Device("hub.example", new_ulid(), new_ulid(), new_ulid())
    workload = Workload(TeamspaceId(new_ulid()), "system")

    assert Device.parse(str(device)) == device
    assert Workload.parse(str(workload)) == workload


@pytest.mark.parametrize(
    "text",
    [
        "",
        DEVICE + "/",
        DEVICE + "/../" + U,
        DEVICE.replace("spiffe", "SPIFFE"),
        DEVICE.replace("hub.example", ""),
        DEVICE.replace("hub.example", "hub.example:443"),
        DEVICE.replace("hub.example", "user@hub.example"),
        DEVICE.replace("/org/", "//org/"),
        DEVICE.replace("/user/", "/%75ser/"),
        DEVICE + "?x=1",
        DEVICE + "#x",
        DEVICE + "\n",
        DEVICE.replace(U, U.lower()),
        DEVICE.replace(U, U[:-1]),
        DEVICE.replace(U, "8" + U[1:]),
        DEVICE.replace(f"/org/{U}", ""),
        f"spiffe://{U.lower()}.codezero/system",
    ],
)
def test_anything_but_a_device_is_refused(text: str) -> None:
    with pytest.raises(CodezeroError):
        Device.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        f"spiffe://{U}.codezero/system",
        f"spiffe://{U.lower()}.codezero/admin",
        f"spiffe://{U.lower()}.codezero/system/",
        f"spiffe://{U.lower()}.codezero.evil/system",
        f"spiffe://evil.{U.lower()}.codezero/system",
        f"spiffe://{U.lower()[:-1]}.codezero/system",
        DEVICE,
    ],
)
def test_anything_but_a_workload_is_refused(text: str) -> None:
    with pytest.raises(CodezeroError):
        Workload.parse(text)


@given(st.text(max_size=200))
def test_no_text_is_both_accepted_and_changed(text: str) -> None:
    for kind in (Device, Workload):
        try:
            assert str(kind.parse(text)) == text
        except CodezeroError:
            continue


def test_new_ulids_are_ulids() -> None:
    assert is_ulid(new_ulid())
    assert not is_ulid(new_ulid().lower())
