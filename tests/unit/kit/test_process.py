"""Processes of a cluster: they say what is wrong with their settings, and end when they are told to."""

import asyncio
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from codezero.kit import process
from codezero.kit.settings import Environment


@dataclass(frozen=True, slots=True)
class Wanted:
    port: tuple[str, int]
    log_level: str = "info"
    log_json: bool = True


def read(variables: Mapping[str, str]) -> Wanted:
    environment = Environment(variables, "PROCESS_TEST_")
    wanted = Wanted(environment.address("LISTEN", "127.0.0.1:1"), environment.text("LEVEL", "info", choices=("info",)))
    environment.check()
    return wanted


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESS_TEST_LISTEN", "127.0.0.1:2")
    assert process.begin("czexample", read) == Wanted(("127.0.0.1", 2))


def test_all_mistakes_are_said_and_end_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROCESS_TEST_LISTEN", "nowhere")
    monkeypatch.setenv("PROCESS_TEST_LEVEL", "loud")

    with pytest.raises(SystemExit) as ended:
        process.begin("czexample", read)

    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines() == [
        "czexample: PROCESS_TEST_LISTEN must be host:port, not 'nowhere'",
        "czexample: PROCESS_TEST_LEVEL must be one of info, not 'loud'",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_is_told_to_end(number: signal.Signals) -> None:
    async def work(stop: asyncio.Event) -> None:
        assert not stop.is_set()
        os.kill(os.getpid(), number)
        async with asyncio.timeout(60):
            await stop.wait()

    process.run(work)
