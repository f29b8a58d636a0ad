"""What Envoy's statistics say about the files it has."""

from typing import Any

from codezero.router.admin import EnvoyState
from codezero.routing.envoy import files


def state(*, is_warming: bool = False, **versions: str) -> EnvoyState:
    named = {name.replace("rds_", "rds."): version for name, version in versions.items()}
    return EnvoyState(run=1, is_live=True, versions=named, refused=0, is_warming=is_warming)


def versions_of(made: dict[str, Any]) -> dict[str, str]:
    names = {"cds.json": "cds", "lds.json": "lds", "rds-8080.json": "rds_http_8080"}
    return {names[name]: content["version_info"] for name, content in made.items()}


def test_envoy_has_files_when_all_versions_are_theirs(plans: Any) -> None:
    made = files(plans.plan(), folder="/run/router")
    versions = versions_of(made)

    assert state(**versions).has(made)
    for name in versions:
        assert not state(**{**versions, name: "another"}).has(made)
    assert not state().has(made)


def test_a_cluster_that_is_still_warming_is_not_had(plans: Any) -> None:
    """Routes to it would find nothing."""
    made = files(plans.plan(), folder="/run/router")

    assert not state(is_warming=True, **versions_of(made)).has(made)
