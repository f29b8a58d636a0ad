"""The local console as a process, before a real agent and a real Hub; and whoever else speaks to it is refused."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator
from http.client import IncompleteRead
from pathlib import Path

import msgspec
import pytest
from tests.process.test_czctl_hub import Machine as Home
from tests.process.test_czctl_hub import joined
from tests.process.test_daemon import Laptop
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from codezero.gui.files import Site, Where
from codezero.sandbox.browser import Browser
from codezero.testing.console_process import ConsoleProcess
from codezero.testing.hub_process import HubProcess
from codezero.testing.machine import Machine
from codezero.testing.scripted_daemon import Raw, ScriptedDaemon, in_chunks, with_length
from codezero.testing.teamspace import free_port
from codezero.testing.views import CONSUME, SERVICES, STATUS
from codezero.testing.waiting import eventually
from codezero.wire import access_file

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path_factory.mktemp("hub") / "data").start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner(hub: HubProcess) -> Browser:
    return hub.owner()


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders are too long for socket paths.
    made = Path(tempfile.mkdtemp(prefix="cz-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def home(hub: HubProcess, owner: Browser, folder: Path) -> Home:
    """A home where nobody is signed in, with no agent."""
    (folder / "run").mkdir()
    return Home(folder, hub, {})


@pytest.fixture
def console(home: Home) -> Iterator[ConsoleProcess]:
    """A console whose page is let in."""
    with ConsoleProcess(home.environment()) as running:
        assert running.sign_in().status == 204
        yield running


@pytest.fixture
def daemon(home: Home) -> Iterator[ScriptedDaemon]:
    replies = {
        "GET /v1/status": STATUS,
        "GET /v1/services": SERVICES,
        "PUT /v1/consume": CONSUME,
        "POST /v1/reset": CONSUME,
        "GET /v1/events": Raw(in_chunks(b'{"what":"status","at":1.0}\n', end=False), hold=True),
    }
    with ScriptedDaemon(home.home / "run", dict(replies)) as running:
        yield running


# --- being let in --------------------------------------------------------------------------------------------------------------------------


def test_the_code_lets_one_page_in_and_ctrl_c_ends_it(home: Home) -> None:
    with ConsoleProcess(home.environment()) as console:
        assert re.fullmatch(r"http://127\.0\.0\.1:[0-9]+/ui/#code=[A-Za-z0-9_-]{43}", console.address)
        before = console.ask("GET", "/agent/v1/status")

        let_in = console.sign_in()
        again = console.sign_in()
        inside = console.ask("GET", "/agent/v1/status")

        assert (before.status, before.code) == (401, "CZ-CONSOLE-001")
        assert before.headers["content-type"] == "application/problem+json"
        assert let_in.status == 204
        assert let_in.headers["set-cookie"] == f"{console.cookie}; HttpOnly; SameSite=Strict; Path=/"
        assert (again.status, again.code) == (401, "CZ-CONSOLE-001")
        assert (inside.status, inside.code) == (503, "CZ-AGENT-001")
        assert inside.json()["fix"] == "czctl start"
        assert console.stop() == 0
        assert console.code not in console.said
        assert console.cookie.partition("=")[2] not in console.said


def test_ten_wrong_codes_make_the_right_one_worth_nothing(home: Home) -> None:
    with ConsoleProcess(home.environment()) as console:
        refused = {console.sign_in(f"{number}").code for number in range(10)}

        assert refused == {"CZ-CONSOLE-001"}
        assert console.sign_in().status == 401


def test_two_consoles_live_side_by_side_in_one_browser_and_do_not_take_each_others_cookies(
    home: Home, console: ConsoleProcess
) -> None:
    with ConsoleProcess(home.environment()) as other:
        assert other.sign_in().status == 204
        both = f"{console.cookie}; {other.cookie}"
        renamed = f"{console.cookie.partition('=')[0]}={other.cookie.partition('=')[2]}"

        assert console.ask("GET", "/agent/v1/status", headers={"Cookie": both}).status == 503
        assert other.ask("GET", "/agent/v1/status", headers={"Cookie": both}).status == 503
        assert console.ask("GET", "/agent/v1/status", headers={"Cookie": other.cookie}).status == 401
        assert console.ask("GET", "/agent/v1/status", headers={"Cookie": renamed}).status == 401


def test_the_browser_is_led_by_a_file_of_the_users_alone_and_its_arguments_tell_nothing(home: Home) -> None:
    seen = home.home / "seen"
    script = home.home / "browser.sh"
    script.write_text(
        '#!/bin/sh\nfile="${1#file://}"\n'
        'stat -c %a "$file" "$(dirname "$file")" > "$0.modes"\ncp "$file" "$0.page"\n'
        f'printf "%s\\n" "$@" > {seen}.part\nmv {seen}.part {seen}\n'
    )
    script.chmod(0o755)
    with ConsoleProcess({**home.environment(), "BROWSER": f"{script} %s"}, options=()) as console:
        eventually(seen.exists)
        (given,) = seen.read_text().splitlines()
        page = Path(f"{script}.page").read_text()

        assert given.startswith("file:///")
        assert console.code not in given
        assert Path(f"{script}.modes").read_text().split() == ["600", "700"]
        assert f"url={console.address}" in page
        assert console.sign_in().status == 204
        eventually(lambda: not Path(given.removeprefix("file://")).parent.exists())


@pytest.mark.parametrize(
    ("options", "variables"),
    [(("--no-open",), {}), ((), {"CI": "true"}), ((), {"BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": ""})],
    ids=["asked not to", "ci", "no display"],
)
def test_no_browser_is_opened_where_there_is_none_or_nobody_wants_one(
    home: Home, options: tuple[str, ...], variables: dict[str, str]
) -> None:
    seen = home.home / "seen"
    environment = {**home.environment(), "BROWSER": f"touch {seen} %s", **variables}
    with ConsoleProcess(environment, options=options) as console:
        assert console.sign_in().status == 204
        assert console.stop() == 0

        assert "opening the browser" not in console.said
        assert not seen.exists()


def test_sigterm_and_a_closed_terminal_end_it_and_leave_no_file(home: Home) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        with ConsoleProcess({**home.environment(), "BROWSER": "true %s"}, options=()) as console:
            eventually(lambda: list(home.home.glob("codezero-*")))
            assert console.stop(number) == 0
            assert not list(home.home.glob("codezero-*"))


def test_a_port_that_is_asked_for_is_had_or_named(home: Home) -> None:
    port = free_port()
    with ConsoleProcess(home.environment(), options=("--no-open", "--port", str(port))) as console:
        assert console.port == port
        second = home.czctl("ui", "--no-open", "--port", str(port))

    assert second.returncode == 2
    assert f"port {port} cannot be had: Address already in use" in second.stderr
    assert second.stdout == ""


# --- everybody else ------------------------------------------------------------------------------------------------------------------------

GET = "GET /agent/v1/services HTTP/1.1"
OWN = "Host: {host}\r\nX-Codezero-CSRF: console\r\nCookie: {cookie}"
POST = "POST /agent/v1/reset HTTP/1.1\r\n" + OWN
# A request, and the status it gets. All carry the good cookie; `Host` and the rest is what another page can make a browser send, or less.
FORMS = {
    # Host: a rebinding page has its own name here (T01).
    "rebound name": (GET + "\r\n" + OWN.replace("{host}", "evil.example"), 403),
    "rebound name with our port": (GET + "\r\n" + OWN.replace("{host}", "evil.example:{port}"), 403),
    "localhost": (GET + "\r\n" + OWN.replace("{host}", "localhost:{port}"), 403),
    "localhost below another": (GET + "\r\n" + OWN.replace("{host}", "localhost.evil.example:{port}"), 403),
    "no port": (GET + "\r\n" + OWN.replace("{host}", "127.0.0.1"), 403),
    "another port": (GET + "\r\n" + OWN.replace("{host}", "127.0.0.1:1"), 403),
    "another loopback address": (GET + "\r\n" + OWN.replace("{host}", "127.0.0.2:{port}"), 403),
    "any address": (GET + "\r\n" + OWN.replace("{host}", "0.0.0.0:{port}"), 403),
    "address as a number": (GET + "\r\n" + OWN.replace("{host}", "2130706433:{port}"), 403),
    "short address": (GET + "\r\n" + OWN.replace("{host}", "127.1:{port}"), 403),
    "ipv6": (GET + "\r\n" + OWN.replace("{host}", "[::1]:{port}"), 403),
    "mapped ipv6": (GET + "\r\n" + OWN.replace("{host}", "[::ffff:127.0.0.1]:{port}"), 403),
    "dot at the end": (GET + "\r\n" + OWN.replace("{host}", "127.0.0.1.:{port}"), 403),
    "user before": (GET + "\r\n" + OWN.replace("{host}", "evil@127.0.0.1:{port}"), 403),
    "name after": (GET + "\r\n" + OWN.replace("{host}", "127.0.0.1:{port}.evil.example"), 403),
    "leading zero in the port": (GET + "\r\n" + OWN.replace("{host}", "127.0.0.1:0{port}"), 403),
    "two hosts, ours first": (GET + "\r\n" + OWN + "\r\nHost: evil.example", 400),
    "two hosts, ours last": (GET + "\r\nHost: evil.example\r\n" + OWN, 400),
    "empty host": (GET + "\r\n" + OWN.replace("{host}", ""), 403),
    "no host": (GET + "\r\n" + OWN.replace("Host: {host}\r\n", ""), 400),
    "no host in http 1.0": (GET.replace("1.1", "1.0") + "\r\n" + OWN.replace("Host: {host}\r\n", ""), 403),
    # The form of the target.
    "absolute target": (GET.replace("/agent", "http://evil.example/agent") + "\r\n" + OWN, 400),
    "absolute target of ours": (GET.replace("/agent", "http://{host}/agent") + "\r\n" + OWN, 400),
    "asterisk": ("GET * HTTP/1.1\r\n" + OWN, 400),
    "escaped slash": (GET.replace("/v1/services", "/v1%2Fservices") + "\r\n" + OWN, 400),
    "going up": (GET.replace("/agent/v1", "/agent/v1/../v1") + "\r\n" + OWN, 400),
    "escaped dots": (GET.replace("/agent/v1", "/agent/v1/%2e%2e/v1") + "\r\n" + OWN, 400),
    "double slash": (GET.replace("/agent/v1", "/agent//v1") + "\r\n" + OWN, 400),
    "query to the agent": (GET.replace("services", "services?x=1") + "\r\n" + OWN, 404),
    # Origin, and what browsers say of why they ask (T36).
    "another origin": (GET + "\r\n" + OWN + "\r\nOrigin: https://evil.example", 403),
    "origin null": (GET + "\r\n" + OWN + "\r\nOrigin: null", 403),
    "origin of localhost": (GET + "\r\n" + OWN + "\r\nOrigin: http://localhost:{port}", 403),
    "origin of another port": (GET + "\r\n" + OWN + "\r\nOrigin: http://127.0.0.1:1", 403),
    "origin without a port": (GET + "\r\n" + OWN + "\r\nOrigin: http://127.0.0.1", 403),
    "https origin": (GET + "\r\n" + OWN + "\r\nOrigin: https://{host}", 403),
    "origin with a slash": (GET + "\r\n" + OWN + "\r\nOrigin: http://{host}/", 403),
    "origin in capitals": (GET + "\r\n" + OWN + "\r\nOrigin: HTTP://{host}", 403),
    "two origins": (GET + "\r\n" + OWN + "\r\nOrigin: http://{host}\r\nOrigin: https://evil.example", 400),
    "cross-site": (GET + "\r\n" + OWN + "\r\nSec-Fetch-Site: cross-site", 403),
    "same-site": (GET + "\r\n" + OWN + "\r\nSec-Fetch-Site: same-site", 403),
    "navigation to the api": (
        GET + "\r\n" + OWN + "\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document",
        403,
    ),
    "forwarded": (GET + "\r\n" + OWN + "\r\nX-Forwarded-For: 192.0.2.1", 403),
    # What a page can send without being asked: no header of its own, and three content types.
    "no header of the page's": (GET + "\r\n" + OWN.replace("X-Codezero-CSRF: console\r\n", ""), 403),
    "another value of it": (GET + "\r\n" + OWN.replace("console\r\n", "hub\r\n"), 403),
    "preflight": (
        "OPTIONS /agent/v1/reset HTTP/1.1\r\nHost: {host}\r\nOrigin: https://evil.example\r\n"
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-codezero-csrf",
        405,
    ),
    "text": (POST + "\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "form": (POST + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "no type": (POST + "\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "in chunks": (POST + "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0", 400),
    "too long": (POST + "\r\nContent-Type: application/json\r\nContent-Length: 1048577", 413),
    "a body to read": (GET + "\r\n" + OWN + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}", 400),
    "unknown method": ("TRACE /agent/v1/services HTTP/1.1\r\n" + OWN, 405),
    # Without the cookie, or with a wrong one.
    "no cookie": (GET + "\r\n" + OWN.replace("\r\nCookie: {cookie}", ""), 401),
    "a cookie of that name": (GET + "\r\n" + OWN.replace("{cookie}", "codezero-console-{port}=x"), 401),
    "an empty cookie": (GET + "\r\n" + OWN.replace("{cookie}", "codezero-console-{port}="), 401),
    # What takes keys, and what is not there.
    "keys of a Teamspace": (
        POST.replace("POST /agent/v1/reset", "PUT /agent/v1/teamspace")
        + "\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        404,
    ),
    "another method": (GET.replace("GET", "DELETE") + "\r\n" + OWN, 404),
}


def test_only_its_own_page_is_answered_of_many_forms_of_requests(
    console: ConsoleProcess, daemon: ScriptedDaemon
) -> None:
    told = {"host": console.host, "port": console.port, "cookie": console.cookie}
    asked = {
        name: console.raw(form.format(**told).encode() + (b"" if "\r\n\r\n" in form else b"\r\n\r\n"))
        for name, (form, _) in FORMS.items()
    }

    assert len(FORMS) > 40
    assert {name: int(answer.split(b" ")[1]) for name, answer in asked.items()} == {
        name: status for name, (_, status) in FORMS.items()
    }
    assert not daemon.requests, "none of them came to the agent"
    assert not any(b"access-control" in answer.lower() for answer in asked.values())
    good = console.raw((GET + "\r\n" + OWN + "\r\nConnection: close\r\n\r\n").format(**told).encode())
    assert good.startswith(b"HTTP/1.1 200 "), "the same request without a fault is answered"
    assert daemon.lines() == ["GET /v1/services"]


def test_the_page_itself_is_for_everybody_who_opens_it_and_for_no_frame(console: ConsoleProcess) -> None:
    """A link leads there from another site: the file that was opened is one. It may be a page of its own, and nothing else."""
    console.cookie = ""
    site = {"Origin": None, "X-Codezero-CSRF": None}
    page = {**site, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    opened = console.ask("GET", "/ui/app.json", headers=page)
    typed = console.ask("GET", "/ui/app.json", headers={**site, "Sec-Fetch-Site": "none"})
    framed = console.ask("GET", "/ui/app.json", headers={**page, "Sec-Fetch-Dest": "iframe"})
    fetched = console.ask("GET", "/ui/app.json", headers={**site, "Sec-Fetch-Site": "cross-site"})
    sent = console.ask("POST", "/ui/app.json", {})

    assert (opened.status, typed.status) == (200, 200)
    assert "frame-ancestors 'none'" in opened.headers["content-security-policy"]
    assert (framed.status, fetched.status) == (403, 403)
    assert sent.status == 405
    filtered = console.ask("GET", "/ui/o/x/catalog?filter=[%7B|^]&service=shop%2Forders", headers=page)
    assert filtered.status == (200 if Site(Where("console", None)).is_built else 404)
    root = console.ask("GET", "/", headers=page)
    assert (root.status, root.headers["location"]) == (302, "/ui/")


@needs_root
@pytest.mark.root
def test_another_user_of_the_machine_is_refused_also_with_the_cookie(
    console: ConsoleProcess, daemon: ScriptedDaemon
) -> None:
    """Cookies know no ports: a server of somebody else's on this machine may have been sent ours."""
    request = f"{GET}\r\n{OWN}\r\nConnection: close\r\n\r\n".format(host=console.host, cookie=console.cookie)
    script = (
        "import socket, sys\n"
        f"c = socket.create_connection(('127.0.0.1', {console.port}))\n"
        "c.sendall(sys.argv[1].encode()); print(c.makefile().read())"
    )
    command = ["/usr/bin/python3", "-c", script, request]

    other = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", *command], capture_output=True, text=True, timeout=60, check=True
    )
    own = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert other.stdout.startswith("HTTP/1.1 403 ")
    assert "belongs to another user than whoever asks (user id 65534)" in other.stdout
    assert own.stdout.startswith("HTTP/1.1 200 ")
    assert daemon.lines() == ["GET /v1/services"]


@needs_root
@pytest.mark.root
def test_another_user_who_holds_connections_takes_no_room_from_the_page(console: ConsoleProcess) -> None:
    script = (
        "import socket\n"
        f"held = [socket.create_connection(('127.0.0.1', {console.port})) for _ in range(100)]\n"
        "print('held', flush=True); input()"
    )
    command = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"

        asked = [console.ask("GET", "/agent/v1/status").code for _ in range(10)]

        other.communicate(b"\n")
    assert set(asked) == {"CZ-AGENT-001"}


def test_half_a_head_is_not_waited_for_and_there_are_only_so_many_connections(console: ConsoleProcess) -> None:
    halves = [socket.create_connection(("127.0.0.1", console.port), 60) for _ in range(64)]
    try:
        for half in halves:
            half.sendall(b"GET /agent/v1/status HTTP/1.1\r\nHost:")
        with socket.create_connection(("127.0.0.1", console.port), 60) as further:
            assert further.recv(100).startswith(b"HTTP/1.1 503 ")
        assert all(half.recv(100) == b"" for half in halves)
    finally:
        for half in halves:
            half.close()
    assert console.ask("GET", "/agent/v1/status").status == 503


# --- the agent -----------------------------------------------------------------------------------------------------------------------------


def test_views_changes_and_problems_of_the_agent_are_passed_on(console: ConsoleProcess, daemon: ScriptedDaemon) -> None:
    change = {"rules": ["*.shop"]}

    services = console.ask("GET", "/agent/v1/services")
    changed = console.ask("PUT", "/agent/v1/consume", change)
    reset = console.ask("POST", "/agent/v1/reset")
    unknown = console.ask("GET", "/agent/v1/presence")

    assert services.content == msgspec.json.encode(SERVICES)
    assert services.headers["cache-control"] == "no-store"
    assert services.headers["cross-origin-resource-policy"] == "same-origin"
    assert (changed.status, reset.status) == (200, 200)
    assert daemon.requests[1].json() == change
    assert set(daemon.requests[1].headers) == {"host", "accept", "connection", "content-type", "content-length"}
    assert unknown.status == 404


def test_a_stream_comes_as_it_is_told_and_ends_when_the_page_leaves(
    console: ConsoleProcess, daemon: ScriptedDaemon
) -> None:
    connection, stream = console.open("GET", "/agent/v1/events")
    line = stream.readline()
    stream.close()
    connection.close()

    assert line == b'{"what":"status","at":1.0}\n'
    assert stream.headers["content-type"] == "application/x-ndjson"
    # It speaks to one client at a time.
    assert console.ask("GET", "/agent/v1/status").status == 200


def test_an_agent_that_dies_in_the_middle_cuts_the_answer_and_does_not_end_it(
    console: ConsoleProcess, daemon: ScriptedDaemon
) -> None:
    daemon.replies["GET /v1/services"] = Raw(with_length(b"[" * 100)[:-50])
    daemon.replies["GET /v1/consume"] = Raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    daemon.replies["GET /v1/serve"] = Raw(with_length(b"<script>", kind="text/html"))

    cut = console.raw(f"{GET}\r\n{OWN}\r\n\r\n".format(host=console.host, cookie=console.cookie).encode())
    no_daemon = console.ask("GET", "/agent/v1/consume")
    page = console.ask("GET", "/agent/v1/serve")

    head, _, content = cut.partition(b"\r\n\r\n")
    assert b"content-length: 100" in head
    assert len(content) == 50
    assert (no_daemon.status, no_daemon.code) == (502, "CZ-TUNNEL-001")
    assert (page.status, page.code) == (502, "CZ-TUNNEL-001")
    assert b"<script>" not in page.content


def test_a_page_that_does_not_read_holds_the_agent_and_fills_no_memory(home: Home, console: ConsoleProcess) -> None:
    sent, most = 0, 256 * 1024 * 1024

    def pour(listener: socket.socket) -> None:
        nonlocal sent
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
            )
            chunk = b"10000\r\n" + b"\n" * 0x10000 + b"\r\n"
            connection.settimeout(3)
            try:
                while sent < most:
                    connection.sendall(chunk)
                    sent += len(chunk)
            except OSError:
                return

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home.home / "run" / "daemon.sock"))
        listener.listen()
        pouring = threading.Thread(target=pour, args=(listener,))
        pouring.start()
        with socket.create_connection(("127.0.0.1", console.port)) as page:
            request = f"{GET}\r\n{OWN}\r\n\r\n".format(host=console.host, cookie=console.cookie)
            page.sendall(request.replace("/services", "/traces").encode())
            pouring.join()

    assert 0 < sent < 32 * 1024 * 1024


# --- a real agent --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def laptop(folder: Path) -> Generator[Laptop]:
    with Machine(folder) as machine:
        machine.start_name_server("127.0.0.99", foreign_example="192.0.2.7")
        yield Laptop(machine)


@needs_root
@pytest.mark.root
@pytest.mark.netns
def test_a_real_agent_is_used_from_the_page_until_it_is_stopped_there(laptop: Laptop, tmp_path: Path) -> None:
    process = laptop.start_daemon("--capture", "listeners")
    eventually(laptop.status)
    laptop.api.select_teamspace(laptop.access())
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CODEZERO_RUN_FOLDER": str(laptop.machine.run_folder),
        "CODEZERO_STATE_FOLDER": str(laptop.machine.state_folder),
    }
    with ConsoleProcess(environment) as console:
        console.sign_in()
        connection, events = console.open("GET", "/agent/v1/events")
        eventually(lambda: len(console.ask("GET", "/agent/v1/services").json()["services"]) == 2)

        preview = console.ask("POST", "/agent/v1/consume/test", {"rules": ["orders.shop"]})
        changed = console.ask("PUT", "/agent/v1/consume", {"rules": ["orders.shop"]})
        heard = b""
        while b'"what":"consume"' not in heard:
            heard = events.readline()
            assert heard, "the stream has ended"

        assert [one["service"]["name"] for one in preview.json()["consumed"]] == ["orders"]
        assert changed.json()["rules"] == ["orders.shop"]
        eventually(lambda: laptop.dial("orders.shop") == "hello from the pod")
        bad = console.ask("PUT", "/agent/v1/consume", {"rules": ["((("]})
        assert (bad.status, bad.code) == (422, "CZ-CONSUME-001")

        stopped = console.ask("POST", "/console/agent/stop")

        assert stopped.status == 204
        assert process.wait(timeout=20) == 0
        # What was open ended with the Daemon, and was not cut.
        assert all(json.loads(line)["what"] for line in events.read().splitlines())
        connection.close()
        assert console.ask("GET", "/agent/v1/status").code == "CZ-AGENT-001"
        assert console.ask("POST", "/console/agent/stop").status == 204
        assert console.stop() == 0


# As the page: let in, then one request after the other; prints statuses and contents.
ASK = """
import http.client, json, sys
port, code, *requests = sys.argv[1:]
told, cookie = [], ""
for request in (json.dumps(["POST", "/console/session", {"code": code}]), *requests):
    method, path, *body = json.loads(request)
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=60)
    headers = {"X-Codezero-CSRF": "console", "Cookie": cookie, **({"Content-Type": "application/json"} if body else {})}
    connection.request(method, path, json.dumps(body[0]) if body else None, headers)
    answer = connection.getresponse()
    cookie = cookie or answer.getheader("Set-Cookie").partition(";")[0]
    told.append([answer.status, answer.read().decode()])
print(json.dumps(told[1:]))
"""


@pytest.mark.capability("operation", "agent.start", "agent.stop")
@needs_root
@pytest.mark.root
@pytest.mark.netns
def test_where_no_password_is_asked_for_the_agent_is_started_and_stopped_from_the_page(folder: Path) -> None:
    with Machine(folder) as machine:
        before = machine.fingerprint()
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CODEZERO_RUN_FOLDER": str(machine.run_folder),
            "CODEZERO_STATE_FOLDER": str(machine.state_folder),
        }
        with ConsoleProcess(environment, prefix=machine.inside()) as console:
            requests = [
                ("GET", "/agent/v1/status"),
                ("POST", "/console/agent/start"),
                ("GET", "/agent/v1/status"),
                ("POST", "/console/agent/start"),
                ("POST", "/console/agent/stop"),
                ("GET", "/agent/v1/status"),
            ]
            asked = machine.do(
                *(sys.executable, "-c", ASK, str(console.port), console.code), *map(json.dumps, requests), timeout=120
            )

        assert asked.status == 0, asked.errors
        told = json.loads(asked.output)
        assert [status for status, _ in told] == [503, 204, 200, 204, 204, 503]
        assert json.loads(told[2][1])["supervised"]
        assert machine.fingerprint() == before


# --- the Hub -------------------------------------------------------------------------------------------------------------------------------


def test_what_the_page_asks_of_the_hub_is_asked_as_the_user_of_czctl(home: Home, console: ConsoleProcess) -> None:
    nobody = console.ask("GET", "/api/v1/auth/me")
    home.login()

    about = console.ask("GET", "/ui/app.json").json()
    me = console.ask("GET", "/api/v1/auth/me")
    organization = console.ask("GET", "/api/v1/organizations?limit=1").json()["items"][0]
    key = {"Idempotency-Key": "0123456789abcdef"}
    spaces = f"/api/v1/organizations/{organization['id']}/spaces"
    made = console.ask("POST", spaces, {"name": "by-the-page"}, headers=key)
    again = console.ask("POST", spaces, {"name": "by-the-page"}, headers=key)
    refused = console.ask("POST", spaces, {"name": ""})
    missing = console.ask("GET", "/api/v1/nothing")

    assert (nobody.status, nobody.code) == (409, "CZ-HUB-014")
    assert nobody.json()["fix"].startswith("czctl auth login")
    assert (about["served_by"], about["hub"]) == ("console", home.hub.url)
    assert me.json()["user"]["name"] == "Olga"
    assert (made.status, again.status) == (201, 201)
    assert again.json()["id"] == made.json()["id"]
    assert refused.status in (400, 422)
    assert refused.headers["content-type"] == "application/problem+json"
    assert missing.status == 404
    assert "set-cookie" not in me.headers
    assert "by-the-page" in home.czctl("space", "list", "-o", "name").stdout
    assert home.kept()["access_token"].encode() not in me.content


def test_versions_of_what_is_changed_are_passed_both_ways(home: Home, console: ConsoleProcess) -> None:
    home.login()
    organization = home.json("organization", "list")["organizations"][0]["id"]
    space = home.json("space", "create", "versioned")["id"]
    policy = f"/api/v1/organizations/{organization}/spaces/{space}/policy"

    read = console.ask("GET", policy)
    stale = console.ask("PUT", policy, {"text": read.json()["text"]}, headers={"If-Match": '"99"'})
    good = console.ask("PUT", policy, {"text": read.json()["text"]}, headers={"If-Match": read.headers["etag"]})

    assert read.headers["etag"]
    assert (stale.status, stale.headers["content-type"]) == (412, "application/problem+json")
    assert good.status == 200


def test_a_token_that_the_hub_refuses_is_refreshed_once_and_the_page_notices_nothing(
    home: Home, console: ConsoleProcess
) -> None:
    home.login()
    before = home.kept()
    (home.folder / "credentials.json").write_text(json.dumps({**before, "access_token": "gone", "expires": 9e9}))

    me = console.ask("GET", "/api/v1/auth/me")

    assert me.status == 200
    assert home.kept()["refresh_token"] != before["refresh_token"]
    assert home.czctl("auth", "logout").returncode == 0
    after = console.ask("GET", "/api/v1/auth/me")
    assert (after.status, after.code) == (401, "CZ-HUB-001")
    assert after.json()["fix"] == f"czctl auth login --hub {home.hub.url}"


def test_a_hub_that_is_away_or_none_is_named(home: Home, console: ConsoleProcess) -> None:
    home.login()
    context, kept = json.loads((home.folder / "hub.json").read_text()), home.kept()

    def move(url: str) -> None:
        for file, content in (("hub.json", context), ("credentials.json", kept)):
            (home.folder / file).write_text(json.dumps({**content, "url": url}))

    away = f"http://127.0.0.1:{free_port()}"
    move(away)
    asked = console.ask("GET", "/api/v1/auth/me")
    with pytest.raises(InvalidStatus) as no_stream:
        connect(
            f"ws://{console.host}/api/v1/events", origin=console.origin, additional_headers={"Cookie": console.cookie}
        ).close()
    with _answering(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 8\r\n\r\n<script>") as portal:
        move(portal)
        page = console.ask("GET", "/api/v1/auth/me")

    assert (asked.status, asked.code) == (503, "CZ-HUB-010")
    assert away in asked.json()["detail"]
    assert no_stream.value.response.status_code == 503
    assert (page.status, page.code) == (503, "CZ-HUB-010")
    assert b"<script>" not in page.content


def test_events_of_the_hub_come_to_the_page_and_to_no_other(home: Home, console: ConsoleProcess) -> None:
    home.login()
    organization = home.json("organization", "list")["organizations"][0]["id"]
    address, cookie = f"ws://{console.host}/api/v1/events", {"Cookie": console.cookie}
    ticket = console.ask("POST", "/api/v1/events/tickets").json()["ticket"]

    with connect(address, origin=console.origin, additional_headers=cookie) as stream:
        stream.send(json.dumps({"ticket": ticket}))
        first = stream.recv(20)
        console.ask("POST", f"/api/v1/organizations/{organization}/spaces", {"name": "heard"})
        kinds: list[str] = []
        while "space" not in kinds:
            kinds.append(json.loads(stream.recv(20)).get("kind", ""))
        stream.send("nothing to say")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                stream.recv(20)
    refusals: list[int] = []
    for origin, headers in (
        ("https://evil.example", cookie),
        ("null", cookie),
        (f"http://localhost:{console.port}", cookie),
        (None, cookie),
        (console.origin, {}),
        (console.origin, {**cookie, "Host": "evil.example"}),
    ):
        with pytest.raises(InvalidStatus) as refused:
            connect(address, origin=origin, additional_headers=headers).close()
        refusals.append(refused.value.response.status_code)

    assert first == '{"type":"snapshot"}'
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400, "the Hub's reason comes to the page"
    assert refusals == [403, 403, 403, 403, 401, 400]


def test_a_stream_that_is_open_ends_with_the_console(
    home: Home, console: ConsoleProcess, daemon: ScriptedDaemon
) -> None:
    home.login()
    cookie = {"Cookie": console.cookie}
    connection, lines = console.open("GET", "/agent/v1/events")
    lines.readline()
    ticket = console.ask("POST", "/api/v1/events/tickets").json()["ticket"]
    with connect(f"ws://{console.host}/api/v1/events", origin=console.origin, additional_headers=cookie) as stream:
        stream.send(json.dumps({"ticket": ticket}))
        assert stream.recv(20) == '{"type":"snapshot"}'

        assert console.stop() == 0

        with pytest.raises(ConnectionClosed):
            stream.recv(20)
    connection.close()
    assert "Traceback" not in console.said


def test_the_audit_comes_line_by_line(home: Home, console: ConsoleProcess) -> None:
    home.login()
    organization = home.json("organization", "list")["organizations"][0]["id"]

    lines = console.ask(
        "GET", f"/api/v1/organizations/{organization}/audit/export", headers={"Accept": "application/x-ndjson"}
    )
    refused = console.ask(
        "GET",
        "/api/v1/organizations/01JZ0000000000000000000001/audit/export",
        headers={"Accept": "application/x-ndjson"},
    )

    assert lines.status == 200
    assert lines.headers["content-type"].startswith("application/x-ndjson")
    assert all(json.loads(line) for line in lines.content.splitlines())
    assert len(lines.content.splitlines()) > 1
    assert refused.status in (403, 404)
    assert refused.json()["code"]


def test_lines_that_are_cut_are_not_taken_for_whole_and_nobody_sends_to_a_page_that_left(
    home: Home, console: ConsoleProcess
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n"
    lines = {"Accept": "application/x-ndjson"}

    def move(url: str) -> None:
        home.folder.mkdir(parents=True, exist_ok=True)
        (home.folder / "hub.json").write_text(json.dumps({"url": url}))
        (home.folder / "credentials.json").write_text(json.dumps({"url": url, "api_key": "cz_key_of_a_test"}))

    with _answering(head + b'content-length: 100\r\n\r\n{"a":1}\n') as cutting:
        move(cutting)
        connection, cut = console.open("GET", "/api/v1/lines", headers=lines)
        with pytest.raises(IncompleteRead) as ended:
            cut.read()
        connection.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        move(f"http://127.0.0.1:{listener.getsockname()[1]}")
        page = socket.create_connection(("127.0.0.1", console.port))
        request = f"{GET}\r\n{OWN}\r\n".format(host=console.host, cookie=console.cookie)
        page.sendall(f"{request}Accept: application/x-ndjson\r\n\r\n".replace("/agent/v1", "/api/v1").encode())
        connected, _ = listener.accept()
        with connected:
            connected.settimeout(60)
            connected.recv(65536)
            connected.sendall(head + b"\r\n" + b"{}\n" * 1000)
            assert page.recv(100).startswith(b"HTTP/1.1 200 ")
            page.close()
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                while True:
                    connected.sendall(b"{}\n" * 10000)

    assert ended.value.partial in (b'{"a":1}\n', b"")
    assert console.ask("GET", "/console/teamspace").status == 200


@pytest.mark.capability("operation", "agent.teamspace.select")
def test_a_teamspace_is_selected_on_this_machine_and_the_agent_follows(home: Home, console: ConsoleProcess) -> None:
    home.login()
    organization = home.json("organization", "list")["organizations"][0]["id"]
    space = home.json("space", "create", "chosen")["id"]
    other = {"organization": organization, "space": "01JZ0000000000000000000001"}

    nobody = console.ask("POST", "/console/teamspace", other)
    bad = console.ask("POST", "/console/teamspace", {"organization": "Shop", "space": space})
    chosen = console.ask("POST", "/console/teamspace", {"organization": organization, "space": space})
    now = console.ask("GET", "/console/teamspace").json()

    assert (nobody.status, nobody.code) == (404, "CZ-GENERAL-003")
    assert (bad.status, bad.code) == (400, "CZ-GENERAL-002")
    assert chosen.status == 204
    assert now == {"organization": {"id": organization, "name": "Shop"}, "space": {"id": space, "name": "chosen"}}
    assert home.json("auth", "status")["space"]["id"] == space
    shop = joined(home, "shop")["id"]
    with ScriptedDaemon(home.home / "run", {"GET /v1/status": STATUS, "PUT /v1/teamspace": STATUS}) as daemon:
        followed = console.ask("POST", "/console/teamspace", {"organization": organization, "space": shop})
        # One that is in no cluster yet: the Hub has no address to send anybody to.
        away = console.ask("POST", "/console/teamspace", {"organization": organization, "space": space})
    (given,) = [access_file.decode(one.body) for one in daemon.requests if one.line == "PUT /v1/teamspace"]
    assert (followed.status, followed.content) == (200, msgspec.json.encode(STATUS))
    assert (given.teamspace, given.device) == (shop, home.kept()["device"])
    assert away.code == "CZ-SPACE-002"


@needs_root
@pytest.mark.root
def test_where_starting_would_ask_for_a_password_the_command_is_told(folder: Path) -> None:
    """As somebody who is not root and has no sudo."""
    folder.chmod(0o777)
    environment = {"PATH": "/nowhere", "HOME": str(folder), "CODEZERO_RUN_FOLDER": str(folder / "run")}
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    with ConsoleProcess(environment, prefix=(setpriv, "--reuid=65534", "--clear-groups")) as console:
        console.sign_in()

        refused = console.ask("POST", "/console/agent/start")

    assert (refused.status, refused.code) == (403, "CZ-AGENT-005")
    assert refused.json()["fix"] == "czctl start"


class _answering:  # noqa: N801 - reads as a function
    """A server that gives one answer to everybody; its address."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                connection.recv(65536)
                connection.sendall(self._answer)
