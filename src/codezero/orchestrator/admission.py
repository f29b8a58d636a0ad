"""May this laptop consume or serve that service, and which services may it see at all? Closed when there is no valid policy.

A laptop sees exactly the services it may consume (T38), and serves what it sees and may serve. Laptops for which the same rules speak share one `Viewer`, hence one view of the
catalog and one encoding of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from codezero.model import access
from codezero.model.access import Decision, Effect, Operation, Policy, PolicyRule
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.wire import policy_file

REMEMBERED_DECISIONS = 20_000


@dataclass(frozen=True, slots=True)
class Viewer:
    """What decides about a laptop: its organization, and the rules about consuming that speak of its user."""

    organization: str
    rules: tuple[PolicyRule, ...]
    closed: str | None = None

    def sees(self, service: ServiceRef) -> bool:
        """Whether the laptop may consume, hence see, the service."""
        allowed = False
        for rule in self.rules:
            if rule.speaks_of_service(service):
                if rule.effect is Effect.DENY:
                    return False
                allowed = True
        return allowed

    def decide(self, service: ServiceRef) -> Decision:
        """As `Policy.decide` for consuming."""
        if self.closed is not None:
            return Decision(False, self.closed)
        matching = [rule for rule in self.rules if rule.speaks_of_service(service)]
        for rule in matching:
            if rule.effect is Effect.DENY:
                return Decision(False, f"rule {rule.name or 'without a name'} denies {Operation.CONSUME} of {service}")
        if matching:
            return Decision(True, f"rule {matching[0].name or 'without a name'} allows it")
        return Decision(False, f"no rule allows {Operation.CONSUME} of {service}")


class Admission:
    """Decides by the newest policy; without a valid one it refuses everything and says why. `version` counts policies."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._reason = "the Teamspace has no policy yet"
        self._viewers: dict[str, Viewer] = {}
        self._decisions: dict[Viewer, dict[ServiceRef, Decision]] = {}
        self._other_decisions: dict[tuple[str, str, Operation, ServiceRef], Decision] = {}
        self._is_read = False
        self.version = 0

    @property
    def policy(self) -> Policy | None:
        """The policy in force."""
        return self._policy

    @property
    def is_read(self) -> bool:
        """Whether the policy file has been looked at; what nobody has decided yet takes nothing away."""
        return self._is_read

    @property
    def reason(self) -> str | None:
        """Why nothing is allowed; None while a policy is in force."""
        return None if self._policy is not None else self._reason

    def read(self, content: bytes | None) -> bool:
        """Decide by the policy file's content from now on, None where it is missing; tells whether anything changed."""
        policy, reason = None, "the Teamspace has no policy: its policy file is missing"
        if content is not None:
            try:
                policy, reason = policy_file.decode(content), ""
            except CodezeroError as error:
                reason = f"the Teamspace has no valid policy: {error.detail}"
        changed = (policy, reason) != (self._policy, self._reason)
        self._policy, self._reason = policy, reason
        self._is_read = True
        self.version += 1
        self._viewers.clear()
        self._decisions.clear()
        self._other_decisions.clear()
        return changed

    def viewer(self, device: Device) -> Viewer:
        """What decides about `device` under the policy in force."""
        if self._policy is None:
            return Viewer(device.organization, (), self._reason[:200])
        if device.organization != self._policy.organization:
            closed = access.decide(self._policy, device, Operation.CONSUME, ServiceRef("any", "any"))
            return Viewer(device.organization, (), closed.reason)
        viewer = self._viewers.get(device.user)
        if viewer is None:
            rules = tuple(
                rule
                for rule in self._policy.rules
                if Operation.CONSUME in rule.operations and rule.speaks_of_user(device.user)
            )
            viewer = self._viewers[device.user] = Viewer(device.organization, rules)
        return viewer

    def refused(self, device: Device, services: Iterable[ServiceRef]) -> tuple[tuple[ServiceRef, str], ...]:
        """Those of `services` that `device` may not consume, each with the reason."""
        viewer = self.viewer(device)
        known = self._decisions.setdefault(viewer, {})
        if len(known) > REMEMBERED_DECISIONS:
            known.clear()
        refused: list[tuple[ServiceRef, str]] = []
        for service in services:
            decision = known.get(service)
            if decision is None:
                decision = known[service] = viewer.decide(service)
            if not decision.allowed:
                refused.append((service, decision.reason))
        return tuple(refused)

    def decide(self, device: Device, operation: Operation, service: ServiceRef) -> Decision:
        """Whether `device` may do `operation` on `service`, and why; nobody serves what he does not see."""
        key = (device.organization, device.user, operation, service)
        decision = self._other_decisions.get(key)
        if decision is None:
            if len(self._other_decisions) >= REMEMBERED_DECISIONS:
                self._other_decisions.clear()
            decision = self._other_decisions[key] = self._decided(device, operation, service)
        return decision

    def _decided(self, device: Device, operation: Operation, service: ServiceRef) -> Decision:
        if self._policy is None:
            return Decision(False, self._reason[:200])
        seen = self._policy.decide(device, Operation.CONSUME, service)
        return self._policy.decide(device, operation, service) if seen.allowed else seen
