"""`czrouter`: our two processes in a Router, `czrouter run` and its child `czrouter follow`."""

import argparse
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from codezero.kit import process
from codezero.model.problems import CodezeroError
from codezero.router import follower, keeper, settings

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
    wanted = process.begin(f"czrouter {part}", settings.from_environment)
    run, _ = _PARTS[part]
    try:
        process.run(lambda stop: run(wanted, stop=stop))
    except CodezeroError as error:
        print(f"czrouter {part}: {error}", *([f"fix: {error.fix}"] if error.fix else []), sep="\n", file=sys.stderr)
        raise SystemExit(error.problem.exit_code) from None
    except OSError as error:
        print(f"czrouter {part}: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
