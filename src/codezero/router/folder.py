"""The folder that the Router's processes share: files that change by rename, so that nobody ever reads half of one.

Nothing is synced to a disk: the folder is gone with the pod, and a new pod begins with its first plan.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from codezero.kit.logs import get_logger
from codezero.model.problems import CodezeroError
from codezero.routing.envoy import AUTHORITY_FILE, IDENTITY_FILE, Configuration
from codezero.routing.plan import RoutePlan
from codezero.wire import route_plan
from codezero.wire.route_plan import Plan

# Envoy is started when this one is there, so it is written after all others.
BOOTSTRAP = "bootstrap.json"
ADMIN_SOCKET = "admin.sock"
ACCESS_SOCKET = "access.sock"
METRICS_SOCKET = "metrics.sock"
_PLAN = "plan.json"

_log = get_logger("router-files")


class RouterFolder:
    """Reads and writes the files in `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def admin_socket(self) -> Path:
        """Where Envoy's admin API answers."""
        return self.path / ADMIN_SOCKET

    @property
    def access_socket(self) -> Path:
        """Where lines of Envoy's access log come."""
        return self.path / ACCESS_SOCKET

    @property
    def metrics_socket(self) -> Path:
        """Where the follower tells its numbers."""
        return self.path / METRICS_SOCKET

    @property
    def has_secrets(self) -> bool:
        """Whether Envoy could prove itself to the System; it takes no cluster that leads to a variant without."""
        return all((self.path / name).exists() for name in (IDENTITY_FILE, AUTHORITY_FILE))

    def put(self, files: Mapping[str, Configuration], *, secret: bool = False) -> None:
        """Write `files` one by one, in their order; those that say the same already stay untouched. Raises OSError."""
        for name, content in files.items():
            self._write(name, msgspec.json.encode(content), mode=0o600 if secret else 0o644)

    def put_again(self, files: Mapping[str, Configuration]) -> None:
        """Write `files` even where nothing changes, for an Envoy that missed them. Raises OSError."""
        for name, content in files.items():
            self._replace(name, msgspec.json.encode(content), mode=0o644)

    def keep(self, plan: RoutePlan) -> None:
        """Remember `plan` as the last one that Envoy took. Raises OSError."""
        self._write(_PLAN, msgspec.json.encode(route_plan.to_wire(plan)), mode=0o644)

    def kept(self) -> RoutePlan | None:
        """The plan remembered, None where there is none that can be used."""
        try:
            return route_plan.from_wire(msgspec.json.decode((self.path / _PLAN).read_bytes(), type=Plan))
        except FileNotFoundError:
            return None
        except (OSError, CodezeroError, msgspec.DecodeError) as error:
            _log.warning("the last plan cannot be read, beginning with the first", reason=str(error))
            return None

    def _write(self, name: str, content: bytes, *, mode: int) -> None:
        try:
            if (self.path / name).read_bytes() == content:
                return
        except FileNotFoundError:
            pass
        self._replace(name, content, mode=mode)

    def _replace(self, name: str, content: bytes, *, mode: int) -> None:
        fresh = self.path / f".{name}.new"
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        fresh.rename(self.path / name)
