"""Fields of queries and forms, each of them once: what is said twice means one thing to us and another to somebody else (RFC 6749, 3.1)."""

from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from codezero.model import problems
from codezero.model.problems import CodezeroError

FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM: Final = 64 * 1024
_MOST_FIELDS: Final = 32


def of_query(request: Request) -> dict[str, str]:
    """The fields of a request's query; raises `CodezeroError` (BAD_REQUEST)."""
    return _read(request.url.query)


async def of_form(request: Request) -> dict[str, str]:
    """The fields of a form; raises `CodezeroError` (BAD_REQUEST, TOO_LARGE)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise CodezeroError(problems.BAD_REQUEST, f"the body has to be {FORM}")
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > MAX_FORM:
            raise CodezeroError(problems.TOO_LARGE, f"the form has more than {MAX_FORM} bytes")
    try:
        return _read(content.decode())
    except UnicodeDecodeError:
        raise CodezeroError(problems.BAD_REQUEST, "the form is not UTF-8") from None


def _read(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise CodezeroError(problems.BAD_REQUEST, "the fields of the request cannot be read") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise CodezeroError(problems.BAD_REQUEST, "the request says something twice")
    if any("\0" in value for value in fields.values()):
        raise CodezeroError(problems.BAD_REQUEST, "a field holds what is no character")
    return fields
