"""What goes wrong in an API request, as problem documents: ours by their codes, the framework's by ours, defects without a word of what is inside."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from codezero.hub.api import guard
from codezero.kit import logs
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

# As many as a person reads.
_SHOWN = 5
_LONGEST = 60

_log = logs.get_logger("api")


def answer(error: CodezeroError) -> Response:
    """The answer that tells of `error`."""
    return Response(
        problem_json.encode(error),
        status_code=error.problem.status,
        headers=guard.headers_of(error),
        media_type=problem_json.CONTENT_TYPE,
    )


def install(app: FastAPI) -> None:
    """Let `app` answer with problem documents whatever its routes raise."""

    async def ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, CodezeroError)
        return answer(error)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(not_valid(error.errors()))

    async def frameworks(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(_translated(request, error))

    async def defect(request: Request, _error: Exception) -> Response:
        return answer(_defect(request.scope))

    app.add_exception_handler(Exception, defect)
    app.add_exception_handler(CodezeroError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, frameworks)


class Answering:
    """The edge of each request: what nobody expected becomes a line in the log and an answer that says no more than that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and answer for what is raised."""
        is_begun = is_ended = False

        async def sending(message: Message) -> None:
            nonlocal is_begun, is_ended
            is_begun = True
            is_ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except CodezeroError as error:
            if is_begun:
                raise
            await guard.send_problem(error, scope, send)
        except Exception as error:
            if scope["type"] == "lifespan":
                raise
            _log.error("request failed", path=scope["path"], exc_info=error)
            if not is_begun:
                await guard.send_problem(_defect(scope), scope, send)
            elif not is_ended:
                # Half an answer is ended by the server, which sees this.
                raise


def _defect(scope: Scope) -> CodezeroError:
    return CodezeroError(
        problems.INTERNAL,
        "the request failed because of a defect of the Hub",
        fix=f"whoever runs the Hub finds it in the log by the request's id {scope['state']['request_id']}",
    )


def not_valid(errors: Sequence[Any]) -> CodezeroError:
    """What is wrong with the fields of a request, each named by its path; never their values, which may be secret."""
    said = [f"{_place(error['loc'])}: {_reason(error)}" for error in errors[:_SHOWN]]
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return CodezeroError(problems.NOT_VALID, "; ".join(said) + more, fix="see /api/openapi.json for what is taken")


def _place(location: Sequence[int | str]) -> str:
    whole = ""
    for part in location:
        if isinstance(part, int):
            whole += f"[{part}]"
        else:
            shown = part if len(part) <= _LONGEST else part[:_LONGEST] + "…"
            whole += f".{shown}" if whole else shown
    return whole


def _reason(error: Any) -> str:  # noqa: ANN401 - pydantic's own shape
    match error["type"]:
        case "extra_forbidden":
            return "there is no such field"
        case "missing":
            return "is missing"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "is not a JSON object; send one with content-type application/json"
        case "json_invalid":
            return "is not JSON"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            message = str(error["msg"])
            return message[:1].lower() + message[1:]


def _translated(request: Request, error: HTTPException) -> CodezeroError:
    match error.status_code:
        case 404:
            return CodezeroError(problems.NOT_FOUND, f"there is nothing at {request.url.path}")
        case 405:
            allowed = (error.headers or {}).get("Allow", "")
            return CodezeroError(
                problems.METHOD_UNKNOWN, f"{request.url.path} does not take {request.method}", fix=f"use {allowed}"
            )
        case 413:
            return CodezeroError(problems.TOO_LARGE, "the body is too large")
        case status if status < 500:
            return CodezeroError(problems.BAD_REQUEST, "the request could not be read")
        case _:
            return CodezeroError(problems.INTERNAL, "the request failed")
