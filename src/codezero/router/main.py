"""`czrouter`: our two processes in a Router, `czrouter run` and its child `czrouter follow`."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import uvloop

from codezero.kit import logs
from codezero.kit.settings import SettingsError
from codezero.model.problems import CodezeroError
from codezero.router import follower, keeper, settings
from codezero.router.settings import RouterSettings

Part = Callable[..., Coroutine[Any, Any, None]]

_PARTS: Final[Mapping[str, tuple[Part, str]]] = {
    "run": (keeper.run, "run a Router: Envoy and the follower, each started again when it dies"),
    "follow": (follower.run, "write the files Envoy watches, as the System tells"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `czrouter`."""
    parser = argparse.ArgumentParser("czrouter", description="A Router; its settings are environment variables.")
    parts = parser.add_subparsers(dest="part", required=True)
    for name, (_, help_text) in _PARTS.items():
        parts.add_parser(name, help=help_text)
    part = parser.parse_args(arguments).part
    try:
        wanted = settings.from_environment(os.environ)
    except SettingsError as error:
        for mistake in error.mistakes:
            print(f"czrouter {part}: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None
    logs.configure(level=wanted.log_level, json=wanted.log_json)
    run, _ = _PARTS[part]
    try:
        uvloop.run(_until_told(run, wanted))
    except CodezeroError as error:
        print(f"czrouter {part}: {error}", *([f"fix: {error.fix}"] if error.fix else []), sep="\n", file=sys.stderr)
        raise SystemExit(error.problem.exit_code) from None
    except OSError as error:
        print(f"czrouter {part}: {error}", file=sys.stderr)
        raise SystemExit(1) from None


async def _until_told(run: Part, wanted: RouterSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(wanted, stop=stop)


if __name__ == "__main__":
    main()
