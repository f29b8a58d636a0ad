import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.sandbox.sample.core import MAX_REPLY
from codezero.testing.sample_parts import PASSWORD, SampleParts
from codezero.testing.waiting import eventually

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_core_tells_how_its_dependencies_fare(parts: SampleParts) -> None:
    """This answer is what demo and acceptance tests look at."""
    leaf, database = parts.start("leaf"), parts.database()
    core = parts.core(leaf=leaf, database=database)

    answer = core.get("/api").json()

    assert (answer["who"], answer["where"]) == ("core", "core-pod")
    assert answer["leaf"] == {
        "who": "leaf",
        "where": "leaf-pod",
        "url": f"http://127.0.0.1:{leaf.port}",
        "propagated-headers": {},
    }
    assert answer["database"]["url"] == f"postgresql://sample@127.0.0.1:{database.port}/sample"
    assert "3 greetings" in answer["database"]["success"]
    assert set(answer["file"]) == {"path", "error"}


def test_core_passes_on_the_headers_that_choose_variants(parts: SampleParts) -> None:
    """Without it a variant behind core would never be chosen."""
    core = parts.core(leaf=parts.start("leaf"))

    answer = core.get(
        "/api", headers={"X-C6O-UserID": "me", "baggage": "k=v", "traceparent": TRACE, "cookie": "secret"}
    ).json()

    assert answer["leaf"]["propagated-headers"] == {"x-c6o-userid": "me", "baggage": "k=v", "traceparent": TRACE}


def test_core_answers_without_its_dependencies(parts: SampleParts) -> None:
    """A dependency that is away is a fact to show, not a reason to fail."""
    core = parts.core()

    answer = core.get("/api")

    assert answer.status_code == 200
    assert "error" in answer.json()["leaf"]
    assert "error" in answer.json()["database"]


def test_core_finds_its_database_again(parts: SampleParts) -> None:
    """A pool that keeps dead connections would report errors forever."""
    database = parts.database()
    core = parts.core(database=database)
    assert "success" in core.get("/api").json()["database"]

    database.stop()
    assert "error" in core.get("/api").json()["database"]
    parts.database(port=database.port)

    assert eventually(lambda: "success" in core.get("/api").json()["database"])


def test_many_requests_share_few_database_connections(parts: SampleParts) -> None:
    """The original leaked a connection per request, until the database took no more."""
    core = parts.core(database=parts.database())

    answers = [core.get("/api").json()["database"] for _ in range(120)]

    assert all("success" in answer for answer in answers)


def test_a_wrong_password_is_an_error_that_does_not_tell_it(parts: SampleParts) -> None:
    """The page is public."""
    core = parts.core(database=parts.database(), SP_DATABASE_PASSWORD="mistaken-secret")

    answer = core.get("/api")

    assert "password authentication failed" in answer.json()["database"]["error"]
    assert "mistaken-secret" not in answer.text
    assert PASSWORD not in answer.text


def test_core_shows_the_message_file(parts: SampleParts, tmp_path: Path) -> None:
    """Files mounted into a pod are one of the things to try."""
    message = tmp_path / "message.txt"
    message.write_text("Grüße")

    core = parts.core(SP_FILE=str(message))

    assert core.get("/api").json()["file"] == {"path": str(message), "data": "Grüße"}


def test_a_page_of_another_origin_may_ask(parts: SampleParts) -> None:
    """The page on a laptop asks core by its cluster name."""
    core = parts.core()

    answer = core.get("/api", headers={"origin": "http://localhost:3030"})

    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.fixture
def strange_leaf() -> Iterator[tuple[int, dict[str, bytes]]]:
    reply = {"body": b""}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(reply["body"])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server.server_port, reply
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("body", [b"", b"no json", b"[1]", b"\xff\xfe", b"[" * 60_000, b'"' + b"x" * MAX_REPLY + b'"'])
def test_a_strange_leaf_is_an_error_to_show(
    parts: SampleParts, strange_leaf: tuple[int, dict[str, bytes]], body: bytes
) -> None:
    """A developer's variant of leaf may answer anything."""
    port, reply = strange_leaf
    reply["body"] = body
    core = parts.core(SP_LEAF_URL=f"http://127.0.0.1:{port}")

    answer = core.get("/api")

    assert answer.status_code == 200
    assert answer.json()["leaf"]["error"]


def test_a_leaf_cannot_speak_for_core(parts: SampleParts, strange_leaf: tuple[int, dict[str, bytes]]) -> None:
    """What core says about the leaf comes from core."""
    port, reply = strange_leaf
    reply["body"] = b'{"who": "leaf", "url": "http://elsewhere", "propagated-headers": "all"}'
    core = parts.core(SP_LEAF_URL=f"http://127.0.0.1:{port}")

    leaf = core.get("/api").json()["leaf"]

    assert leaf == {"who": "leaf", "url": f"http://127.0.0.1:{port}", "propagated-headers": {}}
