"""Make or refresh a virtual environment from a hash-locked requirements file, with this project in it.

Usage: python3 tools/environment.py FOLDER REQUIREMENTS
"""

import os
import subprocess
import sys
import venv
from pathlib import Path


def main() -> None:
    """Install the locked dependencies, then this project without its dependencies."""
    folder, requirements = Path(sys.argv[1]), sys.argv[2]
    if sys.version_info < (3, 11):  # noqa: UP036 - runs before anything is installed
        sys.exit("codezero needs Python 3.11 or newer; choose one with PYTHON=python3.12 make ...")
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"making {folder} with Python {sys.version.split()[0]}", file=sys.stderr)
        venv.create(folder, with_pip=True, symlinks=True)
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    print(f"installing {requirements} (hash-checked)", file=sys.stderr)
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
    subprocess.run([*pip, "--require-hashes", "--no-deps", "-r", requirements], check=True, env=environment)
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--editable", "."], check=True, env=environment)


if __name__ == "__main__":
    main()
