"""Writes the OpenAPI document of the Hub, without a Hub: for the types of the GUI, and for whoever makes a client.

Usage: python tools/openapi.py FILE
"""

import json
import sys
from pathlib import Path

from codezero.hub.api.app import application


def main() -> None:
    """Write the document to the file."""
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(application().openapi(), indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
