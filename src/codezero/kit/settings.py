"""Settings from environment variables: read once, all mistakes told at once."""

from collections.abc import Mapping
from pathlib import Path


class SettingsError(ValueError):
    """Settings that cannot be used; `mistakes` has one line for each."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = tuple(mistakes)


class Environment:
    """Reads values of `variables` whose names begin with `prefix`, and collects mistakes until `check`."""

    def __init__(self, variables: Mapping[str, str], prefix: str) -> None:
        self._variables = variables
        self._prefix = prefix
        self._mistakes: list[str] = []

    def text(self, name: str, default: str, *, choices: tuple[str, ...] = ()) -> str:
        """A text, one of `choices` where given."""
        value = self._get(name) or default
        if choices and value not in choices:
            self._wrong(name, f"must be one of {', '.join(choices)}, not {value!r}")
            return default
        return value

    def path(self, name: str, default: str) -> Path:
        """An absolute path."""
        value = Path(self._get(name) or default)
        if not value.is_absolute():
            self._wrong(name, f"must be an absolute path, not {str(value)!r}")
        return value

    def number(self, name: str, default: float, *, least: float = 0.0, most: float) -> float:
        """A number within bounds."""
        value = self._get(name)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not least <= number <= most:
            self._wrong(name, f"must be a number from {least:g} to {most:g}, not {value!r}")
            return default
        return number

    def address(self, name: str, default: str) -> tuple[str, int]:
        """An address `host:port`, for IPv6 `[host]:port`. Port 0 means any."""
        value = self._get(name) or default
        host, colon, port = value.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            self._wrong(name, f"must be host:port, not {value!r}")
            return "127.0.0.1", 0
        return host, int(port)

    def check(self) -> None:
        """Raise `SettingsError` with all mistakes found so far, if there are any."""
        if self._mistakes:
            raise SettingsError(self._mistakes)

    def _get(self, name: str) -> str | None:
        return self._variables.get(self._prefix + name) or None

    def _wrong(self, name: str, what: str) -> None:
        self._mistakes.append(f"{self._prefix}{name} {what}")
