"""How the programs that make load are read and ended."""

import sys
from collections.abc import Sequence
from subprocess import Popen

import pytest
from bench import load
from bench.load import Load, LoadError, Requests

WRK = """\
Running 2s test @ http://127.0.0.1:1/
  Latency Distribution
     50%  420.00us
     75%    1.00ms
     90%    1.50ms
     99%    2.50ms
  1000 requests in 2.00s, 1.00MB read
{more}Requests/sec:    {rate}
"""


def printing(text: str) -> load.Start:
    """Starts, whatever is asked for, a program that prints `text`."""

    def start(_command: Sequence[str]) -> "Popen[str]":
        return load.here([sys.executable, "-c", f"print({text!r})"])

    return start


def test_what_wrk_prints_is_read() -> None:
    found = load.requests(printing(WRK.format(rate="500.25", more="")), "http://127.0.0.1:1/", clients=1)

    assert found == Requests(a_second=500.25, p50=0.42, p99=2.5)


@pytest.mark.parametrize(
    "printed",
    [
        "unable to connect",
        WRK.format(rate="0.00", more=""),
        WRK.format(rate="500.25", more="  Non-2xx or 3xx responses: 1\n"),
        WRK.format(rate="500.25", more="  Socket errors: connect 0, read 1, write 0, timeout 0\n"),
    ],
)
def test_requests_without_answers_are_a_failure(printed: str) -> None:
    with pytest.raises(LoadError):
        load.requests(printing(printed), "http://127.0.0.1:1/", clients=1)


def test_a_load_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it started: in a sandbox, the program that measures is not the one that was started."""
    started: list[Popen[str]] = []
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"

    def start(_command: Sequence[str]) -> "Popen[str]":
        started.append(load.here([sys.executable, "-c", script]))
        return started[0]

    monkeypatch.setattr(load, "program", lambda: "load")
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.3)

    with pytest.raises(LoadError, match="has not ended"):
        Load("127.0.0.1:1", start).ping(0.1)

    assert started[0].returncode is not None
