"""What people do by the pages of the Hub, done in a browser: each change is looked for where the Hub keeps it, and nothing that somebody typed is lost."""

import re
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, expect
from tests.browser.conftest import PASSWORD, PATIENCE_MS, BrowsedHub, Browsing, Complaints
from tests.browser.orchestrator import orchestrator
from tests.browser.steps import choose, row, shown, told_once

from codezero.model.problems import CodezeroError
from codezero.model.roles import PERMISSIONS, Permission, Role
from codezero.sandbox.browser import Browser as Person
from codezero.testing.hub_process import OWNER

pytestmark = [pytest.mark.browser]

expect.set_options(timeout=PATIENCE_MS)

BEGINS: Final = "// Who may do what.\n"
ENDS: Final = "\n// The end.\n"
NEW_PASSWORD: Final = "another horse, battery and staple"
_number = count(1)

Asks = Callable[..., Any]


@pytest.fixture
def asks(hub: BrowsedHub) -> Asks:
    """Ask the Hub as the owner, below the organization."""

    def ask(method: str, path: str, body: object = None) -> Any:
        return hub.owner.ask(method, f"/organizations/{hub.organization}{path}", body)

    return ask


@pytest.fixture
def space(asks: Asks) -> str:
    """The id of a Teamspace, whose cluster has not come."""
    return asks("POST", "/spaces", {"name": f"space-{next(_number)}"})["id"]


# --- policy --------------------------------------------------------------------------------------------------------------------------------


def policy_page(browse: Browsing, space: str) -> tuple[Page, Locator]:
    """A window of the owner's on the policy, and its editor."""
    page = browse(browse.hub.owner)
    shown(page, browse.hub.address(f"/spaces/{space}/policy"), "Policy")
    return page, page.get_by_role("textbox", name="Policy document")


def save(page: Page, comment: str) -> None:
    """Save what is in the editor, with a comment."""
    page.get_by_role("button", name="Save").click()
    dialog = page.get_by_role("dialog", name="Save the policy")
    dialog.get_by_label("Comment").fill(comment)
    dialog.get_by_role("button", name="Save").click()
    expect(dialog).to_have_count(0)


def in_force(asks: Asks, space: str) -> dict[str, Any]:
    return asks("GET", f"/spaces/{space}/policy")


@pytest.mark.capability("page", "policy.show", "policy.save", "policy.versions", "policy.rollback")
def test_a_policy_is_saved_with_a_comment_and_rolled_back(browse: Browsing, asks: Asks, space: str) -> None:
    page, editor = policy_page(browse, space)
    before = in_force(asks, space)
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    editor.fill(before["text"] + ENDS)
    save(page, "says where it ends")
    expect(page.get_by_text("Version 2 is in force within seconds.")).to_be_visible()
    saved = in_force(asks, space)
    assert (saved["number"], saved["text"], saved["comment"]) == (2, before["text"] + ENDS, "says where it ends")

    page.get_by_role("tab", name="Versions").click()
    expect(row(page, "Versions of the policy", "says where it ends")).to_contain_text("In force")
    row(page, "Versions of the policy", OWNER["name"]).last.click()
    drawer = page.get_by_role("dialog", name="Version 1")
    drawer.get_by_role("button", name="Roll back").click()
    page.get_by_role("dialog", name="Roll back to version 1?").get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("Version 3, the text of version 1, is in force within seconds.")).to_be_visible()
    expect(drawer).to_have_count(0)
    assert (in_force(asks, space)["number"], in_force(asks, space)["text"]) == (3, before["text"])

    page.get_by_role("tab", name="Document").click()
    expect(editor).to_have_value(before["text"])


@pytest.mark.parametrize("decision", ["Put both together", "Go on with yours alone", "Take theirs"])
def test_of_a_policy_that_two_write_nothing_is_lost(
    browse: Browsing, asks: Asks, space: str, complaints: Complaints, decision: str
) -> None:
    """Whoever is second is refused (412), sees both, and decides."""
    complaints.expect("412")
    first, firsts = policy_page(browse, space)
    second, seconds = policy_page(browse, space)
    text = in_force(asks, space)["text"]
    seconds.fill(text + ENDS)
    second.get_by_role("button", name="Save").click()
    dialog = second.get_by_role("dialog", name="Save the policy")
    expect(dialog).to_be_visible()
    firsts.fill(BEGINS + text)
    save(first, "the first one's")
    dialog.get_by_role("button", name="Save").click()

    both = second.get_by_role("region", name="Saved meanwhile")
    expect(both.get_by_role("heading", name="Version 2 was saved meanwhile")).to_be_visible()
    expect(both).to_contain_text("the first one's")
    expect(dialog).to_have_count(0)
    expect(seconds).to_have_value(text + ENDS)
    expect(second.get_by_role("button", name="Save")).to_be_disabled()
    assert in_force(asks, space)["text"] == BEGINS + text

    both.get_by_role("button", name=decision).click()
    if decision == "Take theirs":
        second.get_by_role("dialog", name="Take theirs?").get_by_role("button", name=decision).click()
        expect(seconds).to_have_value(BEGINS + text)
        expect(both).to_have_count(0)
        return
    wanted = BEGINS + text + ENDS if decision == "Put both together" else text + ENDS
    expect(seconds).to_have_value(wanted)
    expect(both).to_have_count(0)
    save(second, "the second one's")
    assert (in_force(asks, space)["number"], in_force(asks, space)["text"]) == (3, wanted)
    assert asks("GET", f"/spaces/{space}/policy/versions/2")["text"] == BEGINS + text


@pytest.mark.capability("page", "policy.check")
def test_a_mistake_in_a_policy_names_its_line(browse: Browsing, asks: Asks, space: str) -> None:
    page, editor = policy_page(browse, space)
    text = in_force(asks, space)["text"].rstrip("\n")
    editor.fill(f"{text}\npermit (principal, action, resource) whom {{}};\n")
    line = text.count("\n") + 2
    mistake = page.get_by_role("region", name="Check").get_by_role("button", name=re.compile(rf"^{line}:\d+"))
    expect(mistake.first).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    expect(editor).to_have_attribute("aria-invalid", "true")
    mistake.first.click()

    expect(editor).to_be_focused()
    at = editor.evaluate("(area) => area.value.slice(0, area.selectionStart).split('\\n').length")
    assert at == line
    assert in_force(asks, space)["number"] == 1


def test_who_leaves_an_unsaved_policy_is_asked(browse: Browsing, asks: Asks, space: str) -> None:
    page, editor = policy_page(browse, space)
    text = in_force(asks, space)["text"]
    editor.fill(text + ENDS)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Members").click()
    page.get_by_role("dialog", name="Leave without saving?").get_by_role("button", name="Stay here").click()

    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(editor).to_have_value(text + ENDS)


# --- members -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "member.list", "member.role", "member.remove", "invitation.create")
@pytest.mark.capability("page", "invitation.list")
def test_somebody_is_invited_becomes_something_else_and_is_removed(page: Page, hub: BrowsedHub, asks: Asks) -> None:
    shown(page, hub.address("/members"), "Members")
    page.get_by_role("button", name="Invite").click()
    dialog = page.get_by_role("dialog", name="Invite somebody")
    dialog.get_by_label("E-mail address").fill("not an address")
    dialog.get_by_role("button", name="Invite").click()
    expect(dialog.get_by_text("An e-mail address, such as")).to_be_visible()
    dialog.get_by_label("E-mail address").fill("mia@example.com")
    choose(page, "What they will be", "Viewer")
    dialog.get_by_role("button", name="Invite").click()
    expect(dialog.get_by_text("This link is shown this once.")).to_be_visible()
    link = told_once(dialog, "Copy the link")
    page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="I have kept it").click()
    expect(dialog).to_have_count(0)
    page.get_by_role("tab", name="Invitations").click()
    expect(row(page, "Invitations", "mia@example.com")).to_contain_text("Viewer")
    assert link not in page.content()

    mia = Person(hub.process.endpoint)
    mia.accept_invitation(link, name="Mia", password=PASSWORD)
    with pytest.raises(CodezeroError):
        Person(hub.process.endpoint).accept_invitation(link, name="Mo", password=PASSWORD)
    page.get_by_role("tab", name=re.compile("^Members")).click()
    page.get_by_role("button", name="Change role of Mia").click()
    choose(page, "What Mia is", "Developer")
    page.get_by_role("dialog").get_by_role("button", name="Change the role").click()
    expect(page.get_by_text("Mia is developer now")).to_be_visible()
    expect(row(page, "Members", "Mia")).to_contain_text("Developer")
    assert {one["name"]: one["role"] for one in asks("GET", "/members")["items"]}["Mia"] == "developer"

    row(page, "Members", "Mia").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog", name="Remove Mia?").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("Mia is no member any more")).to_be_visible()
    expect(row(page, "Members", "Mia")).to_have_count(0)
    assert "Mia" not in {one["name"] for one in asks("GET", "/members")["items"]}


def test_a_role_that_was_changed_meanwhile_is_shown_before_anybody_decides(
    browse: Browsing, hub: BrowsedHub, asks: Asks, complaints: Complaints
) -> None:
    complaints.expect("412")
    hub.person("Rolf", "viewer")
    page = browse(hub.owner)
    shown(page, hub.address("/members"), "Members")
    page.get_by_role("button", name="Change role of Rolf").click()
    choose(page, "What Rolf is", "Admin")
    user = next(one["user"] for one in asks("GET", "/members")["items"] if one["name"] == "Rolf")
    asks("PATCH", f"/members/{user}", {"role": "auditor"})
    page.get_by_role("dialog").get_by_role("button", name="Change the role").click()

    expect(page.get_by_text("Somebody else changed Rolf meanwhile.")).to_be_visible()
    expect(row(page, "Members", "Rolf")).to_contain_text("Auditor")


# --- API keys ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "apikey.list", "apikey.create", "apikey.revoke")
def test_an_api_key_is_made_told_once_and_revoked(page: Page, hub: BrowsedHub, asks: Asks) -> None:
    shown(page, hub.address("/apikeys"), "API keys")
    page.get_by_role("button", name="New API key").click()
    dialog = page.get_by_role("dialog", name="New API key")
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_text("A name, such as ci")).to_be_visible()
    dialog.get_by_label("Name").fill("nightly")
    dialog.get_by_role("button", name="Make the key").click()
    expect(dialog.get_by_text("This key is shown this once.")).to_be_visible()
    key = told_once(dialog, "Copy the key")
    assert role_by(hub, key) == "ci"
    dialog.get_by_role("button", name="I have kept it").click()
    expect(row(page, "API keys", "nightly")).to_contain_text("all that its role may")
    page.reload()
    expect(row(page, "API keys", "nightly")).to_have_count(1)
    assert key not in page.content()
    assert not page.evaluate("(key) => JSON.stringify([{...localStorage}, {...sessionStorage}]).includes(key)", key)

    row(page, "API keys", "nightly").get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog", name="Revoke nightly?").get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The API key nightly is revoked")).to_be_visible()
    expect(row(page, "API keys", "nightly")).to_have_count(0)
    assert role_by(hub, key) is None


def role_by(hub: BrowsedHub, key: str) -> str | None:
    """What a program with the key is in the organization."""
    answer = hub.process.endpoint.request("GET", "/api/v1/organizations", headers={"Authorization": f"Bearer {key}"})
    if answer.status == 401:
        return None
    assert answer.status == 200, answer.content
    found = re.search(rb'"role":\s*"(\w+)"', answer.content)
    assert found is not None, answer.content
    return found[1].decode()


# --- settings ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "organization.show", "organization.rename")
def test_an_organization_gets_another_name(page: Page, hub: BrowsedHub, asks: Asks) -> None:
    shown(page, hub.address("/settings"), "Settings")
    page.get_by_role("textbox", name="Name").fill("Shop & Söhne")
    page.get_by_role("button", name="Rename").click()

    expect(page.get_by_text("The organization has its new name")).to_be_visible()
    expect(page.get_by_role("navigation", name="Pages")).to_contain_text("Organization Shop & Söhne")
    assert asks("GET", "")["name"] == "Shop & Söhne"


def test_what_was_typed_into_settings_stays_when_somebody_else_changes_them(
    browse: Browsing, hub: BrowsedHub, asks: Asks, complaints: Complaints
) -> None:
    complaints.expect("412")
    page = browse(hub.owner)
    shown(page, hub.address("/settings"), "Settings")
    name = page.get_by_role("textbox", name="Name")
    name.fill("Typed here")
    asks("PATCH", "", {"name": "Changed elsewhere"})
    expect(page.get_by_text("The organization was changed meanwhile.")).to_be_visible()
    expect(name).to_have_value("Typed here")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("alert")).to_contain_text("CZ-")
    expect(name).to_have_value("Typed here")
    assert asks("GET", "")["name"] == "Changed elsewhere"

    page.get_by_role("button", name="Show what is in force now").click()
    expect(name).to_have_value("Changed elsewhere")


# --- account -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "auth.password")
def test_a_password_is_changed_and_other_places_are_signed_out(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    complaints.expect("40[0-9]")
    person = hub.person("Pia")
    elsewhere = Person(hub.process.endpoint)
    elsewhere.sign_in("pia@example.com", PASSWORD)
    page = browse(person)
    shown(page, f"{hub.url}/ui/account")
    page.get_by_role("button", name="Change or set it").click()
    dialog = page.get_by_role("dialog", name="Change or set your password")
    dialog.get_by_label("Present password").fill("not the present one")
    dialog.get_by_label(re.compile(r"^New password( \*)?$")).fill(NEW_PASSWORD)
    dialog.get_by_label("New password again").fill(NEW_PASSWORD + "!")
    dialog.get_by_role("button", name="Use the new password").click()
    expect(dialog.get_by_text("Not the same as the new one")).to_be_visible()
    dialog.get_by_label("New password again").fill(NEW_PASSWORD)
    dialog.get_by_role("button", name="Use the new password").click()
    expect(dialog.get_by_role("alert")).to_contain_text("CZ-")
    dialog.get_by_label("Present password").fill(PASSWORD)
    dialog.get_by_role("button", name="Use the new password").click()

    expect(page.get_by_text("Your password is changed; everywhere else you are signed out")).to_be_visible()
    expect(dialog).to_have_count(0)
    with pytest.raises(CodezeroError):
        elsewhere.ask("GET", "/auth/me")
    with pytest.raises(CodezeroError):
        Person(hub.process.endpoint).sign_in("pia@example.com", PASSWORD)
    elsewhere.sign_in("pia@example.com", NEW_PASSWORD)
    page.reload()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


@pytest.mark.capability("page", "auth.sessions.list", "auth.sessions.end")
def test_a_sign_in_elsewhere_is_ended(browse: Browsing, hub: BrowsedHub) -> None:
    person = hub.person("Emil")
    other = Person(hub.process.endpoint)
    other.sign_in("emil@example.com", PASSWORD)
    page = browse(person)
    shown(page, f"{hub.url}/ui/account")
    ends = page.get_by_role("row").get_by_role("button", name="End")
    expect(ends).to_have_count(2)
    other_one = page.get_by_role("row").filter(has=page.get_by_role("button", name="End"), has_not_text="This one")
    other_one.get_by_role("button", name="End").click()
    page.get_by_role("dialog").get_by_role("button", name="End").click()

    expect(ends).to_have_count(1)
    with pytest.raises(CodezeroError):
        other.ask("GET", "/auth/me")
    assert person.ask("GET", "/auth/me")["user"]["name"] == "Emil"


# --- Teamspaces ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "space.list", "space.create", "space.show", "space.rename", "space.remove")
def test_a_teamspace_is_made_by_the_wizard_and_ends_by_its_typed_name(
    page: Page, hub: BrowsedHub, asks: Asks, space: str, complaints: Complaints
) -> None:
    shown(page, hub.address("/spaces"), "Teamspaces")
    page.get_by_role("button", name="Add Teamspace").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("Not A Name")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_label("Name")).to_have_attribute("aria-invalid", "true")
    dialog.get_by_label("Name").fill("billing")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_text("The join token is shown this once")).to_be_visible()
    token = told_once(dialog, "Copy the join token")
    command = dialog.get_by_text(re.compile("^czctl teamspace install"))
    expect(command).to_contain_text(hub.url)
    dialog.get_by_label("Namespaces whose services may be served").fill("shop, billing")
    expect(command).to_contain_text("billing")
    assert token not in command.inner_text()
    dialog.get_by_role("button", name="Go to the Teamspace").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("billing")
    expect(page.get_by_text("No cluster has joined yet")).to_be_visible()
    made = next(one for one in asks("GET", "/spaces")["items"] if one["name"] == "billing")

    page.get_by_role("button", name="Rename").click()
    page.get_by_role("dialog").get_by_label("Name").fill("invoices")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("invoices")
    assert asks("GET", f"/spaces/{made['id']}")["name"] == "invoices"

    page.get_by_role("button", name="Remove").click()
    removes = page.get_by_role("dialog").get_by_role("button", name="Remove")
    expect(removes).to_be_disabled()
    page.get_by_role("dialog").get_by_label("Type invoices to go on").fill("billing")
    expect(removes).to_be_disabled()
    page.get_by_role("dialog").get_by_label("Type invoices to go on").fill("invoices")
    removes.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Teamspaces")
    expect(row(page, "Teamspaces", "invoices")).to_have_count(0)
    assert space in {one["id"] for one in asks("GET", "/spaces")["items"]}
    assert "invoices" not in {one["name"] for one in asks("GET", "/spaces")["items"]}

    complaints.expect("404")
    shown(page, hub.address(f"/spaces/{made['id']}"))
    expect(page.get_by_role("main").get_by_role("alert").first).to_contain_text("CZ-")


@pytest.mark.capability("page", "space.suspend", "space.resume")
def test_a_teamspace_is_suspended_and_resumed(page: Page, hub: BrowsedHub, asks: Asks) -> None:
    with orchestrator(hub, "joined") as made:
        shown(page, hub.address(f"/spaces/{made.space}"), "joined")
        page.get_by_role("button", name="Suspend").click()
        page.get_by_role("dialog", name="Suspend joined?").get_by_role("button", name="Suspend").click()
        expect(page.get_by_text("joined is suspended")).to_be_visible()
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        assert asks("GET", f"/spaces/{made.space}")["state"] == "suspended"
        page.get_by_role("button", name="Resume").click()
        expect(page.get_by_text("joined can be used again")).to_be_visible()
        expect(page.get_by_role("button", name="Suspend")).to_be_visible()
        assert asks("GET", f"/spaces/{made.space}")["state"] != "suspended"


# --- what roles may not do ------------------------------------------------------------------------------------------------------------------

# The page, what its button needs, and the button.
BUTTONS: Final = (
    ("/spaces", Permission.SPACES_MANAGE, "Add Teamspace"),
    ("/spaces/SPACE", Permission.SPACES_MANAGE, "Rename"),
    ("/spaces/SPACE", Permission.SPACES_MANAGE, "Remove"),
    ("/spaces/SPACE/policy", Permission.POLICIES_MANAGE, "Save"),
    ("/members", Permission.MEMBERS_MANAGE, "Invite"),
    ("/members", Permission.MEMBERS_MANAGE, "Change role of Vera"),
    ("/apikeys", Permission.API_KEYS_MANAGE, "New API key"),
    ("/settings", Permission.ORGANIZATION_MANAGE, "Rename"),
    ("/settings", Permission.ORGANIZATION_DELETE, "Delete"),
)
# The page, what reading it needs, and what leads to it.
READ: Final = (
    ("/spaces", Permission.SPACES_READ, "Teamspaces"),
    ("/spaces/SPACE", Permission.SPACES_READ, "Overview"),
    ("/spaces/SPACE/policy", Permission.POLICIES_READ, "Policy"),
    ("/members", Permission.MEMBERS_READ, "Members"),
    ("/apikeys", Permission.API_KEYS_READ, "API keys"),
    ("/devices", Permission.DEVICES_READ, "Devices"),
    ("/audit", Permission.AUDIT_READ, "Audit"),
    ("/settings", Permission.ORGANIZATION_READ, "Settings"),
)
PEOPLE: Final = {
    Role.OWNER: OWNER["name"],
    Role.ADMIN: "Ada",
    Role.DEVELOPER: "Dora",
    Role.VIEWER: "Vera",
    Role.AUDITOR: "Aude",
}


def of_role(hub: BrowsedHub, role: Role) -> Person:
    hub.person(PEOPLE[Role.VIEWER], Role.VIEWER)
    return hub.owner if role is Role.OWNER else hub.person(PEOPLE[role], role)


@pytest.mark.parametrize("role", PEOPLE)
def test_nobody_is_offered_what_their_role_forbids(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints, space: str, role: Role
) -> None:
    """And whoever goes to the address of a page that they may not read is told so."""
    page, may = browse(of_role(hub, role)), PERMISSIONS[role]
    main, navigation = page.get_by_role("main"), page.get_by_role("navigation", name="Pages")
    problems = main.get_by_role("alert").filter(has_text="CZ-")
    if any(needs not in may for _, needs, _ in READ):
        complaints.expect("403")
    wrong: list[str] = []
    for path, reading, link in READ:
        shown(page, hub.address(path.replace("SPACE", space)))
        expect(navigation.get_by_role("link", name=link, exact=True)).to_have_count(int(reading in may))
        if reading in may:
            expect(problems).to_have_count(0)
        elif reading is Permission.POLICIES_READ:
            # Everybody may ask what they may.
            expect(main.get_by_text("You ask for yourself.")).to_be_visible()
            expect(main.get_by_role("tab", name="Document")).to_have_count(0)
        else:
            expect(problems.first).to_be_visible()
        for needs, name in [(needs, name) for of, needs, name in BUTTONS if of == path]:
            there = main.get_by_role("button", name=re.compile(rf"^{name}"))
            if needs in may:
                expect(there.first).to_be_visible()
            elif there.count() > 0:
                wrong.append(f"{name} at {path}")

    assert not wrong
