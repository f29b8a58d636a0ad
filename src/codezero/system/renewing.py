"""Renews the certificates of the Teamspace's own parts, in Secret `codezero-identity`: the leading System does, with the authority's key that is in there.

Pods have the Secret mounted, and every part follows the files; so nothing is restarted, and nobody outside the cluster is needed to go on. All is read
from the API and nothing from our own mount: a System whose certificate ran out while the cluster slept renews it before anything else works.

Where the Teamspace has a Hub, that signs the authority (`joining`); whatever it answers, or does not, the parts have their certificates.
"""

import asyncio
import base64
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from codezero.deploy import identity
from codezero.deploy.identity import ROOT
from codezero.deploy.objects import IDENTITY
from codezero.kit.backoff import Backoff
from codezero.kit.certificates import Authority, CertificateError, Credentials
from codezero.kit.logs import get_logger
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.joining import Membership
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import at
from codezero.system.serving.observing import find
from codezero.transport.identity import Identity

LIFETIME: Final = timedelta(hours=1)
# With two thirds of their life left. Mounts follow within two minutes, and an API server may be away for half an hour without anybody noticing.
RENEWED_BEFORE: Final = timedelta(minutes=40)
LOOK_SECONDS: Final = 300.0
# Soon, because what failed once mostly works the next time; the certificates in use have time.
RETRY_SECONDS: Final = 15.0
# A Hub that is away, or refuses, is asked for ever, at least so often.
ASKED_SECONDS: Final = 60.0

_log = get_logger("renewing")


class Renewal:
    """Keeps the certificates in `namespace` fresh. `identities` is what this System has mounted: when that changes, it looks at once.

    `membership` is what the Hub wants, where there is one.
    """

    def __init__(
        self,
        api: ApiClient,
        *,
        namespace: str,
        identities: Watched[Identity | None],
        membership: Membership | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{IDENTITY}"
        self._identities = identities
        self._membership = membership
        self._again = Backoff(first=1.0, most=ASKED_SECONDS)
        self._clock = clock

    async def run(self) -> None:
        """Renew in good time, for as long as this System leads."""
        async with task_group("renewal") as tasks:
            if self._membership is not None:
                # Beside it: a Hub takes its time to answer, or more than that, and the parts' certificates run out meanwhile.
                kept = self._repeat(
                    lambda member=self._membership: self._keep(member), self._identities, self._membership.news
                )
                tasks.start_service("membership", kept)
            await self._repeat(self._look, self._identities)

    async def _repeat(self, look: Callable[[], Awaitable[float]], *news: Watched[Any]) -> None:
        """Look after as many seconds as the look before said, and whenever there is news."""
        changed = asyncio.Event()
        async with task_group("looks") as tasks:
            for one in news:
                tasks.start_service("news", self._watch(one, changed))
            while True:
                # First, so that a change during the look is seen after it.
                changed.clear()
                wait = await look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await changed.wait()

    @staticmethod
    async def _watch(watched: Watched[Any], changed: asyncio.Event) -> None:
        async for _ in watched.changes():
            changed.set()

    async def _keep(self, membership: Membership) -> float:
        """Do what the Hub wants, and say in how many seconds to look again."""
        try:
            await membership.keep()
        except ApiError as error:
            if error.status != 409:
                _log.warning("the Hub's wishes wait for the API server", status=error.status, reason=str(error))
            return RETRY_SECONDS
        except CodezeroError as error:
            wait = self._again.next()
            _log.warning(
                "the Hub is asked again",
                reason=error.detail,
                fix=error.fix,
                code=error.problem.code,
                seconds=round(wait, 1),
            )
            return wait
        self._again.reset()
        return LOOK_SECONDS

    async def _look(self) -> float:
        """Renew what has to be, and say in how many seconds to look again."""
        try:
            await self.renew()
        except ApiError as error:
            if error.status != 409:
                # Its text is the API server's, which does not quote what was sent.
                _log.warning("certificates not renewed", status=error.status, reason=str(error))
            return LOOK_SECONDS if error.status in {401, 403, 422} else RETRY_SECONDS
        except CodezeroError as error:
            _log.error("certificates cannot be renewed", reason=error.detail, fix=error.fix)
        return LOOK_SECONDS

    async def renew(self) -> tuple[str, ...]:
        """Renew the certificates that end soon; whose they were. Raises `ApiError` (409: somebody else wrote), `CodezeroError` without a usable authority."""
        secret = await find(self._api, self._path)
        if secret is None:
            raise CodezeroError(problems.BAD_IDENTITY, f"Secret {IDENTITY} is gone", fix="czctl teamspace install")
        content = identity.secret_content(secret)
        if self._membership is not None and ROOT not in content:
            # The Hub has not signed an authority yet.
            return ()
        due = [role for role in identity.ROLES if self._ends_soon(content, role)]
        if not due:
            return ()
        authority, teamspace = _authority(content), identity.teamspace_of(content)
        fresh: dict[str, str] = {}
        for role in due:
            own = identity.leaf(authority, teamspace, role, namespace=self._namespace, lifetime=LIFETIME)
            fresh |= identity.leaf_files(role, own)
        changed = {
            "metadata": {"resourceVersion": at(secret, "metadata", "resourceVersion")},
            "data": {name: base64.b64encode(text.encode()).decode() for name, text in fresh.items()},
        }
        await self._api.patch(self._path, changed, kind="merge")
        _log.info("certificates renewed", parts=due)
        return tuple(due)

    def _ends_soon(self, content: dict[str, str], role: str) -> bool:
        """Also where there is none, or none that can be used: not yet, because a clock was ahead when it was made, or not at all."""
        try:
            own = Credentials.from_pem(content.get(f"{role}.crt", ""), content.get(f"{role}.key", ""))
        except CertificateError:
            return True
        now, leaf = self._clock(), own.chain[0]
        return leaf.not_valid_before_utc > now or leaf.not_valid_after_utc - now < RENEWED_BEFORE


def _authority(content: dict[str, str]) -> Authority:
    try:
        return Authority(Credentials.from_pem(content.get("ca.crt", ""), content.get("ca.key", "")))
    except CertificateError as error:
        raise CodezeroError(
            problems.BAD_IDENTITY,
            f"Secret {IDENTITY} has no usable ca.crt and ca.key: {error}",
            fix="put both back, as they were when the Teamspace was installed",
        ) from None
