"""In which steps one set of Envoy's files becomes another, so that no request meets a route whose cluster is not there. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.routing.envoy import CLUSTERS_FILE, Configuration
from codezero.routing.plan import RoutePlan

Files = Mapping[str, Configuration]


def steps(old: Files, new: Files) -> tuple[Files, ...]:
    """Files to write one after the other, each step once Envoy has taken the one before; none where nothing changes.

    New clusters come before the routes that name them, and old ones go after the routes that named them.
    """
    changed = {name: content for name, content in new.items() if content != old.get(name)}
    if not changed:
        return ()
    clusters = changed.pop(CLUSTERS_FILE, None)
    if clusters is None:
        return (changed,)
    going = _going(old.get(CLUSTERS_FILE), clusters)
    if not changed:
        return ({CLUSTERS_FILE: clusters},)
    if not going:
        return {CLUSTERS_FILE: clusters}, changed
    return {CLUSTERS_FILE: _with(clusters, going)}, changed, {CLUSTERS_FILE: clusters}


def refuse_foreign(plan: RoutePlan, first: RoutePlan) -> None:
    """Raises `CodezeroError` (BAD_SERVE) unless `plan` is for the service and at least the ports that this Router was made for."""
    if plan.service != first.service:
        raise CodezeroError(
            problems.BAD_SERVE, f"the plan is for {plan.service}, this is the Router of {first.service}"
        )
    missing = {port.listen for port in first.ports} - {port.listen for port in plan.ports}
    if missing:
        raise CodezeroError(problems.BAD_SERVE, f"the plan leaves out port {', '.join(map(str, sorted(missing)))}")


def leads_to_variants(plan: RoutePlan) -> bool:
    """Whether Envoy needs an identity for `plan`."""
    return any(rule.holder is not None for port in plan.ports for rule in port.rules)


@dataclass(frozen=True, slots=True)
class _Going:
    version: str
    clusters: tuple[Configuration, ...]


def _going(old: Configuration | None, new: Configuration) -> _Going | None:
    if old is None:
        return None
    staying = {cluster["name"] for cluster in new["resources"]}
    clusters = tuple(cluster for cluster in old["resources"] if cluster["name"] not in staying)
    return _Going(old["version_info"], clusters) if clusters else None


def _with(clusters: Configuration, going: _Going) -> Configuration:
    return {
        "version_info": f"{clusters['version_info']}-after-{going.version}",
        "resources": [*clusters["resources"], *going.clusters],
    }
