"""Every protocol of the promise, through the real tunnel, with real clients on the laptop and real servers in pods."""

import pytest

from codezero.testing.laptop import SAMPLE, Laptop

pytestmark = [pytest.mark.lab, pytest.mark.contract, pytest.mark.netns, pytest.mark.nft]


def peer(laptop: Laptop, name: str, *arguments: str, timeout: float = 120) -> str:
    # The password is the sample's own, published in its manifests.
    secret = {"SP_DATABASE_PASSWORD": "sample-project-demo"}
    command = ("python", "-m", f"codezero.testing.peers.{name}", "client", *arguments)
    return laptop.run(*command, timeout=timeout, env=secret).stdout


def test_http_keep_alive(with_peers: Laptop) -> None:
    peer(with_peers, "http", "http.peers:8080")


def test_http2_without_tls(with_peers: Laptop) -> None:
    peer(with_peers, "h2c", "h2c.peers:8081")


def test_grpc_bidirectional_stream(with_peers: Laptop) -> None:
    peer(with_peers, "grpc_bidi", "grpc.peers:8082")


def test_websocket(with_peers: Laptop) -> None:
    peer(with_peers, "websocket", "websocket.peers:8083")


def test_a_server_that_speaks_first(with_peers: Laptop) -> None:
    peer(with_peers, "greeting", "greeting.peers:2525")


def test_a_database_session_with_its_real_client(with_peers: Laptop) -> None:
    peer(with_peers, "psql", f"sample-project-database.{SAMPLE}:5432")


def test_half_close_in_both_directions(with_peers: Laptop) -> None:
    peer(with_peers, "halfclose", "halfclose.peers:8085")


def test_a_thousand_parallel_streams(with_peers: Laptop) -> None:
    peer(with_peers, "many", "many.peers:8086", "--connections", "1000")


def test_a_reader_that_stops_does_not_stop_others(with_peers: Laptop) -> None:
    peer(with_peers, "stall", "stall.peers:8087")


def test_datagrams(with_peers: Laptop) -> None:
    peer(with_peers, "udp", "udp.peers:8088")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_two_gigabytes_arrive_byte_exact(with_peers: Laptop, direction: str) -> None:
    peer(with_peers, "bulk", "bulk.peers:8084", "--direction", direction, "--size", "2G", timeout=580)
