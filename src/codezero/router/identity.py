"""A Router's own identity: a key that never leaves this process and Envoy's memory folder, and the System's certificate of an hour for it.

The ServiceAccount token proves the Router once for each certificate, and is told to nobody but the System.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from codezero.kit import certificates
from codezero.kit.backoff import Backoff
from codezero.kit.certificates import CertificateError, Credentials, PrivateKey
from codezero.kit.logs import get_logger
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.ids import Workload
from codezero.model.problems import CodezeroError
from codezero.router.connecting import SystemAddress, connect
from codezero.transport.identity import workload_of
from codezero.wire.router import JOIN_ALPN, Join, Joined, Refusal

ANSWER_SECONDS: Final = 15.0
_LONGEST_TOKEN: Final = 16384
# Clocks may jump and machines sleep, so the time left is looked at again and again.
_LOOK_SECONDS: Final = 30.0
_LEAST_SECONDS: Final = 1.0

_log = get_logger("router-identity")


@dataclass(frozen=True, slots=True, repr=False)
class Proven:
    """Credentials and the authority (PEM) above the System, as the System says."""

    credentials: Credentials
    authority: str

    @property
    def expires(self) -> datetime:
        """When the certificate ends."""
        return self.credentials.chain[0].not_valid_after_utc

    def __repr__(self) -> str:
        return f"Proven(until {self.expires})"


class RouterIdentity:
    """Joins, and joins again with a fresh key when two thirds of a certificate's life have gone.

    `current` is None until the first join. `write` puts credentials where Envoy finds them, before anybody hears of them.
    """

    def __init__(
        self,
        system: SystemAddress,
        *,
        own: Workload,
        authority: str,
        token_file: Path,
        write: Callable[[Proven], None],
        backoff: Backoff | None = None,
    ) -> None:
        self.current: Watched[Proven | None] = Watched(None)
        self.joins = 0
        self.failures = 0
        self._system = system
        self._own = own
        self._authority = authority
        self._token_file = token_file
        self._write = write
        self._backoff = backoff or Backoff(first=0.2, most=15.0)
        self._doubted = asyncio.Event()

    def doubt(self) -> None:
        """The System does not accept the certificate: get another one soon."""
        self._doubted.set()

    async def run(self) -> None:
        """Until cancelled. Raises OSError when Envoy's files cannot be written."""
        while True:
            try:
                proven = await self._join()
            except CodezeroError as error:
                self.failures += 1
                pause = self._backoff.next()
                _log.warning(
                    "no identity from the System, trying again",
                    code=error.problem.code,
                    reason=error.detail,
                    seconds=round(pause, 1),
                )
                await asyncio.sleep(pause)
                continue
            self._write(proven)
            self.joins += 1
            self._backoff.reset()
            self._doubted.clear()
            self.current.set(proven)
            _log.info("the System knows this Router", identity=str(self._own), until=proven.expires.isoformat())
            if await self._renewal_is_due(proven):
                await asyncio.sleep(self._backoff.next())

    async def _renewal_is_due(self, proven: Proven) -> bool:
        """Wait until it is; whether the System doubts."""
        now = time.time()
        due = now + max(_LEAST_SECONDS, (proven.expires.timestamp() - now) * 2 / 3)
        while (left := due - time.time()) > 0:
            try:
                async with asyncio.timeout(min(left, _LOOK_SECONDS)):
                    await self._doubted.wait()
            except TimeoutError:
                continue
            return True
        return False

    async def _join(self) -> Proven:
        token = self._read_token()
        key = certificates.new_key()
        # The authority may have been renewed since this pod was made; the System has told.
        authority = self._authority + (self.current.value.authority if self.current.value is not None else "")
        stream = await connect(self._system, protocol=JOIN_ALPN, authority=authority, credentials=None)
        try:
            await stream.send(Join(token, certificates.certificate_request(key)), within=ANSWER_SECONDS)
            answer = await stream.receive(within=ANSWER_SECONDS)
        except EOFError as error:
            raise CodezeroError(problems.UNREACHABLE, f"the System gave no answer: {error}") from None
        finally:
            stream.abort()
        match answer:
            case Joined():
                return self._proven(answer, key)
            case Refusal():
                raise refused(answer)
            case _:
                raise CodezeroError(problems.PROTOCOL, f"{type(answer).__name__} came instead of Joined")

    def _read_token(self) -> str:
        try:
            with self._token_file.open("rb") as file:
                token = file.read(_LONGEST_TOKEN + 1).decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CodezeroError(
                problems.TOKEN_REFUSED, f"the ServiceAccount token {self._token_file} cannot be read: {error}"
            ) from None
        if not 0 < len(token) <= _LONGEST_TOKEN:
            raise CodezeroError(problems.TOKEN_REFUSED, f"{self._token_file} holds no ServiceAccount token")
        return token

    def _proven(self, joined: Joined, key: PrivateKey) -> Proven:
        text = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            credentials = Credentials.from_pem(joined.certificate, text.decode())
            certificates.client_context(roots=joined.authority, credentials=credentials)
        except (CertificateError, ValueError) as error:
            raise CodezeroError(problems.BAD_IDENTITY, f"the System's answer cannot be used: {error}") from None
        workload = workload_of(credentials.chain[0].public_bytes(serialization.Encoding.DER))
        if workload != self._own:
            raise CodezeroError(problems.BAD_IDENTITY, f"the System's certificate is for {workload}, not {self._own}")
        return Proven(credentials, joined.authority)


def refused(refusal: Refusal) -> CodezeroError:
    """What the System refused, as an error."""
    problem = problems.ALL.get(refusal.code, problems.BAD_IDENTITY)
    return CodezeroError(problem, f"the System refuses this Router: {refusal.detail}")
