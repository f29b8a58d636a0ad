"""Which policy counts: the newest that could be read. One that cannot be read closes the Teamspace, for nobody knows what it was to forbid.

A Hub's bundles come by two ways, from the Orchestrator and as the mounted file, which is the slower one: so an older serial never takes the place of
a newer one. And a bundle is for one Teamspace: another one's is none.
"""

from typing import Final

from codezero.model.access import AnyPolicy, Bundle
from codezero.model.problems import CodezeroError
from codezero.wire import policy_file

_FOREIGN: Final = "the Teamspace has no policy: its policy file is another Teamspace's"


class PolicyInForce:
    """The policy that counts, or why there is none. Times are UNIX seconds."""

    def __init__(self) -> None:
        self._policy: AnyPolicy | None = None
        # Also while one counts that could not be read: it must not be the way back to an older one.
        self._newest: Bundle | None = None
        self._reason = "the Teamspace has no policy yet"
        self._is_read = False
        self._space: str | None = None
        # A file that came before it was known that this is its Teamspace.
        self._set_aside: bytes | None = None

    @property
    def policy(self) -> AnyPolicy | None:
        """The policy, also one that has expired."""
        return self._policy

    @property
    def is_read(self) -> bool:
        """Whether a policy was looked for; what nobody has decided yet takes nothing away."""
        return self._is_read

    def closed(self, now: float) -> str | None:
        """Why nobody may do anything at the moment; None where the policy counts."""
        return self._reason if self._policy is None else self._policy.closed(now)

    def belongs_to(self, space: str) -> bool:
        """From now on only bundles of that Teamspace count; tells whether that changes anything."""
        if space == self._space:
            return False
        self._space = space
        before = self._policy, self._reason
        if self._is_foreign(self._policy):
            self._policy, self._reason, self._newest = None, _FOREIGN, None
        content, self._set_aside = self._set_aside, None
        if content is not None:
            self.read(content)
        return (self._policy, self._reason) != before

    def read(self, content: bytes | None) -> bool:
        """Let this content of a policy file count, None where it is missing; tells whether it says anything else than what counted before."""
        before = self._policy, self._reason
        policy, reason = None, "the Teamspace has no policy: its policy file is missing"
        if content is not None:
            try:
                policy, reason = policy_file.read(content), ""
            except CodezeroError as error:
                reason = f"the Teamspace has no valid policy: {error.detail}"
        self._is_read = True
        self._set_aside = None
        if self._is_foreign(policy):
            self._set_aside = content
            if self._policy is not None:
                return False
            policy, reason = None, _FOREIGN
        if isinstance(policy, Bundle) and self._newest is not None and policy.is_older_than(self._newest):
            return False
        if policy is not None:
            self._newest = policy if isinstance(policy, Bundle) else None
        self._policy, self._reason = policy, reason
        return (policy, reason) != before

    def _is_foreign(self, policy: AnyPolicy | None) -> bool:
        return isinstance(policy, Bundle) and self._space is not None and policy.space != self._space
