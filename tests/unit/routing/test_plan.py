"""The plan is the seam to every data plane: it must say by itself who answers."""

from codezero.model.serve import DEFAULT, Header, Request, condition_of
from codezero.model.variants import Mirror
from codezero.routing.plan import Address, PortKind, PortPlan, Rule

ORIGIN = Address("10.96.0.10", 80)
BLUE = Rule("01JV0000000000000000000001", 80, condition_of([Header("x-team", "blue")]), Address("10.244.1.7", 8801))
ALL = Rule("01JV0000000000000000000002", 80, DEFAULT, None)
COPY = Rule("01JV0000000000000000000003", 80, DEFAULT, Address("10.244.1.7", 8801), Mirror.ALL)
SAFE = Rule("01JV0000000000000000000004", 80, DEFAULT, Address("10.244.1.7", 8801), Mirror.SAFE)
LOST = Rule("01JV0000000000000000000005", 80, DEFAULT, None, Mirror.ALL)


def test_the_first_rule_a_request_meets_decides() -> None:
    port = PortPlan(8080, PortKind.HTTP, ORIGIN, (BLUE, ALL))

    assert port.chosen(Request("GET", "/", (("X-Team", "blue"),))) is BLUE
    assert port.chosen(Request("GET", "/")) is ALL
    assert PortPlan(8080, PortKind.HTTP, ORIGIN, (BLUE,)).chosen(Request("GET", "/")) is None


def test_connections_that_are_not_http_meet_only_the_default_condition() -> None:
    """There is nothing in a database connection to compare with a header."""
    assert PortPlan(5432, PortKind.UNKNOWN, ORIGIN, (BLUE, ALL)).raw is ALL
    assert PortPlan(5432, PortKind.UNKNOWN, ORIGIN, (BLUE,)).raw is None


def test_the_server_name_tells_variant_and_port() -> None:
    """One variant may serve several ports; the System learns which before the first byte."""
    assert BLUE.server_name == "80.01jv0000000000000000000001.variant.codezero"


def test_addresses_are_written_as_in_a_host_header() -> None:
    assert str(ORIGIN) == "10.96.0.10:80"
    assert str(Address("fd00::1", 80)) == "[fd00::1]:80"


def test_a_mirror_answers_nothing_and_gets_what_no_variant_answers() -> None:
    port = PortPlan(8080, PortKind.UNKNOWN, ORIGIN, (BLUE, LOST, SAFE, COPY))
    get, post = Request("GET", "/"), Request("POST", "/")

    assert port.chosen(get) is None
    assert port.raw is None
    assert (port.mirrored(get), port.mirrored(post)) == (SAFE, COPY)
    assert port.mirrored(Request("GET", "/", (("X-Team", "blue"),))) is None
    assert port.mirrored(Request("GET", "/", (("Upgrade", "websocket"),))) is None
    assert PortPlan(8080, PortKind.HTTP, ORIGIN, (ALL, COPY)).mirrored(get) is None
