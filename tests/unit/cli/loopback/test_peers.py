"""Whose program is at the other end."""

import os
import socket
import struct

import pytest

from codezero.cli.loopback import peers


@pytest.fixture
def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_connection_is_of_the_user_who_made_it(listener: socket.socket, family: socket.AddressFamily) -> None:
    """Also one of a program that knows IPv6 alone."""
    address = "127.0.0.1" if family == socket.AF_INET else "::ffff:127.0.0.1"
    with listener, socket.socket(family) as theirs:
        theirs.connect((address, listener.getsockname()[1]))
        with listener.accept()[0] as ours:
            assert peers.user_of(ours) == os.geteuid()


def test_who_has_gone_is_nobody(listener: socket.socket) -> None:
    with listener:
        theirs = socket.create_connection(listener.getsockname())
        ours = listener.accept()[0]
        with ours:
            # Cut, so that nothing of it is kept for a while.
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            theirs.close()
            assert peers.user_of(ours) == peers.NOBODY
    assert peers.user_of(None) == peers.NOBODY
