"""Whether a running Daemon is where the selection says. How an access is got is in `tests/process/test_czctl_hub.py`."""

import msgspec
import pytest

from codezero.cli import hub_context, joining_teamspace
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.model import problems
from codezero.model.problems import CodezeroError
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
        msgspec.structs.replace(THERE, hub=HubView(URL, HubState.UNREACHABLE)),
        msgspec.structs.replace(THERE, hub=HubView(URL, HubState.UNKNOWN)),
        msgspec.structs.replace(THERE, tunnel=TunnelView(TunnelState.CONNECTING)),
        msgspec.structs.replace(THERE, teamspace=None),
        msgspec.structs.replace(THERE, teamspace=msgspec.structs.replace(SHOP, id="other", user_id=ALICE.user)),
    ],
    ids=["by a file", "refused", "by an old proxy", "nobody knows", "not connected", "nowhere", "elsewhere"],
)
def test_one_that_is_not_gets_an_access(now: StatusView) -> None:
    assert not joining_teamspace.is_there(now, client(), SPACE)


def test_another_hub_or_user_is_somewhere_else() -> None:
    assert not joining_teamspace.is_there(THERE, client("https://other.test"), SPACE)
    assert not joining_teamspace.is_there(THERE, client(user="bob"), SPACE)


def test_of_two_that_make_a_key_the_first_one_s_is_kept() -> None:
    """The Hub would know this machine as two devices, and one key would be lost."""
    hub_context.save_credentials(Credentials(URL, api_key="cz_key_x"))
    first, second = [HubClient(HubContext(URL), hub_context.load_credentials()) for _ in range(2)]

    keys = [joining_teamspace._key(client).pem for client in (first, second)]

    kept = hub_context.load_credentials()
    assert kept is not None
    assert keys == [kept.key, kept.key]


def test_a_key_brings_no_credentials_back() -> None:
    client = HubClient(HubContext(URL), Credentials(URL, api_key="cz_key_x"))

    with pytest.raises(CodezeroError) as refused:
        joining_teamspace._key(client)

    assert refused.value.problem is problems.NOT_SIGNED_IN
    assert hub_context.load_credentials() is None
