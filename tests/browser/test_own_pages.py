"""What people do by the pages about themselves and their organization, done in a browser, with a look at the Hub, czctl or a file for what came of it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Final

import msgspec
import pytest
from playwright.sync_api import Browser, expect
from tests import node_peers
from tests.browser.conftest import PASSWORD, PATIENCE_MS, BrowsedHub, Browsing, Complaints
from tests.browser.steps import agree, choose, row, select, shown, told_once
from tests.process.test_czctl_hub import Machine
from tests.process.test_oidc_provider import CLIENT, SECRET
from tests.process.test_oidc_provider import SOURCE as PROVIDER

from codezero.kit import certificates
from codezero.model.problems import CodezeroError
from codezero.sandbox.browser import Browser as Person
from codezero.testing.hub_process import OWNER, HubProcess
from codezero.wire.hub_channel import JOIN_PATH, JoinRequest

pytestmark = [pytest.mark.browser]

expect.set_options(timeout=PATIENCE_MS)

ANOTHER: Final = "another horse, battery and staple"


def is_signed_in(person: Person) -> bool:
    """Whether the Hub knows them by their cookie."""
    try:
        person.ask("GET", "/auth/me")
    except CodezeroError:
        return False
    return True


def names(hub: BrowsedHub, what: str) -> set[str]:
    """Of all that the organization has of that."""
    return {one["name"] for one in hub.owner.ask("GET", f"/organizations/{hub.organization}/{what}")["items"]}


# --- account -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "auth.password.forgotten", "auth.whoami", "auth.sign-out")
def test_whoever_has_forgotten_their_password_chooses_another_and_signs_out(
    browse: Browsing, hub: BrowsedHub, complaints: Complaints
) -> None:
    before = hub.person("Fran")
    made = hub.process.run("password-link", "fran@example.com")
    page = browse()
    page.goto(made.stdout.strip())
    page.get_by_label("Password").fill(ANOTHER)
    page.get_by_role("button", name="Set the password").click()
    page.wait_for_url(f"{hub.url}/ui/**")
    shown(page, f"{hub.url}/ui/account", "Account")
    assert not is_signed_in(before), "it ended where they were"

    you = page.get_by_role("main").locator("section").filter(has=page.get_by_role("heading", name="You", exact=True))
    expect(you).to_contain_text("Fran")
    expect(you).to_contain_text("fran@example.com")
    cookie = next(one for one in page.context.cookies() if "codezero" in one.get("name", ""))
    complaints.expect("401")
    page.get_by_role("button", name="You: Fran").click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.wait_for_url("**/sign-in**")

    answer = hub.process.endpoint.request(
        "GET", "/api/v1/auth/me", headers={"Cookie": f"{cookie.get('name')}={cookie.get('value')}"}
    )
    assert answer.status == 401
    page.goto(f"{hub.url}/ui/account")
    page.wait_for_url("**/sign-in?return_to=*")


@pytest.mark.capability("page", "auth.sign-out-everywhere")
def test_whoever_signs_out_everywhere_is_out_everywhere(browse: Browsing, hub: BrowsedHub) -> None:
    person, elsewhere = hub.person("Enno"), Person(hub.process.endpoint)
    elsewhere.sign_in("enno@example.com", PASSWORD)
    page = browse(person)
    shown(page, f"{hub.url}/ui/account")
    page.get_by_role("button", name="Sign out everywhere").click()
    assert is_signed_in(elsewhere), "it is asked first"
    page.get_by_role("dialog", name="Sign out everywhere?").get_by_role("button", name="Sign out everywhere").click()
    page.wait_for_url("**/sign-in**")

    assert not is_signed_in(elsewhere)
    assert not is_signed_in(person)


@pytest.mark.capability("page", "organization.create", "organization.list", "organization.remove")
def test_an_organization_is_made_chosen_and_removed(browse: Browsing, hub: BrowsedHub) -> None:
    person = hub.person("Otto")

    def organizations() -> set[str]:
        return {one["name"] for one in person.ask("GET", "/organizations")["items"]}

    page = browse(person)
    (first,) = organizations()
    shown(page, f"{hub.url}/ui/account")
    page.get_by_role("button", name="New organization").click()
    dialog = page.get_by_role("dialog", name="New organization")
    dialog.get_by_label("Name").fill("Otto's lab")
    dialog.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Teamspaces")
    assert organizations() == {first, "Otto's lab"}

    lab = page.url
    page.goto(f"{hub.url}/ui/account")
    page.get_by_role("link", name="Otto's lab").click()
    page.wait_for_url(lab)
    select(page, "Organization", first)
    page.wait_for_url(hub.address("/spaces"))
    select(page, "Organization", "Otto's lab")
    page.wait_for_url(lab)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Settings").click()
    page.get_by_role("button", name="Delete").click()
    agree(page, "Delete", "Delete Otto's lab?", typed="Otto's lab")

    expect(page.get_by_text("Otto's lab is deleted")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("Account")
    assert organizations() == {first}


@pytest.mark.capability("page", "device.list", "device.revoke")
def test_machines_are_revoked_by_their_owner_and_by_an_admin(browse: Browsing, hub: BrowsedHub, tmp_path: Path) -> None:
    hub.person("Dirk")
    person = Person(hub.process.endpoint)
    person.sign_in("dirk@example.com", PASSWORD)
    machines: list[Machine] = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        machine = Machine(tmp_path / name, hub.process, {})
        machine.login(email="dirk@example.com", password=PASSWORD)
        machines.append(machine)
    ids = [machine.kept()["device"] for machine in machines]
    assert {one["id"] for one in person.ask("GET", "/devices")["items"]} == set(ids)

    own = browse(person)
    shown(own, f"{hub.url}/ui/account")
    # Both have the name of this very host.
    listed = own.get_by_role("row").filter(has=own.get_by_role("button", name="Revoke"))
    expect(listed).to_have_count(2)
    listed.first.get_by_role("button", name="Revoke").click()
    own.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(own.get_by_text(re.compile("^The device .* is revoked$"))).to_be_visible()
    expect(listed).to_have_count(1)
    (left,) = person.ask("GET", "/devices")["items"]
    codes = {machine.kept()["device"]: machine.czctl("auth", "status").returncode for machine in machines}
    assert {device: code == 0 for device, code in codes.items()} == {device: device == left["id"] for device in ids}

    page = browse(hub.owner)
    shown(page, hub.address("/devices?q=Dirk"), "Devices")
    expect(row(page, "Devices", "Dirk")).to_have_count(1)
    row(page, "Devices", "Dirk").get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()

    expect(page.get_by_text(re.compile("^No devices yet$|^No device has that name"))).to_be_visible()
    assert [machine.czctl("auth", "status").returncode for machine in machines] == [4, 4]
    assert person.ask("GET", "/devices")["items"] == []


@pytest.mark.node
@pytest.mark.capability("page", "auth.link", "auth.sign-in")
def test_an_identity_of_a_provider_is_added_and_signed_in_with(
    chromium: Browser, complaints: Complaints, tmp_path: Path
) -> None:
    folder = node_peers.installed(PROVIDER)
    process = HubProcess(tmp_path / "data")
    callback = f"{process.url}/api/v1/auth/oidc/acme/callback"
    command = ["node", "peer.mjs", callback, SECRET]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
        assert peer.stdout is not None
        issuer = f"http://127.0.0.1:{int(peer.stdout.readline())}"
        (tmp_path / "secret").write_text(SECRET)
        settings = {"name": "acme", "title": "Acme", "issuer": issuer, "client_id": CLIENT}
        (tmp_path / "providers").write_text(json.dumps([{**settings, "client_secret_file": str(tmp_path / "secret")}]))
        process.variables = {"CODEZERO_HUB_PROVIDERS_FILE": str(tmp_path / "providers")}
        process.start().owner()
        first, later = (chromium.new_context(locale="en-GB") for _ in range(2))
        for context in (first, later):
            context.set_default_timeout(PATIENCE_MS)
            complaints.watch(context, process.url, issuer)
        page = first.new_page()
        page.goto(f"{process.url}/sign-in?return_to=/ui/account")
        page.get_by_label("E-mail address").fill(OWNER["email"])
        page.get_by_label("Password").fill(OWNER["password"])
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("button", name="Add your identity at Acme").click()
        page.wait_for_url(f"{process.url}/ui/account**")
        expect(page.get_by_role("heading", level=1)).to_have_text("Account")

        page = later.new_page()
        page.goto(f"{process.url}/sign-in?return_to=/ui/account")
        page.get_by_role("link", name="Sign in with Acme").click()
        page.wait_for_url(f"{process.url}/ui/account")
        expect(page.get_by_role("main")).to_contain_text(OWNER["email"])
        for context in (first, later):
            context.close()
        peer.terminate()
    process.close()
    complaints.check()


# --- the organization ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.capability("page", "invitation.list", "invitation.withdraw")
def test_an_invitation_is_withdrawn(browse: Browsing, hub: BrowsedHub) -> None:
    invited = {"email": "nobody-yet@example.com", "role": "viewer"}
    link = hub.owner.ask("POST", f"/organizations/{hub.organization}/invitations", invited)["link"]
    page = browse(hub.owner)
    shown(page, hub.address("/members?tab=invitations"), "Members")
    row(page, "Invitations", invited["email"]).get_by_role("button", name="Revoke").click()
    agree(page, "Revoke", f"Revoke the invitation of {invited['email']}?")

    expect(page.get_by_text(f"The invitation of {invited['email']} is revoked")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text=invited["email"])).to_have_count(0)
    with pytest.raises(CodezeroError):
        Person(hub.process.endpoint).accept_invitation(link, name="Nobody", password=PASSWORD)


@pytest.mark.capability("page", "service-account.list", "service-account.create", "service-account.remove")
def test_a_service_account_is_made_and_its_keys_end_with_it(browse: Browsing, hub: BrowsedHub) -> None:
    page = browse(hub.owner)
    shown(page, hub.address("/apikeys?tab=accounts"), "API keys")
    page.get_by_role("button", name="New service account").click()
    page.get_by_role("dialog").get_by_label("Name").fill("robot")
    choose(page, "What it is", "Auditor")
    page.get_by_role("dialog").get_by_role("button", name="Make it").click()
    expect(row(page, "Service accounts", "robot")).to_contain_text("Auditor")
    accounts = f"/organizations/{hub.organization}/service-accounts"
    (made,) = [one for one in hub.owner.ask("GET", accounts)["items"] if one["name"] == "robot"]
    keys = f"/organizations/{hub.organization}/apikeys"
    key = hub.owner.ask("POST", keys, {"name": "k", "service_account": made["id"]})["key"]
    audit = f"/api/v1/organizations/{hub.organization}/audit"

    def reads() -> int:
        return hub.process.endpoint.request("GET", audit, headers={"Authorization": f"Bearer {key}"}).status

    assert (made["role"], reads()) == ("auditor", 200)
    row(page, "Service accounts", "robot").get_by_role("button", name="Remove").click()
    agree(page, "Remove", "Remove robot?")

    expect(page.get_by_text("The service account robot is removed")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="robot")).to_have_count(0)
    assert "robot" not in names(hub, "service-accounts")
    assert reads() == 401


@pytest.mark.capability("page", "audit.list", "audit.export", "audit.verify")
def test_the_audit_is_read_exported_and_verified(browse: Browsing, hub: BrowsedHub, tmp_path: Path) -> None:
    made = hub.owner.ask("POST", f"/organizations/{hub.organization}/spaces", {"name": "audited"})
    page = browse(hub.owner)
    shown(page, hub.address("/audit"), "Audit")
    table = page.get_by_role("table", name="Audit entries, the latest first")
    entry = table.get_by_role("row").filter(has_text="space.create").filter(has_text="audited")
    expect(entry).to_contain_text(OWNER["name"])
    entry.click()
    expect(page.get_by_role("dialog")).to_contain_text(made["id"])
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)

    page.get_by_role("button", name="Export").click()
    dialog = page.get_by_role("dialog", name="Export the audit")
    with page.expect_download() as downloading:
        dialog.get_by_role("button", name="Export").click()
    downloading.value.save_as(tmp_path / "audit.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    told = dialog.get_by_role("status").inner_text()
    dialog.get_by_role("button", name="Close").last.click()
    assert made["id"] in {line.get("target", {}).get("id") for line in lines}
    assert [list(line) for line in lines if "checkpoint" in line]
    assert f"up to number {lines[-2]['number']}" in told

    page.get_by_role("button", name="Verify").click()
    dialog = page.get_by_role("dialog", name="Verify the audit")
    expect(dialog.get_by_text("It is whole")).to_be_visible()
    verified = hub.owner.ask("POST", f"/organizations/{hub.organization}/audit/verify")
    assert f"All {verified['entries']:,} entries" in dialog.get_by_role("status").inner_text()


@pytest.mark.capability("page", "policy.explain")
def test_the_simulator_says_what_the_hub_says(browse: Browsing, hub: BrowsedHub) -> None:
    hub.person("Vera", "viewer")
    space = hub.owner.ask("POST", f"/organizations/{hub.organization}/spaces", {"name": "simulated"})["id"]
    page = browse(hub.owner)
    shown(page, hub.address(f"/spaces/{space}/policy?tab=simulator"), "Policy")
    for who, words in ((OWNER["name"], "Yes"), ("Vera", "No")):
        select(page, "As whom", re.compile(who))
        page.get_by_role("combobox", name="Service").fill("shop/orders")
        page.get_by_role("button", name="Ask", exact=True).click()
        answer = page.get_by_role("region", name="Answer")
        expect(answer.get_by_role("heading", name=words)).to_be_visible()
        asked = {"operation": "consume", "service": "shop/orders", "as": f"{who.lower()}@example.com"}
        told = hub.owner.ask("POST", f"/organizations/{hub.organization}/spaces/{space}/can-i", asked)
        assert told["allowed"] == (words == "Yes")
        expect(answer).to_contain_text(told["reason"])


@pytest.mark.capability("page", "space.join-token", "space.show")
def test_another_join_token_takes_the_place_of_the_first(browse: Browsing, hub: BrowsedHub) -> None:
    made = hub.owner.ask("POST", f"/organizations/{hub.organization}/spaces", {"name": "waits"})

    def joins(token: str) -> int:
        body = JoinRequest(token, certificates.certificate_request(certificates.new_key()), "test")
        headers = {"Content-Type": "application/json"}
        return hub.process.endpoint.request("POST", JOIN_PATH, body=msgspec.json.encode(body), headers=headers).status

    page = browse(hub.owner)
    shown(page, hub.address(f"/spaces/{made['id']}"), "waits")
    page.get_by_role("button", name="Join a cluster").first.click()
    dialog = page.get_by_role("dialog", name="Let a cluster become waits")
    dialog.get_by_role("button", name="Make a join token").click()
    token = told_once(dialog, "Copy the join token")
    assert joins(made["join_token"]) == 403
    assert joins(token) == 200

    expect(dialog.get_by_text("Waiting for the cluster")).to_have_count(0)
    dialog.get_by_role("button", name="Go to the Teamspace").click()
    expect(page.get_by_text("No cluster has joined yet")).to_have_count(0)
