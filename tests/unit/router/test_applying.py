"""Plans are brought to Envoy, and only what it took counts. Envoy is a value here; the real one is in the process tests."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.model.problems import CodezeroError
from codezero.router.admin import EnvoyAbsentError, EnvoyState
from codezero.router.applying import Applier, Outcome
from codezero.router.folder import RouterFolder


@dataclass
class TakingEnvoy:
    """Takes each file as it finds it; those whose text holds `refuses` it refuses."""

    folder: Path
    refuses: str | None = None
    is_absent: bool = False
    seen: list[dict[str, str]] = field(default_factory=list)
    refused: int = 0

    async def state(self) -> EnvoyState:
        if self.is_absent:
            raise EnvoyAbsentError
        taken = dict(self.seen[-1]) if self.seen else {}
        for path in self.folder.glob("[clr]ds*.json"):
            text = path.read_text()
            content = msgspec.json.decode(text)
            names = {"cds.json": "cds", "lds.json": "lds"}
            name = names.get(path.name) or f"rds.{content['resources'][0]['name'].replace(':', '_')}"
            if self.refuses is not None and self.refuses in text:
                self.refused += taken.get(name) != content["version_info"]
            else:
                taken[name] = content["version_info"]
        self.seen.append(taken)
        return EnvoyState(run=1, is_live=True, versions=taken, refused=self.refused, is_warming=False)


@dataclass
class SlowEnvoy:
    """Takes one changed file at each look, routes first: the worst it may do. `gaps` are clusters that routes named and that were not there."""

    folder: Path
    taken: dict[str, Any] = field(default_factory=dict)
    gaps: set[str] = field(default_factory=set)

    async def state(self) -> EnvoyState:
        for name in ("rds-8080.json", "lds.json", "cds.json"):
            content = msgspec.json.decode((self.folder / name).read_bytes())
            if content != self.taken.get(name):
                self.taken[name] = content
                break
        if len(self.taken) == 3:
            self.gaps |= self._named() - {cluster["name"] for cluster in self.taken["cds.json"]["resources"]}
        names = {"cds.json": "cds", "lds.json": "lds", "rds-8080.json": "rds.http_8080"}
        versions = {names[name]: content["version_info"] for name, content in self.taken.items()}
        return EnvoyState(run=1, is_live=True, versions=versions, refused=0, is_warming=False)

    def _named(self) -> set[str]:
        hosts = self.taken["rds-8080.json"]["resources"][0]["virtual_hosts"]
        return {route["route"]["cluster"] for host in hosts for route in host["routes"]}


@pytest.fixture
def envoy(tmp_path: Path) -> TakingEnvoy:
    return TakingEnvoy(tmp_path)


@pytest.fixture
def applier(tmp_path: Path, envoy: TakingEnvoy, plans: Any) -> Applier:
    return started(tmp_path, envoy, plans)


def started(folder: Path, envoy: Any, plans: Any) -> Applier:
    applier = Applier(RouterFolder(folder), envoy, first=plans.plan(), bind="0.0.0.0")
    applier.begin(node="router-1")
    return applier


def with_secrets(folder: Path) -> None:
    RouterFolder(folder).put({"sds-identity.json": {}, "sds-authority.json": {}}, secret=True)


def mentions(folder: Path, text: str) -> bool:
    return any(text in path.read_text() for path in folder.glob("*.json") if path.name != "plan.json")


def test_the_first_files_are_there_before_envoy_may_start(tmp_path: Path, applier: Applier) -> None:
    assert {path.name for path in tmp_path.iterdir()} == {"bootstrap.json", "cds.json", "lds.json", "rds-8080.json"}


async def test_a_plan_counts_once_envoy_has_taken_it(tmp_path: Path, applier: Applier, plans: Any) -> None:
    with_secrets(tmp_path)

    assert await applier.apply(plans.plan(plans.rule())) is Outcome.TAKEN

    assert applier.plan == plans.plan(plans.rule())
    assert RouterFolder(tmp_path).kept() == applier.plan


async def test_a_plan_that_leads_to_variants_waits_for_the_identity(
    applier: Applier, plans: Any, tmp_path: Path
) -> None:
    """Envoy refuses a cluster whose secrets are not there."""
    with pytest.raises(CodezeroError, match="no identity yet"):
        await applier.apply(plans.plan(plans.rule()))

    assert not mentions(tmp_path, plans.variant)


async def test_a_refused_plan_leaves_the_last_good_files(
    tmp_path: Path, applier: Applier, envoy: TakingEnvoy, plans: Any
) -> None:
    with_secrets(tmp_path)
    good = plans.plan(plans.rule(1))
    await applier.apply(good)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    envoy.refuses = plans.rule(2).variant_id

    assert await applier.apply(plans.plan(plans.rule(1), plans.rule(2))) is Outcome.REFUSED

    assert applier.plan == good
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert await applier.apply(plans.plan(plans.rule(3))) is Outcome.TAKEN


async def test_however_slow_envoy_is_no_route_names_a_cluster_that_is_not_there(tmp_path: Path, plans: Any) -> None:
    """A request that met such a route would be answered 503."""
    with_secrets(tmp_path)
    envoy = SlowEnvoy(tmp_path)
    applier = started(tmp_path, envoy, plans)
    for rules in ((plans.rule(1),), (plans.rule(2),), (), (plans.rule(2), plans.rule(3)), ()):
        assert await applier.apply(plans.plan(*rules)) is Outcome.TAKEN

    assert envoy.gaps == set()
    assert len(envoy.taken) == 3


async def test_a_refusal_of_earlier_days_is_none_of_this_plan(
    tmp_path: Path, applier: Applier, envoy: TakingEnvoy, plans: Any
) -> None:
    envoy.refused = 7

    assert await applier.apply(plans.plan(plans.rule(holder=None))) is Outcome.TAKEN


async def test_while_envoy_is_away_the_files_are_ready_for_it(
    tmp_path: Path, applier: Applier, envoy: TakingEnvoy, plans: Any
) -> None:
    with_secrets(tmp_path)
    envoy.is_absent = True

    assert await applier.apply(plans.plan(plans.rule())) is Outcome.PENDING
    assert mentions(tmp_path, plans.variant)
    assert RouterFolder(tmp_path).kept() is None

    envoy.is_absent = False
    assert await applier.settle() is Outcome.TAKEN


async def test_a_follower_started_again_goes_on_with_the_last_good_plan(
    tmp_path: Path, applier: Applier, envoy: TakingEnvoy, plans: Any
) -> None:
    with_secrets(tmp_path)
    await applier.apply(plans.plan(plans.rule(1)))
    before = (tmp_path / "cds.json").stat().st_ino

    again = started(tmp_path, envoy, plans)

    assert again.plan == plans.plan(plans.rule(1))
    assert (tmp_path / "cds.json").stat().st_ino == before


async def test_a_last_plan_that_is_not_for_this_router_is_left(tmp_path: Path, envoy: TakingEnvoy, plans: Any) -> None:
    with_secrets(tmp_path)
    RouterFolder(tmp_path).keep(plans.plan(plans.rule(), ports=(9090,)))

    assert started(tmp_path, envoy, plans).plan == plans.plan()


def test_a_last_plan_whose_identity_is_gone_is_left(tmp_path: Path, envoy: TakingEnvoy, plans: Any) -> None:
    RouterFolder(tmp_path).keep(plans.plan(plans.rule()))

    assert started(tmp_path, envoy, plans).plan == plans.plan()
