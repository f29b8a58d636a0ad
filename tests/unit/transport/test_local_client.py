"""czctl's client of the Daemon: typed answers, and one clear error for everything that can come instead."""

import os
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import Service, ServiceKind, ServicePort, ServiceRef
from codezero.model.variants import ConditionPart, PortPair
from codezero.testing.scripted_daemon import SILENCE, Raw, ScriptedDaemon, in_chunks, with_length
from codezero.testing.views import ACTIVITY, CONSUME, PRESENCE, SERVICES, STATUS
from codezero.transport import local_client
from codezero.transport.local_client import LocalClient
from codezero.wire import local_api
from codezero.wire.access_file import TeamspaceAccess
from codezero.wire.tracing import Direction, TraceRecord

CHANGE = local_api.ConsumeChange(("*.shop", "!orders.shop"), append=True, primary_namespace=None)
SERVE = local_api.ServeChange("shop/orders", (PortPair(80, 3000),), (ConditionPart("header", "x-a", "b"),), 60.0)
END = local_api.ServeEnd("shop/orders", (), "done")
SERVES = local_api.ServesView(())
RESULT = local_api.ServeResult(effects=("pods see another source address",))
ACCESS = TeamspaceAccess(new_ulid(), "shop", "127.0.0.1", 8800, "-----BEGIN ROOT", "-----BEGIN LEAF", "-----BEGIN KEY")

CALLS: dict[str, tuple[Callable[[LocalClient], Any], msgspec.Struct, Any]] = {
    "GET /v1/status": (LocalClient.status, STATUS, None),
    "PUT /v1/teamspace": (lambda client: client.select_teamspace(ACCESS), STATUS, ACCESS),
    "DELETE /v1/teamspace": (LocalClient.forget_teamspace, STATUS, None),
    "GET /v1/services": (LocalClient.services, SERVICES, None),
    "GET /v1/consume": (LocalClient.consume, CONSUME, None),
    "PUT /v1/consume": (lambda client: client.change_consume(CHANGE), CONSUME, CHANGE),
    "POST /v1/consume/test": (lambda client: client.test_consume(CHANGE), CONSUME, CHANGE),
    "PUT /v1/primary-namespace": (
        lambda client: client.select_primary_namespace("shop"),
        CONSUME,
        local_api.PrimaryNamespaceChange("shop"),
    ),
    "GET /v1/serve": (LocalClient.serves, SERVES, None),
    "POST /v1/serve": (lambda client: client.serve(SERVE), RESULT, SERVE),
    "POST /v1/serve/end": (lambda client: client.end_serve(END), RESULT, END),
    "GET /v1/presence": (LocalClient.presence, PRESENCE, None),
    "GET /v1/activity": (LocalClient.activity, ACTIVITY, None),
    "POST /v1/reset": (LocalClient.reset, CONSUME, None),
    "POST /v1/shutdown": (LocalClient.shutdown, STATUS, None),
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[ScriptedDaemon]:
    with ScriptedDaemon(tmp_path) as running:
        yield running


@pytest.fixture
def client(daemon: ScriptedDaemon) -> LocalClient:
    return LocalClient(daemon.socket_path)


def failure_of(call: Callable[[], Any]) -> CodezeroError:
    with pytest.raises(CodezeroError) as caught:
        call()
    assert "\n" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize("line", CALLS)
def test_every_view_is_read_as_it_was_sent(daemon: ScriptedDaemon, client: LocalClient, line: str) -> None:
    """Method, path, body and answer of each call are the contract of wire.local_api."""
    call, view, body = CALLS[line]
    daemon.replies[line] = view

    assert call(client) == view
    (request,) = daemon.requests
    assert request.headers["host"] == local_api.HOST
    assert request.body == (msgspec.json.encode(body) if body is not None else b"")
    if body is not None:
        assert request.headers["content-type"] == "application/json"
    assert not {"origin", "referer", "transfer-encoding"} & set(request.headers)


def test_every_path_of_the_api_has_a_call() -> None:
    """A path that the contract lists and the client lacks would be found by users."""
    listed = {
        " ".join(line.split()[:2])
        for line in (local_api.__doc__ or "").splitlines()
        if line.strip().startswith(("GET ", "PUT ", "POST ", "DELETE "))
    }

    assert listed | {"DELETE /v1/teamspace"} == set(CALLS) | {"GET /v1/events", "GET /v1/traces"}


def test_an_answer_in_chunks_is_put_together(daemon: ScriptedDaemon, client: LocalClient) -> None:
    content = msgspec.json.encode(STATUS)
    daemon.replies["GET /v1/status"] = Raw(in_chunks(content[:1], content[1:20], content[20:]))

    assert client.status() == STATUS


def test_a_large_answer_arrives_whole(daemon: ScriptedDaemon, client: LocalClient) -> None:
    many = tuple(
        Service(ServiceRef("shop", f"s{number}"), ServiceKind.CLUSTER_IP, (ServicePort(80),), 1, 1)
        for number in range(20_000)
    )
    daemon.replies["GET /v1/services"] = local_api.ServicesView(many)

    assert client.services().services == many


@pytest.mark.parametrize(
    "problem", [problems.RULE_NEEDS_NAMESPACE, problems.TOO_LARGE, problems.NOT_YOURS, problems.NO_TEAMSPACE]
)
def test_a_problem_of_the_daemon_is_raised_as_it_is(
    daemon: ScriptedDaemon, client: LocalClient, problem: problems.Problem
) -> None:
    daemon.replies["PUT /v1/consume"] = CodezeroError(problem, "line 3: 'x'", fix="czctl consume edit")

    error = failure_of(lambda: client.change_consume(CHANGE))

    assert (error.problem, error.detail, error.fix) == (problem, "line 3: 'x'", "czctl consume edit")


def test_a_problem_of_a_newer_daemon_keeps_its_code(daemon: ScriptedDaemon, client: LocalClient) -> None:
    newer = problems.Problem("CZ-FUTURE-001", "From the future", "Later.", 7, 409)
    daemon.replies["GET /v1/status"] = CodezeroError(newer, "not yet", fix="wait")

    assert failure_of(client.status).problem.code == "CZ-FUTURE-001"


@pytest.mark.parametrize("content", [b"", b"<html>", b"{}", b"\xff\xfe", b'{"code": 1}', b"[" * 100_000])
def test_an_error_that_is_no_problem_document_names_the_status(
    daemon: ScriptedDaemon, client: LocalClient, content: bytes
) -> None:
    daemon.replies["GET /v1/status"] = Raw(with_length(content, status=503))

    error = failure_of(client.status)

    assert error.problem is problems.INTERNAL
    assert "503" in error.detail


@pytest.mark.parametrize(
    "content", [b"", b"null", b"{}", b"[]", b'{"release": 3}', b"\xff", b'"' + b"\xed\xa0\x80" + b'"', b"[" * 100_000]
)
def test_an_answer_of_another_release_says_so(daemon: ScriptedDaemon, client: LocalClient, content: bytes) -> None:
    daemon.replies["GET /v1/status"] = Raw(with_length(content))

    error = failure_of(client.status)

    assert error.problem is problems.VERSIONS
    assert "czctl restart" in (error.fix or "")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n{}",
        b"HTTP/1.1 999 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
        b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1" * 100_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n" + b" " * (65 * 1024 * 1024),
    ],
    ids=range(15),
)
def test_what_is_not_our_http_is_refused(daemon: ScriptedDaemon, client: LocalClient, answer: bytes) -> None:
    """Strict, and bounded in memory: something else may listen where a Daemon was."""
    daemon.replies["GET /v1/status"] = Raw(answer)

    assert failure_of(client.status).problem is problems.PROTOCOL


@pytest.mark.parametrize("keep", [0, 1, 20, -1])
@pytest.mark.parametrize("answer", [with_length(b"{}" * 50), in_chunks(b"{}" * 50)], ids=["length", "chunks"])
def test_a_daemon_that_ends_in_the_middle_is_not_running(
    daemon: ScriptedDaemon, client: LocalClient, answer: bytes, keep: int
) -> None:
    daemon.replies["GET /v1/status"] = Raw(answer[:keep])

    error = failure_of(client.status)

    assert error.problem is problems.NOT_RUNNING
    assert "ended while it was asked" in error.detail


@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\n", with_length(b"{}")[:-1], in_chunks(b"{", end=False)])
def test_a_daemon_that_does_not_answer_is_timed_out(daemon: ScriptedDaemon, begun: bytes) -> None:
    """A stopped Daemon must not hang czctl, wherever in its answer it stopped."""
    daemon.replies["GET /v1/status"] = Raw(begun, hold=True)

    error = failure_of(LocalClient(daemon.socket_path, deadline=0.2).status)

    assert (error.problem, error.fix) == (problems.TIMED_OUT, "czctl cleanup, then czctl start")


def test_the_deadline_is_for_the_whole_answer(tmp_path: Path) -> None:
    """A byte now and then must not prolong it for ever."""
    with socket.socket(socket.AF_UNIX) as listener, dripping(listener, tmp_path / "drip.sock") as path:
        error = failure_of(LocalClient(path, deadline=0.5).status)

    assert error.problem is problems.TIMED_OUT


@contextmanager
def dripping(listener: socket.socket, path: Path) -> Generator[Path, None, None]:
    """A server that sends a byte every 20 ms."""
    listener.bind(str(path))
    listener.listen()
    ended = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        with connection:
            while not ended.wait(0.02):
                try:
                    connection.send(b"H")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield path
    finally:
        ended.set()
        thread.join()


def test_a_daemon_that_accepts_nobody_is_timed_out(tmp_path: Path) -> None:
    """With a full queue of connections the kernel refuses at once instead of waiting."""
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        listener.listen(0)
        first.connect(str(path))

        assert failure_of(LocalClient(path, deadline=0.2).status).problem is problems.TIMED_OUT


def test_without_a_socket_the_daemon_does_not_run(tmp_path: Path) -> None:
    for path in (tmp_path / "daemon.sock", tmp_path / "no" / "daemon.sock", Path("/dev/null/daemon.sock")):
        error = failure_of(LocalClient(path).status)

        assert (error.problem, error.fix) == (problems.NOT_RUNNING, "czctl start")


def test_a_socket_nobody_listens_on_is_a_daemon_that_does_not_run(tmp_path: Path) -> None:
    """After kill -9 the file is still there."""
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))

    assert failure_of(LocalClient(path).status).problem is problems.NOT_RUNNING


def test_a_path_too_long_for_a_socket_says_so(tmp_path: Path) -> None:
    error = failure_of(LocalClient(tmp_path / ("x" * 120) / "daemon.sock").status)

    assert error.problem is problems.BAD_REQUEST
    assert "107" in error.detail


def test_a_socket_of_another_user_is_not_yours(daemon: ScriptedDaemon) -> None:
    daemon.socket_path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        error = failure_of(LocalClient(daemon.socket_path).status)
    finally:
        os.seteuid(user)

    assert error.problem is problems.NOT_YOURS


def test_a_change_too_large_for_the_daemon_is_not_sent(daemon: ScriptedDaemon, client: LocalClient) -> None:
    change = local_api.ConsumeChange(("x" * 200,) * 9000)

    assert failure_of(lambda: client.change_consume(change)).problem is problems.TOO_LARGE
    assert daemon.requests == []


def test_a_refusal_that_comes_before_the_body_was_read_is_heard(daemon: ScriptedDaemon, client: LocalClient) -> None:
    """The Daemon refuses large or foreign requests by their head and closes; its reason must not be lost in a broken pipe."""
    refusal = with_length(
        b'{"type":"t","title":"t","status":403,"detail":"another user","code":"CZ-AGENT-003"}', status=403
    )
    daemon.replies["PUT /v1/consume"] = Raw(refusal, before_body=True)

    error = failure_of(lambda: client.change_consume(local_api.ConsumeChange(("x" * 200,) * 4000)))

    assert (error.problem, error.detail) == (problems.NOT_YOURS, "another user")


def event(what: str) -> bytes:
    return msgspec.json.encode(local_api.Event(what, 1.0)) + b"\n"


def test_events_come_one_by_one_whatever_the_pieces(daemon: ScriptedDaemon, client: LocalClient) -> None:
    lines = event("status") + event("services") + event("consume")
    daemon.replies["GET /v1/events"] = Raw(in_chunks(lines[:5], lines[5:60], lines[60:]))

    assert [one.what for one in client.events()] == ["status", "services", "consume"]


def test_an_event_is_given_before_the_next_one_comes(daemon: ScriptedDaemon, client: LocalClient) -> None:
    """Events have no deadline, and none is held back."""
    daemon.replies["GET /v1/events"] = Raw(in_chunks(event("status"), end=False), hold=True)
    events = client.events()

    assert next(events).what == "status"
    events.close()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (in_chunks(event("status"), end=False), problems.NOT_RUNNING),
        (in_chunks(event("status"), b'{"what"'), problems.NOT_RUNNING),
        (in_chunks(event("status"), b"{}\n"), problems.VERSIONS),
        (in_chunks(event("status"), b"x" * 2_000_000), problems.PROTOCOL),
    ],
)
def test_events_that_break_off_say_why(
    daemon: ScriptedDaemon, client: LocalClient, answer: bytes, problem: problems.Problem
) -> None:
    daemon.replies["GET /v1/events"] = Raw(answer)
    events = client.events()

    assert next(events).what == "status"
    assert failure_of(lambda: next(events)).problem is problem


def test_traces_come_line_by_line(daemon: ScriptedDaemon, client: LocalClient) -> None:
    record = TraceRecord(1.5, Direction.CONSUME, ServiceRef("shop", "orders"), 80, "tcp", sent=3)
    lines = [local_api.TraceLine(record), local_api.TraceLine(dropped=7)]
    content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    daemon.replies["GET /v1/traces"] = Raw(in_chunks(content[:7], content[7:]))

    assert list(client.traces()) == lines


def test_a_serve_is_waited_for_longer_than_other_answers(daemon: ScriptedDaemon) -> None:
    """The Daemon answers when the service is rewired, which takes longer than anybody waits for a status."""
    hurried = LocalClient(daemon.socket_path, deadline=0.2)
    daemon.replies["GET /v1/serve"] = SILENCE

    assert failure_of(hurried.serves).problem is problems.TIMED_OUT
    # Up to 12 s for the answer of the Teamspace, up to 20 s for the rewiring.
    assert local_client.SERVE_DEADLINE_SECONDS > 32


def test_events_that_are_refused_raise_the_problem(daemon: ScriptedDaemon, client: LocalClient) -> None:
    daemon.replies["GET /v1/events"] = CodezeroError(problems.NOT_YOURS, "no")

    assert failure_of(lambda: next(client.events())).problem is problems.NOT_YOURS


def test_no_secret_of_an_access_file_is_in_an_error(daemon: ScriptedDaemon) -> None:
    daemon.replies["PUT /v1/teamspace"] = SILENCE

    error = failure_of(lambda: LocalClient(daemon.socket_path, deadline=0.2).select_teamspace(ACCESS))

    assert "BEGIN" not in f"{error} {error.fix} {error.__cause__} {error.__context__}"
