import pytest

from codezero.hub.api import listing
from codezero.model import problems
from codezero.model.problems import CodezeroError


@pytest.mark.parametrize("key", ["01JZ0000000000000000000000", "7", "ünï"])
def test_a_cursor_leads_behind_its_entry(key: str) -> None:
    assert listing.page(10, listing.cursor(key)) == listing.Page(10, key)
    assert listing.page(10, None) == listing.Page(10)


@pytest.mark.parametrize("cursor", ["", "x", "????", "AAAA", "MTox\n", "w7w", "MDp4", "MToA", "é"])
def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    with pytest.raises(CodezeroError) as raised:
        listing.page(10, cursor)
    assert raised.value.problem is problems.NOT_VALID
