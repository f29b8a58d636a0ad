"""Writes the reference pages that come from the code: commands, error codes, environment variables.

Usage: python tools/reference.py [--check]   (with --check it only says whether they are up to date)
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from codezero.cli.main import czctl
from codezero.model import problems

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by tools/reference.py from the code; do not edit. -->\n"


def commands() -> str:
    """Every command of czctl with its help."""
    parts = [NOTE, "# czctl\n"]
    for context in _tree(click.Context(czctl, info_name="czctl", terminal_width=100, max_content_width=100)):
        level = "##" if context.command_path.count(" ") < 2 else "###"
        parts.append(f"{level} `{context.command_path}`\n\n```text\n{context.get_help()}\n```\n")
    return "\n".join(parts)


def errors() -> str:
    """Every error code."""
    rows = [
        f"| `{problem.code}` | {problem.title} | {problem.meaning} | {problem.exit_code} | {problem.status} |"
        for problem in sorted(problems.ALL.values(), key=lambda problem: problem.code)
    ]
    head = "| Code | Title | Meaning | Exit code | HTTP status |\n|---|---|---|---|---|"
    return (
        f"{NOTE}\n# Error codes\n\nCodes are never reused; `czctl explain CODE` tells the same.\n\n{head}\n"
        + "\n".join(rows)
        + "\n"
    )


def _tree(context: click.Context) -> Iterator[click.Context]:
    yield context
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            if command is not None and not command.hidden:
                yield from _tree(
                    click.Context(command, parent=context, info_name=name, terminal_width=100, max_content_width=100)
                )


def main() -> None:
    """Write the pages, or check them."""
    stale: list[str] = []
    for name, content in {"czctl.md": commands(), "errors.md": errors()}.items():
        path = FOLDER / name
        if path.exists() and path.read_text() == content:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            path.write_text(content)
            print(f"written: docs/reference/{name}")
    if stale and "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(stale)}; run `make reference`")


if __name__ == "__main__":
    main()
