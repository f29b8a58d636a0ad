"""`python -m tools.images`: writes the archives and says what each is."""

import argparse
import sys
import time
from pathlib import Path

from tools.images import BuildError, recipes


def main() -> None:
    """Build the images that are asked for, or all."""
    parser = argparse.ArgumentParser(
        "python -m tools.images", description="Make the images of a Teamspace as OCI archives."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/images"), metavar="FOLDER", help="default: build/images"
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=f"of {', '.join(recipes.NAMES)}; default: all")
    wanted = parser.parse_args()
    unknown = [name for name in wanted.images if name not in recipes.NAMES]
    if unknown:
        parser.error(f"there is no image {unknown[0]!r}; there are {', '.join(recipes.NAMES)}")
    begun = time.monotonic()
    try:
        built = recipes.build(wanted.images or recipes.NAMES, out=wanted.out)
    except BuildError as error:
        sys.exit(f"the images cannot be made: {error}")
    for image in built:
        packed, unpacked = (
            sum(sizes) / 1e6
            for sizes in zip(*((layer.size, layer.unpacked_size) for layer in image.layers), strict=True)
        )
        print(f"{image.path}  {image.reference}@{image.digest}  {packed:.0f} MB, {unpacked:.0f} MB unpacked")
    print(f"made in {time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
