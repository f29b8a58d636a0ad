"""Signing in, from the side of people: the first owner, a browser by password, czctl by a browser, and what stops others."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from tests.hub_databases import HubClock
from tests.hub_people import CALLBACK, PASSWORD, Place, answered, place_of

from codezero.hub.context import Hub
from codezero.hub.signin import attempts, first_owner, passwords
from codezero.hub.signin import browser as signin_browser


@pytest.fixture(autouse=True)
def quick_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signin_browser, "REFUSED_AFTER", 0.0)


@pytest.fixture
async def place(hub: Hub) -> AsyncIterator[Place]:
    async with place_of(hub) as made:
        yield made


async def test_the_first_owner_comes_by_the_link_and_is_signed_in(place: Place) -> None:
    browser = await place.owner()
    me = (await browser.client.get("/api/v1/auth/me")).json()

    assert me["user"]["email"] == "ada@example.com"
    assert [(one["name"], one["role"]) for one in me["organizations"]] == [("Acme", "owner")]
    assert ("signin.first-owner", "ok") in await place.told()


async def test_there_is_one_first_owner(place: Place) -> None:
    link = await first_owner.link(place.hub)
    assert link is not None
    await place.owner()
    late = place.browser()
    page = await late.submit(
        await late.open(link), email="eve@example.com", name="Eve", password=PASSWORD, organization="Evil"
    )

    assert page.status == 401
    assert await first_owner.link(place.hub) is None


async def test_only_the_latest_link_is_good(place: Place) -> None:
    first = await first_owner.link(place.hub)
    await first_owner.link(place.hub)
    assert first is not None
    browser = place.browser()
    page = await browser.submit(
        await browser.open(first), email="eve@example.com", name="Eve", password=PASSWORD, organization="Evil"
    )

    assert page.status == 401
    assert "owner-link" in page.text


async def test_the_link_is_good_for_a_day(place: Place, hub_clock: HubClock) -> None:
    link = await first_owner.link(place.hub)
    assert link is not None
    hub_clock.advance(timedelta(days=1))
    browser = place.browser()
    page = await browser.submit(
        await browser.open(link), email="eve@example.com", name="Eve", password=PASSWORD, organization="Evil"
    )

    assert page.status == 401


async def test_two_who_use_the_link_at_once_are_not_both_first(place: Place) -> None:
    link = await first_owner.link(place.hub)
    assert link is not None
    browsers = [place.browser(), place.browser()]
    pages = [await browser.open(link) for browser in browsers]
    answers = await asyncio.gather(
        *(
            browser.submit(page, email=f"p{number}@example.com", name="P", password=PASSWORD, organization="O")
            for number, (browser, page) in enumerate(zip(browsers, pages, strict=True))
        )
    )

    assert sorted(answer.status for answer in answers) == [200, 401]


@pytest.mark.parametrize("password", ["short", "x" * 11, "x" * 1025])
async def test_a_password_is_long_enough_and_not_too_long(place: Place, password: str) -> None:
    link = await first_owner.link(place.hub)
    assert link is not None
    browser = place.browser()
    page = await browser.submit(
        await browser.open(link), email="ada@example.com", name="Ada", password=password, organization="Acme"
    )

    assert page.status == 400
    assert "12 to 1024 characters" in page.text
    assert password not in page.source


async def test_a_browser_signs_in_by_password_and_out(place: Place) -> None:
    await place.owner()
    browser = place.browser()
    page = await browser.sign_in("  Ada@Example.com ")

    assert "You are signed in as Ada" in page.text
    assert (await browser.client.get("/api/v1/auth/me")).json()["via"] == "browser"
    page = await browser.submit(page)
    assert page.path == "/sign-in"
    assert (await browser.client.get("/api/v1/auth/me")).status_code == 401


async def test_a_cookie_that_was_kept_is_worth_nothing_after_signing_out(place: Place) -> None:
    browser = await place.owner()
    cookie = browser.client.cookies["__Host-codezero"]
    await browser.submit(await browser.open("/sign-in"))
    thief = place.browser()
    answer = await thief.client.get("/api/v1/auth/me", headers={"Cookie": f"__Host-codezero={cookie}"})

    assert answer.status_code == 401


async def test_the_cookie_is_for_this_host_alone_and_for_no_script(place: Place) -> None:
    await place.owner()
    answer = await place.browser().client.post(
        "/api/v1/auth/login", json={"email": "ada@example.com", "password": PASSWORD}
    )
    name, *attributes = answer.headers["set-cookie"].split("; ")

    assert name.startswith("__Host-codezero=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    assert not any(attribute.lower().startswith("domain") for attribute in attributes)


async def test_a_session_ends_after_a_day_without_use_and_after_a_week_in_any_case(
    place: Place, hub_clock: HubClock
) -> None:
    await place.owner()
    idle, busy = place.browser(), place.browser()
    await idle.sign_in("ada@example.com")
    await busy.sign_in("ada@example.com")
    for _ in range(13):
        hub_clock.advance(timedelta(hours=12))
        assert (await busy.client.get("/api/v1/auth/me")).status_code == 200
    assert (await idle.client.get("/api/v1/auth/me")).status_code == 401
    hub_clock.advance(timedelta(hours=12))

    assert (await busy.client.get("/api/v1/auth/me")).status_code == 401


async def test_who_has_an_account_cannot_be_told_from_who_has_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words, and a hash of the same cost worked out in both cases."""
    await place.owner()
    worked: list[str] = []
    verify = passwords._verify

    def noted(password: str, hashed: str) -> bool:
        worked.append(hashed)
        return verify(password, hashed)

    monkeypatch.setattr(passwords, "_verify", noted)
    answers = [
        await place.browser().client.post("/api/v1/auth/login", json={"email": email, "password": "wrong wrong wrong"})
        for email in ("ada@example.com", "nobody@example.com")
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].content == answers[1].content
    assert len({hashed.split("$")[3] for hashed in worked}) == 1
    assert len(worked) == 2
    assert (await place.told())[-1] == ("signin.password", "denied")


async def test_a_refusal_takes_its_time_whoever_is_meant(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit is told of those who are known alone, which would be seen by the time it takes."""
    await place.owner()
    monkeypatch.setattr(signin_browser, "REFUSED_AFTER", 1.0)
    loop = asyncio.get_running_loop()
    for email in ("ada@example.com", "nobody@example.com"):
        began = loop.time()
        assert (await place.browser().sign_in(email, "wrong wrong wrong")).status == 401
        assert loop.time() - began >= 1.0


async def test_guessing_a_password_is_slowed_down_also_with_the_right_one(place: Place, hub_clock: HubClock) -> None:
    await place.owner()
    guessing = place.browser("198.51.100.1")
    statuses = [
        (await guessing.sign_in("ada@example.com", f"wrong guess number {number}")).status for number in range(11)
    ]

    assert statuses == [401] * attempts.PASSWORD_HERE.burst + [429]
    assert (await guessing.sign_in("ada@example.com")).status == 429
    assert (await place.browser("198.51.100.2").sign_in("ada@example.com")).status == 200, "others are not locked out"
    hub_clock.advance(timedelta(minutes=1))
    assert (await guessing.sign_in("ada@example.com")).status == 200


async def test_nobody_is_told_by_slowness_that_an_account_exists(place: Place) -> None:
    guessing = place.browser("198.51.100.1")
    statuses = [(await guessing.sign_in("nobody@example.com", "wrong guess")).status for _ in range(11)]

    assert statuses == [401] * attempts.PASSWORD_HERE.burst + [429]


@pytest.mark.parametrize(
    "origin",
    [None, "null", "https://evil.example", "http://hub.test", "https://hub.test.evil.example", "https://hub.test:444"],
)
async def test_a_form_from_elsewhere_signs_nobody_in(place: Place, origin: str | None) -> None:
    await place.owner()
    browser = place.browser()
    headers = {} if origin is None else {"Origin": origin}
    answer = await browser.client.post(
        "/sign-in", data={"email": "ada@example.com", "password": PASSWORD}, headers=headers
    )

    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://hub.test"}, 403),
        ({"X-Codezero-CSRF": "*"}, 403),
        ({"X-Codezero-CSRF": "*", "Origin": "https://evil.example"}, 403),
        ({"X-Codezero-CSRF": "*", "Origin": "null"}, 403),
        ({"X-Codezero-CSRF": "guess", "Origin": "https://hub.test"}, 403),
        ({"X-Codezero-CSRF": "", "Origin": "https://hub.test"}, 403),
        ({"X-Codezero-CSRF": "*", "Origin": "https://hub.test"}, 200),
    ],
)
async def test_a_change_by_cookie_needs_the_token_and_the_origin(
    place: Place, headers: dict[str, str], status: int
) -> None:
    browser = await place.owner()
    right = browser.csrf_headers["X-Codezero-CSRF"]
    given = {name: right if value == "*" else value for name, value in headers.items()}
    answer = await browser.ask("POST", "/api/v1/auth/sign-out-everywhere", headers=given)

    assert answer.status_code == status


async def test_the_token_of_another_session_is_no_good(place: Place) -> None:
    browser, other = await place.owner(), place.browser()
    await other.sign_in("ada@example.com")
    answer = await browser.ask("POST", "/api/v1/auth/sign-out-everywhere", headers=other.csrf_headers)

    assert answer.status_code == 403


async def test_pages_cannot_be_framed_run_nothing_and_name_their_fields(place: Place) -> None:
    browser = await place.owner()
    laptop = place.laptop()
    pages = [
        await place.browser().open("/sign-in"),
        await place.browser().open("/first-owner?token=x"),
        await browser.open("/sign-in"),
        await browser.open("/device"),
        await browser.open(laptop.authorize_path()),
    ]

    for page in pages:
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "style-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert page.headers["referrer-policy"] == "same-origin"
        assert page.headers["cache-control"] == "no-store"
        assert "script" not in page.tags
        assert "style" not in page.tags
        assert 'lang="en"' in page.source
        assert page.ids <= page.labels
        assert page.tags.count("h1") == 1
    style = await browser.client.get("/pages/style.css")
    assert style.headers["content-type"].startswith("text/css")


async def test_what_people_call_themselves_is_shown_and_not_run(place: Place) -> None:
    browser = await place.owner()
    laptop = place.laptop('"><script>alert(1)</script><b onclick=x>')
    page = await browser.open(laptop.authorize_path())

    assert "script" not in page.tags
    assert "<script>" in page.text


async def test_czctl_signs_in_by_the_browser(place: Place) -> None:
    browser = await place.owner()
    laptop = place.laptop()
    page = await browser.open(laptop.authorize_path())
    assert "ada's laptop" in page.text
    assert "192.0.2.7" in page.text
    await browser.submit(page, answer="approve")
    given = answered(browser)
    answer = await laptop.exchange(given["code"])
    laptop.keep(answer)
    me = (await laptop.ask("GET", "/api/v1/auth/me")).json()

    assert (given["state"], given["iss"]) == (laptop.state, "https://hub.test")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["token_type"] == "Bearer"
    assert answer.json()["expires_in"] == 600
    assert answer.json()["user"]["email"] == "ada@example.com"
    assert me["device"] == {"id": laptop.device, "name": "ada's laptop"}
    assert ("signin.browser", "ok") in await place.told()


async def test_somebody_who_is_not_signed_in_signs_in_first_and_comes_back(place: Place) -> None:
    await place.owner()
    browser = place.browser()
    laptop = place.laptop()
    page = await browser.open(laptop.authorize_path())
    assert page.path == "/sign-in"
    page = await browser.submit(page, email="ada@example.com", password=PASSWORD)
    assert page.path == "/api/v1/auth/authorize"
    await browser.submit(page, answer="approve")

    laptop.keep(await laptop.exchange(answered(browser)["code"]))


async def test_a_refusal_is_told_to_czctl(place: Place) -> None:
    browser = await place.owner()
    laptop = place.laptop()
    await browser.submit(await browser.open(laptop.authorize_path()), answer="deny")

    assert answered(browser)["error"] == "access_denied"
    assert answered(browser)["state"] == laptop.state


async def test_the_approving_page_leads_to_the_listener_and_nowhere_else(place: Place) -> None:
    """Chromium asks form-action for the redirect after a form as well, and has no way to name an IPv6 address."""
    browser = await place.owner()
    laptop = place.laptop()
    page = await browser.open(laptop.authorize_path())
    page6 = await browser.open(laptop.authorize_path(redirect_uri="http://[::1]:40123/callback"))

    assert page.headers["content-security-policy"].endswith("form-action 'self' http://127.0.0.1:40123")
    assert page6.headers["content-security-policy"].endswith("form-action 'self' http:")


BAD_REDIRECTS = [
    "http://localhost:40123/callback",
    "http://LOCALHOST:40123/callback",
    "https://127.0.0.1:40123/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1:0/callback",
    "http://127.0.0.1:00080/callback",
    "http://127.0.0.1:65536/callback",
    "http://127.0.0.1:99999/callback",
    "http://127.0.0.1:40123/callback/",
    "http://127.0.0.1:40123/callback?x=1",
    "http://127.0.0.1:40123/callback#x",
    "http://127.0.0.1:40123/Callback",
    "http://127.0.0.1:40123//callback",
    "http://127.0.0.1:40123/x/../callback",
    "http://127.0.0.1:40123/%63allback",
    "http://127.0.0.1:40123@evil.example/callback",
    "http://user@127.0.0.1:40123/callback",
    "http://user:pass@127.0.0.1:40123/callback",
    "http://evil.example:40123/callback",
    "http://127.0.0.1.evil.example:40123/callback",
    "http://evil.example/http://127.0.0.1:40123/callback",
    "http://127.0.0.1:40123\\@evil.example/callback",
    "http:\\\\127.0.0.1:40123\\callback",
    "http:127.0.0.1:40123/callback",
    "//127.0.0.1:40123/callback",
    "http://127.1:40123/callback",
    "http://2130706433:40123/callback",
    "http://0x7f000001:40123/callback",
    "http://127.0.0.2:40123/callback",
    "http://0.0.0.0:40123/callback",
    "http://[::]:40123/callback",
    "http://[::ffff:127.0.0.1]:40123/callback",
    "http://[0:0:0:0:0:0:0:1]:40123/callback",
    "http://[::1%25eth0]:40123/callback",
    "http://::1:40123/callback",
    "http://127.0.0.1:40123/callback\r\nSet-Cookie: x=1",
    "http://127.0.0.1:40123/callback\n",
    " http://127.0.0.1:40123/callback",
    "http://127.0.0.1:４０１２３/callback",
    "http://127.0.0.1:40123/callback\t",
    "javascript:alert(1)//127.0.0.1:40123/callback",
    "data:text/html,http://127.0.0.1:40123/callback",
    "codezero://callback",
    "urn:ietf:wg:oauth:2.0:oob",
]


@pytest.mark.parametrize("redirect_uri", BAD_REDIRECTS)
async def test_the_browser_is_sent_to_the_machines_own_address_alone(place: Place, redirect_uri: str) -> None:
    browser = place.browser()
    page = await browser.open(place.laptop().authorize_path(redirect_uri=redirect_uri))

    assert page.status == 400
    assert browser.elsewhere is None
    assert page.forms == []


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": ""}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
    ],
)
async def test_what_is_asked_wrongly_is_told_to_czctl(place: Place, changed: dict[str, str], error: str) -> None:
    browser = await place.owner()
    await browser.open(place.laptop().authorize_path(**changed))

    assert answered(browser)["error"] == error
    assert answered(browser)["iss"] == "https://hub.test"


@pytest.mark.parametrize("changed", [{"state": ""}, {"state": "short"}, {"client_id": "evil"}, {"client_id": ""}])
async def test_what_cannot_be_answered_is_told_to_the_person(place: Place, changed: dict[str, str]) -> None:
    browser = await place.owner()
    page = await browser.open(place.laptop().authorize_path(**changed))

    assert page.status == 400
    assert browser.elsewhere is None


async def test_something_said_twice_is_refused(place: Place) -> None:
    browser = await place.owner()
    path = f"{place.laptop().authorize_path()}&redirect_uri=http%3A%2F%2F127.0.0.1%3A1%2Fcallback"

    assert (await browser.open(path)).status == 400


@pytest.mark.parametrize(
    "back",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "/device@evil.example",
        "/api/v1/auth/authorize?x\n",
        "/device?x",
        "/",
    ],
)
async def test_signing_in_leads_back_to_our_own_pages_alone(place: Place, back: str) -> None:
    await place.owner()
    browser = place.browser()
    page = await browser.open("/sign-in")
    page.forms[0].fields["return_to"] = back
    page = await browser.submit(page, email="ada@example.com", password=PASSWORD)

    assert browser.elsewhere is None
    assert page.path == "/sign-in"


async def new_code(place: Place) -> tuple[str, object]:
    browser = await place.owner()
    laptop = place.laptop()
    await browser.submit(await browser.open(laptop.authorize_path()), answer="approve")
    return answered(browser)["code"], laptop


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": "a" * 43},
        {"code_verifier": ""},
        {"redirect_uri": "http://127.0.0.1:40124/callback"},
        {"redirect_uri": "http://[::1]:40123/callback"},
        {"redirect_uri": ""},
    ],
)
async def test_a_code_is_for_whoever_asked_and_there_is_one_try(place: Place, changed: dict[str, str]) -> None:
    code, laptop = await new_code(place)
    answer = await laptop.exchange(code, **changed)  # type: ignore[attr-defined]

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")
    assert (await laptop.exchange(code)).json()["error"] == "invalid_grant"  # type: ignore[attr-defined]


async def test_a_code_is_good_for_a_minute(place: Place, hub_clock: HubClock) -> None:
    code, laptop = await new_code(place)
    hub_clock.advance(timedelta(seconds=60))

    assert (await laptop.exchange(code)).json()["error"] == "invalid_grant"  # type: ignore[attr-defined]


async def test_a_code_that_comes_twice_ends_what_it_began(place: Place) -> None:
    code, laptop = await new_code(place)
    laptop.keep(await laptop.exchange(code))  # type: ignore[attr-defined]
    assert (await laptop.exchange(code)).json()["error"] == "invalid_grant"  # type: ignore[attr-defined]

    assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 401  # type: ignore[attr-defined]
    assert (await laptop.refresh()).json()["error"] == "invalid_grant"  # type: ignore[attr-defined]


async def test_without_a_proof_there_are_no_tokens(place: Place) -> None:
    code, laptop = await new_code(place)
    answer = await laptop.exchange(code, device_proof="")  # type: ignore[attr-defined]

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert answer.json()["code"] == "CZ-HUB-009"


async def test_a_form_that_says_something_twice_gets_no_tokens(place: Place) -> None:
    code, laptop = await new_code(place)
    answer = await laptop.client.post(  # type: ignore[attr-defined]
        "/api/v1/auth/token",
        content=f"grant_type=authorization_code&code={code}&code={code}&redirect_uri={CALLBACK}",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_the_hub_says_what_it_is_as_an_authorization_server(place: Place) -> None:
    client = place.browser().client
    said = (await client.get("/.well-known/oauth-authorization-server")).json()
    keys = (await client.get("/.well-known/jwks.json")).json()

    assert said["issuer"] == "https://hub.test"
    assert said["code_challenge_methods_supported"] == ["S256"]
    assert said["authorization_response_iss_parameter_supported"] is True
    assert all(set(key) & {"d", "k", "p"} == set() for key in keys["keys"])


@pytest.mark.capability("operation", "auth.sessions.list", "auth.sessions.end")
async def test_all_places_are_listed_and_can_be_ended(place: Place) -> None:
    browser = await place.owner()
    laptop = place.laptop()
    await laptop.sign_in(browser)
    listed = (await browser.client.get("/api/v1/auth/sessions")).json()["items"]
    assert [(one["kind"], one["is_this"]) for one in sorted(listed, key=lambda one: one["kind"])] == [
        ("browser", True),
        ("device", False),
    ]
    (device,) = (one["id"] for one in listed if one["kind"] == "device")
    answer = await browser.ask("DELETE", f"/api/v1/auth/sessions/{device}")

    assert answer.status_code == 204
    assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 401
    assert (await laptop.refresh()).json()["error"] == "invalid_grant"
    assert ("signin.end", "ok") in await place.told()


@pytest.mark.capability("operation", "auth.sign-out-everywhere")
async def test_signing_out_everywhere_ends_all(place: Place) -> None:
    browser, other, laptop = await place.owner(), place.browser(), place.laptop()
    await other.sign_in("ada@example.com")
    await laptop.sign_in(browser)
    answer = await browser.ask("POST", "/api/v1/auth/sign-out-everywhere")

    assert answer.json() == {"ended": 3}
    assert [(await one.client.get("/api/v1/auth/me")).status_code for one in (browser, other)] == [401, 401]
    assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 401


@pytest.mark.capability("operation", "auth.password")
async def test_a_new_password_ends_all_other_places(place: Place) -> None:
    browser, other, laptop = await place.owner(), place.browser(), place.laptop()
    await other.sign_in("ada@example.com")
    await laptop.sign_in(browser)
    fresh = "another horse battery"
    wrong = await browser.ask("POST", "/api/v1/auth/password", {"present": "wrong wrong wrong", "new": fresh})
    answer = await browser.ask("POST", "/api/v1/auth/password", {"present": PASSWORD, "new": fresh})

    assert (wrong.status_code, answer.status_code) == (401, 204)
    assert (await browser.client.get("/api/v1/auth/me")).status_code == 200
    assert (await other.client.get("/api/v1/auth/me")).status_code == 401
    assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 401
    assert (await place.browser().sign_in("ada@example.com")).status == 401
    assert (await place.browser().sign_in("ada@example.com", fresh)).status == 200


@pytest.mark.capability("operation", "auth.sign-out")
async def test_czctl_signs_out_itself(place: Place) -> None:
    browser, laptop = await place.owner(), place.laptop()
    await laptop.sign_in(browser)
    answer = await laptop.ask("POST", "/api/v1/auth/logout")

    assert answer.status_code == 204
    assert (await laptop.ask("GET", "/api/v1/auth/me")).status_code == 401
    assert (await browser.client.get("/api/v1/auth/me")).status_code == 200
