"""Teamspace access files: refused with the wrong part named, and never quoted."""

import json

import msgspec
import pytest

from codezero.model.problems import CodezeroError
from codezero.wire import access_file

GOOD = {
    "teamspace": "01ARZ3NDEKTSV4RRFFQ69G5FAV", "name": "shop", "host": "shop.example", "port": 8800,
    "roots": "-----BEGIN CERTIFICATE-----\n", "certificate": "-----BEGIN CERTIFICATE-----\n", "key": "-----BEGIN PRIVATE KEY-----\ncanary",
}  # fmt: skip


def test_a_file_is_read_and_its_key_not_shown() -> None:
    access = access_file.decode(json.dumps(GOOD).encode())

    assert access.server_name == "01arz3ndektsv4rrffq69g5fav.spaces.codezero.io"
    assert "canary" not in repr(access)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"port": 0}, "port"),
        ({"port": "8800"}, "port"),
        ({"teamspace": "x"}, "teamspace"),
        ({"key": "canary"}, "key"),
        ({"host": ""}, "host"),
        ({"keys": 1}, "keys"),
        ({"certificate": None}, "certificate"),
    ],
)
def test_the_wrong_part_is_named_and_not_quoted(change: dict[str, object], named: str) -> None:
    with pytest.raises(CodezeroError, match=named) as caught:
        access_file.decode(json.dumps({**GOOD, **change}).encode())

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b" " * (access_file.MAX_SIZE + 1), b"[" * 5000])
def test_other_files_are_refused(content: bytes) -> None:
    with pytest.raises(CodezeroError):
        access_file.decode(content)


ULID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
ISSUED = {
    **{name: value for name, value in GOOD.items() if name not in ("key", "teamspace")},
    "space": ULID, "organization": ULID, "user": "ann", "expires_at": "2030-01-01T00:00:00Z",
}  # fmt: skip


def test_what_a_hub_issues_becomes_whole_with_the_key_it_never_saw() -> None:
    """What a later Hub tells besides is not minded."""
    issued = msgspec.json.decode(json.dumps(ISSUED), type=access_file.IssuedAccess)

    hub = access_file.HubReference("https://hub.test")
    access = issued.whole(key=str(GOOD["key"]), hub=hub, device=ULID, organization_name="acme")

    assert access_file.decode(msgspec.json.encode(access)) == access
    assert (access.device, access.organization_id, access.organization, access.hub) == (ULID, ULID, "acme", hub)


@pytest.mark.parametrize("hub", [{"url": "ftp://x"}, {"url": "https://x", "token": 1}, {"url": "https://x", "ca": "x"}])
def test_a_hub_that_is_none_is_refused(hub: dict[str, object]) -> None:
    with pytest.raises(CodezeroError, match="hub"):
        access_file.decode(json.dumps({**GOOD, "hub": hub}).encode())


def test_a_proxy_s_password_shows_in_no_log() -> None:
    hub = access_file.HubReference("https://hub.test", proxy="http://ann:canary@proxy:3128")
    access = access_file.decode(json.dumps({**GOOD, "hub": msgspec.to_builtins(hub)}).encode())

    assert "canary" not in repr(access) + repr(access.hub)
