"""What is told about two answers: the few things that differ, short, printable, and without secrets."""

import gzip
import json
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.local.daemon import mirror_compare
from codezero.local.daemon.mirror_compare import MAX_HEADERS, MAX_PATHS, MAX_TEXT, NOT_SHOWN, Answer, differences, shown
from codezero.wire.tracing import MirrorDifference


def answer(body: bytes = b"", *headers: tuple[str, str], status: int = 200, length: int | None = None) -> Answer:
    return Answer(status, headers, body, len(body) if length is None else length)


def told(origin: Answer, variant: Answer) -> list[tuple[str, str, str]]:
    return [(one.what, one.origin, one.variant) for one in differences(origin, variant)]


def document(value: object) -> Answer:
    return answer(json.dumps(value).encode(), ("content-type", "application/json"))


def test_equal_answers_do_not_differ() -> None:
    one = answer(b"hello", ("content-type", "text/plain"))
    assert told(one, one) == []


def test_status_comes_first() -> None:
    found = told(answer(b"a", status=200), answer(b"b", status=503))
    assert found[0] == ("status", "200", "503")
    assert found[1][0] == "body"


def test_no_answer_is_the_only_difference() -> None:
    silent = Answer(0, trouble="no answer within 30 s")
    assert told(answer(b"a", ("x", "y")), silent) == [("status", "200", "no answer within 30 s")]


def test_answer_without_an_end_is_compared_as_far_as_its_head() -> None:
    broken = Answer(200, (("x", "2"),), b"", 0, trouble="its answer broke off")
    assert told(answer(b"abc", ("x", "1")), broken) == [
        ("header x", "1", "2"),
        ("body", "3 bytes", "its answer broke off"),
    ]


def test_headers_differ_by_name() -> None:
    origin = answer(b"", ("x-same", "1"), ("x-gone", "a"), ("x-other", "a"), ("vary", "a"), ("vary", "b"))
    variant = answer(b"", ("x-other", "b"), ("x-same", " 1"), ("x-new", "b"), ("vary", "a"))
    assert told(origin, variant) == [
        ("header vary", "a, b", "a"),
        ("header x-gone", "a", ""),
        ("header x-new", "", "b"),
        ("header x-other", "a", "b"),
    ]


@pytest.mark.parametrize(
    "name",
    ["date", "server", "connection", "transfer-encoding", "content-length", "x-request-id", "x-envoy-x", "traceparent"],
)
def test_what_always_differs_is_not_told(name: str) -> None:
    assert told(answer(b"", (name, "1")), answer(b"", (name, "2"))) == [] or name == "content-length"
    assert told(answer(b"a", (name, "1")), answer(b"a")) == []


def test_length_of_an_answer_to_head_is_compared() -> None:
    origin, variant = answer(b"", ("content-length", "10")), answer(b"", ("content-length", "20"))
    assert told(origin, variant) == [("header content-length", "10", "20")]


@pytest.mark.parametrize("name", ["authorization", "www-authenticate", "x-api-key", "x-session-id", "x-csrf", "cookie"])
def test_credentials_are_never_told(name: str) -> None:
    found = told(answer(b"", (name, "hunter2")), answer(b"", (name, "hunter3")))
    assert found == [(f"header {name}", NOT_SHOWN, NOT_SHOWN)]
    assert told(answer(b""), answer(b"", (name, "hunter3"))) == [(f"header {name}", "", NOT_SHOWN)]


def test_cookies_differ_by_name_and_attributes_alone() -> None:
    """Each answer begins another session."""

    def setting(*lines: str) -> Answer:
        return answer(b"", *(("set-cookie", line) for line in lines))

    one = setting("sid=hunter2; Path=/; Expires=Mon, 01 Jan 2029 00:00:00 GMT")
    assert told(one, setting("sid=hunter3; Path=/; Expires=Tue, 02 Jan 2029 00:00:00 GMT")) == []
    for other in (setting("sid=hunter3; Path=/a"), setting("id=hunter3; Path=/"), setting()):
        found = told(one, other)
        assert [what for what, *_ in found] == ["header set-cookie"]
        assert "hunter" not in str(found)


def test_many_headers_are_counted() -> None:
    many = answer(b"", *((f"x-{number}", "1") for number in range(MAX_HEADERS + 5)))
    found = told(many, answer(b""))
    assert len(found) == MAX_HEADERS + 1
    assert found[-1][0] == "5 more headers"


# Bodies --------------------------------------------------------------------------------------------------------------------------------


def test_bodies_differ_at_a_byte() -> None:
    [(what, origin, variant)] = told(answer(b"x" * 100 + b"one end"), answer(b"x" * 100 + b"two ends"))
    assert what == "body"
    assert origin == f"at byte 100 of 107 bytes: …{'x' * 16}one end"
    assert variant == f"at byte 100 of 108 bytes: …{'x' * 16}two ends"


def test_body_that_is_longer_differs_where_the_other_ends() -> None:
    [(_, origin, variant)] = told(answer(b"same"), answer(b"same, and more"))
    assert (origin, variant) == ("at byte 4 of 4 bytes: same", "at byte 4 of 14 bytes: same, and more")


def test_beyond_what_is_known_lengths_are_compared() -> None:
    assert told(answer(b"x" * 10, length=5000), answer(b"x" * 10, length=5000)) == []
    assert told(answer(b"x" * 10, length=5000), answer(b"x" * 10, length=6000)) == [
        ("body", "5000 bytes", "6000 bytes")
    ]


def test_packed_bodies_are_compared_by_what_is_in_them() -> None:
    encoding = ("content-encoding", "gzip")

    def packed(text: bytes, level: int) -> Answer:
        return answer(gzip.compress(text, level, mtime=level), encoding)

    assert told(packed(b"hello" * 100, 1), packed(b"hello" * 100, 9)) == []
    [(what, origin, _)] = told(packed(b'{"a":1}', 1), packed(b'{"a":2}', 1))
    assert (what, origin) == ("body a", "1")
    assert told(answer(b"hello"), answer(zlib.compress(b"hello"), ("content-encoding", "deflate"))) == [
        ("header content-encoding", "", "deflate")
    ]
    cut = packed(bytes(range(256)) * 10, 1)
    assert told(cut, Answer(200, (encoding,), cut.body[:50], len(cut.body))) == []
    assert told(answer(b"no gzip", encoding), answer(b"no zip", encoding))[0][0] == "body"


def test_packed_body_is_unpacked_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few bytes may be packed gigabytes."""
    monkeypatch.setattr(mirror_compare, "MAX_UNPACKED", 1000)
    bombs = [answer(gzip.compress(bytes([letter]) * 100_000), ("content-encoding", "gzip")) for letter in b"ab"]
    [(what, origin, _)] = told(*bombs)
    assert what == "body"
    assert origin.startswith("at byte 0 of more than 1000 bytes")


# JSON ----------------------------------------------------------------------------------------------------------------------------------


def test_documents_differ_by_path() -> None:
    origin = document({"where": "pod", "items": [{"n": 1}, {"n": 2}], "gone": None, "a.b": 1, "": 2, "same": [1, "x"]})
    variant = document({"items": [{"n": 1}, {"n": "2"}, 3], "same": [1, "x"], "new": {"a": 1}, "a.b": 2, "": 3})
    assert told(origin, variant) == [
        ("body where", '"pod"', ""),
        ("body items", "2 entries", "3 entries"),
        ("body items[1].n", "2", '"2"'),
        ("body gone", "null", ""),
        ('body "a.b"', "1", "2"),
        ('body ""', "2", "3"),
        ("body new", "", "an object of 1"),
    ]


def test_documents_that_say_the_same_do_not_differ() -> None:
    assert told(answer(b'{"a": 1, "b": [true, NaN]}'), answer(b'{"b":[true,NaN],"a":1.0}')) == []


@pytest.mark.parametrize(("one", "other"), [("true", "1"), ("null", "false"), ("[]", "{}"), ('""', "0"), ("1", "2")])
def test_kinds_of_values_differ(one: str, other: str) -> None:
    assert [what for what, *_ in told(answer(b'{"a":%b}' % one.encode()), answer(b'{"a":%b}' % other.encode()))] == [
        "body a"
    ]


@pytest.mark.parametrize("name", ["password", "access_token", "apiKey", "client-secret"])
def test_values_under_names_of_secrets_are_not_told(name: str) -> None:
    assert told(document({name: "hunter2"}), document({name: "hunter3"})) == [(f"body {name}", NOT_SHOWN, NOT_SHOWN)]
    assert told(document({name: ["hunter2"]}), document({name: ["hunter3"]})) == [
        (f"body {name}", NOT_SHOWN, NOT_SHOWN)
    ]
    assert told(document({name: "hunter2"}), document({})) == [(f"body {name}", NOT_SHOWN, "")]
    assert "hunter" not in str(told(document({"a": {name: "hunter2"}}), document({"a": {name: "hunter3"}})))


def test_authors_are_told() -> None:
    assert told(document({"author": "a"}), document({"author": "b"})) == [("body author", '"a"', '"b"')]


def test_few_paths_are_told() -> None:
    found = told(document(dict.fromkeys("abcdefghijklmno", 1)), document(dict.fromkeys("abcdefghijklmno", 2)))
    assert len(found) == MAX_PATHS + 1
    assert found[-1][0] == "more of body"


def test_deep_documents_are_compared_all_the_same() -> None:
    deep = [b"[" * depth + end + b"]" * depth for depth in (60, 900, 30_000) for end in (b"1", b"2")]
    for one, other in zip(deep[::2], deep[1::2], strict=True):
        assert told(answer(one), answer(one)) == []
        assert len(told(answer(one), answer(other))) == 1


# Strangers -----------------------------------------------------------------------------------------------------------------------------


def test_what_is_told_is_printable_and_short() -> None:
    assert shown("a\x1b[2J\nb\u202e") == r"a\x1b[2J\nb\u202e"
    assert shown("\ud800") == r"\ud800"
    assert len(shown("x" * 1000)) == len(shown("\x00" * 1000)) == MAX_TEXT
    assert shown("x" * MAX_TEXT) == "x" * MAX_TEXT


headers = st.lists(st.tuples(st.sampled_from(["x", "set-cookie", "content-encoding", "date", "a\x1b"]), st.text()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
bodies = st.binary() | json_values.map(lambda value: json.dumps(value).encode()) | st.binary().map(gzip.compress)
answers = st.builds(
    Answer, st.integers(0, 999), headers.map(tuple), bodies, st.integers(0, 1 << 40), trouble=st.sampled_from(["", "x"])
)


@given(answers, answers)
def test_whatever_is_answered_is_told_within_bounds(origin: Answer, variant: Answer) -> None:
    found = differences(origin, variant)
    assert len(found) <= MAX_HEADERS + MAX_PATHS + 4
    for one in found:
        assert all(text.isprintable() for text in (one.what, one.origin, one.variant))
    assert msgspec.json.decode(msgspec.json.encode(found), type=tuple[MirrorDifference, ...]) == found


@given(json_values, json_values)
def test_documents_differ_both_ways_or_not_at_all(one: object, other: object) -> None:
    there, back = told(document([one]), document([other])), told(document([other]), document([one]))
    assert {(what, a, b) for what, a, b in there} == {(what, a, b) for what, b, a in back} or len(there) > MAX_PATHS
    assert told(document([one]), document([one])) == []
