"""Makes the images of a Teamspace as OCI archives: no container engine, no root, the same bytes each time.

    python -m tools.images [--out FOLDER] [teamspace router peers]

Debian's packages, locked wheels and our own wheel become layers (`debian`, `wheels`); `layers` keeps them by what went into them;
`archive` writes what `ctr images import`, `docker load`, `podman load` and `skopeo` read; `recipes` says what is in which image.
"""


class BuildError(Exception):
    """An image cannot be made; the text says why, and what helps."""
