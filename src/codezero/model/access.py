"""Who may do what in a Teamspace: the question, the answer, and the policy that gives it. Closed when unsure.

Rules are tried in no order: a matching `deny` wins, then a matching `allow`; without either the answer is no.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from codezero.model.ids import Device
from codezero.model.services import ServiceRef


class Operation(StrEnum):
    """What a policy is asked about."""

    CONSUME = "consume"
    SERVE = "serve"


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
        return (
            operation in self.operations
            and any(fnmatchcase(device.user, pattern) for pattern in self.users)
            and any(fnmatchcase(service.namespace, pattern) for pattern in self.namespaces)
            and any(fnmatchcase(service.name, pattern) for pattern in self.services)
        )


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


def decide(policy: Policy | None, device: Device, operation: Operation, service: ServiceRef) -> Decision:
    """`Policy.decide`, and no where there is no policy at all."""
    if policy is None:
        return Decision(False, "the Teamspace has no valid policy")
    return policy.decide(device, operation, service)


def allow_all(organization: str, operations: Sequence[Operation] = tuple(Operation)) -> Policy:
    """A policy that lets every device of `organization` do `operations` everywhere."""
    return Policy(organization, (PolicyRule(Effect.ALLOW, tuple(operations), name="everything"),))
