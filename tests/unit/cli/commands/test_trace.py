"""`czctl trace-connections`: a line for each request, as it comes, until Ctrl-C."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from codezero.cli.commands import trace
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.testing.czctl import Czctl
from codezero.testing.scripted_daemon import Raw, ScriptedDaemon, in_chunks
from codezero.testing.views import ALICE, ORDERS, SHOP, STATUS, VARIANT
from codezero.wire.local_api import TraceLine
from codezero.wire.tracing import Direction, MirrorDifference, MirrorRecord, TraceRecord

SERVED = TraceRecord(
    at=1_790_000_000.125,
    direction=Direction.SERVE,
    service=ORDERS,
    port=80,
    protocol="http",
    user=ALICE.user,
    variant=VARIANT.variant_id,
    why="header x-debug:alice",
    method="GET",
    path="/api",
    status=200,
    sent=120,
    received=2_500,
    milliseconds=12.4,
)
FELL_BACK = msgspec.structs.replace(SERVED, fallback="connect-failure", error="3000 refused")
CONSUMED = TraceRecord(2.0, Direction.CONSUME, ServiceRef("shop", "db"), 5432, "tcp")
MIRRORED = MirrorRecord(
    3.0, ORDERS, 80, VARIANT.variant_id, "GET", "/\x1b[2J", 4.0, 6.6, (MirrorDifference("status", "200", "500"),)
)
SAME = msgspec.structs.replace(MIRRORED, path="/same", differences=())
LINES = (
    TraceLine(SERVED),
    TraceLine(FELL_BACK),
    TraceLine(CONSUMED),
    TraceLine(mirror=MIRRORED),
    TraceLine(mirror=SAME, dropped=3),
)


def encoded(*lines: TraceLine, end: bool = True) -> bytes:
    return in_chunks(*(msgspec.json.encode(line) + b"\n" for line in lines), end=end)


@pytest.fixture
def traced(daemon: ScriptedDaemon) -> ScriptedDaemon:
    """A Daemon that tells `LINES` and stops."""
    daemon.replies["GET /v1/traces"] = Raw(encoded(*LINES))
    daemon.replies["GET /v1/status"] = msgspec.structs.replace(
        STATUS, teamspace=msgspec.structs.replace(SHOP, user_id=ALICE.user)
    )
    return daemon


def test_lines_tell_who_asked_what_and_why_it_came_here(czctl: Czctl, traced: ScriptedDaemon) -> None:
    ended = czctl("trace-connections")

    lines = ended.out.splitlines()
    assert ended.code == 0
    # The hour depends on where the machine thinks it is.
    assert lines[0][6:] == (
        f"{lines[0][6:8]}.125  serve    alice     shop/orders:80  [header x-debug:alice]  GET /api  200  "
        "120 B up, 2.5 kB down  12 ms"
    )
    assert lines[1].endswith("  fallback: connect-failure  error: 3000 refused")
    assert "  consume  alice     shop/db:5432  [-]  tcp  -  " in lines[2]
    assert (
        "  mirror   shop/orders:80  GET /\N{REPLACEMENT CHARACTER}[2J  1 differ  origin 4 ms, variant 7 ms" in lines[3]
    )
    assert lines[4] == "    status: 200 -> 500"
    assert "  GET /same  same answer  " in lines[5]
    assert ended.err == "warning: 3 more were not told; there is too much going on\n"


def test_json_is_an_object_a_line(czctl: Czctl, traced: ScriptedDaemon) -> None:
    ended = czctl("trace-connections", "-o", "json")

    assert (ended.code, ended.err) == (0, "")
    assert all(line.isprintable() for line in ended.out.splitlines())
    assert tuple(msgspec.json.decode(line, type=TraceLine) for line in ended.out.splitlines()) == LINES


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (("--direction", "consume"), ["shop/db"]),
        (("--direction", "serve"), ["shop/orders"] * 4),
        (("--service", "shop/db"), ["shop/db"]),
        (("--service", "orders.shop", "--direction", "serve"), ["shop/orders"] * 4),
        (("--service", "shop/db", "--direction", "serve"), []),
    ],
)
def test_only_what_was_asked_for(
    czctl: Czctl, traced: ScriptedDaemon, options: tuple[str, ...], shown: list[str]
) -> None:
    """But that something is missing is always told."""
    told = [json.loads(line) for line in czctl("trace-connections", *options, "-o", "json").out.splitlines()]

    services = [
        (one.get("record") or one.get("mirror"))["service"] for one in told if len(one) > 1 or "dropped" not in one
    ]
    assert [f"{one['namespace']}/{one['name']}" for one in services] == shown
    assert sum(one.get("dropped", 0) for one in told) == 3


def test_a_service_that_is_none_is_refused_before_anything_is_asked(czctl: Czctl, traced: ScriptedDaemon) -> None:
    assert czctl("trace-connections", "--service", "orders").code == 2
    assert traced.requests == []


def test_a_daemon_that_ends_without_a_word_is_no_success(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/traces"] = Raw(encoded(LINES[0], end=False))

    ended = czctl("trace-connections")

    assert ended.code == 1
    assert "shop/orders" in ended.out


def test_a_refusal_is_told(czctl: Czctl, daemon: ScriptedDaemon) -> None:
    daemon.replies["GET /v1/traces"] = CodezeroError(problems.NO_TEAMSPACE, "none is selected")

    assert czctl("trace-connections", "-o", "json").problem()["code"] == "CZ-AGENT-002"


def test_ctrl_c_is_how_one_leaves(run_folder: Path, daemon: ScriptedDaemon) -> None:
    """A real process with a real signal: lines come at once though stdout is a pipe, and nothing is said at the end."""
    daemon.replies["GET /v1/traces"] = Raw(encoded(LINES[0], end=False), hold=True)
    with _czctl("trace-connections") as process:
        assert process.stdout is not None
        assert "shop/orders:80" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_goes_ends_it_in_peace(run_folder: Path, daemon: ScriptedDaemon) -> None:
    """`czctl trace-connections | head -1`."""
    daemon.replies["GET /v1/traces"] = Raw(encoded(*LINES * 1000))
    with _czctl("trace-connections") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        assert (
            process.wait(timeout=30),
            err.replace("warning: 3 more were not told; there is too much going on\n", ""),
        ) == (
            0,
            "",
        )


@contextlib.contextmanager
def _czctl(*arguments: str) -> Generator[subprocess.Popen[str], None, None]:
    with subprocess.Popen(
        [sys.executable, "-m", "codezero.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_record_without_a_variant_was_the_origins() -> None:
    record = msgspec.structs.replace(SERVED, why="", variant="")

    assert "[origin]" in trace.record_text(record, ("", ""))


@pytest.mark.parametrize(("user", "shown"), [("", "alice"), (ALICE.user, "alice"), ("BOB", "BOB")])
def test_what_is_this_laptops_is_its_users(user: str, shown: str) -> None:
    text = trace.record_text(msgspec.structs.replace(SERVED, user=user), (ALICE.user, "alice"))

    assert f"  serve    {shown} " in text
