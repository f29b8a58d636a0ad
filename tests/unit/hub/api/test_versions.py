import pytest
from fastapi import Response

from codezero.hub.api import versions
from codezero.model import problems
from codezero.model.problems import CodezeroError


def test_what_was_read_can_be_changed() -> None:
    response = Response()
    versions.tag(response, 3)

    assert versions.matching(response.headers["etag"]) == 3


@pytest.mark.parametrize("header", [None, "*", " * "])
def test_without_a_version_any_is_meant(header: str | None) -> None:
    assert versions.matching(header) is None


@pytest.mark.parametrize("header", ["3", 'W/"3"', '"3", "4"', '"x"', '""', '"-1"', '"99999999999999999999"'])
def test_what_is_no_version_of_ours_is_refused(header: str) -> None:
    with pytest.raises(CodezeroError) as raised:
        versions.matching(header)
    assert raised.value.problem is problems.NOT_VALID
