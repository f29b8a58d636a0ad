"""Open headers: short, complete or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model.problems import CodezeroError
from codezero.wire.open_header import MAX_HEADER, OpenHeader, StreamKind, decode, encode

HEADERS = st.builds(OpenHeader, st.sampled_from(StreamKind), st.text("ab/:0", max_size=60), st.text("f0", max_size=32))


@given(HEADERS, st.binary(max_size=20))
def test_a_header_is_read_back_however_it_arrives(header: OpenHeader, data: bytes) -> None:
    """Data may follow at once, and a read may end anywhere."""
    wire = encode(header)
    for cut in range(len(wire)):
        assert decode(wire[:cut]) is None

    assert decode(wire + data) == (header, len(wire))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_clear_error(data: bytes) -> None:
    try:
        decoded = decode(memoryview(data))
    except CodezeroError as error:
        assert error.problem.code == "CZ-TUNNEL-001"
    else:
        assert decoded is None or decoded[1] <= len(data)


@pytest.mark.parametrize("length", [0, MAX_HEADER + 1, 65535])
def test_an_impossible_length_is_refused_before_waiting_for_it(length: int) -> None:
    with pytest.raises(CodezeroError):
        decode(length.to_bytes(2, "big"))
