"""The OpenAPI document is kept to: whatever is asked, well formed or not, is answered with a status and a shape that it names, and never by a defect."""

import re
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.hub_api import NOBODY, Api, Asker, api_of, new_world

from codezero.hub.api import app, document
from codezero.hub.context import Hub

EXAMPLES = 5
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# What cannot be done at the moment, such as by a Teamspace that is away: said in the document, and no defect.
AWAY = 503
# After which whoever asks, or what they ask about, is there no more.
ENDING = {"DELETE", "POST"}

DOCUMENT = app.application().openapi()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [(entry.method, entry.path, entry.content["tags"][0]) for entry in document.operations(DOCUMENT)]


def cases(method: str, path: str, mode: GenerationMode) -> list[Case]:
    """The same ones each time."""
    found: list[Case] = []

    @given(case=SCHEMA[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


async def answered(api: Api, asker: Asker, case: Case) -> httpx2.Response:
    sent: dict[str, Any] = case.as_transport_kwargs(base_url=api.hub.public_url)
    headers = {**dict(sent["headers"]), **asker.headers}
    content = {"json": sent["json"]} if "json" in sent else {"content": sent.get("data")}
    if isinstance(content.get("content"), dict):
        content = {"data": content["content"]}
    return await api.client.request(sent["method"], sent["url"], params=sent.get("params"), headers=headers, **content)


@pytest.mark.parametrize("tag", sorted({tag for _, _, tag in OPERATIONS}))
async def test_every_answer_is_one_the_document_names(hub: Hub, tag: str) -> None:
    failures: list[str] = []
    async with api_of(hub) as api:
        for method, path in ((method, path) for method, path, own in OPERATIONS if own == tag):
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    generated = cases(method, path, mode)
                except (schemathesis.errors.SchemathesisError, ValueError, Unsatisfiable):
                    # There is nothing that could be wrong about it.
                    assert mode is GenerationMode.NEGATIVE
                    continue
                failures += await failures_of(api, generated)

    assert not failures, "\n\n".join(failures)


async def failures_of(api: Api, generated: list[Case]) -> list[str]:
    """What the answers to these do wrong; one of them is of nobody."""
    found: list[str] = []
    world = await new_world(api.hub)
    for number, case in enumerate(generated):
        if number and case.method in ENDING:
            world = await new_world(api.hub)
        if number % 4:
            known = {**world.ids, "organization": world.organization}
            case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})
        response = await answered(api, NOBODY if number == EXAMPLES - 1 else world.owner, case)
        checks = [check for check in CHECKS if response.status_code != AWAY or check is not not_a_server_error]
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as group:
            found.append(f"{case.method} {case.path} {[str(one)[:300] for one in group.exceptions]}")
    return found


def test_every_part_of_a_path_is_declared_once() -> None:
    for entry in document.operations(DOCUMENT):
        declared = [one["name"] for one in entry.content.get("parameters", ()) if one["in"] == "path"]
        assert sorted(declared) == sorted(re.findall(r"{(\w+)}", entry.path)), entry.path
