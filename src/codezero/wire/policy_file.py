"""What a Teamspace decides by, as the file `policy.json` of ConfigMap `codezero-policy`: rules, or a Hub's bundle, as JSON, read strictly.

A misspelt field must not silently widen a rule, so unknown fields are errors. A Hub therefore sends no fields that a Teamspace's release does not
know.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec

from codezero.model import cedar, problems
from codezero.model.access import AnyPolicy, Bundle, Effect, Member, Operation, Policy, PolicyRule
from codezero.model.cedar import CedarError
from codezero.model.problems import CodezeroError

# A ConfigMap holds 1 MiB in all, with what else is in there: names, and what the System says about the Hub.
MAX_SIZE = 1024 * 1024 - 16 * 1024

Content = TypeVar("Content")

_Glob = Annotated[str, msgspec.Meta(min_length=1, max_length=253)]
_Globs = Annotated[tuple[_Glob, ...], msgspec.Meta(max_length=5000)]
_Ulid = Annotated[str, msgspec.Meta(pattern="^[0-7][0-9A-HJKMNP-TV-Z]{25}$")]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


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


class _Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(max_length=200)]
    email: Annotated[str, msgspec.Meta(max_length=320)]
    kind: Annotated[str, msgspec.Meta(max_length=16)]
    role: Annotated[str, msgspec.Meta(max_length=16)]


class _Opa(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class _Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    organization: _Ulid
    space: _Ulid
    serial: Annotated[int, msgspec.Meta(ge=0)]
    issued_at: _Moment
    expires_at: _Moment
    suspended: bool
    principals: dict[_Ulid, _Member]
    revoked: tuple[_Ulid, ...]
    policies: dict[str, Any]
    opa: _Opa | None = None


class _Form(msgspec.Struct, frozen=True):
    serial: Any = None


def read(content: bytes) -> AnyPolicy:
    """What the bytes say, in either form; raises `CodezeroError` (NO_POLICY) naming the part that is wrong."""
    if _decoded(content, _Form).serial is None:
        return decode(content)
    file = _decoded(content, _Bundle)
    for moment in (file.issued_at, file.expires_at):
        try:
            _moment(moment.timestamp())
        except (ValueError, OverflowError) as error:
            # Its offset takes it out of what a clock can show.
            raise CodezeroError(problems.NO_POLICY, f"a time of the Hub's policy cannot be used: {error}") from None
    try:
        policies = cedar.compiled(file.policies)
    except CedarError as error:
        raise CodezeroError(problems.NO_POLICY, f"the Hub's policies cannot be used: {error}") from None
    return Bundle(
        file.organization,
        file.space,
        file.serial,
        file.issued_at.timestamp(),
        file.expires_at.timestamp(),
        {user: Member(one.name, one.email, one.kind, one.role) for user, one in file.principals.items()},
        policies,
        frozenset(file.revoked),
        file.suspended,
        None if file.opa is None else file.opa.url,
    )


def decode(content: bytes) -> Policy:
    """The policy of a Teamspace without a Hub; raises `CodezeroError` (NO_POLICY) naming the part that is wrong."""
    file = _decoded(content, _File)
    return Policy(
        file.organization,
        tuple(
            PolicyRule(rule.effect, rule.operations, rule.users, rule.namespaces, rule.services, rule.name)
            for rule in file.rules
        ),
    )


def encode(policy: AnyPolicy) -> bytes:
    """The file's content for `policy`."""
    if isinstance(policy, Policy):
        return msgspec.json.format(msgspec.json.encode(policy), indent=2)
    members = {user: _Member(one.name, one.email, one.kind, one.role) for user, one in policy.members.items()}
    # In one line: JSON of Cedar is mostly indentation, and a ConfigMap has little room.
    return msgspec.json.encode(
        _Bundle(
            policy.organization,
            policy.space,
            policy.serial,
            _moment(policy.issued_at),
            _moment(policy.expires_at),
            policy.suspended,
            members,
            tuple(sorted(policy.revoked)),
            dict(policy.policies.source),
            None if policy.opa_url is None else _Opa(policy.opa_url),
        )
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _decoded(content: bytes, kind: type[Content]) -> Content:
    if len(content) > MAX_SIZE:
        raise CodezeroError(
            problems.NO_POLICY, f"the policy file has {len(content)} bytes; at most {MAX_SIZE} are read"
        )
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodezeroError(problems.NO_POLICY, f"the policy file cannot be read: {error}") from None
