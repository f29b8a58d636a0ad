"""Errors travel as RFC 9457 and come back as themselves."""

import json

import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json


def test_an_error_comes_back_with_code_detail_and_fix() -> None:
    error = problem_json.decode(problem_json.encode(CodezeroError(problems.FORBIDDEN, "no", fix="ask")), status=403)

    assert (error.problem, error.detail, error.fix) == (problems.FORBIDDEN, "no", "ask")


def test_the_payload_has_the_fields_of_the_standard() -> None:
    payload = json.loads(problem_json.encode(CodezeroError(problems.FORBIDDEN, "no")))

    assert payload == {
        "type": "urn:codezero:problem:CZ-ACCESS-001",
        "title": "Not allowed",
        "status": 403,
        "detail": "no",
        "code": "CZ-ACCESS-001",
    }


def test_a_code_of_a_newer_release_is_kept() -> None:
    content = b'{"type":"x","title":"New","status":409,"detail":"later","code":"CZ-NEW-001"}'

    assert problem_json.decode(content, status=409).problem.code == "CZ-NEW-001"


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b'{"status":"x"}'])
def test_an_answer_of_somebody_else_names_its_status(content: bytes) -> None:
    error = problem_json.decode(content, status=502)

    assert error.problem is problems.INTERNAL
    assert "502 Bad Gateway" in error.detail
