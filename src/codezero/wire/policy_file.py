"""A Teamspace's policy as the file `policy.json` of ConfigMap `codezero-policy`: `model.access.Policy` as JSON, read strictly.

A misspelt field must not silently widen a rule, so unknown fields are errors.
"""

from typing import Annotated

import msgspec

from codezero.model import problems
from codezero.model.access import Effect, Operation, Policy, PolicyRule
from codezero.model.problems import CodezeroError

MAX_SIZE = 1024 * 1024

_Glob = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
_Globs = Annotated[tuple[_Glob, ...], msgspec.Meta(max_length=5000)]


class _Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    effect: Effect
    operations: tuple[Operation, ...]
    users: _Globs = ("*",)
    namespaces: _Globs = ("*",)
    services: _Globs = ("*",)
    name: Annotated[str, msgspec.Meta(max_length=200)] = ""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    organization: Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
    rules: Annotated[tuple[_Rule, ...], msgspec.Meta(max_length=10_000)]


def decode(content: bytes) -> Policy:
    """The policy that the bytes describe; raises `CodezeroError` (NO_POLICY) naming the part that is wrong."""
    if len(content) > MAX_SIZE:
        raise CodezeroError(
            problems.NO_POLICY, f"the policy file has {len(content)} bytes; at most {MAX_SIZE} are read"
        )
    try:
        file = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodezeroError(problems.NO_POLICY, f"the policy file cannot be read: {error}") from None
    return Policy(
        file.organization,
        tuple(
            PolicyRule(rule.effect, rule.operations, rule.users, rule.namespaces, rule.services, rule.name)
            for rule in file.rules
        ),
    )


def encode(policy: Policy) -> bytes:
    """The file's content for `policy`."""
    return msgspec.json.format(msgspec.json.encode(policy), indent=2)
