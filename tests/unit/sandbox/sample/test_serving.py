import signal
import socket
from collections.abc import Iterator

import pytest

from codezero.testing.sample_parts import RunningPart, SampleParts

HEAD = b"GET /api HTTP/1.1\r\nhost: x\r\n"


@pytest.fixture(scope="module", params=["frontend", "core"])
def part(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPart]:
    parts = SampleParts(tmp_path_factory.mktemp("parts"))
    yield parts.start(
        request.param,
        SP_LEAF_URL="http://127.0.0.1:1",
        SP_CORE_URL="http://127.0.0.1:1",
        SP_DATABASE_URL="postgresql://sample@127.0.0.1:1/sample",
    )
    parts.stop()


def test_a_port_in_use_is_named(parts: SampleParts) -> None:
    """The commonest reason why a part does not start on a laptop."""
    first = parts.start("leaf")

    second = parts.start("leaf", port=first.port, wait=False)

    assert second.process.wait(30) == 1
    assert f"cannot listen on 127.0.0.1 port {first.port}" in second.log.read_text()


@pytest.mark.parametrize("name", ["frontend", "core", "leaf", "sockets"])
def test_every_part_answers_probes_alone_and_ends_cleanly(parts: SampleParts, name: str) -> None:
    """A part whose dependencies are away must not be restarted for it, and a rollout must not wait for a kill."""
    part = parts.start(name)

    assert part.get("/healthz").text == part.get("/readyz").text == "ok\n"
    assert part.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize(
    "request_bytes",
    [
        HEAD + b"x-long: " + b"a" * 200_000 + b"\r\n\r\n",
        HEAD + b"".join(b"x-c6o-%d: %s\r\n" % (number, b"v" * 100) for number in range(2000)) + b"\r\n",
        HEAD + b"baggage: \xff\xfe=\x80\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        b"\x00\xff" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /../../../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_hostile_requests_harm_nobody_else(part: RunningPart, request_bytes: bytes) -> None:
    """Whatever one client sends, the next is answered."""
    with socket.create_connection(("127.0.0.1", part.port), timeout=15) as client:
        try:
            client.sendall(request_bytes)
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65536)
        except OSError:  # the server may end the connection at any point
            answer = b""

    assert b"500 Internal" not in answer
    assert b"root:" not in answer
    assert part.get("/healthz").status_code == 200
    assert "Traceback" not in part.log.read_text()
