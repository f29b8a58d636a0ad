"""How a page gets its one-time code: by the address, which is printed; and by a file that only the user can read, which leads there.

The file is what a browser is given to open. The address itself would be on the browser's command line, where every user of the machine sees it.
"""

import contextlib
import html
import os
import tempfile
import threading
import webbrowser
from collections.abc import Generator
from pathlib import Path
from typing import Final

from codezero.cli import browser_sign_in, private_files
from codezero.model import problems
from codezero.model.problems import CodezeroError

_NAME: Final = "codezero.html"
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer"><title>Codezero</title>
<meta http-equiv="refresh" content="0; url={address}"></head>
<body><p>If nothing happens: <a href="{address}">open the page</a>.</p></body></html>
"""


def can_open() -> bool:
    """Whether a browser can be expected to open where the person sits."""
    return not os.environ.get("CI") and browser_sign_in.has_browser()


@contextlib.contextmanager
def leading_file(address: str) -> Generator[Path]:
    """A file that leads to `address`, in a folder of its own that nobody else can enter; both are gone after the block. Raises `CodezeroError`."""
    with _folder() as folder:
        file = folder / _NAME
        private_files.write(file, _PAGE.format(address=html.escape(address)).encode(), replace=False)
        yield file


def open_browser(file: Path) -> None:
    """Have the user's browser open the file, and do not wait: some are only done when their window is closed."""
    threading.Thread(target=webbrowser.open, args=(file.as_uri(),), daemon=True).start()


@contextlib.contextmanager
def _folder() -> Generator[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    above = runtime if runtime.startswith("/") and os.access(runtime, os.W_OK | os.X_OK) else None
    try:
        # Of mode 0700.
        made = tempfile.TemporaryDirectory(prefix="codezero-", dir=above, ignore_cleanup_errors=True)
    except OSError as error:
        raise CodezeroError(
            problems.OUTPUT_FAILED, f"no folder for the file that leads to the page: {error.strerror}"
        ) from None
    with made as folder:
        yield Path(folder)
