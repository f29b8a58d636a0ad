"""`czrouter`: the two processes of a Router, `czrouter sidecar` and `czrouter envoy`."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import uvloop

from codezero.kit import logs
from codezero.kit.settings import SettingsError
from codezero.model.problems import CodezeroError
from codezero.router import envoy_process, settings, sidecar

Running = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `czrouter`."""
    parser = argparse.ArgumentParser(
        "czrouter", description="A Router's processes; their settings are environment variables."
    )
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("sidecar", help="write the files Envoy watches, as the System tells")
    parts.add_parser("envoy", help="run Envoy, and start it again when it dies")
    part = parser.parse_args(arguments).part
    try:
        run = _sidecar() if part == "sidecar" else _envoy()
    except SettingsError as error:
        for mistake in error.mistakes:
            print(f"czrouter {part}: {mistake}", file=sys.stderr)
        raise SystemExit(2) from None
    try:
        uvloop.run(_until_told(run))
    except CodezeroError as error:
        print(f"czrouter {part}: {error}", *([f"fix: {error.fix}"] if error.fix else []), sep="\n", file=sys.stderr)
        raise SystemExit(error.problem.exit_code) from None
    except OSError as error:
        print(f"czrouter {part}: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _sidecar() -> Running:
    wanted = settings.sidecar(os.environ)
    logs.configure(level=wanted.log_level, json=wanted.log_json)
    return lambda stop: sidecar.run(wanted, stop=stop)


def _envoy() -> Running:
    wanted = settings.envoy(os.environ)
    logs.configure(level=wanted.log_level, json=wanted.log_json)
    return lambda stop: envoy_process.run(wanted, stop=stop)


async def _until_told(run: Running) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(stop)


if __name__ == "__main__":
    main()
