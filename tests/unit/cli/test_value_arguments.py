from pathlib import Path
from typing import Any

import pytest

from codezero.cli import value_arguments
from codezero.model import problems
from codezero.model.problems import CodezeroError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("system.replicas=3", {"system": {"replicas": 3}}),
        ("service.externalHost=a.example", {"service": {"externalHost": "a.example"}}),
        ("image.tag=1.30", {"image": {"tag": "1.30"}}),
        ("image.tag=007", {"image": {"tag": "007"}}),
        ('image.tag="7"', {"image": {"tag": "7"}}),
        ("a=true", {"a": True}),
        ("a=null", {"a": None}),
        ("a=", {"a": ""}),
        ("a=b=c", {"a": "b=c"}),
        ("serve.namespaces={shop, billing}", {"serve": {"namespaces": ["shop", "billing"]}}),
        ("serve.namespaces={}", {"serve": {"namespaces": []}}),
        (
            r"service.annotations.service\.example/type=nlb",
            {"service": {"annotations": {"service.example/type": "nlb"}}},
        ),
    ],
)
def test_values_are_set_as_helms_users_know_it(text: str, expected: dict[str, Any]) -> None:
    assert value_arguments.changed({}, [text]) == expected


def test_what_is_not_named_stays_and_the_last_one_wins() -> None:
    before = {"system": {"replicas": 1, "logLevel": "debug"}}

    assert value_arguments.changed(before, ["system.replicas=2", "system.replicas=3"]) == {
        "system": {"replicas": 3, "logLevel": "debug"}
    }
    assert before["system"]["replicas"] == 1


@pytest.mark.parametrize("text", ["a", "=b", ".a=b", "a.=b", "a..b=c"])
def test_what_is_no_setting_is_named(text: str) -> None:
    with pytest.raises(CodezeroError) as refused:
        value_arguments.changed({}, [text])

    assert refused.value.problem is problems.BAD_REQUEST
    assert text in refused.value.detail


def test_nothing_is_set_inside_of_what_is_no_map() -> None:
    with pytest.raises(CodezeroError, match="system is no map"):
        value_arguments.changed({"system": 3}, ["system.replicas=2"])


@pytest.mark.parametrize(
    ("before", "added", "expected"),
    [
        (None, ["shop"], ["shop"]),
        (["shop"], ["billing", "shop", "billing"], ["shop", "billing"]),
        (["*"], ["shop"], ["*"]),
        (["shop"], ["*"], ["*"]),
    ],
)
def test_namespaces_are_added_to_those_that_may_be_served(
    before: list[str] | None, added: list[str], expected: list[str]
) -> None:
    values = {} if before is None else {"serve": {"namespaces": before}}

    assert value_arguments.changed(values, [], serve_namespaces=added)["serve"]["namespaces"] == expected


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [", "is not YAML"),
        (b"- a", "holds a list"),
        (b"\xff\xfe\xff", "is not YAML"),
        (b"system: &again {resources: *again}", "alias"),
        (b"affinity: &again [*again]", "alias"),
        (b"{a: " * 100 + b"1" + b"}" * 100, "nested more than"),
        (b"[" * 100_000, "nested too deeply"),
        (
            b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)),
            "more than 100000 values",
        ),
        (b"#" * 300_000, "more than"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "values.yaml").write_bytes(content)

    with pytest.raises(CodezeroError, match=said):
        value_arguments.read(tmp_path / "values.yaml")


def test_an_alias_of_something_else_is_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text(
        "system: {resources: &some {limits: {cpu: 1}}}\norchestrator: {resources: *some}"
    )

    found = value_arguments.read(tmp_path / "values.yaml")

    assert found["orchestrator"] == found["system"] == {"resources": {"limits": {"cpu": 1}}}


def test_an_empty_file_has_no_values(tmp_path: Path) -> None:
    (tmp_path / "values.yaml").write_text("# nothing yet\n")

    assert value_arguments.read(tmp_path / "values.yaml") == {}
