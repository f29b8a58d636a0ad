"""Frame headers of yamux."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import yamux
from codezero.wire.yamux import ACK, DATA, GO_AWAY, PING, SYN, WINDOW_UPDATE


def test_layout_is_that_of_the_specification() -> None:
    """Other implementations read these bytes: version, type, flags, stream, length, big-endian."""
    assert yamux.encode(WINDOW_UPDATE, SYN | ACK, 0x01020304, 0x0A0B0C0D) == bytes.fromhex(
        "0001 0003 01020304 0a0b0c0d"
    )


@given(
    kind=st.sampled_from([DATA, WINDOW_UPDATE]),
    flags=st.integers(0, 15),
    stream=st.integers(1, 2**32 - 1),
    length=st.integers(0, 2**32 - 1),
    before=st.binary(max_size=5),
)
def test_what_is_encoded_is_decoded(kind: int, flags: int, stream: int, length: int, before: bytes) -> None:
    """Headers are read in the middle of a read buffer."""
    frame = before + yamux.encode(kind, flags, stream, length)

    assert yamux.decode(frame, len(before)) == (kind, flags, stream, length)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("0100 0000 00000001 00000000", "version 1"),
        ("0004 0000 00000001 00000000", "unknown type 4"),
        ("0000 0010 00000001 00000000", "unknown flags 0x0010"),
        ("0000 0000 00000000 00000000", "stream 0"),
        ("0002 0001 00000001 00000000", "session frame for stream 1"),
        ("0002 0003 00000000 00000000", "flags 0x0003"),
        ("0003 0001 00000000 00000000", "flags 0x0001"),
    ],
)
def test_unknown_headers_are_refused(header: str, reason: str) -> None:
    """Guessing what a newer or hostile peer meant would corrupt streams."""
    with pytest.raises(CodezeroError, match=reason) as raised:
        yamux.decode(bytes.fromhex(header))

    assert raised.value.problem is problems.PROTOCOL


@given(st.binary(min_size=12, max_size=12))
def test_any_bytes_are_a_header_or_the_protocol_error(data: bytes) -> None:
    """The bytes come from the internet."""
    try:
        header = yamux.decode(data)
    except CodezeroError as error:
        assert error.problem is problems.PROTOCOL
    else:
        assert yamux.encode(*header) == data
        assert header[0] in (DATA, WINDOW_UPDATE, PING, GO_AWAY)
