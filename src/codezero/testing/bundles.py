"""Bundles as a Hub makes them, without one."""

from collections.abc import Iterable, Mapping
from typing import Any

from codezero.model import cedar
from codezero.model.access import Bundle, Member
from codezero.model.ids import Device, new_ulid

Json = dict[str, Any]
NEVER = 4_000_000_000.0


def scope(kind: str | None = None, *ids: str, within: bool = False) -> Json:
    """Cedar's scope: anything; one entity; or those in an entity, or in any of several."""
    if kind is None:
        return {"op": "All"}
    entities = [{"type": f"Codezero::{kind}", "id": one} for one in ids]
    if len(entities) > 1:
        return {"op": "in", "entities": entities}
    return {"op": "in" if within else "==", "entity": entities[0]}


def policy(
    effect: str = "permit",
    *,
    principal: Json | None = None,
    action: Json | None = None,
    resource: Json | None = None,
    when: Json | None = None,
    reason: str | None = None,
) -> Json:
    """One policy in Cedar's JSON form; what is not said is any."""
    return {
        "effect": effect,
        "principal": principal or scope(),
        "action": action or scope(),
        "resource": resource or scope(),
        "conditions": [] if when is None else [{"kind": "when", "body": when}],
        "annotations": {} if reason is None else {"reason": reason},
    }


def attribute(variable: str, *names: str) -> Json:
    """`principal.email`, `context.condition.type`."""
    found: Json = {"Var": variable}
    for name in names:
        found = {".": {"left": found, "attr": name}}
    return found


def equals(left: Json, right: str | int) -> Json:
    """`left == right`."""
    return {"==": {"left": left, "right": {"Value": right}}}


ALL: Mapping[str, Json] = {"everything": policy()}


def bundle(
    devices: Iterable[Device],
    policies: Mapping[str, Json] = ALL,
    *,
    space: str = "01J00000000000000000005PCE",
    serial: int = 1,
    role: str = "developer",
    revoked: Iterable[str] = (),
    suspended: bool = False,
    expires_at: float = NEVER,
    opa_url: str | None = None,
) -> Bundle:
    """What a Hub would say of a space of which the users of `devices` are members."""
    known = list(devices)
    return Bundle(
        organization=known[0].organization if known else new_ulid(),
        space=space,
        serial=serial,
        issued_at=1_700_000_000.0,
        expires_at=expires_at,
        members={
            device.user: Member(f"user{number}", f"user{number}@example.com", "person", role)
            for number, device in enumerate(known)
        },
        policies=cedar.compiled({"templates": {}, "staticPolicies": dict(policies), "templateLinks": []}),
        revoked=frozenset(revoked),
        suspended=suspended,
        opa_url=opa_url,
    )
