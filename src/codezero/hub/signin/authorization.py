"""Signing in czctl by the browser: authorization code with PKCE (RFC 7636, S256 alone), back to loopback (RFC 8252), the issuer named (RFC 9207).

There is one client, `czctl`, which has no secret. Where the browser is sent is compared character by character: an address of this machine, never a name
that something else could answer for (T32).
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlencode

from sqlalchemy.ext.asyncio import AsyncSession

from codezero.hub.context import Hub
from codezero.hub.signin import one_time, proofs, sign_ins
from codezero.hub.signin.proofs import Proof
from codezero.hub.signin.refusals import OAuthError, kept
from codezero.hub.signin.sign_ins import Granted
from codezero.hub.signin.tokens import CLIENT
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import SignIn, User
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.signed import encoded

LIFETIME: Final = timedelta(seconds=60)
LONGEST_NAME: Final = 200

_REDIRECT: Final = re.compile(r"http://(127\.0\.0\.1|\[::1\]):([1-9][0-9]{0,4})/callback", re.ASCII)
_STATE: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,512}", re.ASCII)
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER: Final = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Asked:
    """What czctl asks for: where to send the browser, with what, and who will come with the code."""

    redirect_uri: str
    state: str
    challenge: str
    device_name: str

    def answer(self, hub: Hub, **values: str) -> str:
        """Where the browser goes with the answer."""
        return f"{self.redirect_uri}?{urlencode({**values, 'state': self.state, 'iss': hub.public_url})}"


def redirect_of(parameters: dict[str, str]) -> str:
    """Where the browser may be sent; raises `CodezeroError` (BAD_REQUEST), which is told to the person alone, for anywhere else."""
    if parameters.get("client_id") != CLIENT:
        raise CodezeroError(problems.BAD_REQUEST, "the program that asks for a sign-in is not known here")
    redirect_uri = parameters.get("redirect_uri", "")
    match = _REDIRECT.fullmatch(redirect_uri)
    if match is None or int(match[2]) > 65535:
        raise CodezeroError(
            problems.BAD_REQUEST,
            "the program that asks for a sign-in wants the answer sent elsewhere than to this machine",
            fix="start again with `czctl auth login`; if this page came by a link that somebody sent you, tell your administrators",
        )
    return redirect_uri


def read(parameters: dict[str, str]) -> Asked:
    """What is asked for; raises `CodezeroError` where it must not be answered by a redirect, `OAuthError` where it is answered by one."""
    redirect_uri = redirect_of(parameters)
    state = parameters.get("state", "")
    if not _STATE.fullmatch(state):
        raise CodezeroError(problems.BAD_REQUEST, "the request for a sign-in has no usable state")
    if parameters.get("response_type", "code") != "code":
        raise OAuthError("unsupported_response_type", "only codes are given")
    challenge = parameters.get("code_challenge", "")
    if parameters.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
        raise OAuthError("invalid_request", "a code challenge of method S256 is needed")
    return Asked(redirect_uri, state, challenge, named(parameters.get("device_name")))


async def approve(session: AsyncSession, hub: Hub, user: User, asked: Asked) -> str:
    """The code for what `user` approved."""
    return await one_time.make(
        session,
        hub,
        one_time.AUTHORIZATION,
        lifetime=LIFETIME,
        user=user.id,
        data={"redirect_uri": asked.redirect_uri, "challenge": asked.challenge, "device_name": asked.device_name},
    )


async def exchange(
    hub: Hub, *, code: str, redirect_uri: str, verifier: str, proof: Proof, device_name: str | None, visitor: Visitor
) -> Granted:
    """Tokens for a code; raises `OAuthError` (invalid_grant). One try for each code, whatever comes of it."""

    async def work(session: AsyncSession) -> Granted | CodezeroError:
        row = await one_time.find(session, hub, one_time.AUTHORIZATION, code)
        if row is None:
            return _refused()
        if row.used_at is not None:
            # Two came with one code, and one of them took it: what the first got is not theirs for certain (RFC 6749, 4.1.2).
            if "sign_in" in row.data:
                started = await session.get_one(SignIn, row.data["sign_in"])
                await sign_ins.end(session, hub, started, why=sign_ins.CODE_REUSED)
            return _refused()
        row.used_at = hub.clock()
        if not await proofs.is_first_use(session, hub, proof):
            return proofs.used_before()
        if hub.clock() >= row.expires_at:
            return _refused()
        if not hmac.compare_digest(row.data["redirect_uri"].encode(), redirect_uri.encode()):
            return _refused()
        if not is_verifier(verifier, row.data["challenge"]):
            return _refused()
        user = await session.get_one(User, row.user_id)
        if user.disabled_at is not None:
            return _refused()
        name = named(device_name) if device_name else row.data["device_name"]
        granted = await sign_ins.start(session, hub, user, proof, device_name=name, how="browser", visitor=visitor)
        if isinstance(granted, Granted):
            row.data = {**row.data, "sign_in": granted.sign_in}
        return granted

    return await kept(hub, work)


def is_verifier(verifier: str, challenge: str) -> bool:
    """Whether `challenge` was made from `verifier`."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    return hmac.compare_digest(encoded(hashlib.sha256(verifier.encode()).digest()), challenge)


def named(device_name: str | None) -> str:
    """What a machine calls itself, as it is shown: without what does not print."""
    printable = "".join(letter for letter in (device_name or "")[:1000] if letter.isprintable()).strip()
    return printable[:LONGEST_NAME] or "a machine without a name"


def _refused() -> OAuthError:
    return OAuthError("invalid_grant", "the code is wrong, has expired, was used before, or is for somebody else")
