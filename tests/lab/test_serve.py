"""The serve stories: a laptop answers exactly the requests that meet its condition, everybody else's traffic stays untouched, all can be put back.

dev1 is on `laptop`, dev2 on `laptop2`. Asked is from inside the cluster (as pods ask), from outside through the edge, and from laptops.
"""

import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.serve_stories import (
    USER_HEADER,
    address_of,
    application,
    ask,
    asked_all_the_time,
    kubectl,
    load,
    put_back,
    selector,
    serve_objects,
)
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.contract, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

HTTP = "peers/http"


@pytest.fixture
def url(sandbox: Sandbox, peers: None) -> str:
    return f"http://{address_of(sandbox, 'http')}:8080/hello"


@pytest.fixture
def dev1(serving1: Laptop) -> Iterator[Laptop]:
    with application(serving1, "http", 9001):
        yield serving1


@pytest.fixture
def dev2(serving2: Laptop) -> Iterator[Laptop]:
    with application(serving2, "http", 9001):
        yield serving2


def user_id(laptop: Laptop) -> str:
    return str(laptop.status()["teamspace"]["user_id"])


def test_a_header_chooses_the_laptop_and_nothing_else_changes(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    """The main job."""
    before = ask(sandbox, url)
    served = dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")["served"]
    matched, unmatched = ask(sandbox, url, "-H", "X-Team: blue"), ask(sandbox, url, "-H", "x-team: red")

    assert served["state"] == "active"
    assert (matched.where, matched.variant, matched.fallback) == ("laptop", served["variant"]["variant_id"], None)
    assert unmatched.where.startswith("http-")
    assert unmatched.where == before.where
    assert set(unmatched.headers) == set(before.headers)


def test_without_a_condition_the_owners_id_decides(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    served = dev1.serve(HTTP, "9001:8080")["served"]

    assert ask(sandbox, url, "-H", f"{USER_HEADER}: {user_id(dev1)}").where == "laptop"
    assert ask(sandbox, url, "-H", f"{USER_HEADER}: 01J00000000000000000000000").where.startswith("http-")
    assert user_id(dev1) in served["curl"]


def test_the_copyable_command_reaches_the_variant(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    dev1.consume("*.peers")
    shown = dev1.serve(HTTP, "9001:8080", "--condition-type", "baggage", "--condition", "team:a b")["served"]["curl"]
    answer = dev1.run("sh", "-c", f"{shown} -s")

    assert json.loads(answer.stdout)["where"] == "laptop"


@pytest.mark.parametrize(
    ("conditions", "options", "path"),
    [
        (("baggage", "team:blue"), ("-H", "baggage: a=b,team=blue;p=1"), ""),
        (("cookie", "beta:on"), ("-H", "cookie: a=b; beta=on"), ""),
        (("query", "debug:1"), (), "?x=y&debug=1"),
        (("path", "/hello"), (), "/there"),
        (("method", "DELETE"), ("-X", "DELETE"), ""),
        (("header", "x-a:1", "method", "POST"), ("-X", "POST", "-H", "x-a: 1"), ""),
        (("default",), (), ""),
    ],
)
def test_each_kind_of_condition(
    sandbox: Sandbox, dev1: Laptop, url: str, conditions: tuple[str, ...], options: tuple[str, ...], path: str
) -> None:
    flags: list[str] = []
    for kind, text in zip(conditions[::2], (*conditions[1::2], None), strict=False):
        flags += ["--condition-type", kind, *(["--condition", text] if text else [])]
    dev1.serve(HTTP, "9001:8080", *flags)

    assert ask(sandbox, url + path, *options).where == "laptop"
    if conditions != ("default",):
        assert ask(sandbox, url.replace("/hello", "/else"), "-H", "x-a: 2").where.startswith("http-")


def test_a_percentage_of_requests_is_sticky_by_a_header(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    dev1.serve(HTTP, "9001:8080", "--condition-type", "percent", "--condition", "x-session:50%")
    first = [ask(sandbox, url, "-H", f"x-session: {number}").where for number in range(20)]
    again = [ask(sandbox, url, "-H", f"x-session: {number}").where for number in range(20)]

    assert first == again
    assert len(set(first)) == 2


def test_ten_thousand_requests_on_one_connection_each_reach_the_right_variant(
    sandbox: Sandbox, dev1: Laptop, dev2: Laptop, url: str
) -> None:
    """Routing is by request and never by connection (L7)."""
    blue = dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")["served"]
    red = dev2.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:red")["served"]
    pairs = [
        ("x-team: blue", blue["variant"]["variant_id"]),
        ("", "origin"),
        ("x-team: red", red["variant"]["variant_id"]),
        ("x-team: green", "origin"),
        ("baggage: x-team=blue", "origin"),
    ]
    turns = [option for header, who in pairs for option in (f"--alternate={header}", f"--expect={who}")]
    command = ["python", "-m", "codezero.testing.load", url, "--connections", "1", "--requests", "10000"]
    ended = sandbox.run("cluster", [*command, *turns], timeout=250)
    report = json.loads(ended.stdout)

    assert (report["requests"], report["failed"], report["wrong"]) == (10000, 0, 0), report
    assert report["fallbacks"] == {}


def test_equal_conditions_are_refused_with_the_owners_name_and_can_be_taken_over(
    sandbox: Sandbox, dev1: Laptop, dev2: Laptop, url: str
) -> None:
    condition = ("--condition-type", "header", "--condition", "x-team:blue")
    dev1.serve(HTTP, "9001:8080", *condition)
    refused = dev2.czctl("serve", HTTP, "9001:8080", *condition, check=False)
    preview = dev2.czctl("serve", HTTP, "9001:8080", *condition, "--dry-run", check=False)
    still = ask(sandbox, url, "-H", "x-team: blue").where
    taken = dev2.serve(HTTP, "9001:8080", *condition, "--takeover")

    assert refused.returncode == preview.returncode == 7
    assert "dev1" in refused.stderr
    assert "--takeover" in refused.stderr
    assert still == "laptop"
    assert [one["user_name"] for one in taken["taken"]] == ["dev1"]
    assert ask(sandbox, url, "-H", "x-team: blue").where == "laptop2"
    assert eventually(lambda: any("dev2" in one["text"] for one in dev1.status()["warnings"]))
    assert dev1.serves() == []


def test_two_users_serve_one_service_and_each_gets_its_own(
    sandbox: Sandbox, dev1: Laptop, dev2: Laptop, url: str
) -> None:
    dev1.serve(HTTP, "9001:8080")
    dev2.serve(HTTP, "9001:8080")

    assert ask(sandbox, url, "-H", f"{USER_HEADER}: {user_id(dev1)}").where == "laptop"
    assert ask(sandbox, url, "-H", f"{USER_HEADER}: {user_id(dev2)}").where == "laptop2"
    assert ask(sandbox, url).where.startswith("http-")


def test_a_consumer_sees_the_variants_that_its_headers_choose(dev1: Laptop, dev2: Laptop, url: str) -> None:
    dev2.consume("*.peers")
    dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")

    def where(*options: str) -> str:
        return str(json.loads(dev2.curl("http://http.peers:8080/", *options).stdout)["where"])

    assert eventually(lambda: where("-H", "x-team: blue") == "laptop")
    assert where().startswith("http-")


@pytest.mark.parametrize("header", ["x-c6o-userid", "baggage"])
def test_one_request_crosses_two_laptops(sandbox: Sandbox, serving1: Laptop, serving2: Laptop, header: str) -> None:
    """core is dev1's, leaf is dev2's; one header names both, or two in one: the choice travels with the request."""
    environment = {
        "SP_LEAF_URL": f"http://sample-project-leaf.{SAMPLE}:3010",
        "SP_PORT": "3000",
        "SP_ADDRESS": "127.0.0.1",
    }
    serving1.consume("*.sample-project", primary_namespace=SAMPLE)
    core = serving1.popen("python", "-m", "codezero.sandbox.sample.core", env={**environment, "SP_PORT": "3001"})
    leaf = serving2.popen(
        "python", "-m", "codezero.sandbox.sample.leaf", env={"SP_PORT": "3010", "SP_ADDRESS": "127.0.0.1"}
    )
    try:
        if header == "baggage":
            condition = ("--condition-type", "baggage", "--condition", "team:blue")
            sent, leaf_condition = "baggage: team=blue", condition
        else:
            condition = ()
            sent = f"{USER_HEADER}: {user_id(serving1)}"
            leaf_condition = ("--condition-type", "header", "--condition", "x-c6o-team:blue")
        serving1.serve(f"{SAMPLE}/sample-project-core", "3001:3000", *condition)
        serving2.serve(f"{SAMPLE}/sample-project-leaf", "3010", *leaf_condition)
        edge = "http://198.51.100.10/api"

        def crossed() -> bool:
            answer = json.loads(ask(sandbox, edge, "-H", sent, "-H", "x-c6o-team: blue", place="internet").body)
            return (answer["where"], answer["leaf"].get("where")) == ("laptop", "laptop2")

        assert eventually(crossed)
        plain = json.loads(ask(sandbox, edge, place="internet").body)
        assert plain["where"].startswith("sample-project-core-")
        assert plain["leaf"]["where"].startswith("sample-project-leaf-")
    finally:
        for running in (core, leaf):
            running.terminate()
            running.wait()


def test_the_end_of_a_serve_moves_its_requests_back(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    condition = ("--condition-type", "header", "--condition", "x-team:blue")
    dev1.serve(HTTP, "9001:8080", *condition)
    dev1.czctl("serve", HTTP, "--remove")

    assert eventually(lambda: ask(sandbox, url, "-H", "x-team: blue").where.startswith("http-"))
    assert dev1.serves() == []


def test_deleting_the_serve_object_puts_the_service_back(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    """`kubectl delete serve` is the administrator's way out; nothing of ours may be left, and nobody may notice."""
    put_back(sandbox, "http")
    before = selector(sandbox, "http")
    with load(sandbox, url) as report:
        dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")
        during = selector(sandbox, "http")
        kubectl(sandbox, "delete", "serve", "http", "-n", "peers", "--timeout=60s")
    everything = "services,deployments,serviceaccounts,pods,serves"
    label = ("-l", "app.kubernetes.io/managed-by=codezero", "-o", "name")

    assert before != during
    assert before.keys() == during.keys()
    assert selector(sandbox, "http") == before
    assert report["failed"] == 0, report
    assert eventually(lambda: kubectl(sandbox, "get", everything, "-n", "peers", *label).strip() == "", within=60)
    assert ask(sandbox, url, "-H", "x-team: blue").where.startswith("http-")
    assert eventually(lambda: dev1.serves() == [])


def test_kubectl_shows_serves_like_a_dashboard(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    dev1.serve(HTTP, "9001:8080")
    shown = kubectl(sandbox, "get", "serves", "-n", "peers")

    assert "http" in shown
    assert "active" in shown.lower()
    assert HTTP in serve_objects(sandbox)


def test_stopping_the_agent_ends_its_serves(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    dev1.serve(HTTP, "9001:8080", "--condition-type", "default")
    dev1.czctl("stop")

    assert eventually(lambda: ask(sandbox, url).where.startswith("http-"))


@pytest.mark.capability("command", "people.list", "serve.list")
def test_who_and_serve_list_show_everybody(dev1: Laptop, dev2: Laptop, url: str) -> None:
    dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")
    who = dev2.czctl("who").stdout
    everybody = dev2.czctl("serve", "list", "--all").stdout

    assert "laptop" in who
    assert HTTP in who
    assert "dev1" in everybody
    assert "x-team:blue" in everybody


def test_a_serve_ends_when_its_time_is_over(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue", "--expires", "3s")

    assert eventually(lambda: ask(sandbox, url, "-H", "x-team: blue").where.startswith("http-"), within=40)
    assert eventually(lambda: dev1.serves() == [])


@pytest.mark.capability("command", "serve.end")
def test_another_users_serve_can_be_terminated_with_a_reason(
    sandbox: Sandbox, dev1: Laptop, dev2: Laptop, url: str
) -> None:
    dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")
    dev2.czctl("serve", "end", HTTP, "--user", "dev1", "--reason", "demo at noon")

    assert eventually(lambda: ask(sandbox, url, "-H", "x-team: blue").where.startswith("http-"))
    assert eventually(lambda: any("demo at noon" in one["text"] for one in dev1.status()["warnings"]))


@pytest.mark.capability("command", "trace.requests")
def test_requests_are_traced_for_consume_and_serve(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    dev1.consume("*.peers")
    dev1.serve(HTTP, "9001:8080", "--condition-type", "header", "--condition", "x-team:blue")
    tracing = dev1.popen("czctl", "trace-connections", "-o", "json", stdout=subprocess.PIPE, text=True)
    lines: list[dict[str, object]] = []
    try:
        assert tracing.stdout is not None
        with asked_all_the_time(
            sandbox, "http://http.peers:8080/traced?secret=1", "-H", "x-team: blue", place=dev1.place
        ):
            # Which of them comes first is not told; both have to.
            while {line.get("direction") for line in lines} != {"consume", "serve"}:
                found = json.loads(tracing.stdout.readline())
                lines.append(found.get("record") or found)
    finally:
        tracing.send_signal(signal.SIGINT)
        tracing.communicate()
    served = next(line for line in lines if line["direction"] == "serve")

    assert (served["method"], served["path"], served["status"]) == ("GET", "/traced", 200)
    assert "x-team:blue" in str(served["why"])
    assert "secret" not in json.dumps(lines)


def test_a_dry_run_changes_nothing_and_tells_the_side_effects(sandbox: Sandbox, dev1: Laptop, url: str) -> None:
    put_back(sandbox, "http")
    told = dev1.czctl("serve", HTTP, "9001:8080", "--dry-run")

    assert "address" in (told.stdout + told.stderr)
    assert dev1.serves() == []
    assert HTTP not in serve_objects(sandbox)


@pytest.mark.parametrize(
    ("service", "options"),
    [
        ("sample-project/sample-project-external", ("80",)),
        ("sample-project/sample-project-peers", ("3010",)),
        ("peers/udp", ("8088",)),
        ("peers/http", ("9999:9999",)),
        ("default/kubernetes", ("443",)),
        ("peers/nothing", ("80",)),
        ("peers/http", ("9001:8080", "--condition-type", "header", "--condition", "authorization:x")),
        ("peers/http", ("9001:8080", "--condition-type", "nonsense", "--condition", "a:b")),
        ("peers/http", ("9001:8080", "--expires", "9h")),
        ("peers/http", ("0:8080",)),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_reason(
    sandbox: Sandbox, dev1: Laptop, url: str, service: str, options: tuple[str, ...]
) -> None:
    before = serve_objects(sandbox)
    refused = dev1.czctl("serve", service, *options, check=False)

    assert refused.returncode not in (0, 1)
    assert "CZ-" in refused.stderr
    assert "fix" in refused.stderr.lower() or "next" in refused.stderr.lower()
    assert serve_objects(sandbox) == before
    assert dev1.serves() == []
