"""Where the programs of a Kubernetes are on this machine, and the images of this tree."""

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster.slab import Slab

from codezero import __version__

_FOLDER = Path.home() / ".cache" / "codezero" / "k8s"
# Names without a registry are short for this.
_REGISTRY = "docker.io/library"
# What the manifests of the sample project and of the tests call the same image.
_ALIASES = ("codezero-sample:0.1.0", "codezero-peers:test")


def programs() -> Path:
    """The folder of binaries: `K8S_BIN`, else the usual place."""
    return Path(os.environ.get("K8S_BIN") or _FOLDER / "bin")


def archives() -> Path:
    """The folder with the images that the node itself needs: `K8S_IMAGES`, else the one beside the binaries."""
    return Path(os.environ.get("K8S_IMAGES") or programs().parent / "images")


def lacking() -> str | None:
    """What keeps this machine from running a Kubernetes, `None` where nothing does."""
    lacks = Slab.lacks(binaries=programs(), images=archives())
    return lacks and f"{lacks} (set K8S_BIN and K8S_IMAGES; tests/cluster/README.md says what goes in)"


def load_images(slab: Slab, root: Path) -> None:
    """Bring the images of this tree into a cluster, built where they are not: System and Orchestrator, Router, and the applications of the tests."""
    folder = root / "build" / "images"
    subprocess.run([sys.executable, "-m", "tools.images", "--out", str(folder)], cwd=root, check=True)
    for name in ("teamspace", "router", "peers"):
        slab.load(folder / f"codezero-{name}-{__version__}.tar")
    for alias in _ALIASES:
        slab.containerd("images", "tag", "--force", f"{_REGISTRY}/codezero-peers:{__version__}", f"{_REGISTRY}/{alias}")
