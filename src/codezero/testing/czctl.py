"""czctl as tests run it, and how a run of it ended."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Final, Protocol, Self

CZCTL: Final = Path(sys.executable).with_name("czctl")
_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Ended:
    """Exit code, and what was written to stdout and stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Stdout as values."""
        return json.loads(self.out)

    def problem(self) -> dict[str, Any]:
        """The error on stderr as RFC 9457 JSON; nothing else may be there."""
        return json.loads(self.err)


class Czctl(Protocol):
    """Runs czctl with arguments and stdin; it sees nothing of the test's own stdin."""

    def __call__(self, *arguments: str, stdin: bytes = b"") -> Ended:
        """Run it to its end."""
        ...


@dataclass
class PageProcess:
    """A command that opens a page, with the settings of `environment`: its `address` is what it says first. A context manager, which ends it.

    `prefix` runs it elsewhere; `said` is what it wrote to stderr, once it has ended.
    """

    command: ClassVar[str]

    environment: Mapping[str, str]
    options: Sequence[str] = ("--no-open",)
    prefix: Sequence[str] = ()
    address: str = ""
    said: str = ""
    process: "subprocess.Popen[str]" = field(init=False)

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [*self.prefix, CZCTL, self.command, *self.options],
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

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said, once it has ended."""
        _, self.said = self.process.communicate(timeout=_SECONDS)
        return self.process.returncode, self.said
