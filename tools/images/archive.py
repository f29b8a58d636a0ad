"""Writes an image as one file: an OCI image layout, with the index that older Dockers read beside it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.images.layers import Layer
from tools.images.tree import MOMENT

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Image:
    """What an image is, apart from its files. `reference` is its whole name: `docker.io/library/name:tag`."""

    reference: str
    architecture: str
    user: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


def write(image: Image, layers: Sequence[Layer], path: Path) -> str:
    """Write the archive to `path`; the digest of the manifest, which is the image's in registries."""
    created = datetime.fromtimestamp(MOMENT, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = _json(
        {
            "architecture": image.architecture,
            "os": "linux",
            "created": created,
            "config": {
                "User": image.user,
                "Env": [f"{name}={value}" for name, value in image.environment.items()],
                "Cmd": list(image.command),
                "WorkingDir": "/",
                "Labels": dict(image.labels),
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created": created, "created_by": "tools.images"} for _ in layers],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, config),
            "layers": [{"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
            "annotations": dict(image.labels),
        }
    )
    # containerd and podman take the name from the first, skopeo from the second.
    names = {
        "io.containerd.image.name": image.reference,
        "org.opencontainers.image.ref.name": image.reference.rpartition(":")[2],
    }
    platform = {"architecture": image.architecture, "os": "linux"}
    top = _descriptor(_MANIFEST, manifest) | {"annotations": names, "platform": platform}
    for_docker = [
        {
            "Config": _place(_digest(config)),
            "RepoTags": [image.reference],
            "Layers": [_place(layer.digest) for layer in layers],
        }
    ]
    files = {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [top]}),
        "manifest.json": _json(for_docker),
        _place(_digest(config)): config,
        _place(_digest(manifest)): manifest,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with tarfile.open(new, "w", format=tarfile.PAX_FORMAT) as archive:
        for folder in ("blobs", "blobs/sha256"):
            about = _about(folder)
            about.type, about.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(about)
        for name, content in sorted(files.items()):
            about = _about(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
        for layer in {layer.digest: layer for layer in layers}.values():
            about = _about(_place(layer.digest))
            about.size = layer.size
            with layer.blob.open("rb") as blob:
                archive.addfile(about, blob)
    new.replace(path)
    return _digest(manifest)


def _about(name: str) -> tarfile.TarInfo:
    about = tarfile.TarInfo(name)
    about.mtime, about.mode = MOMENT, 0o644
    return about


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
