import pytest

from codezero.model.problems import CodezeroError
from codezero.system.installing import record as records
from codezero.system.installing.kinds import Ref
from codezero.system.installing.record import Record


def test_a_record_is_read_as_it_was_written() -> None:
    record = Record(
        "shop", "0.1.0", {"serve": {"namespaces": ["shop"]}}, (Ref("v1", "Service", "a", "b"), Ref("v1", "Node", "n"))
    )

    assert records.decode(records.encode(record, "codezero")) == record


@pytest.mark.parametrize(
    ("version", "than", "expected"),
    [
        ("0.2.0", "0.1.0", True),
        ("0.10.0", "0.9.9", True),
        ("1", "0.9", True),
        ("0.1.0", "0.1.0", False),
        ("0.1", "0.1.0", False),
        ("0.1.0", "0.1", False),
        ("0.1.0", "0.2.0", False),
        ("0.2.0rc1", "0.2.0", False),
        ("0.2.0", "0.2.0-rc.1", False),
        ("0.2.1rc1", "0.2.0", True),
        ("", "0.1.0", False),
        ("latest", "0.1.0", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, than: str, expected: bool) -> None:
    assert records.is_newer(version, than) is expected


@pytest.mark.parametrize(
    "data", [{}, {"name": "shop", "values.json": "{"}, {"name": "shop", "objects.json": '[{"kind": 1}]'}]
)
def test_a_damaged_record_says_how_to_go_on(data: dict[str, str]) -> None:
    with pytest.raises(CodezeroError, match="codezero-install") as refused:
        records.decode({"data": data})

    assert "czctl teamspace install" in (refused.value.fix or "")
