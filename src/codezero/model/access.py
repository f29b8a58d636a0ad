"""Who may do what in a Teamspace: the question, the answer, and the policy that gives it. Closed when unsure.

Rules are tried in no order: a matching `deny` wins, then a matching `allow`; without either the answer is no.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache

from codezero.model.ids import Device
from codezero.model.services import ServiceRef

_ANYTHING = ("*",)


class Operation(StrEnum):
    """What a policy is asked about. `takeover` is to replace another user's variant, `terminate` to end it."""

    CONSUME = "consume"
    SERVE = "serve"
    TAKEOVER = "takeover"
    TERMINATE = "terminate"


class Effect(StrEnum):
    """What a matching rule does."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the reason a person is told."""

    allowed: bool
    reason: str


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Lets users do operations on services, or forbids it. Fields are shell-style globs over whole values; `users` are user ULIDs."""

    effect: Effect
    operations: tuple[Operation, ...]
    users: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ("*",)
    services: tuple[str, ...] = ("*",)
    name: str = ""

    def matches(self, device: Device, operation: Operation, service: ServiceRef) -> bool:
        """Whether this rule speaks about the case."""
        return operation in self.operations and self.speaks_of_user(device.user) and self.speaks_of_service(service)

    def speaks_of_user(self, user: str) -> bool:
        """Whether this rule is about the user of that ULID."""
        return _matches(self.users, user)

    def speaks_of_service(self, service: ServiceRef) -> bool:
        """Whether this rule is about that service."""
        return _matches(self.namespaces, service.namespace) and _matches(self.services, service.name)


@dataclass(frozen=True, slots=True)
class Policy:
    """A Teamspace's policy for one organization's devices."""

    organization: str
    rules: tuple[PolicyRule, ...]

    def decide(self, device: Device, operation: Operation, service: ServiceRef) -> Decision:
        """Whether `device` may do `operation` on `service`, and why."""
        if device.organization != self.organization:
            return Decision(False, "the device belongs to another organization")
        matching = [rule for rule in self.rules if rule.matches(device, operation, service)]
        for rule in matching:
            if rule.effect is Effect.DENY:
                return Decision(False, f"rule {rule.name or 'without a name'} denies {operation} of {service}")
        if matching:
            return Decision(True, f"rule {matching[0].name or 'without a name'} allows it")
        return Decision(False, f"no rule allows {operation} of {service}")


def _matches(patterns: tuple[str, ...], value: str) -> bool:
    return patterns == _ANYTHING or _compiled(patterns).match(value) is not None


# A laptop's picture asks about each service of the cluster and each rule: one expression for all patterns is ten times faster than a loop.
@lru_cache(maxsize=30_000)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # No pattern at all matches nothing.
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


def decide(policy: Policy | None, device: Device, operation: Operation, service: ServiceRef) -> Decision:
    """`Policy.decide`, and no where there is no policy at all."""
    if policy is None:
        return Decision(False, "the Teamspace has no valid policy")
    return policy.decide(device, operation, service)


def allow_all(organization: str, operations: Sequence[Operation] = tuple(Operation)) -> Policy:
    """A policy that lets every device of `organization` do `operations` everywhere."""
    return Policy(organization, (PolicyRule(Effect.ALLOW, tuple(operations), name="everything"),))
