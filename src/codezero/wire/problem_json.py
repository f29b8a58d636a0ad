"""The one error payload of every HTTP API of ours: RFC 9457 problem details with our code and fix."""

from http import HTTPStatus

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError, Problem

CONTENT_TYPE = "application/problem+json"


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457: `type`, `title`, `status`, `detail`; ours: `code`, `fix`."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    fix: str | None = None


def encode(error: CodezeroError) -> bytes:
    """The payload for `error`."""
    problem = error.problem
    return msgspec.json.encode(
        ProblemDetails(
            f"urn:codezero:problem:{problem.code}", problem.title, problem.status, error.detail, problem.code, error.fix
        )
    )


def decode(content: bytes, *, status: int) -> CodezeroError:
    """The error that a payload describes; one that is not ours becomes an internal error that names the HTTP status."""
    try:
        details = msgspec.json.decode(content, type=ProblemDetails)
        problem = problems.ALL.get(details.code) or Problem(
            details.code, details.title, details.detail, status=details.status
        )
        return CodezeroError(problem, details.detail, fix=details.fix)
    except msgspec.DecodeError:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
        return CodezeroError(problems.INTERNAL, f"unexpected answer: HTTP {status} {phrase}".rstrip())
