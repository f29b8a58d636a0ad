"""Settings of a Router."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.kit.settings import SettingsError
from codezero.router import settings
from codezero.wire.route_plan import to_wire


def test_a_pod_sets_plan_authority_and_teamspace_and_the_rest_has_defaults(
    variables: dict[str, str], plans: Any
) -> None:
    found = settings.from_environment(variables)

    assert found.plan == plans.plan()
    assert found.folder == Path("/run/codezero-router")
    assert found.system == ("system.codezero.svc", 8801)
    assert found.probes == ("0.0.0.0", 8803)
    assert found.token_file == Path("/var/run/secrets/codezero/token")
    assert found.bind == "0.0.0.0"
    assert (found.program, found.threads, found.drain_seconds) == (None, 2, 30)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        settings.from_environment(
            {"CODEZERO_BIND": "localhost", "CODEZERO_SYSTEM": "nowhere", "CODEZERO_ROUTER_FOLDER": "/" + "x" * 100}
        )

    told = " ".join(caught.value.mistakes)
    for name in ("PLAN", "AUTHORITY", "TEAMSPACE", "BIND", "SYSTEM", "ROUTER_FOLDER"):
        assert f"CODEZERO_{name} " in told


def test_the_first_plan_leads_to_the_origin_alone(variables: dict[str, str], plans: Any) -> None:
    """There is no identity yet to reach anything else."""
    plan = msgspec.json.encode(to_wire(plans.plan(plans.rule()))).decode()

    with pytest.raises(SettingsError, match="nothing but the origin"):
        settings.from_environment({**variables, "CODEZERO_PLAN": plan})
    with pytest.raises(SettingsError, match="must have ports"):
        settings.from_environment({**variables, "CODEZERO_PLAN": '{"namespace":"shop","service":"orders","ports":[]}'})


def test_mistakes_about_envoy_are_told(variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"CODEZERO_ENVOY must be an absolute path.*CODEZERO_ENVOY_THREADS"):
        settings.from_environment({**variables, "CODEZERO_ENVOY": "envoy", "CODEZERO_ENVOY_THREADS": "0"})
