"""The archive is an OCI layout in which every digest is that of the bytes, readable by older Dockers as well."""

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from tools.images import archive
from tools.images.archive import Image
from tools.images.layers import Cache, Layer
from tools.images.tree import File, Tree

IMAGE = Image(
    reference="docker.io/library/codezero-test:1.2.3",
    architecture="amd64",
    user="65532:65532",
    command=["czsystem"],
    environment={"PATH": "/usr/bin"},
    labels={"org.opencontainers.image.version": "1.2.3"},
)


def layer(cache: Cache, name: str) -> Layer:
    def make() -> Tree:
        tree = Tree()
        tree.add(name, File(name.encode()))
        return tree

    return cache.layer([name], make)


@pytest.fixture
def layers(tmp_path: Path) -> list[Layer]:
    cache = Cache(tmp_path / "cache")
    with cache.held():
        return [layer(cache, "one"), layer(cache, "two")]


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as found:
        files = {member.name: found.extractfile(member) for member in found if member.isfile()}
        return {name: content.read() for name, content in files.items() if content}


def follow(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    content = files[f"blobs/{descriptor['digest'].replace(':', '/')}"]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert descriptor["size"] == len(content)
    return content


def test_every_digest_is_that_of_the_bytes(tmp_path: Path, layers: list[Layer]) -> None:
    digest = archive.write(IMAGE, layers, tmp_path / "image.tar")

    files = read(tmp_path / "image.tar")
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (top,) = json.loads(files["index.json"])["manifests"]
    assert top["digest"] == digest
    manifest = json.loads(follow(files, top))
    assert [follow(files, found) for found in manifest["layers"]] == [made.blob.read_bytes() for made in layers]
    config = json.loads(follow(files, manifest["config"]))
    assert config["rootfs"]["diff_ids"] == [made.diff_id for made in layers]


def test_it_says_who_runs_what(tmp_path: Path, layers: list[Layer]) -> None:
    archive.write(IMAGE, layers, tmp_path / "image.tar")

    files = read(tmp_path / "image.tar")
    (top,) = json.loads(files["index.json"])["manifests"]
    config = json.loads(follow(files, json.loads(follow(files, top))["config"]))
    assert config["config"] == {
        "User": "65532:65532",
        "Env": ["PATH=/usr/bin"],
        "Cmd": ["czsystem"],
        "WorkingDir": "/",
        "Labels": {"org.opencontainers.image.version": "1.2.3"},
    }
    assert (config["os"], config["architecture"]) == ("linux", "amd64")


def test_its_name_is_found_by_each_kind_of_reader(tmp_path: Path, layers: list[Layer]) -> None:
    archive.write(IMAGE, layers, tmp_path / "image.tar")

    files = read(tmp_path / "image.tar")
    (top,) = json.loads(files["index.json"])["manifests"]
    assert top["annotations"] == {
        "io.containerd.image.name": IMAGE.reference,
        "org.opencontainers.image.ref.name": "1.2.3",
    }
    (for_docker,) = json.loads(files["manifest.json"])
    assert for_docker["RepoTags"] == [IMAGE.reference]
    assert [files[path] for path in for_docker["Layers"]] == [made.blob.read_bytes() for made in layers]
    assert json.loads(files[for_docker["Config"]])["os"] == "linux"


def test_the_same_image_is_the_same_bytes(tmp_path: Path, layers: list[Layer]) -> None:
    archive.write(IMAGE, layers, tmp_path / "one.tar")
    archive.write(IMAGE, layers, tmp_path / "other.tar")

    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()


def test_a_layer_that_comes_twice_is_written_once(tmp_path: Path, layers: list[Layer]) -> None:
    archive.write(IMAGE, [*layers, layers[0]], tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as found:
        names = found.getnames()
    assert len(names) == len(set(names))
