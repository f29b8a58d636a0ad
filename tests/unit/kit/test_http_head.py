"""Reading one head: whatever comes, it is a head or refused."""

from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.kit import http_head
from codezero.kit.http_head import Head, HeadError


def test_a_head_is_read_as_sent() -> None:
    """Method, target and headers in their order, names in small letters."""
    head = http_head.parse(b"CONNECT a.b:80 HTTP/1.1\r\nHost: a.b:80\r\nX-Y: 1\r\nx-y:  2 \r\n\r\n")

    assert head == Head("CONNECT", "a.b:80", (("host", "a.b:80"), ("x-y", "1"), ("x-y", "2")))
    assert head.values("x-y") == ("1", "2")


@given(st.binary(max_size=300).map(lambda data: data.replace(b"\r\n\r\n", b"") + b"\r\n\r\n"))
def test_arbitrary_bytes_are_refused_or_a_head(data: bytes) -> None:
    """Nothing else may come out."""
    try:
        assert http_head.parse(data).target
    except HeadError as error:
        assert 400 <= error.status < 600


LINES = st.lists(
    st.sampled_from(
        [
            b"Host: a",
            b"Host:",
            b"X: y",
            b"X: y\n Z: 1",
            b"\tX: y",
            b"Content-Length: 3",
            b"Content-Length: 0",
            b"Transfer-Encoding: chunked",
            b"X : y",
            b": y",
            b"X",
            b"X: \x80",
            b"",
            b"X: \x00",
            b"Expect: 100-continue",
        ]
    ),
    max_size=5,
)


@given(st.sampled_from([b"GET / HTTP/1.1", b"CONNECT a.b:1 HTTP/1.1", b"GET / HTTP/1.0", b"GET /"]), LINES)
def test_what_is_taken_is_unambiguous(first: bytes, lines: list[bytes]) -> None:
    """Any head with a line that servers read differently is refused."""
    data = b"\r\n".join((first, *lines)) + b"\r\n\r\n"
    end = data.index(b"\r\n\r\n") + 4
    try:
        http_head.parse(data[:end])
    except HeadError:
        return
    used = data[: end - 4].split(b"\r\n")
    assert used[0].endswith(b" HTTP/1.1")
    assert all(
        line in (b"Host: a", b"Host:", b"X: y", b"Content-Length: 0", b"Expect: 100-continue") for line in used[1:]
    )
    assert sum(line.startswith(b"Host:") for line in used) == 1


def test_an_answer_ends_its_connection() -> None:
    """One request each connection."""
    answer = http_head.answer(HTTPStatus.NOT_FOUND, b"x", headers=(("Allow", "GET"),))

    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"\r\nContent-Length: 1\r\n" in answer
    assert b"\r\nConnection: close\r\n" in answer
    assert answer.endswith(b"\r\nAllow: GET\r\n\r\nx")


@pytest.mark.parametrize("target", ["a\r\nX: y", "a b"])
def test_targets_hold_no_lines(target: str) -> None:
    """No second request inside the first."""
    with pytest.raises(HeadError):
        http_head.parse(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
