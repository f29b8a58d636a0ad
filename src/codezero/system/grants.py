"""What laptops may do now, and the streams that run on it: a policy that changes or expires ends those it no longer allows (T41)."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from codezero.kit.logs import get_logger
from codezero.model import access, problems
from codezero.model.access import CONSUME, Act, AnyPolicy, Decision
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.wire.policy_in_force import PolicyInForce

EXPIRY_LOOK_SECONDS: Final = 1.0
REMEMBERED_DECISIONS: Final = 20_000
# Ended streams are dropped from the list when it has grown by this many.
_TIDY_AFTER = 512

_log = get_logger("grants")


@dataclass(frozen=True, slots=True)
class Grant:
    """A running stream: whose it is, to (or from) what, whether it has ended, how to end it with a reason, and what has to be allowed for it."""

    device: Device
    service: ServiceRef
    is_over: Callable[[], bool]
    end: Callable[[CodezeroError], None]
    acts: tuple[Act, ...] = (CONSUME,)


class Grants:
    """Decides about streams by the newest policy; without a valid one everything is refused. `clock` gives UNIX time."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._force = PolicyInForce()
        self._clock = clock
        self._closed = self._force.closed(clock())
        self._decisions: dict[tuple[Device, ServiceRef, Act], Decision] = {}
        self._running: list[Grant] = []
        self._tidy_at = _TIDY_AFTER
        self._followers: list[Callable[[], None]] = []

    @property
    def reason(self) -> str | None:
        """Why nothing is allowed; None while a policy is in force."""
        return self._force.closed(self._clock())

    @property
    def policy(self) -> AnyPolicy | None:
        """The policy in force."""
        return self._force.policy

    def follow(self, told: Callable[[], None]) -> None:
        """Call `told` whenever something else than before may be allowed."""
        self._followers.append(told)

    def require_device(self, device: Device) -> None:
        """Raise `CodezeroError` (ACCESS_ENDED) where `device` is refused whatever it wants; without a policy nobody is."""
        policy = self._force.policy
        refusal = None if policy is None else policy.refusal(device)
        if refusal is not None and not refusal.knows_device:
            raise _ended(refusal)

    def require(self, device: Device, service: ServiceRef, acts: Iterable[Act] = (CONSUME,)) -> None:
        """Raise `CodezeroError` (NO_POLICY, FORBIDDEN, ACCESS_ENDED) unless `device` may do all of `acts` on `service` now."""
        closed = self.reason
        if closed is not None:
            raise CodezeroError(
                problems.NO_POLICY, closed, fix="an administrator of the Teamspace has to give it a valid policy"
            )
        for act in acts:
            decision = self._decision(device, service, act)
            if decision.allowed:
                continue
            if not decision.knows_device:
                raise _ended(decision)
            raise CodezeroError(
                problems.FORBIDDEN,
                f"{decision.reason}, or it does not exist",
                fix="ask an administrator of the Teamspace for access",
            )

    def note(self, grant: Grant) -> None:
        """Remember a stream that was allowed, for as long as it runs."""
        self._running.append(grant)
        if len(self._running) >= self._tidy_at:
            self._running = [grant for grant in self._running if not grant.is_over()]
            self._tidy_at = 2 * len(self._running) + _TIDY_AFTER

    def read(self, content: bytes | None) -> bool:
        """Decide by this policy file from now on, None where it is missing, and end what it forbids; tells whether anything changed."""
        changed = self._force.read(content)
        return self._decide_again(changed=changed)

    def belongs_to(self, space: str) -> bool:
        """Decide by bundles of that Teamspace alone, and end what that forbids; tells whether anything changed."""
        return self._decide_again(changed=self._force.belongs_to(space))

    async def watch(self) -> None:
        """End what runs when the policy expires, until cancelled."""
        while True:
            await asyncio.sleep(EXPIRY_LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """End what runs where the policy has expired since the last look."""
        if self._decide_again(changed=False):
            _log.warning("the policy has expired", reason=self._closed)

    def _decide_again(self, *, changed: bool) -> bool:
        closed = self.reason
        if not changed and closed == self._closed:
            return False
        self._closed = closed
        self._decisions.clear()
        self._end_forbidden()
        for told in self._followers:
            told()
        return True

    def _decision(self, device: Device, service: ServiceRef, act: Act) -> Decision:
        key = device, service, act
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= REMEMBERED_DECISIONS:
                self._decisions.clear()
            decision = self._decisions[key] = access.decide(self._force.policy, device, act, service)
        return decision

    def _end_forbidden(self) -> None:
        kept: list[Grant] = []
        for grant in self._running:
            if grant.is_over():
                continue
            try:
                self.require(grant.device, grant.service, grant.acts)
                kept.append(grant)
            except CodezeroError as error:
                _log.info("stream ended by the policy", device=str(grant.device), service=str(grant.service))
                grant.end(error)
        self._running = kept


def _ended(refusal: Decision) -> CodezeroError:
    return CodezeroError(
        problems.ACCESS_ENDED, refusal.reason, fix="sign in again, or ask an administrator of the organization"
    )
