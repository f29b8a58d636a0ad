"""Proofs that were used: each is good once, also where the process ends and begins again meanwhile."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from codezero.cli import hub_context, private_files
from codezero.cli.paired.proving import not_paired
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.paired import LEEWAY_SECONDS, body_hash

FILE: Final = "paired-used"
# Of one page: after the first `BURST`, so many requests in a second.
BURST: Final = 60
A_SECOND: Final = 20
# Of one page, remembered at once: more than its rate allows while a proof is good.
MOST: Final = 5000
# Of the file, of which most have expired by then; twice as many as are good yet, where those are more.
_MOST_LINES: Final = 20_000
_MAX_SIZE: Final = 32 * 1024 * 1024


class BusyError(CodezeroError):
    """The page asks too often; `seconds` is when it may again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(problems.TOO_MANY_REQUESTS, f"the page asks too often; it may again in {seconds} s")
        self.seconds = seconds


class Used:
    """Remembers proofs until they have expired, in a file of the user's that is only added to, and how often each page asks."""

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        """Reads what an earlier process has left."""
        self._clock = clock
        self._known: dict[str, dict[str, float]] = {}
        self._allowances: dict[str, tuple[float, float]] = {}
        self._path: Final[Path] = hub_context.folder() / FILE
        self._read()
        self._rewrite()

    def take(self, pairing: str, name: str, issued_at: int) -> None:
        """Remember the proof; raises `CodezeroError` where it was used before (PAGE_NOT_PAIRED), or the page has used too many."""
        # Whatever text a page has chosen, in a line of a file.
        name = body_hash(name.encode("utf-8", "surrogatepass"))
        now = self._clock()
        known = self._known.setdefault(pairing, {})
        if len(known) >= MOST:
            self._forget(now)
            known = self._known.setdefault(pairing, {})
        if name in known and known[name] > now:
            raise not_paired("the proof was used before")
        if len(known) >= MOST:
            raise BusyError(LEEWAY_SECONDS)
        # Written first: a proof that was used and is not remembered would be good again.
        until = issued_at + LEEWAY_SECONDS + 1.0
        self._write(pairing, name, until)
        # Looked up anew: to write may be to forget what has expired.
        self._known.setdefault(pairing, {})[name] = until

    def count(self, pairing: str) -> None:
        """Count a request of a page; raises `BusyError` where it asks too often."""
        now = self._clock()
        left, at = self._allowances.get(pairing, (float(BURST), now))
        left = min(BURST, left + max(now - at, 0.0) * A_SECOND)
        if left < 1:
            self._allowances[pairing] = (left, now)
            raise BusyError(1)
        self._allowances[pairing] = (left - 1, now)

    def close(self) -> None:
        """Write nothing any more."""
        os.close(self._descriptor)

    def _forget(self, now: float) -> None:
        self._known = {
            pairing: kept
            for pairing, names in self._known.items()
            if (kept := {name: until for name, until in names.items() if until > now})
        }

    def _read(self) -> None:
        try:
            with self._path.open("rb") as opened:
                lines = opened.read(_MAX_SIZE).decode("ascii", "replace").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise CodezeroError(
                problems.OUTPUT_FAILED, f"{self._path} cannot be read: {error.strerror}", fix=f"rm {self._path}"
            ) from None
        for line in lines:
            # The last one may be cut.
            with contextlib.suppress(ValueError):
                until, pairing, name = line.split(" ")
                self._known.setdefault(pairing, {})[name] = float(until)
        self._forget(self._clock())

    def _rewrite(self) -> None:
        self._forget(self._clock())
        lines = [
            f"{until} {pairing} {name}\n" for pairing, names in self._known.items() for name, until in names.items()
        ]
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        private_files.write(self._path, "".join(lines).encode(), replace=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._lines = len(lines)
        self._most_lines = max(_MOST_LINES, 2 * len(lines))

    def _write(self, pairing: str, name: str, until: float) -> None:
        if self._lines >= self._most_lines:
            before = self._descriptor
            self._rewrite()
            # Not before there is another one: what is closed twice may be somebody else's by then.
            os.close(before)
        try:
            os.write(self._descriptor, f"{until} {pairing} {name}\n".encode("ascii"))
        except OSError as error:
            raise CodezeroError(
                problems.OUTPUT_FAILED, f"{self._path} cannot be written: {error.strerror}; nothing was done"
            ) from None
        self._lines += 1
