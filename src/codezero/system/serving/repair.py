"""Puts every served Service back with nothing but a kubeconfig, when no System is there to do it; safe to run again, and beside a living System.

    python -m codezero.system.serving.repair [--dry-run] [--kubeconfig FILE]

The order is the one of `rewiring`: first the selectors, then the Serve objects, then what we made. Nothing waits: with no controller alive nobody
would answer.

A Service's own selector is known from two places: the record in its Serve object and its origin Service. Nobody here has the key by which the System
knows its own records, so where the two differ the origin Service counts, which takes the same right to change as the Service itself; that is said.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import msgspec

from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.system.kubernetes import client
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.system.kubernetes.documents import Json, as_list, as_object, as_text, at, texts
from codezero.system.kubernetes.objects import SERVES, SERVICES
from codezero.system.serving import manifests, naming
from codezero.system.serving.observing import listed, service_path
from codezero.system.serving.serves import path_of
from codezero.wire.serve_resource import FINALIZER, MANAGED_BY, OURS

_OURS: Final = {"labelSelector": f"{MANAGED_BY}={OURS},{naming.SERVICE}"}
# The Router before what it leads to.
_MADE: Final = (
    ("Deployment", "/apis/apps/v1", "deployments"),
    ("PodDisruptionBudget", "/apis/policy/v1", "poddisruptionbudgets"),
    ("NetworkPolicy", "/apis/networking.k8s.io/v1", "networkpolicies"),
    ("ServiceAccount", "/api/v1", "serviceaccounts"),
    ("Service", "/api/v1", "services"),
)
_TRIES: Final = 10


async def repair(api: ApiClient, *, dry_run: bool) -> list[str]:
    """Put everything back; what was done, or with `dry_run` what would be, a line each. Raises `ApiError` where the API refuses."""
    done: list[str] = []
    serves = await listed(api, SERVES.path)
    services = {_ref(one): one for one in await listed(api, SERVICES.path)}
    records = {_ref(one): texts(at(one, "status", "original", "selector")) for one in serves}
    known: dict[ServiceRef, dict[str, str]] = {}
    for ref, service in sorted(services.items()):
        if not naming.bears_ours(texts(at(service, "spec", "selector")), ref):
            continue
        known[ref], remark = _own_selector(records.get(ref, {}), _origin_selector(ref, services))
        done += [line + remark for line in await _point_back(api, ref, known[ref], dry_run=dry_run)]
    for serve in serves:
        done += await _end_serve(api, serve, dry_run=dry_run)
    for kind, group, plural in _MADE:
        for one in await listed(api, f"{group}/{plural}", _OURS):
            ref = _ref(one)
            if kind == "Service" and any(naming.origin_of(one) == ref and not own for one, own in known.items()):
                # One that could not be put back still needs it.
                continue
            done.append(f"delete {kind} {ref}")
            if not dry_run:
                await _delete(api, f"{group}/namespaces/{ref.namespace}/{plural}/{ref.name}", one)
    return done


def _origin_selector(ref: ServiceRef, services: dict[ServiceRef, Json]) -> dict[str, str]:
    origin = services.get(naming.origin_of(ref))
    return texts(at(origin, "spec", "selector")) if origin is not None and manifests.is_ours(origin) else {}


def _own_selector(record: dict[str, str], origin: dict[str, str]) -> tuple[dict[str, str], str]:
    """The selector that a team wants, empty where nobody knows, and what has to be said about it."""
    if record and origin and record != origin:
        return (
            origin,
            f" (as its origin Service has it; its Serve object says {_shown(record)}: compare with its manifest)",
        )
    if record and not origin:
        return record, " (as its Serve object alone says: compare with its manifest)"
    return origin, ""


def _shown(selector: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(selector.items()))


async def _point_back(api: ApiClient, ref: ServiceRef, known: dict[str, str], *, dry_run: bool) -> list[str]:
    if not known:
        return [f"cannot put back Service {ref}: nobody knows its selector; apply its manifest"]
    path = service_path(ref)
    for attempt in range(_TRIES):
        service = as_object(msgspec.json.decode(await api.get(path, {})))
        selector = texts(at(service, "spec", "selector"))
        if not naming.bears_ours(selector, ref):
            return []
        own = naming.own_selector(selector, ref, known)
        operations = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": at(service, "metadata", "resourceVersion")},
            {"op": "replace", "path": "/spec/selector", "value": own},
        ]
        try:
            if not dry_run:
                await api.patch(path, operations, kind="json")
        except ApiError as error:
            if not error.is_conflict or attempt == _TRIES - 1:
                raise
        else:
            return [f"put back Service {ref}: {_shown(own)}"]
    return []


async def _end_serve(api: ApiClient, serve: Json, *, dry_run: bool) -> list[str]:
    ref = _ref(serve)
    path = path_of(ref)
    if not dry_run:
        rest = [one for one in as_list(at(serve, "metadata", "finalizers")) if one != FINALIZER]
        try:
            await api.patch(path, {"metadata": {"finalizers": rest}}, kind="merge")
            await api.delete(path, uid=as_text(at(serve, "metadata", "uid")))
        except ApiError as error:
            if not error.is_missing:
                raise
    return [f"delete Serve {ref}"]


async def _delete(api: ApiClient, path: str, content: Json) -> None:
    try:
        await api.delete(path, uid=as_text(at(content, "metadata", "uid")))
    except ApiError as error:
        if not error.is_missing:
            raise


def _ref(content: Json) -> ServiceRef:
    return ServiceRef(as_text(at(content, "metadata", "namespace")), as_text(at(content, "metadata", "name")))


async def _main(kubeconfig: Path | None, *, dry_run: bool) -> list[str]:
    api = client.in_cluster() if kubeconfig is None else client.from_kubeconfig(kubeconfig)
    try:
        return await repair(api, dry_run=dry_run)
    finally:
        await api.close()


def main() -> None:
    """Entry point of `python -m codezero.system.serving.repair`."""
    parser = argparse.ArgumentParser(description="Puts every served Service back, with no System alive.")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--kubeconfig", type=Path, default=os.environ.get("KUBECONFIG") or None)
    arguments = parser.parse_args()
    kubeconfig = None if arguments.kubeconfig is None else Path(arguments.kubeconfig)
    try:
        done = asyncio.run(_main(kubeconfig, dry_run=arguments.dry_run))
    except CodezeroError as error:
        print(f"repair: {error}", *([f"fix: {error.fix}"] if error.fix else []), sep="\n", file=sys.stderr)
        raise SystemExit(error.problem.exit_code) from None
    except ApiError as error:
        print(f"repair: the API refused: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    print(*(done or ["nothing to put back"]), sep="\n")


if __name__ == "__main__":
    main()
