"""What is not as it should be, as data: one warning per code, with the next step."""

from codezero.kit.watched import Watched
from codezero.wire.local_api import HealthWarning, Severity


class Health:
    """The warnings in force. Watch `changes` to learn of new ones."""

    def __init__(self) -> None:
        self.changes: Watched[tuple[HealthWarning, ...]] = Watched(())
        self._warnings: dict[str, HealthWarning] = {}

    @property
    def warnings(self) -> tuple[HealthWarning, ...]:
        """All warnings, the most severe first, then by code."""
        return self.changes.value

    def warn(self, code: str, text: str, *, fix: str | None = None, severity: Severity = Severity.WARNING) -> None:
        """Say that something is wrong; replaces what was said under this code."""
        self._set(code, HealthWarning(code, severity, text, fix))

    def add(self, warning: HealthWarning) -> None:
        """Say that something is wrong."""
        self._set(warning.code, warning)

    def clear(self, code: str) -> None:
        """It is all right again."""
        self._set(code, None)

    def _set(self, code: str, warning: HealthWarning | None) -> None:
        if warning is None:
            self._warnings.pop(code, None)
        else:
            self._warnings[code] = warning
        order = list(Severity)
        self.changes.set(tuple(sorted(self._warnings.values(), key=lambda one: (-order.index(one.severity), one.code))))
