"""Whether a running Daemon is where the selection says. How an access is got is in `tests/process/test_czctl_hub.py`."""

import msgspec
import pytest

from codezero.cli import joining_teamspace
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_context import HubContext, Named
from codezero.testing.views import ALICE, SHOP, STATUS, TEAMSPACE
from codezero.wire.local_api import HubState, HubView, StatusView, TunnelState, TunnelView

URL = "https://hub.test"
THERE = msgspec.structs.replace(
    STATUS, hub=HubView(URL, HubState.REACHABLE), teamspace=msgspec.structs.replace(SHOP, user_id=ALICE.user)
)
SPACE = Named(TEAMSPACE, "shop")


def client(url: str = URL, user: str = ALICE.user) -> HubClient:
    return HubClient(HubContext(url, user=Named(user, "alice")), None)


def test_a_daemon_that_is_there_is_left_alone() -> None:
    """A new access would cut what goes through the tunnel."""
    assert joining_teamspace.is_there(THERE, client(), SPACE)


@pytest.mark.parametrize(
    "now",
    [
        msgspec.structs.replace(THERE, hub=None),
        msgspec.structs.replace(THERE, hub=HubView(URL, HubState.REFUSED)),
        msgspec.structs.replace(THERE, tunnel=TunnelView(TunnelState.CONNECTING)),
        msgspec.structs.replace(THERE, teamspace=None),
        msgspec.structs.replace(THERE, teamspace=msgspec.structs.replace(SHOP, id="other", user_id=ALICE.user)),
    ],
    ids=["by a file", "refused", "not connected", "nowhere", "elsewhere"],
)
def test_one_that_is_not_gets_an_access(now: StatusView) -> None:
    assert not joining_teamspace.is_there(now, client(), SPACE)


def test_another_hub_or_user_is_somewhere_else() -> None:
    assert not joining_teamspace.is_there(THERE, client("https://other.test"), SPACE)
    assert not joining_teamspace.is_there(THERE, client(user="bob"), SPACE)
