"""The shapes of the Daemon's local API, and of pairing, as an OpenAPI document, for the types of the GUI.

Usage: python tools/agent_openapi.py FILE
"""

import json
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from codezero.wire import local_api, paired

# What pages ask and are told; the rest of `wire.paired` is between the Hub and machines.
_PAIRED: Final = (paired.PairedView, paired.PairingEnd, paired.PairingMade, paired.PairingView, paired.PairingWanted)


def document() -> dict[str, Any]:
    """The document; its paths are left out, since `wire.local_api` says them in words."""
    shapes = [
        kind
        for kind in vars(local_api).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__module__ == local_api.__name__
    ]
    _, components = msgspec.json.schema_components([*shapes, *_PAIRED], ref_template="#/components/schemas/{name}")
    info = {"title": "Codezero local API", "version": local_api.API_VERSION}
    return {"openapi": "3.1.0", "info": info, "paths": {}, "components": {"schemas": _told(components)}}


def _told(value: Any) -> Any:  # noqa: ANN401 - what JSON can be
    """What is told has all of its fields, also those that have a default."""
    if isinstance(value, dict):
        found = {name: _told(part) for name, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
        asked = str(found.get("title", "")).endswith(("Change", "End")) or found.get("title") == "TraceLine"
        if found.get("type") == "object" and "properties" in found and not asked:
            found["required"] = list(found["properties"])
        return found
    if isinstance(value, list):
        return [_told(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document(), indent=1))
