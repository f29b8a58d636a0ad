"""Which replica of the System leads: the one that holds the Lease `codezero-system` in our namespace.

As other controllers do it (client-go, leaderelection): a holder renews every 2 s and gives up when it could not for 10; others take over when they
have seen no renewal for 15 s by their own clock, so clocks need not agree. Between the two lie 5 s in which nobody leads. A leader that is
cut off may finish the write it is in; that write has its preconditions.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final

from codezero.deploy.access import LEASE
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_object, as_text, at
from codezero.system.serving.observing import find

LEASE_SECONDS: Final = 15.0
RENEW_WITHIN_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 2.0

_log = get_logger("leadership")


class Leadership:
    """Leads whenever it can. `steady` is a clock that never jumps; `leading` says how it is now."""

    def __init__(
        self,
        api: ApiClient,
        *,
        namespace: str,
        identity: str,
        steady: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """`identity` is this replica's alone: the name of its pod."""
        self.leading = False
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{LEASE}"
        self._identity = identity
        self._steady = steady
        self._wall_clock = wall_clock
        self._seen: tuple[str, float] = ("", 0.0)  # the version of another's lease, and when we first saw it
        self._renewed_at = float("-inf")

    @property
    def is_sure(self) -> bool:
        """Whether nobody else can lead at this moment, also after a pause in which nothing of ours ran."""
        return self.leading and self._steady() < self._renewed_at + RENEW_WITHIN_SECONDS

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do `work` whenever this replica leads, cancelled when it does no more; until cancelled."""
        while True:
            while not await self.try_once():  # noqa: ASYNC110 - only the API server knows
                await asyncio.sleep(RETRY_SECONDS)
            _log.info("this System leads", identity=self._identity)
            try:
                async with task_group("leading") as tasks:
                    tasks.start_service("work", work())
                    await self._keep()
            finally:
                self.leading = False
                await self._release()
            _log.warning("this System leads no more", identity=self._identity)

    async def try_once(self) -> bool:
        """Take or renew the lease if it may be had; whether this replica leads."""
        asked_at = self._steady()
        try:
            async with asyncio.timeout(RENEW_WITHIN_SECONDS):
                self.leading = await self._take_or_renew()
        except (ApiError, TimeoutError) as error:
            _log.debug("lease not reached", reason=str(error))
            # Nobody else may have it before it runs out.
            self.leading = self.leading and self._steady() < self._renewed_at + RENEW_WITHIN_SECONDS
        else:
            if self.leading:
                self._renewed_at = asked_at
        return self.leading

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if not await self.try_once():
                return

    async def _take_or_renew(self) -> bool:
        lease = await find(self._api, self._path)
        if lease is None:
            await self._api.create(self._collection, self._content({}, transitions=0))
            return True
        holder = as_text(at(lease, "spec", "holderIdentity"))
        if holder not in {"", self._identity} and not self._has_run_out(lease):
            return False
        transitions = at(lease, "spec", "leaseTransitions")
        count = transitions if isinstance(transitions, int) else 0
        await self._api.replace(
            self._path, self._content(lease, transitions=count if holder == self._identity else count + 1)
        )
        return True

    def _has_run_out(self, lease: Json) -> bool:
        version, now = as_text(at(lease, "metadata", "resourceVersion")), self._steady()
        if version != self._seen[0]:
            self._seen = (version, now)
        return now >= self._seen[1] + LEASE_SECONDS

    def _content(self, lease: Json, *, transitions: int) -> Json:
        now = datetime.fromtimestamp(self._wall_clock(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = as_object(lease.get("spec"))
        is_own = before.get("holderIdentity") == self._identity
        return {
            **lease,
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": as_object(lease.get("metadata")) or {"name": LEASE},
            "spec": {
                **before,
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(LEASE_SECONDS),
                "acquireTime": before.get("acquireTime", now) if is_own else now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    async def _release(self) -> None:
        """Let others lead at once instead of after 15 s."""
        try:
            async with asyncio.timeout(RETRY_SECONDS):
                lease = await find(self._api, self._path)
                if lease is not None and at(lease, "spec", "holderIdentity") == self._identity:
                    spec = {**as_object(lease["spec"]), "holderIdentity": "", "leaseDurationSeconds": 1}
                    await self._api.replace(self._path, {**lease, "spec": spec})
        except (ApiError, TimeoutError) as error:
            _log.debug("lease not given up", reason=str(error))
