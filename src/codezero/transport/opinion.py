"""Another's opinion: a decision point of the Open Policy Agent (OPA), asked after our own policy has allowed something.

It can only take away: nothing but the answer `{"result": true}` within a second is a yes (T46). It cannot be used to reach what its address is not for
(T45): the name is resolved once and that address is connected to, private ones only where whoever runs the Teamspace has set the URL; redirects
and proxies are not followed, and little is read.
"""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.access import SERVES, Act, AnyPolicy, Bundle, Operation
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef

BUDGET_SECONDS: Final = 1.0
REMEMBERED_SECONDS: Final = 5.0
# Whether it is back is worth knowing sooner.
FAILURE_REMEMBERED_SECONDS: Final = 1.0
REMEMBERED: Final = 10_000
AT_ONCE: Final = 64
MAX_ANSWER: Final = 16 * 1024

_log = get_logger("opinion")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, as `codezero.io` documents it: who, which operation under which condition, on what."""

    operation: str
    condition: tuple[str, str, str] | None
    user: str
    email: str
    namespace: str
    service: str

    def encode(self) -> bytes:
        """The body of the request."""
        action: dict[str, Any] = {"operation": self.operation}
        if self.condition is not None:
            action["condition"] = dict(zip(("type", "key", "value"), self.condition, strict=True))
        return msgspec.json.encode(
            {
                "input": {
                    "action": action,
                    "auth": {"userID": self.user, "email": self.email},
                    "resource": {"namespace": self.namespace, "service": self.service},
                }
            }
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What it said. `is_answer` is no where it said nothing that can be understood."""

    allowed: bool
    reason: str
    is_answer: bool = True


class Opinion:
    """Asks, and remembers answers for a moment. `own_url` is what whoever runs the Teamspace has set; a Hub's bundle may name another."""

    def __init__(self, own_url: str | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._own_url = own_url
        self._clock = clock
        self._known: dict[tuple[str, Question], tuple[float, Verdict]] = {}
        self._asking: dict[tuple[str, Question], asyncio.Future[Verdict]] = {}
        self._turns = asyncio.Semaphore(AT_ONCE)

    def is_wanted(self, policy: AnyPolicy | None) -> bool:
        """Whether there is anybody to ask."""
        return self._url(policy) is not None

    async def require(self, policy: AnyPolicy | None, device: Device, service: ServiceRef, acts: Iterable[Act]) -> None:
        """Raise `CodezeroError` (FORBIDDEN) unless all of `acts` are allowed by whoever is to be asked, if anybody."""
        verdict = await self.ask(policy, device, service, acts)
        if not verdict.allowed:
            raise CodezeroError(
                problems.FORBIDDEN, verdict.reason, fix="ask whoever runs the policy decision point (OPA)"
            )

    async def ask(self, policy: AnyPolicy | None, device: Device, service: ServiceRef, acts: Iterable[Act]) -> Verdict:
        """What is said about `acts`: the first no, else the last yes. Acts that are neither consuming nor serving are not asked about."""
        verdict = Verdict(True, "nobody else is asked")
        url = self._url(policy)
        if url is None:
            return verdict
        for question in dict.fromkeys(_questions(policy, device, service, acts)):
            verdict = await self._verdict(url, question)
            if not verdict.allowed:
                break
        return verdict

    def _url(self, policy: AnyPolicy | None) -> str | None:
        return self._own_url or (policy.opa_url if isinstance(policy, Bundle) else None)

    async def _verdict(self, url: str, question: Question) -> Verdict:
        key = url, question
        until, verdict = self._known.get(key, (0.0, None))
        if verdict is not None and self._clock() < until:
            return verdict
        asking = self._asking.get(key)
        if asking is not None:
            return await asyncio.shield(asking)
        asking = self._asking[key] = asyncio.get_running_loop().create_future()
        verdict = Verdict(False, "the question to the policy decision point (OPA) was given up", is_answer=False)
        try:
            verdict = await self._answer(url, question)
            self._remember(key, verdict)
        finally:
            del self._asking[key]
            asking.set_result(verdict)
        return verdict

    def _remember(self, key: tuple[str, Question], verdict: Verdict) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        lasting = REMEMBERED_SECONDS if verdict.is_answer else FAILURE_REMEMBERED_SECONDS
        self._known[key] = self._clock() + lasting, verdict

    async def _answer(self, url: str, question: Question) -> Verdict:
        try:
            async with asyncio.timeout(BUDGET_SECONDS), self._turns:
                allowed = await _asked(url, question.encode(), private=url == self._own_url)
        except TimeoutError:
            verdict = _no_answer(f"did not answer within {BUDGET_SECONDS:.0f} s")
        except _NoAnswerError as error:
            verdict = _no_answer(str(error))
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            verdict = _no_answer(f"could not be asked: {type(error).__name__}")
        else:
            said = "allows" if allowed else "does not allow"
            verdict = Verdict(allowed, f"the policy decision point (OPA) {said} {question.operation}")
        _log.info(
            "opinion",
            allowed=verdict.allowed,
            reason=verdict.reason,
            operation=question.operation,
            user=question.user,
            service=f"{question.namespace}/{question.service}",
        )
        return verdict


class _NoAnswerError(Exception):
    pass


def _no_answer(why: str) -> Verdict:
    return Verdict(False, f"the policy decision point (OPA) {why}, so nothing is allowed", is_answer=False)


def _questions(
    policy: AnyPolicy | None, device: Device, service: ServiceRef, acts: Iterable[Act]
) -> Iterable[Question]:
    member = policy.members.get(device.user) if isinstance(policy, Bundle) else None
    email = "" if member is None else member.email
    for act in acts:
        if act.operation is Operation.CONSUME:
            yield Question("consume", None, device.user, email, service.namespace, service.name)
        elif act.operation in SERVES or act.operation is Operation.MIRROR:
            part = act.condition
            condition = ("default", "", "") if part is None else (part.kind, part.key or "", part.value or "")
            yield Question("serve", condition, device.user, email, service.namespace, service.name)


async def _asked(url: str, body: bytes, *, private: bool) -> bool:
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username is not None:
        raise _NoAnswerError("has an address that is no http or https URL")
    if parts.scheme == "http" and not private:
        raise _NoAnswerError("has an address without TLS")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = await _resolved(parts.hostname, port, private=private)
    shown = f"[{address}]" if ":" in address else address
    pinned = parts._replace(netloc=f"{shown}:{port}").geturl()
    async with (
        httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=BUDGET_SECONDS) as client,
        client.stream(
            "POST",
            pinned,
            content=body,
            headers={
                "Host": parts.netloc,
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
            },
            extensions={"sni_hostname": parts.hostname},
        ) as response,
    ):
        if response.status_code != 200:
            raise _NoAnswerError(f"answered with status {response.status_code}")
        content = b""
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > MAX_ANSWER:
                raise _NoAnswerError("answered with more than can be read")
    return _said(content)


def _said(content: bytes) -> bool:
    try:
        answer = msgspec.json.decode(content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _NoAnswerError("answered with something that is no JSON object") from None
    result = answer.get("result")
    if result is not True and result is not False:
        # Not asked to be lenient: null, "true" and 1 are what a misspelt rule gives.
        raise _NoAnswerError("answered with neither true nor false")
    return result


async def _resolved(host: str, port: int, *, private: bool) -> str:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        address = str(place[0])
        if private or is_public(address):
            return address
    raise _NoAnswerError("has an address that is not public")


def is_public(address: str) -> bool:
    """Whether an address belongs to the internet: not to a machine, a network, a cluster, or nobody."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if parsed in _TRANSLATED:
            return is_public(str(ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)))
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved


# NAT64 (RFC 6052).
_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
