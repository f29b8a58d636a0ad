"""Documents are compared line by line, where that takes no time worth speaking of."""

from datetime import UTC, datetime

import pytest

from codezero.hub.policies import documents
from codezero.hub.policies.documents import Version


def version(number: int, *lines: str) -> Version:
    return Version(number, "".join(f"{line}\n" for line in lines), "", "", datetime(2026, 1, 1, tzinfo=UTC))


def test_what_is_otherwise_is_shown_with_its_lines() -> None:
    before = version(1, *map(str, range(1000)))
    after = version(2, *map(str, range(500)), "new", *map(str, range(500, 1000)))

    assert documents.difference(before, before) == ""
    assert "@@ -498,6 +498,7 @@\n 497\n 498\n 499\n+new\n 500\n" in documents.difference(before, after)


@pytest.mark.parametrize(
    ("before", "after", "many"),
    [
        # Work grows with the square of the lines, and with how often each is there.
        (["// a", "// b"] * 8000, ["// b", "// b", "// a"] * 5000, 5000),
        ([f"// {number}" for number in range(documents.MAX_LINES)], ["permit"], documents.MAX_LINES + 1),
        (["// a", "// b"] * 1900, ["// b", "// b", "// a"] * 60, 3620),
    ],
)
def test_what_takes_too_long_to_compare_is_counted(before: list[str], after: list[str], many: int) -> None:
    """Anybody who may read a policy may ask for this: two texts of comments held up everybody for seconds."""
    told = documents.difference(version(1, *before), version(2, *after))

    assert told == f"version 1 and version 2 differ in {many} lines\n"
