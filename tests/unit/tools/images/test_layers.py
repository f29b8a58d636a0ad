"""Layers come from the cache when their ingredients are as before, and only then."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tools.images.layers import Cache
from tools.images.tree import File, Link, Tree


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    found = Cache(tmp_path / "cache")
    with found.held():
        return found


def counted() -> tuple[list[str], Callable[[], Tree]]:
    made: list[str] = []

    def make() -> Tree:
        made.append("made")
        tree = Tree()
        tree.add("etc/name", File(b"codezero"))
        tree.add("name", Link("etc/name"))
        return tree

    return made, make


def test_a_layer_is_called_by_what_is_in_it(cache: Cache) -> None:
    layer = cache.layer(["a"], counted()[1])

    content = layer.blob.read_bytes()
    assert layer.digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert layer.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(content)).hexdigest()}"
    assert (layer.size, layer.unpacked_size) == (len(content), len(gzip.decompress(content)))


def test_the_same_ingredients_are_not_used_twice(cache: Cache) -> None:
    made, make = counted()

    assert cache.layer(["a"], make) == cache.layer(["a"], make)
    assert len(made) == 1


def test_other_ingredients_make_another_layer(cache: Cache) -> None:
    made, make = counted()
    cache.layer(["a"], make)
    cache.layer(["a", "b"], make)

    assert len(made) == 2


@pytest.mark.parametrize("damage", ["blob", "facts", "both"])
def test_a_damaged_layer_is_made_again(cache: Cache, damage: str) -> None:
    made, make = counted()
    first = cache.layer(["a"], make)
    if damage != "facts":
        first.blob.write_bytes(b"something else")
    if damage != "blob":
        first.blob.with_suffix(".layer.json").write_text("{")

    assert cache.layer(["a"], make) == first
    assert len(made) == 2


def test_the_bytes_do_not_tell_when_or_where_they_were_made(cache: Cache, tmp_path: Path) -> None:
    other = Cache(tmp_path / "other")
    with other.held():
        assert other.layer(["a"], counted()[1]).digest == cache.layer(["b"], counted()[1]).digest


def test_a_layer_unpacks_to_its_files(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()

    cache.layer(["a"], counted()[1]).unpack(tmp_path / "root")

    assert (tmp_path / "root/name").read_bytes() == b"codezero"
