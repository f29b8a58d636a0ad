"""Who is in the way is told by name, where it can be seen."""

import os
import socket

import pytest

from codezero.local.daemon.holders import holder_of


def test_holder_of_an_address_and_of_every_address() -> None:
    for bound_to in ("127.72.200.1", "0.0.0.0"):
        with socket.create_server((bound_to, 0)) as server:
            port = server.getsockname()[1]

            assert holder_of("127.72.200.1", port).endswith(f"(pid {os.getpid()})")
            assert holder_of("127.72.200.1", port, datagrams=True).startswith("another process (`sudo ss -Hln")


def test_holder_on_ipv6_counts() -> None:
    """`[::]` takes IPv4 connections as well."""
    try:
        server = socket.create_server(("::", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"expected: no IPv6 here: {error}")
    with server:
        assert holder_of("127.72.200.1", server.getsockname()[1]).endswith(f"(pid {os.getpid()})")


def test_holder_of_a_udp_port() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.72.200.1", 0))

        assert holder_of("127.72.200.1", bound.getsockname()[1], datagrams=True).endswith(f"(pid {os.getpid()})")


def test_nobody_to_be_seen_is_another_process() -> None:
    with socket.create_server(("127.72.200.1", 0)) as server:
        port = server.getsockname()[1]

    assert holder_of("127.72.200.1", port).startswith("another process (`sudo ss -Hln")
