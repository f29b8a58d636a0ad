"""Settings of the Orchestrator."""

import pytest

from codezero.kit.settings import SettingsError
from codezero.orchestrator import settings


def test_a_pod_needs_no_settings() -> None:
    """The defaults are those of the manifests."""
    found = settings.from_environment({})

    assert (found.listen, found.probes) == (("0.0.0.0", 8900), ("0.0.0.0", 8901))
    assert found.session_seconds == 8 * 3600


@pytest.mark.parametrize("seconds", ["nan", "-1", "0", "1e9", "soon", "inf"])
def test_a_session_lasts_a_sensible_time(seconds: str) -> None:
    """Not zero, and not for ever."""
    with pytest.raises(SettingsError, match="SESSION_SECONDS"):
        settings.from_environment({"CODEZERO_SESSION_SECONDS": seconds})
