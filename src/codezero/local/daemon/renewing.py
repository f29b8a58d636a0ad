"""Keeps this laptop's certificate fresh: asks the Hub for the next one, with the device's key as the only proof, when a third of its life is left.

By the wall clock, which goes on while the laptop sleeps; whoever wakes up with a certificate that ran out has a new one before the tunnel is tried
for long. The Hub may be away for as long as the certificate lasts.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from datetime import datetime
from typing import Final

import msgspec
from cryptography import x509

from codezero.kit import certificates, logs
from codezero.kit.backoff import Backoff
from codezero.kit.certificates import CertificateError, Credentials
from codezero.local.daemon import link
from codezero.local.daemon.health import Health
from codezero.local.daemon.link import device_of
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport import device_proof
from codezero.transport.hub_http import HubEndpoint
from codezero.wire.access_file import IssuedAccess, TeamspaceAccess
from codezero.wire.hub_channel import PROOF_SCHEME
from codezero.wire.local_api import HubState, HubView, Severity

RENEWAL_FAILED: Final = "CERTIFICATE_NOT_RENEWED"
HUB_REFUSED: Final = "HUB_REFUSED"
CLOCK_WRONG: Final = "CLOCK_WRONG"

# The wall clock is looked at this often: timers do not count the time that a machine sleeps.
LOOK_SECONDS: Final = 15.0
MOST_DELAY: Final = 300.0
# What the Hub refuses is not given a minute later either, but it may be repaired there.
REFUSED_DELAY: Final = 300.0
ASK_DEADLINE: Final = 15.0
# Whoever looks at the status starts a question, not more often than this.
ASKED_FRESH_SECONDS: Final = 20.0
# What a Hub says of those it does not want: sign in, forbidden, not found.
_REFUSALS: Final = frozenset({4, 5, 6})

# 9999-01-01: the last year has days that are in no year here.
_LAST_DAY: Final = 253370764800.0

_log = logs.get_logger("renewing")


class Renewal:
    """The certificate of one access, and how its Hub is. `renewed` gets each new access; it has to keep it and use it.

    `changed` is called when `view` is different.
    """

    def __init__(
        self,
        access: TeamspaceAccess,
        *,
        health: Health,
        renewed: Callable[[TeamspaceAccess], None],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._access = access
        self._health = health
        self._renewed = renewed
        self._changed = changed
        self._clock = clock
        self._life = _life(access)
        self._endpoint = _endpoint(access)
        self._state, self._asked, self._cause = HubState.UNKNOWN, None, None
        self._due_at: float | None = None
        self._renewed_at: float | None = None
        self._now = asyncio.Event()
        self._curious = False
        self._backoff = Backoff(first=2.0, most=MOST_DELAY)

    @property
    def view(self) -> HubView | None:
        """How the Hub is; None where there is none."""
        if self._endpoint is None:
            return None
        return HubView(self._endpoint.url, self._state, self._asked, self._cause, self._life[1])

    def use(self, access: TeamspaceAccess) -> None:
        """Somebody has got another access for the same device: it is the one to renew, at its Hub; nothing is known of that yet."""
        self._access, self._life, self._due_at = access, _life(access), None
        self._endpoint = _endpoint(access)
        self._renewed_at, self._asked = self._clock(), None
        self._state, self._cause = HubState.UNKNOWN, None
        self._backoff.reset()
        for code in (RENEWAL_FAILED, HUB_REFUSED, CLOCK_WRONG):
            self._health.clear(code)
        self.ask_soon()

    def ask_soon(self) -> None:
        """Somebody wants to know how the Hub is: it is asked, unless it was a moment ago."""
        if self._endpoint is not None and (
            self._asked is None or abs(self._clock() - self._asked) > ASKED_FRESH_SECONDS
        ):
            self._curious = True
            self._now.set()

    def hurry(self) -> None:
        """The Teamspace does not want our certificate: the Hub has a better one, or knows why not. One that is new is not the reason."""
        is_new = self._renewed_at is not None and abs(self._clock() - self._renewed_at) < MOST_DELAY
        if self._due_at is None and not is_new:
            self._due_at = self._clock()
            self._now.set()

    async def keep(self) -> None:
        """Renew in good time, for as long as this runs."""
        if self._endpoint is None:
            await asyncio.get_running_loop().create_future()
        while True:
            # First, so that who asks during the look is heard after it.
            self._now.clear()
            is_asked, self._curious = self._curious, False
            if self.is_due:
                await self._renew()
            elif is_asked:
                await self._look_at_hub()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._now.wait()

    @property
    def is_due(self) -> bool:
        """Whether it is time to renew, or to try again."""
        if self._due_at is not None:
            # A clock that was put back must not make us wait for longer than the longest delay.
            return not 0 < self._due_at - self._clock() <= MOST_DELAY
        begin, end = self._life
        # Certificates go by the Hub's clock; ours may be off.
        skew = self._endpoint.skew if self._endpoint is not None and self._endpoint.is_skewed else None
        return self._clock() + (skew or 0.0) >= end - (end - begin) / 3

    async def _renew(self) -> None:
        before = self._access
        try:
            with _nothing_else():
                access = await asyncio.to_thread(self._next)
                if self._access is before:
                    self._take(access)
        except CodezeroError as error:
            # What became of another access than the one in use is no news.
            if self._access is before:
                self._failed(error)
        self._look_at_clock()

    def _take(self, access: TeamspaceAccess) -> None:
        self._renewed(access)
        self._access, self._life, self._due_at = access, _life(access), None
        self._renewed_at = self._clock()
        self._backoff.reset()
        self._told(HubState.REACHABLE)
        self._health.clear(RENEWAL_FAILED)
        self._health.clear(HUB_REFUSED)
        _log.info("certificate renewed", teamspace=access.name, until=_day(self._life[1]))

    async def _look_at_hub(self) -> None:
        assert self._endpoint is not None
        endpoint = self._endpoint
        try:
            with _nothing_else():
                await asyncio.to_thread(
                    lambda: endpoint.checked(endpoint.request("GET", "/api/v1/version", deadline=ASK_DEADLINE))
                )
        except CodezeroError as error:
            if self._endpoint is endpoint:
                self._told(HubState.UNREACHABLE, error.detail)
        else:
            if self._endpoint is not endpoint:
                return
            # It answers; that does not mean that it knows us again.
            self._told(*((self._state, self._cause) if self._state is HubState.REFUSED else (HubState.REACHABLE, None)))
        self._look_at_clock()

    def _next(self) -> TeamspaceAccess:
        """The next access; raises `CodezeroError`. Runs in a thread."""
        access, endpoint = self._access, self._endpoint
        assert access.hub is not None
        assert endpoint is not None
        if access.device is None:
            raise CodezeroError(problems.BAD_IDENTITY, "the access names no device", fix="czctl start")
        key = Credentials.from_pem(access.certificate, access.key).key
        path = f"/api/v1/devices/{access.device}/certificate"
        body = msgspec.json.encode({"csr": certificates.certificate_request(key), "space": access.teamspace})
        for is_last in (False, True):
            proof = device_proof.sign(
                key, device=access.device, audience=endpoint.url, method="POST", path=path, at=endpoint.now()
            )
            answer = endpoint.request(
                "POST", path, body=body, headers={"Authorization": f"{PROOF_SCHEME} {proof}"}, deadline=ASK_DEADLINE
            )
            # The first answer has told how late the Hub thinks it is; a proof made by a wrong clock is made again.
            if answer.status != 401 or is_last or not endpoint.is_skewed:
                break
        content = endpoint.checked(answer)
        try:
            issued = msgspec.json.decode(content, type=IssuedAccess)
            return check(issued, access)
        except (msgspec.DecodeError, CertificateError) as error:
            raise CodezeroError(
                problems.VERSIONS, f"the Hub's answer cannot be used: {error}", fix="upgrade Codezero on this machine"
            ) from None

    def _failed(self, error: CodezeroError) -> None:
        is_refused = error.problem.exit_code in _REFUSALS
        self._due_at = self._clock() + (REFUSED_DELAY if is_refused else self._backoff.next())
        left = self._life[1] - self._clock()
        _log.warning("certificate not renewed", reason=error.detail, code=error.problem.code, seconds_left=int(left))
        if is_refused:
            self._told(HubState.REFUSED, error.detail)
            self._health.warn(
                HUB_REFUSED,
                f"the Hub gives this laptop no further certificate: {error.detail}",
                fix=error.fix or "czctl start; where that does not help: czctl auth login --force",
                severity=Severity.ERROR,
            )
            return
        self._told(HubState.UNREACHABLE, error.detail)
        text = f"runs out at {_day(self._life[1])}" if left > 0 else f"ran out at {_day(self._life[1])}"
        self._health.warn(
            RENEWAL_FAILED,
            f"the certificate of this laptop {text} and could not be renewed: {error.detail}",
            fix=error.fix,
            severity=Severity.WARNING if left > 0 else Severity.ERROR,
        )

    def _told(self, state: HubState, cause: str | None = None) -> None:
        self._asked = self._clock()
        before = self._state, self._cause
        self._state, self._cause = state, cause
        if before != (state, cause):
            self._changed()

    def _look_at_clock(self) -> None:
        """A clock that is off breaks certificates and proofs, and is hard to find by what breaks (R27)."""
        assert self._endpoint is not None
        skew = self._endpoint.skew
        if skew is None or not self._endpoint.is_skewed:
            self._health.clear(CLOCK_WRONG)
            return
        text = f"this machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the Hub's"
        self._health.warn(CLOCK_WRONG, text, fix="let the machine set its clock: timedatectl set-ntp true")


def check(issued: IssuedAccess, before: TeamspaceAccess) -> TeamspaceAccess:
    """What was issued, as the access that follows `before`; raises `CertificateError` where it belongs to another key, and `CodezeroError` for another laptop, or where no tunnel can be made with it."""
    assert before.hub is not None
    assert before.device is not None
    after = issued.whole(key=before.key, hub=before.hub, device=before.device, organization_name=before.organization)
    Credentials.from_pem(after.certificate, after.key)
    if after.teamspace != before.teamspace or device_of(after) != device_of(before):
        raise CodezeroError(problems.BAD_IDENTITY, "the Hub answered with the certificate of somebody else")
    link.check(after)
    return after


@contextlib.contextmanager
def _nothing_else() -> Generator[None, None, None]:
    """Whatever goes wrong inside is a `CodezeroError`: an answer of the Hub that nobody thought of must not end the Daemon."""
    try:
        yield
    except CodezeroError:
        raise
    except Exception as error:
        _log.exception("the Hub was asked in vain")
        raise CodezeroError(
            problems.INTERNAL, f"the Hub's answer could not be handled ({type(error).__name__})", fix="czctl start"
        ) from error


def _endpoint(access: TeamspaceAccess) -> HubEndpoint | None:
    return HubEndpoint(access.hub.url, access.hub.ca, access.hub.proxy) if access.hub is not None else None


def _life(access: TeamspaceAccess) -> tuple[float, float]:
    """From when until when a certificate is good, in UNIX seconds."""
    try:
        leaf = x509.load_pem_x509_certificates(access.certificate.encode())[0]
    except ValueError:
        # It is renewed at once.
        return 0.0, 0.0
    return leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()


def _day(moment: float) -> str:
    return datetime.fromtimestamp(min(moment, _LAST_DAY)).astimezone().strftime("%Y-%m-%d %H:%M")
