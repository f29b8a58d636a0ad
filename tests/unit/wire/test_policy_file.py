"""The policy file in both forms: what is written is read, and nothing else is."""

import json
from typing import Any

import msgspec
import pytest

from codezero.deploy import identity
from codezero.model import problems
from codezero.model.access import allow_all
from codezero.model.ids import Device, new_ulid
from codezero.model.problems import CodezeroError
from codezero.system import joining
from codezero.testing.bundles import attribute, bundle, equals, policy
from codezero.wire import policy_file

ANNA = Device("hub", new_ulid(), new_ulid(), new_ulid())
WHOLE = bundle(
    [ANNA],
    {"freeze": policy("forbid", when=equals(attribute("resource", "name"), "orders"), reason="until Monday")},
    revoked=[new_ulid()],
    suspended=True,
    opa_url="https://opa.example.com/v1/data/codezero/allow",
)


def changed(**fields: Any) -> bytes:
    content = json.loads(policy_file.encode(WHOLE))
    for name, value in fields.items():
        if value is None:
            del content[name]
        else:
            content[name] = value
    return json.dumps(content).encode()


def test_a_bundle_survives_being_written_and_read() -> None:
    """Also what equality leaves out."""
    read = policy_file.read(policy_file.encode(WHOLE))

    assert read == WHOLE
    for name in ("serial", "issued_at", "expires_at"):
        assert getattr(read, name) == getattr(WHOLE, name)


def test_both_forms_are_read() -> None:
    """A Teamspace may join a Hub, or never have one."""
    rules = allow_all(ANNA.organization)

    assert policy_file.read(policy_file.encode(rules)) == rules
    with pytest.raises(CodezeroError):
        policy_file.decode(policy_file.encode(WHOLE))


MEMBER = {"name": "a", "email": "b", "kind": "person", "role": "developer"}


@pytest.mark.parametrize(
    "content",
    [
        *(
            changed(**{name: None})
            for name in msgspec.structs.asdict(msgspec.json.decode(changed(), type=policy_file._Bundle))
            if name != "opa"
        ),  # pyright: ignore[reportPrivateUsage]
        changed(rules=[]),
        changed(allow_all=True),
        changed(serial=-1),
        changed(serial="1"),
        changed(suspended="no"),
        changed(organization="o"),
        changed(space=""),
        changed(expires_at="2026-01-01T00:00:00"),
        changed(expires_at=4_000_000_000),
        changed(principals=[]),
        changed(principals={"anna": MEMBER}),
        changed(principals={ANNA.user: {**MEMBER, "admin": True}}),
        changed(principals={ANNA.user: {**MEMBER, "name": "a" * 201}}),
        changed(revoked=["x"]),
        changed(policies=[]),
        changed(policies={"staticPolicies": {"a": {}}}),
        changed(policies={"staticPolicies": {"a": policy(when={"+": {}})}}),
        changed(opa={"url": ""}),
        changed(opa={"url": "https://a", "allow": True}),
        changed() + b" true",
        b'{"serial": ' + b"[" * 100_000,
        b" " * (policy_file.MAX_SIZE + 1),
        changed(issued_at="9999-12-31T23:59:59-23:59"),
        changed(expires_at="0001-01-01T00:00:00+23:59"),
    ],
    ids=lambda content: repr(content)[-60:],
)
def test_nothing_else_is_read(content: bytes) -> None:
    """T46: what is cut, misspelt or hostile must never become an allow."""
    with pytest.raises(CodezeroError) as caught:
        policy_file.read(content)

    assert caught.value.problem is problems.NO_POLICY


def test_the_largest_leaves_room_for_what_else_is_in_the_configmap() -> None:
    """Kubernetes counts names and contents together, and the System says in there how it stands with the Hub."""
    told = identity.HubState("https://" + "h" * 500, reason='"' * joining.MAX_TOLD, fix='"' * joining.MAX_TOLD)
    data = {"policy.json": " " * policy_file.MAX_SIZE, identity.HUB_STATE: msgspec.json.encode(told).decode()}

    assert sum(len(name) + len(text) for name, text in data.items()) < 1024 * 1024
