"""What the Daemon is told at its start. Everything else it learns over its local API, from the Teamspace or from the Supervisor."""

from dataclasses import dataclass
from pathlib import Path

from codezero.wire.local_api import DEFAULT_RUN_FOLDER, DEFAULT_STATE_FOLDER, SOCKET_NAME


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The Daemon's settings.

    `supervisor_descriptor` and `socket_descriptor` are given by the Supervisor: the channel to it, and the bound API socket. Without them
    (`foreground`) the Daemon binds the socket and changes the machine itself. `owner` is the user id that may use the API, besides root.
    `capture` and `names` choose how the machine is set up in the foreground; `auto` takes the best way possible.
    """

    owner: int
    run_folder: Path = Path(DEFAULT_RUN_FOLDER)
    state_folder: Path = Path(DEFAULT_STATE_FOLDER)
    foreground: bool = False
    supervisor_descriptor: int | None = None
    socket_descriptor: int | None = None
    capture: str = "auto"
    names: str = "auto"
    log_level: str = "info"

    @property
    def socket_path(self) -> Path:
        """Where the API socket is."""
        return self.run_folder / SOCKET_NAME
