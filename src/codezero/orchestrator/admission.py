"""May this laptop consume or serve that service, and which services may it see at all? Closed when there is no valid policy.

A laptop sees exactly the services it may consume (T38), and serves what it sees and may serve. Laptops for which the same policies can speak share
one `Viewer`, hence one view of the catalog and one encoding of it.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from codezero.model import access
from codezero.model.access import Act, AnyPolicy, Decision, RuleSight, Sight, Wanted, act_of
from codezero.model.ids import Device
from codezero.model.services import ServiceRef
from codezero.wire.policy_in_force import PolicyInForce

REMEMBERED_DECISIONS = 20_000
REMEMBERED_VIEWERS = 10_000
REMEMBERED_BY_VIEWERS = 50
_MOST_REASON = 200

_NOTHING = RuleSight()


@dataclass(frozen=True, slots=True)
class Viewer:
    """What decides about a laptop: its organization, and what speaks of its user's consuming; or why it may do nothing at all."""

    organization: str
    sight: Sight
    closed: str | None = None

    def sees(self, service: ServiceRef) -> bool:
        """Whether the laptop may consume, hence see, the service."""
        return self.sight.sees(service)

    def decide(self, service: ServiceRef) -> Decision:
        """As the policy does for consuming."""
        return self.sight.decide(service) if self.closed is None else Decision(False, self.closed)


class Admission:
    """Decides by the newest policy; without a valid one it refuses everything and says why.

    `version` counts what may have changed decisions. `clock` gives UNIX time.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._force = PolicyInForce()
        self._clock = clock
        self._closed = self._force.closed(clock())
        # Of devices rather than users: one of a user's may be revoked.
        self._viewers: dict[Device, Viewer] = {}
        self._decisions: dict[Viewer, dict[ServiceRef, Decision]] = {}
        self._other_decisions: dict[tuple[Device, Act, ServiceRef], Decision] = {}
        self.version = 0

    @property
    def policy(self) -> AnyPolicy | None:
        """The policy in force; None where nothing is allowed for want of one."""
        return self._force.policy if self.reason is None else None

    @property
    def is_read(self) -> bool:
        """Whether the policy file has been looked at; what nobody has decided yet takes nothing away."""
        return self._force.is_read

    @property
    def reason(self) -> str | None:
        """Why nothing is allowed; None while a policy is in force."""
        return self._force.closed(self._clock())

    def read(self, content: bytes | None) -> bool:
        """Decide by the policy file's content from now on, None where it is missing; tells whether anything changed."""
        return self._decide_again(changed=self._force.read(content))

    def belongs_to(self, space: str) -> bool:
        """Decide by bundles of that Teamspace alone; tells whether anything changed."""
        return self._decide_again(changed=self._force.belongs_to(space))

    def look(self) -> bool:
        """Whether the policy has expired since the last look."""
        return self._decide_again(changed=False)

    def _decide_again(self, *, changed: bool) -> bool:
        closed = self.reason
        if not changed and closed == self._closed:
            return False
        self._closed = closed
        self.version += 1
        self._viewers.clear()
        self._decisions.clear()
        self._other_decisions.clear()
        return True

    def viewer(self, device: Device) -> Viewer:
        """What decides about `device` under the policy in force."""
        policy, reason = self._force.policy, self.reason
        if policy is None or reason is not None:
            return Viewer(device.organization, _NOTHING, (reason or "")[:_MOST_REASON])
        viewer = self._viewers.get(device)
        if viewer is None:
            if len(self._viewers) >= REMEMBERED_VIEWERS:
                self._viewers.clear()
            refusal = policy.refusal(device)
            viewer = self._viewers[device] = (
                Viewer(device.organization, policy.sight(device))
                if refusal is None
                else Viewer(device.organization, _NOTHING, refusal.reason)
            )
        return viewer

    def refused(self, device: Device, services: Iterable[ServiceRef]) -> tuple[tuple[ServiceRef, str], ...]:
        """Those of `services` that `device` may not consume, each with the reason."""
        viewer = self.viewer(device)
        known = self._decisions.get(viewer)
        if known is None:
            if len(self._decisions) >= REMEMBERED_BY_VIEWERS:
                self._decisions.clear()
            known = self._decisions[viewer] = {}
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

    def decide(self, device: Device, wanted: Wanted, service: ServiceRef) -> Decision:
        """Whether `device` may do that on `service`, and why; nobody serves what he does not see."""
        reason = self.reason
        if reason is not None:
            return Decision(False, reason[:_MOST_REASON])
        key = (device, act_of(wanted), service)
        decision = self._other_decisions.get(key)
        if decision is None:
            if len(self._other_decisions) >= REMEMBERED_DECISIONS:
                self._other_decisions.clear()
            decision = self._other_decisions[key] = self._decided(*key)
        return decision

    def decide_all(self, device: Device, acts: Iterable[Act], service: ServiceRef) -> Decision:
        """The first of `acts` that is not allowed, else that of the last; acts are never none."""
        decision = Decision(False, "nothing is asked for")
        for act in acts:
            decision = self.decide(device, act, service)
            if not decision.allowed:
                break
        return decision

    def _decided(self, device: Device, act: Act, service: ServiceRef) -> Decision:
        policy = self._force.policy
        if policy is None:
            return Decision(False, "the Teamspace has no policy")
        return access.decide_where_seen(policy, device, act, service)
