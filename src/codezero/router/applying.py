"""Brings Envoy from one plan to the next, and back when it refuses one."""

import asyncio
import time
from collections.abc import Mapping
from enum import Enum

from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.router.admin import Admin, EnvoyAbsentError, EnvoyState
from codezero.router.changes import Files, leads_to_variants, refuse_foreign, steps
from codezero.router.folder import BOOTSTRAP, RouterFolder
from codezero.routing import envoy
from codezero.routing.envoy import Configuration
from codezero.routing.plan import RoutePlan

# How long Envoy gets to take a step; a user waits, so it is asked often at first.
TAKEN_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.004, 0.1

_log = get_logger("router-plan")


class Outcome(Enum):
    """How it stands with the newest plan: Envoy works by it, does not answer yet, or refused it and keeps the one before."""

    TAKEN = "taken"
    PENDING = "pending"
    REFUSED = "refused"


class Applier:
    """Writes the files in `folder` for one plan after the other; one call at a time. `plan` is the one that files were last written for."""

    def __init__(self, folder: RouterFolder, admin: Admin, *, first: RoutePlan, bind: str) -> None:
        self.plan = first
        self.applied = 0
        self.refused = 0
        self._folder = folder
        self._admin = admin
        self._first = first
        self._bind = bind
        self._good = first
        self._before: EnvoyState | None = None

    def begin(self, *, node: str) -> None:
        """Write the first files, so that Envoy serves with everything else dead. Raises OSError.

        A follower that was started again goes on with the last plan: Envoy has it and knows no better one.
        """
        kept = self._folder.kept()
        if kept is not None and self._can_go_on(kept):
            self.plan = self._good = kept
            _log.info("going on with the last plan", rules=_rules(kept))
        self._folder.path.mkdir(parents=True, exist_ok=True)
        self._folder.put(self._files(self.plan))
        bootstrap = envoy.bootstrap(
            folder=str(self._folder.path), node=node, admin_socket=str(self._folder.admin_socket)
        )
        self._folder.put({BOOTSTRAP: bootstrap})

    async def apply(self, plan: RoutePlan) -> Outcome:
        """Bring Envoy to `plan`. Raises `CodezeroError` (BAD_SERVE) for a plan that is not for this Router, and OSError."""
        refuse_foreign(plan, self._first)
        if leads_to_variants(plan) and not self._folder.has_secrets:
            raise CodezeroError(problems.BAD_IDENTITY, "there is no identity yet, which variants ask for")
        self._before = await self._look()
        wanted = self._files(plan)
        for step in steps(self._files(self.plan), wanted):
            self._folder.put(step)
            if await self._settled(step) is Outcome.REFUSED:
                return self._back(plan)
        self.plan = plan
        return await self.settle()

    async def settle(self) -> Outcome:
        """See whether Envoy has taken the files of `plan`, for some seconds where it answers; keep it as the last good one then. Raises OSError."""
        wanted = self._files(self.plan)
        outcome = await self._settled(wanted)
        match outcome:
            case Outcome.TAKEN:
                self._good = self.plan
                self._folder.keep(self.plan)
                self.applied += 1
            case Outcome.REFUSED:
                return self._back(self.plan)
            case Outcome.PENDING:
                if await self._look() is not None:
                    # It answers and has missed a change, such as one made while it started.
                    _log.warning("Envoy has not taken the plan, its files are written again")
                    self._folder.put_again(wanted)
        return outcome

    def _back(self, plan: RoutePlan) -> Outcome:
        """Put back the last good files. Those of `plan` are on the disk up to the one that was refused."""
        self.refused += 1
        self.plan = self._good
        _log.error("Envoy refuses the plan and keeps the last one; its log says why", rules=_rules(plan))
        self._folder.put(self._files(self._good))
        return Outcome.REFUSED

    async def _settled(self, step: Files) -> Outcome:
        until = time.monotonic() + TAKEN_SECONDS
        pause = _FIRST_PAUSE
        while True:
            state = await self._look()
            if state is None:
                # Nobody uses the files at the moment; whoever comes reads them all.
                return Outcome.PENDING
            if state.has(step):
                return Outcome.TAKEN
            if self._refuses(state):
                return Outcome.REFUSED
            if time.monotonic() >= until:
                return Outcome.PENDING
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def _refuses(self, state: EnvoyState) -> bool:
        before = self._before
        counted_before = before.refused if before is not None and before.run == state.run else 0
        return state.refused > counted_before

    async def _look(self) -> EnvoyState | None:
        try:
            return await self._admin.state()
        except EnvoyAbsentError:
            return None

    def _files(self, plan: RoutePlan) -> Mapping[str, Configuration]:
        return envoy.files(plan, folder=str(self._folder.path), bind=self._bind)

    def _can_go_on(self, plan: RoutePlan) -> bool:
        try:
            refuse_foreign(plan, self._first)
        except CodezeroError:
            return False
        return self._folder.has_secrets or not leads_to_variants(plan)


def _rules(plan: RoutePlan) -> int:
    return sum(len(port.rules) for port in plan.ports)
