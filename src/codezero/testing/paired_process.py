"""`czctl pair` as tests run it: a person who waits for their page."""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from codezero.testing.console_process import CZCTL
from codezero.testing.paired_page import PairedPage

_SECONDS = 120.0


@dataclass
class PairProcess:
    """`czctl pair` with the settings of `environment`, until its page is paired. A context manager, which ends it.

    The process in the background that it starts goes on: it ends with its last pairing, or by `czctl stop`.
    """

    environment: Mapping[str, str]
    options: Sequence[str] = ("--no-open",)
    prefix: Sequence[str] = ()
    address: str = ""
    process: "subprocess.Popen[str]" = field(init=False)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*self.prefix, CZCTL, "pair", *self.options],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise AssertionError(self.process.communicate()[1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def page(self, **fields: Any) -> PairedPage:
        """The page that is opened at its address."""
        return PairedPage.at(self.address, **fields)

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said, once it has ended by itself."""
        _, said = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, said


def paired(environment: Mapping[str, str], *options: str, **fields: Any) -> PairedPage:
    """A page that is paired with the machine of `environment` directly, by `czctl pair --no-open` and `options`."""
    with PairProcess(environment, options=("--no-open", *options)) as waiting:
        page = waiting.page(**fields)
        answered = page.pair()
        assert answered.status == 200, answered.content
        code, said = waiting.ended()
        assert code == 0, said
    return page
