"""czctl as tests run it, and how a run of it ended."""

import json
from dataclasses import dataclass
from typing import Any, Protocol


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
