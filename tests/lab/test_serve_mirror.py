"""A mirror: the team's pods answer, the laptop gets copies, and what would have differed is told. Whatever its process does, nobody notices."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, asked_all_the_time, load
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

HTTP = "peers/http"
PROGRAM = "codezero.testing.peers.http server --address 127.0.0.1"
CONDITION = ("--condition-type", "header", "--condition", "x-team:blue")
BLUE = ("-H", "x-team: blue")


@pytest.fixture
def url(sandbox: Sandbox, peers: None) -> str:
    return f"http://{address_of(sandbox, 'http')}:8080/hello"


@pytest.fixture
def dev1(serving1: Laptop) -> Iterator[Laptop]:
    with application(serving1, "http", 9001):
        yield serving1


@contextmanager
def mirrored(laptop: Laptop) -> Iterator[Iterator[dict[str, Any]]]:
    """What `czctl trace-connections` tells about mirrored requests, as they are told."""
    tracing = laptop.popen("czctl", "trace-connections", "-o", "json", stdout=subprocess.PIPE, text=True)
    try:
        assert tracing.stdout is not None
        found = map(json.loads, tracing.stdout)
        yield (line["mirror"] for line in found if line.get("mirror"))
    finally:
        tracing.send_signal(signal.SIGINT)
        tracing.communicate()


def test_answers_come_from_the_pods_and_differences_are_told(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    before = ask(sandbox, url)
    served = dev1.serve(HTTP, "9001:8080", *CONDITION, "--mirror")["served"]
    during = ask(sandbox, url, *BLUE)
    with mirrored(dev1) as told, asked_all_the_time(sandbox, url + "?secret=1", *BLUE):
        line = next(told)
    differing = {one["what"]: (one["origin"], one["variant"]) for one in line["differences"]}

    assert during.where == before.where != "laptop"
    assert set(during.headers) == set(before.headers)
    assert not any(name.startswith("x-codezero") for name in during.headers)
    assert (line["method"], line["path"], line["variant"]) == ("GET", "/hello", served["variant"]["variant_id"])
    assert differing["body where"] == (json.dumps(before.where), '"laptop"')
    assert not any(what.startswith(("status", "header")) for what in differing), differing
    assert line["origin_milliseconds"] >= 0 < line["variant_milliseconds"]
    # Of what the request was, the process sees no more than what the pod saw.
    assert "x-codezero" not in json.dumps(line)
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize(("flag", "methods"), [("--mirror=safe", {"GET"}), ("--mirror=all", {"GET", "POST"})])
def test_requests_that_change_something_are_copied_only_on_request(
    sandbox: Sandbox, dev1: Laptop, url: str, flag: str, methods: set[str]
) -> None:
    dev1.serve(HTTP, "9001:8080", *CONDITION, flag)
    posting = asked_all_the_time(sandbox, url, *BLUE, "--data", "x=y")
    with mirrored(dev1) as told, posting, asked_all_the_time(sandbox, url, *BLUE):
        # As many posts are made as gets; one of them would be among these.
        found = {next(told)["method"] for _ in range(20)}

    assert found == methods


def test_a_stalled_process_delays_nobody(sandbox: Sandbox, serving1: Laptop, url: str) -> None:
    """More requests than copies may be under way; each caller has its answer as if there was no mirror."""
    with application(serving1, "http", 9001) as running:
        serving1.serve(HTTP, "9001:8080", "--condition-type", "default", "--mirror")
        [program] = serving1.processes(f"{PROGRAM} --port 9001")
        serving1.run("kill", "-STOP", str(program))
        try:
            with load(sandbox, url) as report:
                for _ in range(20):
                    ask(sandbox, url)
        finally:
            serving1.run("kill", "-CONT", str(program))
            # What started it in its place stops with it.
            running.send_signal(signal.SIGCONT)

        assert report["failed"] == 0, report
        assert set(report["answers"]) == {"origin"}
        with mirrored(serving1) as told, asked_all_the_time(sandbox, url):
            assert next(told)["differences"]


def test_a_process_that_is_gone_is_told_and_nobody_notices(sandbox: Sandbox, serving1: Laptop, url: str) -> None:
    serving1.serve(HTTP, "9001:8080", "--condition-type", "default", "--mirror")
    with load(sandbox, url) as report:
        assert eventually(lambda: any("copies are lost" in one["text"] for one in serving1.status()["warnings"]))

    assert report["failed"] == 0, report
    assert set(report["answers"]) == {"origin"}
    assert report["fallbacks"] == {}
