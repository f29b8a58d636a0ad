"""Conditions decide whose program answers a request: they must be read strictly and ordered without ties."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import (
    DEFAULT,
    Baggage,
    Condition,
    Cookie,
    Header,
    Method,
    Path,
    Percent,
    PortPair,
    Predicate,
    Query,
    Request,
    Serve,
    User,
    Variant,
    baggage_members,
    condition_from_parts,
    condition_of,
    condition_parts,
    conflicts,
    lot_of,
    matches,
    parse_condition,
    parse_predicate,
    precedence,
    refuse_conflicts,
)
from codezero.model.services import ServiceRef
from codezero.model.variants import Mirror

ALICE = "01J0000000000000000000000A"
BOB = "01J0000000000000000000000B"
ORDERS = ServiceRef("shop", "orders")


def get(target: str = "/", *headers: tuple[str, str], method: str = "GET") -> Request:
    return Request(method, target, headers)


def variant(*predicates: Predicate, user: str = ALICE, since: int = 0, port: int = 80, name: str = "01V") -> Variant:
    return Variant(name, ORDERS, user, "alice", condition_of(predicates), (PortPair(port, 3000),), since)


@pytest.mark.parametrize(
    ("kind", "text", "predicate"),
    [
        ("default", None, None),
        ("user", None, User()),
        ("header", "X-Team: blue", Header("x-team", "blue")),
        ("header", "x-url:http://a:80/", Header("x-url", "http://a:80/")),
        ("baggage", "Team:a b", Baggage("Team", "a b")),
        ("path", "/api/", Path("/api")),
        ("path", "/", Path("/")),
        ("query", "debug:1", Query("debug", "1")),
        ("method", "post", Method("POST")),
        ("cookie", "beta:on", Cookie("beta", "on")),
        ("percent", "25", Percent(25)),
        ("percent", " 100% ", Percent(100)),
        ("percent", "X-Session: 25%", Percent(25, "x-session")),
        ("percent", "x-c6o-userid:5", Percent(5, "x-c6o-userid")),
    ],
)
def test_flags_become_predicates(kind: str, text: str | None, predicate: Predicate | None) -> None:
    """Split at the first colon, trimmed; names that HTTP compares without case are kept in one."""
    assert parse_predicate(kind, text) == predicate


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("header", ""), ("header", "x-team"), ("header", ":v"), ("header", "x-team: "), ("header", "x team:v"), ("header", "x:a\r\nb:c"),
        ("header", "x:\N{LATIN SMALL LETTER E WITH ACUTE}"), ("header", "x:" + "v" * 600), ("header", "x" * 200 + ":v"),
        ("baggage", "a b:c"), ("baggage", "k:a\nb"), ("baggage", "k:\ud800"), ("query", "a&b:1"), ("query", "%61:1"), ("cookie", "c:a;b"),
        ("path", "api"), ("path", "/a?b"), ("path", "/a#b"), ("path", "/a b"), ("path", ""), ("method", "CONNECT"), ("method", "G T"),
        ("user", "someone"), ("default", "x"), ("colour", "blue"), ("", None), ("percent", None), ("percent", "0"), ("percent", "101%"),
        ("percent", "2.5"), ("percent", "-1"), ("percent", ":25"), ("percent", "x y:25"), ("percent", "x:"), ("percent", "x" * 200 + ":25"),
    ],
)  # fmt: skip
def test_bad_conditions_are_refused_with_the_reason(kind: str, text: str | None) -> None:
    """What cannot be compared exactly must not be accepted and then never match."""
    with pytest.raises(CodezeroError) as caught:
        parse_predicate(kind, text)

    assert caught.value.problem is problems.BAD_CONDITION
    assert caught.value.fix
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    "key",
    [
        "Authorization", "proxy-authorization", "Cookie", "Host", "X-Envoy-Retry-On", "Connection", "Transfer-Encoding", "TE", "Upgrade",
        "baggage", "x-c6o-userid", "X-Codezero-Variant", "Content-Length", "X-Forwarded-Proto",
    ],
)  # fmt: skip
def test_headers_with_credentials_or_of_the_connection_decide_nothing(key: str) -> None:
    """T19: a condition on Authorization would say who is who to anybody who can list variants; one on a user's id would take theirs."""
    with pytest.raises(CodezeroError) as caught:
        parse_predicate("header", f"{key}: v")

    assert caught.value.problem is problems.HEADER_REFUSED
    if key != "x-c6o-userid":
        with pytest.raises(CodezeroError) as caught:
            parse_predicate("percent", f"{key}:5")
        assert caught.value.problem is problems.HEADER_REFUSED


def test_conditions_combine_and_equal_ones_are_equal() -> None:
    """The order of flags must not hide a conflict."""
    one = parse_condition([("header", "X-A:1"), ("path", "/api"), ("header", "x-a:1")])
    other = parse_condition([("path", "/api/"), ("header", "x-a: 1")])

    assert one == other
    assert str(one) == "header x-a:1 and path /api"
    assert parse_condition([]) == Condition((User(),))
    assert parse_condition([("default", None)]) == DEFAULT


@pytest.mark.parametrize(
    "parts",
    [
        [("default", None), ("header", "a:1")],
        [("header", "a:1"), ("header", "A:2")],
        [("method", "GET"), ("method", "PUT")],
        [("path", "/a"), ("path", "/b")],
        [("percent", "1"), ("percent", "2")],
        [("percent", "x:1"), ("percent", "X:2")],
        [("header", f"a{number}:1") for number in range(9)],
    ],
)
def test_conditions_that_no_request_meets_are_refused(parts: list[tuple[str, str | None]]) -> None:
    with pytest.raises(CodezeroError) as caught:
        parse_condition(parts)

    assert caught.value.problem is problems.BAD_CONDITION


@pytest.mark.parametrize(
    ("predicate", "request_", "met"),
    [
        (Header("x-a", "1"), get("/", ("X-A", " 1\t")), True),
        (Header("x-a", "1"), get("/", ("x-a", "2"), ("x-a", "1")), True),
        (Header("x-a", "1,2"), get("/", ("x-a", "1"), ("x-a", "2")), False),
        (Header("x-a", "1"), get("/", ("x-a", "1,2")), False),
        (Header("x-a", "A"), get("/", ("x-a", "a")), False),
        (User(), get("/", ("X-C6O-UserID", ALICE)), True),
        (User(), get("/", ("x-c6o-userid", BOB)), False),
        (Path("/api"), get("/api"), True),
        (Path("/api"), get("/api/x?y"), True),
        (Path("/api"), get("/api?y"), True),
        (Path("/api"), get("/apis"), False),
        (Path("/api"), get("//api"), False),
        (Path("/api"), get("/%61pi"), False),
        (Path("/"), get("/anything"), True),
        (Path("/"), get("*"), False),
        (Query("a", "b c"), get("/?x=1&a=b+c"), True),
        (Query("a", "b c"), get("/?a=b%20c"), True),
        (Query("a", "1"), get("/?a=2&a=1"), False),
        (Query("a", "%"), get("/?a=%"), False),
        (Query("a", "%"), get("/?a=%25"), True),
        (Method("POST"), get(method="POST"), True),
        (Method("POST"), get(method="post"), False),
        (Cookie("beta", "on"), get("/", ("Cookie", "a=1; beta=on")), True),
        (Cookie("beta", "on"), get("/", ("cookie", "a=1"), ("cookie", "beta=on")), True),
        (Cookie("beta", "on"), get("/", ("cookie", "xbeta=on; beta=one")), False),
        (Baggage("k", "v"), get("/", ("Baggage", "a=1 , k = v ;p;q=1,b=2")), True),
        (Baggage("k", "v"), get("/", ("baggage", "a=1"), ("baggage", "k=%76")), True),
        (Baggage("k", "v"), get("/", ("baggage", "K=v")), False),
        (Baggage("k", "v"), get("/", ("baggage", "a=k=v,b=1;k=v")), False),
        (Baggage("k", "v"), get("/", ("baggage", "k=w,k=v")), True),
        (Percent(30), Request("GET", "/", lot=29), True),
        (Percent(30), Request("GET", "/", lot=30), False),
        (Percent(100), Request("GET", "/", lot=99), True),
        (Percent(100, "x-s"), get("/"), False),
        (Percent(100, "x-s"), get("/", ("X-S", "anything")), True),
        (Percent(62, "x-s"), get("/", ("x-s", "")), True),
        (Percent(61, "x-s"), get("/", ("x-s", "")), False),
    ],
)
def test_a_request_meets_a_condition_exactly(predicate: Predicate, request_: Request, met: bool) -> None:
    assert matches(condition_of([predicate]), request_, user=ALICE) is met


@pytest.mark.parametrize(("value", "lot"), [("", 61), ("a", 20), ("b", 77), ("foobar", 20), ("\xff", 6)])
def test_a_value_keeps_its_lot_for_ever(value: str, lot: int) -> None:
    """FNV-1a as published (http://www.isthe.com/chongo/tech/comp/fnv/); another release must not send people elsewhere."""
    assert lot_of(value) == lot


def test_lots_are_spread_evenly() -> None:
    """Session ids often differ in a digit only."""
    for pattern in ("{}", "user-{:05}", "a{}@example.com"):
        met = sum(lot_of(pattern.format(number)) < 25 for number in range(4000))
        assert 850 < met < 1150


@given(st.text(st.characters(max_codepoint=255), max_size=40), st.integers(1, 99))
def test_a_larger_share_keeps_whom_a_smaller_one_had(value: str, percent: int) -> None:
    request = get("/", ("x-s", value))

    assert Percent(percent + 1, "x-s").met_by(request, "") >= Percent(percent, "x-s").met_by(request, "")


CONDITIONS = st.lists(
    st.sampled_from(
        [User(), Header("x-a", "1:2"), Baggage("k", " v:"), Path("/a"), Query("q", "1"), Method("GET"), Cookie("c", "x"), Percent(5),
         Percent(7, "x-s"), Percent(9, "x-t")]
    ),
    max_size=8,
).map(condition_of)  # fmt: skip


@given(
    CONDITIONS.filter(
        lambda one: all(getattr(p, "value", "") == getattr(p, "value", "").strip() for p in one.predicates)
    )
)
def test_a_condition_comes_back_from_its_parts(condition: Condition) -> None:
    assert condition_from_parts(condition_parts(condition)) == condition


def test_a_mirror_gets_what_no_variant_answers() -> None:
    """Who answers never depends on mirrors; what changes something is copied only when that was asked for."""
    blue = variant(Header("x-a", "1"), name="01A")
    safe = replace(variant(Header("x-b", "1"), name="01B"), mirror=Mirror.SAFE)
    every = replace(variant(name="01C"), mirror=Mirror.ALL)
    serve = Serve(ORDERS, (every, safe, blue))

    assert serve.chosen(get(), 80) is None
    assert serve.mirrored(get("/", ("x-a", "1")), 80) is None
    assert serve.mirrored(get("/", ("x-b", "1")), 80) is safe
    assert serve.mirrored(get("/", ("x-b", "1"), method="PUT"), 80) is every
    assert serve.mirrored(get("/", ("Upgrade", "websocket")), 80) is None
    assert serve.mirrored(get(), 81) is None


def test_baggage_is_read_as_w3c_writes_it() -> None:
    """Percent-decoding, properties and several headers; a broken member spoils no other."""
    lines = ['a=%C3%A9;meta=1, b=x%2Cy ,broken,c="no",d=%zz,e=%FF,f=', "g=a=b"]

    assert list(baggage_members(lines)) == [
        ("a", "\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ("b", "x,y"),
        ("f", ""),
        ("g", "a=b"),
    ]


def test_the_last_of_64_members_in_8192_bytes_counts() -> None:
    """W3C: so much must be carried at least."""
    members = [f"key{number:02d}={'v' * 120}" for number in range(63)]
    line = ",".join([*members, "last=one"])

    assert len(line) < 8192
    assert Baggage("last", "one").met_by(get("/", ("baggage", line)), ALICE)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_value_survives_encoding_as_baggage(value: str) -> None:
    assert list(baggage_members([f"k={quote(value, safe='')}"])) == [("k", value)]


@given(st.lists(st.text(st.characters(max_codepoint=255), max_size=60), max_size=4))
def test_reading_hostile_baggage_never_fails(lines: list[str]) -> None:
    """Headers are an outsider's text."""
    for key, _ in baggage_members(lines):
        assert key


def test_a_condition_on_what_the_request_names_wins_over_user_over_path_over_default() -> None:
    """Row 38: `default` must not take away what team-mates asked for by name."""
    named, mine, narrow, everything = (
        variant(Header("x-a", "1"), name="01D"), variant(User(), name="01C"), variant(Path("/api"), name="01B"), variant(name="01A"),
    )  # fmt: skip
    serve = Serve(ORDERS, (everything, narrow, mine, named))
    user = ("x-c6o-userid", ALICE)

    assert serve.chosen(get("/api", user, ("x-a", "1")), 80) is named
    assert serve.chosen(get("/api", user), 80) is mine
    assert serve.chosen(get("/api"), 80) is narrow
    assert serve.chosen(get("/"), 80) is everything
    assert serve.chosen(get("/"), 81) is None


def test_the_more_exact_condition_wins_then_the_older_one() -> None:
    """A newcomer must not take requests away from somebody who was there before."""
    exact = variant(Header("x-a", "1"), Path("/"), since=9)
    long, short = variant(Path("/api/v1"), since=9), variant(Path("/api"))
    old, new = variant(Header("x-a", "1"), since=1, name="01Z"), variant(Baggage("k", "v"), since=2, name="01A")

    assert sorted([new, old, short, long, exact], key=precedence) == [exact, old, new, long, short]


def test_precedence_knows_no_ties() -> None:
    one, other = variant(name="01A"), variant(name="01B")

    assert precedence(one) < precedence(other)


def test_equal_conditions_of_two_users_conflict_and_name_the_owner() -> None:
    """L25: the second of two equal conditions would never get a request, and its owner would not know why."""
    mine = variant(Header("x-a", "1"), name="01A")
    theirs = replace(mine, variant_id="01B", user=BOB, user_name="bob", since=5)

    assert conflicts([theirs], mine) == (theirs,)
    assert conflicts([mine], mine) == ()
    assert conflicts([replace(theirs, ports=(PortPair(81, 1),))], mine) == ()
    assert conflicts([replace(theirs, service=ServiceRef("shop", "cart"))], mine) == ()
    assert conflicts([replace(theirs, condition=condition_of([User()]))], variant(User())) == ()
    with pytest.raises(CodezeroError, match=r"bob already serves shop/orders for header x-a:1") as caught:
        refuse_conflicts([theirs], mine)
    assert caught.value.problem is problems.CONDITION_TAKEN
