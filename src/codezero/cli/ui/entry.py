"""Who is let in: whoever brings the one-time code of this console gets a cookie, and whoever brings the cookie is in, until the console ends."""

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Final

from codezero.model import problems
from codezero.model.problems import CodezeroError

CODE_SECONDS: Final = 300.0
TRIES: Final = 10
COOKIE: Final = "codezero-console"


class Entry:
    """The code, good once and for a while, and the cookie that it is worth. Neither is kept anywhere but in this process and in the page's browser."""

    def __init__(self, port: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.code = secrets.token_urlsafe(32)
        # Browsers tell apart hosts by their cookies, and not ports: two consoles would take each other's away.
        self._name = f"{COOKIE}-{port}"
        self._value = secrets.token_urlsafe(32)
        self._clock = clock
        self._until = clock() + CODE_SECONDS
        self._tries = TRIES
        # Set once the code is worth nothing any more, unless by time.
        self.spent = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether the code is still good."""
        return not self.spent.is_set() and self._clock() < self._until

    def use(self, code: str) -> str:
        """The `Set-Cookie` for whoever has the code; raises `CodezeroError` (CONSOLE_CLOSED) for all others, and for the code once it was used."""
        if not self.is_open:
            raise _closed("the one-time code was used, has expired, or others were tried too often")
        if not _is_same(code, self.code):
            self._tries -= 1
            if not self._tries:
                self.spent.set()
            raise _closed("that is not the one-time code of this console")
        self.spent.set()
        # Without an age: it goes with the browser, and with us.
        return f"{self._name}={self._value}; HttpOnly; SameSite=Strict; Path=/"

    def check(self, cookies: str) -> None:
        """Raise `CodezeroError` (CONSOLE_CLOSED) where the cookie is not among `cookies`."""
        pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
        # Another server of this host may have set one of the same name beside ours.
        if not any(name == self._name and _is_same(value, self._value) for name, _, value in pairs):
            raise _closed("this page was not opened with the one-time code of this console")


def _is_same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogatepass"), wanted.encode())


def _closed(detail: str) -> CodezeroError:
    return CodezeroError(problems.CONSOLE_CLOSED, detail, fix="czctl ui")
