"""How an object of ours is written: apiVersion, kind, metadata with labels, content."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from codezero import __version__

Json = dict[str, Any]

PART_OF: Final = "codezero"
_PREFIX: Final = "app.kubernetes.io"


@dataclass(frozen=True, slots=True)
class Release:
    """Under which name all of it was installed, and by what."""

    instance: str = "codezero"
    manager: str = "czctl"


def manifest(
    api_version: str,
    kind: str,
    name: str,
    *,
    component: str,
    namespace: str | None = None,
    annotations: dict[str, str] | None = None,
    **content: object,
) -> Json:
    """An object that belongs to `component` (`system`, `orchestrator`, or `codezero` for what is nobody's alone). `labelled` adds the other labels."""
    metadata: Json = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    metadata["labels"] = selected_by(component)
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def selected_by(component: str) -> dict[str, str]:
    """The labels by which pods of a component are found; never changed, because selectors of Deployments cannot be."""
    return {f"{_PREFIX}/name": component, f"{_PREFIX}/part-of": PART_OF}


def labelled(objects: Iterable[Json], release: Release) -> tuple[Json, ...]:
    """The objects with all labels; pods do not get those that change with each release, or every upgrade would restart them."""
    return tuple(_labelled(one, release) for one in objects)


def _labelled(content: Json, release: Release) -> Json:
    metadata: Json = content["metadata"]
    labels: dict[str, str] = metadata["labels"]
    labels = {
        **labels,
        f"{_PREFIX}/component": labels[f"{_PREFIX}/name"],
        f"{_PREFIX}/instance": release.instance,
        f"{_PREFIX}/version": __version__,
        f"{_PREFIX}/managed-by": release.manager,
    }
    return {**content, "metadata": {**metadata, "labels": labels}}
