"""What of the local API the console passes on."""

import re

from codezero.cli.loopback.agent_passage import ROUTES
from codezero.wire import local_api

_LINE = re.compile(r"^    (GET|PUT|POST|DELETE) +(/v1/\S+) ", re.MULTILINE)


def test_all_of_the_local_api_is_passed_on_but_what_takes_keys() -> None:
    assert local_api.__doc__ is not None
    told = set(_LINE.findall(local_api.__doc__)) | {("DELETE", "/v1/teamspace")}

    assert len(told) > 15
    assert told - ROUTES.keys() == {("PUT", "/v1/teamspace")}
    assert not ROUTES.keys() - told
