"""Files that are made from the code: written where they have changed, or only checked."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def run(files: Mapping[str, Callable[[], str]], folder: Path, arguments: Sequence[str]) -> None:
    """Write `files` into `folder`, or into the one that `arguments` name; with `--check` among them, end with 1 where one is out of date.

    One that cannot be made here, because an extra is not installed, is left as it is.
    """
    is_check = "--check" in arguments
    folder = next((Path(argument) for argument in arguments if not argument.startswith("--")), folder)
    stale: list[str] = []
    for name, made in files.items():
        try:
            content = made()
        except ImportError as error:
            print(f"left as it is: {name}: {error}", file=sys.stderr)
            continue
        path = folder / name
        if path.exists() and path.read_text(encoding="utf-8") == content:
            continue
        stale.append(name)
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            print(f"written: {name}")
    if stale and is_check:
        sys.exit(f"out of date: {', '.join(stale)}; run `make reference`")
