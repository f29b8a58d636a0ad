"""Bad flags, rules, files and API bodies: a clear error with code, cause and fix, the right exit code, and nothing lost."""

import json

import pytest

from codezero.testing.laptop import SAMPLE, Laptop

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft]


@pytest.mark.parametrize(
    ("arguments", "given", "code", "exit_code"),
    [
        (("consume", "apply"), "a/b/c\n", "CZ-CONSUME-001", 2),
        (("consume", "apply"), "*.shop\nor?ers.shop\n", "CZ-CONSUME-001", 2),
        (("consume", "apply", "--primary-namespace", "not/one"), "*.shop\n", "CZ-GENERAL-002", 2),
        (("consume", "apply", "/nonexistent/file"), "", "CZ-GENERAL-002", 2),
        (("primary-namespace", "select", "Bad_Name"), "", "CZ-GENERAL-002", 2),
        (("consume", "list", "-o", "xml"), "", "CZ-GENERAL-002", 2),
        (("consum", "list"), "", "CZ-GENERAL-002", 2),
        (("start", "--teamspace", "/etc/hostname"), "", "CZ-GENERAL-002", 2),
        (("explain", "CZ-NOPE-999"), "", "CZ-GENERAL-003", 6),
    ],
)
def test_czctl_refuses_and_changes_nothing(
    consuming: Laptop, arguments: tuple[str, ...], given: str, code: str, exit_code: int
) -> None:
    before = consuming.czctl("consume", "view", "-o", "json").stdout
    refused = consuming.czctl(*arguments, input=given, check=False)

    assert refused.returncode == exit_code, refused.stderr
    assert f"[{code}]" in refused.stderr
    assert "fix:" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert consuming.czctl("consume", "view", "-o", "json").stdout == before


def test_errors_are_problem_details_where_json_is_asked_for(consuming: Laptop) -> None:
    refused = consuming.czctl("consume", "apply", "-o", "json", input="a/b/c\n", check=False)

    assert json.loads(refused.stderr)["code"] == "CZ-CONSUME-001"


def test_a_bare_name_needs_a_primary_namespace(consuming: Laptop) -> None:
    consuming.czctl("primary-namespace", "clear")
    refused = consuming.czctl("consume", "apply", input="sample-project-leaf\n", check=False)
    consuming.consume("*.sample-project", primary_namespace=SAMPLE)

    assert refused.returncode == 2
    assert "CZ-CONSUME-002" in refused.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("-H", "Origin: http://evil.example"),
        ("-H", "Referer: http://evil.example/"),
        ("-H", "Host: evil.example"),
        ("-X", "PUT", "-H", "Content-Type: text/plain", "-d", "{}"),
        ("-X", "PUT", "-H", "Content-Type: application/json", "-d", "{"),
        ("-X", "PUT", "-H", "Content-Type: application/json", "-d", '{"rules": 1}'),
        ("-X", "PUT", "-H", "Content-Type: application/json", "-d", '{"rules": [], "rulez": []}'),
        ("-X", "BREW"),
    ],
)
def test_the_local_api_refuses_what_is_not_czctl(consuming: Laptop, options: tuple[str, ...]) -> None:
    """T01, T02: a web page, a rebound name or a sloppy client must get nowhere."""
    host = () if any("Host:" in option for option in options) else ("-H", "Host: daemon.codezero")
    answer = consuming.run(
        "curl", "-s", "--max-time", "5", "--unix-socket", "/run/codezero/daemon.sock", *host, *options,
        "-o", "/dev/stdout", "-w", "\n%{http_code}", "http://daemon.codezero/v1/consume",
    ).stdout  # fmt: skip
    body, _newline, code = answer.rpartition("\n")

    assert code == "400", answer
    assert json.loads(body)["code"].startswith("CZ-")
