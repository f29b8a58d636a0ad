"""What goes wrong is told with our codes and the names of fields, and never with what was sent or what is inside."""

import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, SecretStr, field_validator
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from codezero.hub.api import problems as api_problems
from codezero.hub.api.guard import Guard
from codezero.hub.api.limits import Limits
from codezero.hub.api.problems import Answering
from codezero.hub.api.shapes import Asked
from codezero.model import problems
from codezero.model.problems import CodezeroError

SECRET = "hunter2hunter2"


class Inner(BaseModel):
    role: int


class Body(Asked):
    name: str
    password: SecretStr
    members: tuple[Inner, ...] = ()

    @field_validator("name")
    @classmethod
    def _checked(cls, name: str) -> str:
        if name == "bad":
            raise ValueError("is a name of ours")
        return name


def application() -> FastAPI:
    app = FastAPI()
    api_problems.install(app)

    @app.post("/body")
    async def body(body: Body) -> str:
        raise RuntimeError(f"defect with {body.password.get_secret_value()}")

    @app.get("/raised/{status}")
    async def raised(status: int) -> None:
        raise HTTPException(status, detail=SECRET)

    @app.get("/busy")
    async def busy() -> None:
        raise CodezeroError(problems.DATABASE_BUSY, "busy", fix="later")

    return app


async def asked(method: str, path: str, **sent: Any) -> httpx2.Response:
    app = Guard(Answering(application()), public_url="https://hub.test", limits=Limits())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="https://hub.test") as client:
        answer = await client.request(method, path, **sent)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    assert SECRET not in answer.text
    return answer


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": 1, "password": SECRET}, "body.name"),
        ({"name": "bad", "password": SECRET}, "body.name: is a name of ours"),
        ({"password": SECRET}, "body.name: is missing"),
        ({"name": "a", "password": [SECRET]}, "body.password"),
        ({"name": "a", "password": SECRET, "members": [{"role": 1}, {"role": SECRET}]}, "body.members[1].role"),
        ({"name": "a", "password": SECRET, "nmae": SECRET}, "body.nmae: there is no such field"),
        ([SECRET], "body: is not a JSON object"),
        (SECRET, "body: is not a JSON object"),
    ],
)
async def test_fields_are_named_by_their_paths_and_their_values_are_not_told(body: Any, said: str) -> None:
    answer = await asked("POST", "/body", json=body)

    assert answer.status_code == 422
    assert answer.json()["code"] == problems.NOT_VALID.code
    assert said in answer.json()["detail"]


async def test_of_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    body = {"name": "a", "password": SECRET, **{f"field{number}": 1 for number in range(9)}, "x" * 500: 1}

    detail = (await asked("POST", "/body", json=body)).json()["detail"]

    assert detail.endswith("; and 5 more")
    assert len(detail) < 600


async def test_a_body_that_is_no_json_is_said_to_be_none() -> None:
    answer = await asked("POST", "/body", content=json.dumps({"name": "a"}), headers={"content-type": "text/plain"})

    assert (answer.status_code, answer.json()["code"]) == (422, problems.NOT_VALID.code)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, problems.NOT_FOUND.code),
        (405, problems.METHOD_UNKNOWN.code),
        (413, problems.TOO_LARGE.code),
    ],
)
async def test_the_frameworks_refusals_are_ours(status: int, code: str) -> None:
    answer = await asked("GET", f"/raised/{status}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_a_defect_tells_its_number_alone() -> None:
    answer = await asked("POST", "/body", json={"name": "a", "password": SECRET})

    assert (answer.status_code, answer.json()["code"]) == (500, problems.INTERNAL.code)
    assert answer.headers["x-request-id"] in answer.json()["fix"]


async def test_who_may_try_again_is_told_when() -> None:
    assert (await asked("GET", "/busy")).headers["retry-after"] == "2"


async def test_half_an_answer_is_left_to_the_server() -> None:
    """It cannot be taken back, so the connection has to end."""

    async def half(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("defect")

    async def receive() -> Message:
        raise AssertionError("not asked for")

    async def send(_: Message) -> None:
        pass

    with pytest.raises(RuntimeError):
        await Answering(half)({"type": "http", "path": "/", "state": {}}, receive, send)
