"""Things a command needs, made when it asks for them: where the Daemon is, and a client of it."""

import os
from dataclasses import dataclass
from pathlib import Path

from codezero.transport.local_client import LocalClient
from codezero.wire import local_api

RUN_FOLDER_VARIABLE = "CODEZERO_RUN_FOLDER"
STATE_FOLDER_VARIABLE = "CODEZERO_STATE_FOLDER"


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of this machine's agent."""

    run: Path
    state: Path

    @property
    def socket(self) -> Path:
        """Where the Daemon's local API is."""
        return self.run / local_api.SOCKET_NAME


def places() -> Places:
    """The folders from the environment, else the standard ones."""
    return Places(
        Path(os.environ.get(RUN_FOLDER_VARIABLE) or local_api.DEFAULT_RUN_FOLDER),
        Path(os.environ.get(STATE_FOLDER_VARIABLE) or local_api.DEFAULT_STATE_FOLDER),
    )


def client(*, deadline: float | None = None) -> LocalClient:
    """A client of this machine's Daemon."""
    return LocalClient(places().socket, **({"deadline": deadline} if deadline is not None else {}))
