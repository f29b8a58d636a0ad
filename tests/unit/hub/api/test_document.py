"""The OpenAPI document says of every operation what all of them share, and shows no secret's value as something to log."""

from typing import Any

from codezero.hub.api import app, document
from codezero.hub.api.permissions import Need

DOCUMENT = app.application().openapi()
ENTRIES = [entry for entry in document.operations(DOCUMENT) if entry.needs]


def parameters(content: Any) -> set[str]:
    return {one["name"].lower() for one in content.get("parameters", ())}


def test_each_names_the_refusals_that_come_before_it() -> None:
    for entry in ENTRIES:
        statuses = set(entry.content["responses"])
        assert {"400", "422", "429", "503"} <= statuses, entry
        assert ("401" in statuses) or entry.needs == Need.NOTHING, entry
        assert ("404" in statuses) or "{" not in entry.path, entry
        assert ("413" in statuses) == ("requestBody" in entry.content), entry
        assert ("412" in statuses) == ("if-match" in parameters(entry.content)), entry


def test_each_that_makes_something_can_be_repeated() -> None:
    """But for the one that passes on what a machine sees to being done once."""
    posts = {entry.path for entry in ENTRIES if entry.method == "POST"}
    repeated = {entry.path for entry in ENTRIES if "idempotency-key" in parameters(entry.content)}

    assert posts - repeated == {"/api/v1/machines/{machine}/ask"}
    assert repeated <= posts


def test_whatever_has_a_version_is_changed_by_its_version() -> None:
    versioned = {entry.path for entry in ENTRIES if "if-match" in parameters(entry.content)}

    assert versioned == {
        "/api/v1/organizations/{organization}",
        "/api/v1/organizations/{organization}/members/{user}",
        "/api/v1/organizations/{organization}/spaces/{space}",
        "/api/v1/organizations/{organization}/spaces/{space}/policy",
        "/api/v1/organizations/{organization}/spaces/{space}/policy/rollback",
    }


def test_refusals_are_problems_and_the_frameworks_own_form_is_gone() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert "HTTPValidationError" not in schemas
    for entry in ENTRIES:
        for status, answer in entry.content["responses"].items():
            if status >= "400":
                (schema,) = answer["content"].values()
                assert schema["schema"] == {"$ref": "#/components/schemas/Problem"}, entry


def test_whatever_is_asked_refuses_unknown_fields() -> None:
    for entry in ENTRIES:
        for content in entry.content.get("requestBody", {}).get("content", {}).values():
            schema = content["schema"]
            names = [one.get("$ref", "").rpartition("/")[2] for one in (schema, *schema.get("anyOf", ()))]
            known = [DOCUMENT["components"]["schemas"][name] for name in names if name]
            assert known, entry
            assert all(one["additionalProperties"] is False for one in known), entry


def test_every_operation_has_a_name_of_its_own_and_a_sentence() -> None:
    names = [entry.content["operationId"] for entry in ENTRIES]

    assert len(set(names)) == len(names)
    assert all(entry.content["description"].endswith(".") for entry in ENTRIES)
