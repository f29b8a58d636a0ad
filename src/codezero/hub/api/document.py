"""The OpenAPI document: what FastAPI makes of the routes, with the answers that all of them share, and the table of what each operation needs."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI

from codezero.hub.api import repeating
from codezero.hub.api.permissions import FIELD, Need
from codezero.model.roles import Permission

PATH: Final = "/api/openapi.json"
_METHODS: Final = ("get", "put", "post", "patch", "delete")
_PROBLEM: Final = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457, with a stable code of ours (`czctl explain CODE`) and what to do next.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "fix": {"type": "string"},
    },
}
_MEANINGS: Final = {
    400: "The request does not have the form that is taken.",
    401: "It is not known who asks.",
    403: "Whoever asks may not do that.",
    404: "There is no such thing, or not for whoever asks.",
    409: "It cannot be done as things are.",
    412: "It was changed since it was read.",
    413: "The body is too large.",
    422: "A field is missing, unknown or of a form that is not taken.",
    429: "There were too many requests.",
    502: "What was asked through the Hub answered with what is not passed on.",
    503: "It cannot be done at the moment.",
    504: "What was asked through the Hub did not answer in time.",
}
_IN_PATH: Final = re.compile(r"\{(\w+)\}")
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A fresh word for each new request, such as a UUID: the same request again with it is done once, and answered alike for 24 hours.",
    "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
}
_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An access token of `czctl auth login`, or an API key (`cz_key_...`).",
    },
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "__Host-codezero",
        "description": "A browser's sign-in. What changes something also needs `X-Codezero-CSRF`.",
    },
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation of the document."""

    path: str
    method: str
    needs: str
    content: Mapping[str, Any]


def install(app: FastAPI) -> None:
    """Let `app` serve the whole document."""
    made = app.openapi
    whole: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not whole:
            whole.update(_completed(made()))
        return whole

    app.openapi = openapi


def operations(document: Mapping[str, Any]) -> Iterator[Entry]:
    """Every operation of `document`, in its order."""
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                content: Mapping[str, Any] = methods[method]
                yield Entry(path, method.upper(), content.get(FIELD, ""), content)


def raises(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may answer besides what all do."""
    return {status: {"description": _MEANINGS[status]} for status in statuses}


def _completed(document: dict[str, Any]) -> dict[str, Any]:
    schemas: dict[str, Any] = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = _PROBLEM
    document["components"]["securitySchemes"] = _SCHEMES
    for entry in operations(document):
        content: Any = entry.content
        if entry.needs == "":
            continue
        parameters: list[dict[str, Any]] = content.setdefault("parameters", [])
        declared = {one["name"] for one in parameters if one["in"] == "path"}
        parameters[:0] = [_of_path(name) for name in _IN_PATH.findall(entry.path) if name not in declared]
        if entry.method == "POST" and repeating.is_for(content):
            parameters.append(_KEY)
        if entry.needs != Need.NOTHING:
            content["security"] = [{name: []} for name in _SCHEMES]
        responses: dict[str, Any] = content["responses"]
        responses.pop("422", None)
        for status in _statuses(entry, {int(one) for one in responses if one.isdigit() and int(one) >= 400}):
            responses[str(status)] = {
                "description": _MEANINGS[status],
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
            }
    return document


def _of_path(name: str) -> dict[str, Any]:
    """A part of the path that is read where who asks is decided, and so by no operation itself."""
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _statuses(entry: Entry, own: set[int]) -> list[int]:
    """The problems that may be answered: the operation's own, and those that come before it."""
    found = own | {400, 422, 429, 503}
    names = {parameter["name"].lower() for parameter in entry.content.get("parameters", ())}
    if entry.needs != Need.NOTHING:
        found |= {401}
        # Without the token of our own pages; or where the role forbids it.
        if entry.method != "GET" or entry.needs in set(Permission):
            found |= {403}
    if "{" in entry.path:
        found |= {404}
    if "requestBody" in entry.content:
        found |= {413}
    if repeating.HEADER in names:
        found |= {409}
    if "if-match" in names:
        found |= {412}
    return sorted(found)
