"""Layers, kept by what goes into them: one whose ingredients are as before is not made again.

Everything still works where the cache is empty, damaged, or away: then it only takes longer.
"""

import fcntl
import gzip
import hashlib
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tools.images.tree import Tree

_KEPT_SECONDS = 14 * 24 * 3600
_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its compressed bytes, and what registries and containers call it."""

    blob: Path
    digest: str
    diff_id: str
    size: int
    unpacked_size: int

    def unpack(self, folder: Path) -> None:
        """Write its files below `folder`."""
        with tarfile.open(self.blob) as archive:
            archive.extractall(folder, filter="fully_trusted")  # noqa: S202 - we made it, and its digest was looked at


class Cache:
    """The folder of layers. One build at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        self.folder = folder or Path(home).expanduser() / "codezero" / "images"
        self._recipe = hashlib.sha256()
        # A layer is also made of the code that makes it.
        for module in sorted(Path(__file__).parent.glob("*.py")):
            self._recipe.update(module.read_bytes())

    @contextmanager
    def held(self) -> Iterator[None]:
        """For the time of a build; forgets what was not used for two weeks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            for path in self.folder.glob("*.layer*"):
                if path.stat().st_mtime < time.time() - _KEPT_SECONDS:
                    path.unlink()

    def layer(self, ingredients: Sequence[str], make: Callable[[], Tree]) -> Layer:
        """The layer of these ingredients, from the cache or from `make`."""
        digest = self._recipe.copy()
        digest.update(json.dumps(ingredients).encode())
        blob = self.folder / f"{digest.hexdigest()}.layer"
        facts = blob.with_suffix(".layer.json")
        found = _kept(blob, facts)
        if found is not None:
            os.utime(blob)
            os.utime(facts)
            return found
        packed = make().packed()
        content = gzip.compress(packed, _LEVEL, mtime=0)
        _write(blob, content)
        layer = Layer(blob, _sha256(content), _sha256(packed), len(content), len(packed))
        told = {"digest": layer.digest, "diff_id": layer.diff_id, "size": layer.size, "unpacked_size": len(packed)}
        _write(facts, json.dumps(told).encode())
        return layer


def _kept(blob: Path, facts: Path) -> Layer | None:
    try:
        layer = Layer(blob, **json.loads(facts.read_bytes()))
        return layer if _sha256(blob.read_bytes()) == layer.digest else None
    except (OSError, ValueError, TypeError):
        return None


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as new:
        new.write(content)
    Path(new.name).replace(path)
