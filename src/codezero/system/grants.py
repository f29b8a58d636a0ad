"""What laptops may do now, and the streams that run on it: a policy that changes ends those it no longer allows (T41)."""

from collections.abc import Callable
from dataclasses import dataclass

from codezero.kit.logs import get_logger
from codezero.model import access, problems
from codezero.model.access import Operation, Policy
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.wire import policy_file

# Ended streams are dropped from the list when it has grown by this many.
_TIDY_AFTER = 512

_log = get_logger("grants")


@dataclass(frozen=True, slots=True)
class Grant:
    """A running stream: whose it is, to (or from) what, whether it has ended, how to end it with a reason, and what it is for."""

    device: Device
    service: ServiceRef
    is_over: Callable[[], bool]
    end: Callable[[CodezeroError], None]
    operation: Operation = Operation.CONSUME


class Grants:
    """Decides about streams by the newest policy; without a valid one everything is refused."""

    def __init__(self) -> None:
        self._policy: Policy | None = None
        self._reason = "the Teamspace has no policy yet"
        self._running: list[Grant] = []
        self._tidy_at = _TIDY_AFTER

    @property
    def reason(self) -> str | None:
        """Why nothing is allowed; None while a policy is in force."""
        return None if self._policy is not None else self._reason

    def require(self, device: Device, service: ServiceRef, operation: Operation = Operation.CONSUME) -> None:
        """Raise `CodezeroError` (NO_POLICY, FORBIDDEN) unless `device` may do `operation` on `service` now."""
        if self._policy is None:
            raise CodezeroError(
                problems.NO_POLICY, self._reason, fix="an administrator of the Teamspace has to give it a valid policy"
            )
        decision = access.decide(self._policy, device, operation, service)
        if not decision.allowed:
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
        policy, reason = None, "the Teamspace has no policy: its policy file is missing"
        if content is not None:
            try:
                policy, reason = policy_file.decode(content), ""
            except CodezeroError as error:
                reason = f"the Teamspace has no valid policy: {error.detail}"
        if (policy, reason) == (self._policy, self._reason):
            return False
        self._policy, self._reason = policy, reason
        self._end_forbidden()
        return True

    def _end_forbidden(self) -> None:
        kept: list[Grant] = []
        for grant in self._running:
            if grant.is_over():
                continue
            try:
                self.require(grant.device, grant.service, grant.operation)
                kept.append(grant)
            except CodezeroError as error:
                _log.info("stream ended by the policy", device=str(grant.device), service=str(grant.service))
                grant.end(error)
        self._running = kept
