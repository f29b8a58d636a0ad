"""Which organization and Teamspace a command is about."""

from collections.abc import Iterator

import pytest

from codezero.cli import hub_context, hub_selection
from codezero.cli.hub_client import HubClient
from codezero.cli.hub_context import Credentials, HubContext, Named
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.testing.scripted_hub import ScriptedHub

ACME, APEX = Named("01JZ0000000000000000000001", "acme"), Named("01JZ0000000000000000000002", "apex")
SHOP = Named("01JZ0000000000000000000003", "shop")


@pytest.fixture
def hub() -> Iterator[ScriptedHub]:
    def told(*known: Named) -> object:
        items = [{"id": one.id, "name": one.name, "role": "owner", "state": "certified"} for one in known]
        return {"items": items, "next": None}

    replies = {
        "GET /api/v1/organizations": told(ACME, APEX, Named("01JZ0000000000000000000004", "apex")),
        f"GET /api/v1/organizations/{ACME.id}/spaces": told(SHOP),
        f"GET /api/v1/organizations/{APEX.id}/spaces": told(),
    }
    with ScriptedHub(dict(replies)) as running:
        yield running


def client_of(hub: ScriptedHub, **selected: Named | None) -> HubClient:
    return HubClient(HubContext(hub.url, **selected), Credentials(hub.url, access_token="t"))


def test_the_selected_one_needs_no_question(hub: ScriptedHub) -> None:
    client = client_of(hub, organization=ACME, space=SHOP)

    assert hub_selection.organization(client, None) == ACME
    assert hub_selection.organization(client, ACME.id) == ACME
    assert hub_selection.space(client, ACME, None) == SHOP
    assert hub_selection.space(client, ACME, SHOP.id) == SHOP
    assert hub.asked == []


def test_a_name_means_what_the_hub_says_now(hub: ScriptedHub) -> None:
    """What is selected may have been removed or renamed since, and another one may have its name."""
    old = Named("01JZ0000000000000000000008", "acme"), Named("01JZ0000000000000000000009", "shop")
    client = client_of(hub, organization=old[0], space=old[1])
    renamed = client_of(hub, organization=ACME, space=old[1])

    assert hub_selection.organization(client, "acme") == ACME
    assert hub_selection.space(renamed, ACME, "shop") == SHOP


def test_one_that_is_named_goes_before_the_selected_one(hub: ScriptedHub) -> None:
    client = client_of(hub, organization=APEX)

    assert hub_selection.organization(client, "acme") == ACME
    assert hub_selection.organization(client, ACME.id) == ACME


def test_the_environment_goes_before_the_selected_one(hub: ScriptedHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEZERO_ORGANIZATION", "acme")
    monkeypatch.setenv("CODEZERO_SPACE", "shop")
    client = client_of(hub, organization=APEX)

    owner = hub_selection.organization(client, None)
    assert (owner, hub_selection.space(client, owner, None)) == (ACME, SHOP)


def test_a_teamspace_of_another_organization_is_not_the_selected_one(hub: ScriptedHub) -> None:
    client = client_of(hub, organization=ACME, space=SHOP)

    with pytest.raises(CodezeroError, match="no Teamspace yet"):
        hub_selection.space(client, APEX, None)


def test_the_only_one_is_meant(hub: ScriptedHub) -> None:
    assert hub_selection.space(client_of(hub), ACME, None) == SHOP


@pytest.mark.parametrize(
    ("asked", "problem", "fix"),
    [
        (None, problems.NOT_SELECTED, "czctl organization select NAME"),
        ("apex", problems.NOT_SELECTED, f"name one by its id: {APEX.id}, 01JZ0000000000000000000004"),
        ("acm", problems.NOT_FOUND, "did you mean 'acme'? See: czctl organization list"),
        ("zzz", problems.NOT_FOUND, "czctl organization list"),
        ("01JZ0000000000000000000009", problems.NOT_FOUND, "czctl organization list"),
    ],
)
def test_where_it_is_not_clear_it_is_said_what_to_do(
    hub: ScriptedHub, asked: str | None, problem: problems.Problem, fix: str
) -> None:
    with pytest.raises(CodezeroError) as refused:
        hub_selection.organization(client_of(hub), asked)

    assert refused.value.problem is problem
    assert fix in (refused.value.fix or "")


def test_what_is_selected_is_kept_on_this_machine(hub: ScriptedHub) -> None:
    """L31: and nowhere else."""
    hub_context.save_credentials(Credentials(hub.url, access_token="t"))

    hub_selection.select(client_of(hub), organization=ACME, space=SHOP)

    kept = hub_context.load()
    assert kept is not None
    assert (kept.organization, kept.space) == (ACME, SHOP)
    assert [one for one in hub.asked if one.method != "GET"] == []


@pytest.mark.parametrize("now", [None, "bob"])
def test_nothing_is_selected_for_whoever_has_signed_in_meanwhile(hub: ScriptedHub, now: str | None) -> None:
    """Nor is a sign-in brought back that has ended."""
    client = client_of(hub, user=Named("1", "alice"))
    context = HubContext(hub.url, user=Named("2", now) if now else None)
    hub_context.save(context)
    hub_context.save_credentials(Credentials(hub.url, access_token="u") if now else None)

    with pytest.raises(CodezeroError) as refused:
        hub_selection.select(client, organization=ACME, space=SHOP)

    assert refused.value.problem is problems.NOT_SIGNED_IN
    assert hub_context.load() == context


def test_names_are_kept_for_completion(hub: ScriptedHub) -> None:
    client = client_of(hub)
    hub_selection.space(client, hub_selection.organization(client, "acme"), "shop")

    names = hub_context.load_names()
    assert names.organizations == ("acme", "apex", "apex")
    assert names.spaces == {ACME.id: ("shop",)}


def test_the_environment_keeps_nothing(hub: ScriptedHub, capsys: pytest.CaptureFixture[str]) -> None:
    client = HubClient(HubContext(hub.url), None, fixed="Bearer t")

    owner = hub_selection.organization(client, "acme")
    hub_selection.select(client, organization=owner, space=hub_selection.space(client, owner, None))

    assert client.context.space == SHOP
    assert not hub_context.folder().exists()
    assert "CODEZERO_SPACE" in capsys.readouterr().err
