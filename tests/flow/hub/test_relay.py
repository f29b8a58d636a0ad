"""The relay, on both databases: machines are taken and let go, and what is asked and answered goes through as it is, bounded, to nobody else (T37, T41)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx2
import msgspec
import pytest
from sqlalchemy import func, select, update
from tests.hub_api import Asker, api_of, listening, new_key, new_organization, new_person
from tests.hub_databases import HubClock
from tests.hub_machines import EVENTS, JSON, PROOF, STATUS, Machine, Page, machine, page, token_of, unknown_machine
from tests.hub_spaces import served
from websockets.exceptions import ConnectionClosed, InvalidStatus

from codezero.hub.api import machines as machines_api
from codezero.hub.api.sockets import MOST_STRANGERS
from codezero.hub.context import Hub
from codezero.hub.relay import answers, connections, relaying
from codezero.hub.relay.relaying import Relay
from codezero.hub.signals import Changed
from codezero.hub.signin import browser, standing
from codezero.hub.signin.visitors import Visitor
from codezero.hub.storage.tables import Answered, BrowserSession, Device, SignIn, User
from codezero.model import problems
from codezero.model.ids import new_ulid
from codezero.model.problems import Problem
from codezero.model.roles import Role
from codezero.wire.paired import (
    ALLOWED,
    MAX_PIECE,
    MOST_AT_ONCE,
    RELAY_PATH,
    Alive,
    Ask,
    Broken,
    Head,
    Hello,
    More,
    Piece,
    Stop,
)

NDJSON = "application/x-ndjson"


@pytest.fixture
async def reached(hub: Hub) -> AsyncIterator[Hub]:
    async with served(hub) as made:
        yield made


@pytest.fixture
async def organization(reached: Hub) -> str:
    return await new_organization(reached, "Acme")


@pytest.fixture
async def ada(reached: Hub, organization: str) -> Asker:
    return await new_person(reached, "Ada", {organization: Role.DEVELOPER})


@pytest.fixture
async def bob(reached: Hub, organization: str) -> Asker:
    return await new_person(reached, "Bob", {organization: Role.OWNER})


@pytest.fixture
async def laptop(reached: Hub, ada: Asker) -> AsyncGenerator[Machine, None]:
    async with machine(reached.public_url, ada) as made:
        yield made


@pytest.fixture
async def adas(reached: Hub, ada: Asker) -> AsyncGenerator[Page, None]:
    async with page(reached.public_url, ada) as made:
        yield made


def code_of(answer: httpx2.Response) -> str:
    return answer.json()["code"]


def is_refused(answer: httpx2.Response, problem: Problem) -> bool:
    """Whether that is an answer of the Hub's own, with that problem."""
    assert answer.status_code == problem.status, answer.text
    assert "x-codezero-answered-by" not in answer.headers
    return code_of(answer) == problem.code


async def asked(adas: Page, laptop: Machine, what: Any = STATUS) -> tuple[asyncio.Task[httpx2.Response], Ask]:
    """A request under way, and what the machine hears of it."""
    task = asyncio.ensure_future(adas.ask(laptop.id, what))
    return task, await laptop.hear(Ask)


async def test_a_page_asks_and_its_machine_answers(adas: Page, laptop: Machine) -> None:
    body = '{"services": ["shop/orders"], "name": "Jürgen"}'
    what = {"method": "PUT", "target": "/agent/v1/consume?dry=1", "proof": PROOF, "body": body}
    task, question = await asked(adas, laptop, what)
    await laptop.say(Head(question.id, 200, "application/json; charset=utf-8"))
    await laptop.say(Piece(question.id, b'{"consumed": ["shop/orders"]}', is_last=True))
    answer = await task

    assert (question.method, question.target, question.proof) == ("PUT", "/agent/v1/consume?dry=1", PROOF)
    assert question.body == body.encode()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == JSON
    assert answer.headers["x-codezero-answered-by"] == "machine"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.json() == {"consumed": ["shop/orders"]}


@pytest.mark.parametrize("status", [201, 207, 401, 403, 404, 409, 418, 422, 500, 503, 599])
async def test_the_status_of_the_machine_is_the_status_of_the_answer(adas: Page, laptop: Machine, status: int) -> None:
    task = asyncio.ensure_future(adas.ask(laptop.id))
    await laptop.answer(b'{"code": "CZ-PAIR-001"}', status=status, kind="application/problem+json")
    answer = await task

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-codezero-answered-by"] == "machine"
    assert code_of(answer) == "CZ-PAIR-001"


@pytest.mark.parametrize(("status", "kind"), [(204, ""), (200, ""), (304, JSON)])
async def test_an_answer_without_content_has_none(adas: Page, laptop: Machine, status: int, kind: str) -> None:
    task = asyncio.ensure_future(adas.ask(laptop.id))
    await laptop.answer(b"", status=status, kind=kind)
    answer = await task

    assert (answer.status_code, answer.content) == (status, b"")
    assert "content-type" not in answer.headers


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("text/html", b"<script>alert(1)</script>"),
        ("text/javascript", b"alert(1)"),
        ("application/jsonp", b"{}"),
        ("application/json\r\nset-cookie: a=b", b"{}"),
        ("", b"<script>alert(1)</script>"),
    ],
)
async def test_what_a_browser_could_run_is_not_passed_on(
    adas: Page, laptop: Machine, kind: str, content: bytes
) -> None:
    task = asyncio.ensure_future(adas.ask(laptop.id))
    await laptop.answer(content, kind=kind)

    answer = await task
    assert is_refused(answer, problems.PROTOCOL)
    assert b"alert" not in answer.content
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"target": "/agent/v1/shutdown", "method": "POST"}, problems.PAGE_MAY_NOT),
        ({"method": "DELETE"}, problems.PAGE_MAY_NOT),
        ({"method": "HEAD"}, problems.PAGE_MAY_NOT),
        ({"target": "/agent/v1/status/"}, problems.PAGE_MAY_NOT),
        ({"target": "/agent/v1/../v1/status"}, problems.PAGE_MAY_NOT),
        ({"target": "/agent/v1/%73tatus"}, problems.PAGE_MAY_NOT),
        ({"target": "//agent/v1/status"}, problems.PAGE_MAY_NOT),
        ({"target": "http://127.0.0.1/agent/v1/status"}, problems.NOT_VALID),
        ({"target": "/agent/v1/status\r\nHost: a"}, problems.NOT_VALID),
        ({"target": "/agent/v1/status#a"}, problems.NOT_VALID),
        ({"target": "/agent/v1/status?ü"}, problems.NOT_VALID),
        ({"target": f"/agent/v1/status?{'a' * 2048}"}, problems.NOT_VALID),
        ({"method": "get"}, problems.NOT_VALID),
        ({"proof": ""}, problems.NOT_VALID),
        ({"proof": "a.b.c\n"}, problems.NOT_VALID),
        ({"proof": f"{'a' * 2048}.b.c"}, problems.NOT_VALID),
        ({"body": "a" * 1024 * 1024}, problems.TOO_LARGE),
        ({"body": {}}, problems.NOT_VALID),
        ({"more": 1}, problems.NOT_VALID),
    ],
)
async def test_the_hub_passes_on_nothing_that_no_machine_does_for_a_page(
    adas: Page, laptop: Machine, changed: dict[str, Any], problem: Problem
) -> None:
    answer = await adas.ask(laptop.id, {**STATUS, **changed})

    assert is_refused(answer, problem)
    if "proof" in changed:
        assert changed["proof"] not in answer.text or not changed["proof"]
    # The machine has heard nothing of it.
    task, question = await asked(adas, laptop)
    await laptop.say(Head(question.id, 204), Piece(question.id, is_last=True))
    assert (await task).status_code == 204
    assert question.id == 1


@pytest.mark.parametrize("what", sorted(ALLOWED))
async def test_all_that_is_allowed_goes_through(adas: Page, laptop: Machine, what: tuple[str, str]) -> None:
    method, target = what
    task, question = await asked(adas, laptop, {"method": method, "target": target, "proof": PROOF})
    await laptop.say(Head(question.id, 204), Piece(question.id, is_last=True))

    assert (await task).status_code == 204
    assert (question.method, question.target) == what


async def test_everybody_has_their_own_machines_and_knows_of_no_other(
    reached: Hub, ada: Asker, bob: Asker, laptop: Machine
) -> None:
    """Also where somebody else's machine calls itself by the same id (T37)."""
    async with page(reached.public_url, ada) as adas, page(reached.public_url, bob) as bobs:
        shown = await adas.machines()
        foreign, unknown = await bobs.ask(laptop.id), await bobs.ask(new_ulid())
        none = await bobs.machines()
        async with machine(reached.public_url, bob, id=laptop.id, name="bob's") as other:
            both = [await each.machines() for each in (adas, bobs)]
            tasks = [asyncio.ensure_future(each.ask(laptop.id)) for each in (adas, bobs)]
            await other.answer(b'"bob"')
            await laptop.answer(b'"ada"')
            said = [(await task).json() for task in tasks]

    assert [(one["machine"], one["name"]) for one in shown] == [(laptop.id, "laptop")]
    assert abs(datetime.fromisoformat(shown[0]["connected_at"]) - reached.clock()) < timedelta(minutes=5)
    assert is_refused(foreign, problems.MACHINE_AWAY)
    assert is_refused(unknown, problems.MACHINE_AWAY)
    assert foreign.content == unknown.content, "it tells whether there is such a machine"
    assert none == []
    assert [[one["name"] for one in each] for each in both] == [["laptop"], ["bob's"]]
    assert said == ["ada", "bob"]


async def test_a_machine_that_left_is_away(reached: Hub, ada: Asker, adas: Page) -> None:
    async with machine(reached.public_url, ada) as gone:
        assert len(await adas.machines()) == 1
    async with asyncio.timeout(20):
        while await adas.machines():
            await asyncio.sleep(0.05)

    assert is_refused(await adas.ask(gone.id), problems.MACHINE_AWAY)
    assert is_refused(await adas.ask("laptop"), problems.NOT_FOUND)


async def test_who_asks_is_a_person(reached: Hub, organization: str, laptop: Machine) -> None:
    key = await new_key(reached, "ci", organization, Role.ADMIN)
    async with page(reached.public_url, key) as robots:
        refused = [
            await robots.ask(laptop.id),
            await robots.client.get("/api/v1/machines", headers=dict(key.headers)),
        ]
        anonymous = await robots.client.post(f"/api/v1/machines/{laptop.id}/ask", json=STATUS)

    assert all(is_refused(one, problems.ROLE_FORBIDS) for one in refused)
    assert is_refused(anonymous, problems.NOT_SIGNED_IN)


async def signed_in_browser(hub: Hub, user: Asker) -> dict[str, str]:
    async with hub.database.transaction() as session:
        opened = browser.open_session(session, hub, await session.get_one(User, user.user), Visitor())
    name = browser.COOKIE
    return {"cookie": f"{name}={opened.cookie}", "origin": hub.public_url, "x-codezero-csrf": opened.csrf}


async def test_a_browser_asks_with_what_all_changes_need(reached: Hub, ada: Asker, laptop: Machine) -> None:
    """Pages of others get its cookie sent along, and nothing else (T36)."""
    headers = await signed_in_browser(reached, ada)
    async with page(reached.public_url, Asker(ada.user, {})) as browsers:
        for missing in ("origin", "x-codezero-csrf"):
            given = {name: value for name, value in headers.items() if name != missing}
            assert is_refused(await browsers.ask(laptop.id, headers=given), problems.ROLE_FORBIDS)
        foreign = {**headers, "origin": "https://evil.example"}
        assert is_refused(await browsers.ask(laptop.id, headers=foreign), problems.ROLE_FORBIDS)
        task = asyncio.ensure_future(browsers.ask(laptop.id, headers=headers))
        await laptop.answer(b'"yes"')

        assert (await task).json() == "yes"


async def test_answers_are_neither_kept_nor_given_again(reached: Hub, adas: Page, laptop: Machine) -> None:
    key = {"idempotency-key": "the-same-word"}
    said: list[Any] = []
    for number in range(2):
        task = asyncio.ensure_future(adas.ask(laptop.id, headers=key))
        await laptop.answer(b"%d" % number)
        said.append((await task).json())
    async with reached.database.reading() as session:
        kept = await session.scalar(select(func.count()).select_from(Answered))

    assert said == [0, 1]
    assert kept == 0


# --- streams ------------------------------------------------------------------------------------------------------------------------------


async def streamed(adas: Page, laptop: Machine, stack: AsyncExitStack) -> tuple[httpx2.Response, int]:
    """A stream that has begun, and its number."""
    opening = asyncio.ensure_future(stack.enter_async_context(adas.stream(laptop.id)))
    question: Ask = await laptop.hear(Ask)
    await laptop.say(Head(question.id, 200, NDJSON))
    return await opening, question.id


async def test_a_stream_comes_piece_by_piece_each_when_the_last_was_taken(adas: Page, laptop: Machine) -> None:
    async with AsyncExitStack() as stack:
        answer, number = await streamed(adas, laptop, stack)
        came = answer.aiter_raw()
        for line in (b'{"a": 1}\n', b'{"a": 2}\n'):
            await laptop.say(Piece(number, line))
            assert await anext(came) == line
            assert await laptop.hear() == More(number)
        await laptop.say(Piece(number, b"", is_last=True))

        assert [part async for part in came] == []
        assert answer.headers["content-type"] == NDJSON
    # A new one has another number, and nothing is left of the old one.
    task, question = await asked(adas, laptop)
    await laptop.say(Head(question.id, 204), Piece(question.id, is_last=True))
    assert (await task).status_code == 204
    assert question.id == number + 1


async def test_a_page_that_leaves_stops_the_machine(adas: Page, laptop: Machine) -> None:
    """While something comes, and while nothing does, and what was on its way is let go."""
    async with AsyncExitStack() as stack:
        answer, number = await streamed(adas, laptop, stack)
        await laptop.say(Piece(number, b"{}\n"))
        assert await laptop.hear() == More(number)
        await answer.aclose()
    assert await laptop.hear() == Stop(number)
    task, question = await asked(adas, laptop)
    task.cancel()
    assert await laptop.hear() == Stop(question.id)
    await laptop.say(Head(question.id, 200, JSON), Piece(number, b"late"), Piece(question.id, b"late", is_last=True))
    task, question = await asked(adas, laptop)
    await laptop.say(Head(question.id, 204), Piece(question.id, is_last=True))

    assert (await task).status_code == 204


async def test_an_answer_whose_machine_leaves_does_not_look_whole(adas: Page, laptop: Machine) -> None:
    async with AsyncExitStack() as stack:
        answer, number = await streamed(adas, laptop, stack)
        await laptop.say(Piece(number, b"half"))
        came = answer.aiter_raw()
        assert await anext(came) == b"half"
        assert await laptop.hear() == More(number)
        task, _ = await asked(adas, laptop)
        await laptop.socket.close()
        with pytest.raises(httpx2.RemoteProtocolError):
            await anext(came)

        assert is_refused(await task, problems.MACHINE_AWAY)


async def test_an_answer_that_the_machine_breaks_off_does_not_look_whole(adas: Page, laptop: Machine) -> None:
    async with AsyncExitStack() as stack:
        answer, number = await streamed(adas, laptop, stack)
        await laptop.say(Piece(number, b"half"))
        assert await laptop.hear() == More(number)
        await laptop.say(Broken(number))
        with pytest.raises(httpx2.RemoteProtocolError):
            async for _ in answer.aiter_raw():
                pass
    task, question = await asked(adas, laptop)
    await laptop.say(Broken(question.id))

    assert is_refused(await task, problems.PROTOCOL)


async def test_the_last_piece_is_whole_though_the_machine_leaves_after_it(adas: Page, laptop: Machine) -> None:
    task = asyncio.ensure_future(adas.ask(laptop.id))
    await laptop.answer(b"[" + b"1," * 10_000 + b"1]")
    await laptop.socket.close()

    assert len((await task).json()) == 10_001


async def test_a_large_answer_goes_through_whole(adas: Page, laptop: Machine) -> None:
    wanted = [bytes([48 + number % 10]) * MAX_PIECE for number in range(40)]
    task, question = await asked(adas, laptop)
    await laptop.say(Head(question.id, 200, JSON))
    for number, content in enumerate(wanted):
        await laptop.say(Piece(question.id, content, is_last=number == len(wanted) - 1))
        if number < len(wanted) - 1:
            assert await laptop.hear() == More(question.id)

    assert (await task).content == b"".join(wanted)


async def test_a_page_that_takes_nothing_lets_the_machine_say_nothing(
    reached: Hub, ada: Asker, laptop: Machine
) -> None:
    """What waits at the Hub is what the network holds, however much the machine has to say."""
    host, _, port = reached.public_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = msgspec.json.encode(EVENTS)
    headers = {**ada.headers, "host": f"{host}:{port}", "content-type": JSON, "content-length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"POST /api/v1/machines/{laptop.id}/ask HTTP/1.1\r\n{head}\r\n".encode() + body)
    question: Ask = await laptop.hear(Ask)
    await laptop.say(Head(question.id, 200, NDJSON))
    sent = 0
    with pytest.raises(TimeoutError):
        while True:
            await laptop.say(Piece(question.id, b"a" * MAX_PIECE))
            sent += MAX_PIECE
            assert sent < 64 * 2**20, "nobody takes it, and more is wanted"
            async with asyncio.timeout(3):
                assert await laptop.hear() == More(question.id)
    del reader
    writer.transport.abort()

    assert await laptop.hear() == Stop(question.id)


async def test_a_stream_ends_with_the_sign_in_of_the_page(reached: Hub, ada: Asker, laptop: Machine) -> None:
    headers = await signed_in_browser(reached, ada)
    async with page(reached.public_url, Asker(ada.user, headers)) as browsers, AsyncExitStack() as stack:
        answer, number = await streamed(browsers, laptop, stack)
        async with reached.database.transaction() as session:
            own = BrowserSession.user_id == ada.user
            await session.execute(update(BrowserSession).where(own).values(ended_at=reached.clock()))
            reached.signals.tell(session, Changed("user", None, None, ada.user))
        with pytest.raises(httpx2.RemoteProtocolError):
            async for _ in answer.aiter_raw():
                pass

        assert await laptop.hear() == Stop(number)


# --- machines ----------------------------------------------------------------------------------------------------------------------------


async def test_pages_have_no_business_at_the_relay(reached: Hub, ada: Asker) -> None:
    for origin in (reached.public_url, "https://evil.example", "null"):
        with pytest.raises(InvalidStatus) as refused:
            async with unknown_machine(reached.public_url, ada, origin=origin):
                pass
        assert refused.value.response.status_code == 403


@pytest.mark.parametrize(
    ("changed", "code", "retry"),
    [
        ({"token": "nonsense"}, problems.NOT_SIGNED_IN, True),
        ({"token": ""}, problems.NOT_SIGNED_IN, True),
        ({"versions": (2, 3)}, problems.VERSIONS, False),
        ({"versions": ()}, problems.VERSIONS, False),
        ({"machine": "laptop"}, problems.PROTOCOL, False),
        ({"name": ""}, problems.PROTOCOL, False),
        ({"name": "a" * 101}, problems.PROTOCOL, False),
        ({"name": "a\0b"}, problems.PROTOCOL, False),
        ({"name": "lap\u202etop"}, problems.PROTOCOL, False),
    ],
)
async def test_a_machine_is_told_why_it_is_not_taken(
    reached: Hub, ada: Asker, adas: Page, changed: dict[str, Any], code: Problem, retry: bool
) -> None:
    async with unknown_machine(reached.public_url, ada) as stranger:
        await stranger.hello(**changed)
        assert await stranger.farewell() == (code.code, retry)
    assert await adas.machines() == []


@pytest.mark.parametrize(
    "first",
    ["text", b"", b"\xc1", b"\x91" * 5000, msgspec.msgpack.encode(Alive()), msgspec.msgpack.encode(Head(1, 200))],
)
async def test_what_is_no_hello_ends_it(reached: Hub, ada: Asker, first: Any) -> None:
    async with unknown_machine(reached.public_url, ada) as stranger:
        await stranger.socket.send(first)
        assert await stranger.farewell() == (problems.PROTOCOL.code, False)


async def test_a_stranger_says_little(reached: Hub, ada: Asker) -> None:
    async with unknown_machine(reached.public_url, ada) as stranger:
        await stranger.socket.send(b"a" * 10_000)
        with pytest.raises(ConnectionClosed):
            await stranger.hear()


async def test_strangers_hold_so_many_connections_open_and_no_more(hub: Hub) -> None:
    async with api_of(hub) as api, AsyncExitStack() as all_of_them:
        for _ in range(MOST_STRANGERS):
            stream = await all_of_them.enter_async_context(listening(api, RELAY_PATH))
            assert (await stream._next())["type"] == "websocket.accept"
        async with listening(api, RELAY_PATH) as one_more:
            assert await one_more.end() == 429


async def test_a_hub_that_ends_lets_go_of_machines_and_pages(hub: Hub) -> None:
    relay = Relay(hub)
    async with served(hub, relay=relay) as ending:
        ada = await new_person(ending, "Ada", {})
        async with machine(ending.public_url, ada) as laptop, page(ending.public_url, ada) as adas:
            task, _ = await asked(adas, laptop)
            await relay.end()

            assert await laptop.farewell() == (problems.MACHINE_AWAY.code, True)
            assert is_refused(await task, problems.MACHINE_AWAY)
            assert is_refused(await adas.ask(laptop.id), problems.MACHINE_AWAY)
            async with unknown_machine(ending.public_url, ada) as late:
                await late.hello()
                assert await late.farewell() == (problems.MACHINE_AWAY.code, True)


async def test_a_stranger_who_says_nothing_is_let_go(reached: Hub, ada: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines_api, "HELLO_SECONDS", 0.2)
    async with unknown_machine(reached.public_url, ada) as stranger:
        assert await stranger.farewell() == (problems.TIMED_OUT.code, True)


async def test_a_key_of_a_service_account_is_no_sign_in_of_a_machine(
    reached: Hub, organization: str, adas: Page, ada: Asker
) -> None:
    key = await new_key(reached, "ci", organization, Role.ADMIN)
    async with unknown_machine(reached.public_url, ada) as stranger:
        await stranger.hello(token=key.headers["authorization"])
        assert await stranger.farewell() == (problems.ROLE_FORBIDS.code, False)
    assert await adas.machines() == []


async def test_a_newer_connection_takes_the_place_of_the_older_one(
    reached: Hub, ada: Asker, adas: Page, laptop: Machine
) -> None:
    task, _ = await asked(adas, laptop)
    async with machine(reached.public_url, ada, id=laptop.id, name="renamed") as newer:
        assert await laptop.farewell() == (problems.ALREADY_THERE.code, False)
        assert is_refused(await task, problems.MACHINE_AWAY)
        assert [one["name"] for one in await adas.machines()] == ["renamed"]
        task = asyncio.ensure_future(adas.ask(laptop.id))
        await newer.answer(b'"newer"')
        assert (await task).json() == "newer"


@pytest.mark.parametrize("what", ["sign-in", "device", "user"])
@pytest.mark.parametrize("is_told", [True, False])
async def test_the_relay_ends_with_the_sign_in(
    reached: Hub, ada: Asker, laptop: Machine, monkeypatch: pytest.MonkeyPatch, what: str, is_told: bool
) -> None:
    """Also where nothing was told of its end (T41)."""
    now = reached.clock()
    statement = {
        "sign-in": update(SignIn).where(SignIn.id == ada.sign_in).values(ended_at=now, ended_as="signed-out"),
        "device": update(Device).where(Device.id == ada.device).values(revoked_at=now),
        "user": update(User).where(User.id == ada.user).values(disabled_at=now),
    }[what]
    if not is_told:
        monkeypatch.setattr(standing, "LOOK_SECONDS", 0.05)
        # Whoever waits already looks again first.
        async with reached.database.transaction() as session:
            reached.signals.tell(session, Changed("user", None, None, ada.user))
    async with reached.database.transaction() as session:
        await session.execute(statement)
        if is_told:
            kind, told = ("device", ada.device) if what == "device" else ("user", ada.user)
            reached.signals.tell(session, Changed(kind, None, None, told))

    assert await laptop.farewell() == (problems.NOT_SIGNED_IN.code, True)


async def test_a_token_that_expires_does_not_end_what_its_sign_in_goes_on_with(
    reached: Hub, hub_clock: HubClock, ada: Asker, laptop: Machine
) -> None:
    hub_clock.advance(timedelta(minutes=11))
    async with unknown_machine(reached.public_url, ada) as late:
        await late.hello()
        assert await late.farewell() == (problems.NOT_SIGNED_IN.code, True)
    async with reached.database.transaction() as session:
        reached.signals.tell(session, Changed("user", None, None, ada.user))
    headers = await signed_in_browser(reached, ada)
    async with page(reached.public_url, Asker(ada.user, headers)) as browsers:
        task = asyncio.ensure_future(browsers.ask(laptop.id))
        await laptop.answer(b'"still here"')
        assert (await task).json() == "still here"


async def test_a_machine_that_is_silent_is_gone(
    reached: Hub, ada: Asker, adas: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SILENT_SECONDS", 1.0)
    async with machine(reached.public_url, ada) as silent, machine(reached.public_url, ada) as lively:

        async def live() -> None:
            while True:
                await lively.say(Alive())
                await asyncio.sleep(0.1)

        living = asyncio.ensure_future(live())
        with pytest.raises(ConnectionClosed):
            await silent.hear()
        shown = await adas.machines()
        living.cancel()

    assert [one["machine"] for one in shown] == [lively.id]


async def test_the_hub_says_that_it_is_there(reached: Hub, ada: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "ALIVE_SECONDS", 0.05)
    async with machine(reached.public_url, ada) as laptop, asyncio.timeout(20):
        content = [await laptop.socket.recv(), await laptop.socket.recv()]

    assert content == [msgspec.msgpack.encode(Alive())] * 2


@pytest.mark.parametrize("said", ["a second head", "a piece first", "a second hello", "text", "unasked", "nonsense"])
async def test_a_machine_that_does_not_keep_to_the_words_is_let_go(adas: Page, laptop: Machine, said: str) -> None:
    task, question = await asked(adas, laptop)
    head = Head(question.id, 200, JSON)
    words: dict[str, list[Any]] = {
        "a second head": [head, head],
        "a piece first": [Piece(question.id, b"a")],
        "a second hello": [Hello((1,), "a", new_ulid(), "a")],
        "text": ["text"],
        "unasked": [Head(question.id + 1, 200)],
        "nonsense": [[1, 2]],
    }
    await laptop.say(*words[said])

    assert await laptop.farewell() == (problems.PROTOCOL.code, False)
    if said == "a second head":
        with pytest.raises(httpx2.RemoteProtocolError):
            await task
    else:
        assert is_refused(await task, problems.MACHINE_AWAY)


async def test_a_machine_says_no_more_at_once_than_a_piece(adas: Page, laptop: Machine) -> None:
    task, _ = await asked(adas, laptop)
    await laptop.socket.send(b"a" * 80_000)
    with pytest.raises(ConnectionClosed):
        await laptop.hear()

    assert is_refused(await task, problems.MACHINE_AWAY)


async def test_a_machine_that_answers_nothing_in_time_is_said_to(
    adas: Page, laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "HEAD_SECONDS", 0.3)
    task, question = await asked(adas, laptop)

    assert is_refused(await task, problems.TIMED_OUT)
    assert await laptop.hear() == Stop(question.id)


async def test_an_answer_that_does_not_go_on_is_cut(
    adas: Page, laptop: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machines_api, "PIECE_SECONDS", 0.3)
    task, question = await asked(adas, laptop)
    await laptop.say(Head(question.id, 200, JSON), Piece(question.id, b'{"half":'))

    with pytest.raises(httpx2.RemoteProtocolError):
        await task
    assert await laptop.hear() == More(question.id)
    assert await laptop.hear() == Stop(question.id)


async def test_a_machine_has_so_many_questions_at_once(adas: Page, laptop: Machine) -> None:
    under_way = [await asked(adas, laptop, EVENTS) for _ in range(MOST_AT_ONCE)]

    assert is_refused(await adas.ask(laptop.id), problems.TOO_MANY_REQUESTS)
    task, question = under_way.pop()
    await laptop.say(Head(question.id, 204), Piece(question.id, is_last=True))
    assert (await task).status_code == 204
    under_way.append(await asked(adas, laptop, EVENTS))
    for task, _ in under_way:
        task.cancel()


async def test_a_user_has_so_many_machines(
    reached: Hub, ada: Asker, bob: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "MOST_EACH", 2)
    async with machine(reached.public_url, ada) as first, machine(reached.public_url, ada):
        async with unknown_machine(reached.public_url, ada) as third:
            await third.hello()
            assert await third.farewell() == (problems.TOO_MANY_REQUESTS.code, True)
        # One that comes again is not one more, and others have their own.
        async with machine(reached.public_url, ada, id=first.id), machine(reached.public_url, bob):
            pass
    monkeypatch.setattr(relaying, "MOST_IN_ALL", 1)
    async with machine(reached.public_url, ada), unknown_machine(reached.public_url, bob) as one_more:
        await one_more.hello()
        assert await one_more.farewell() == (problems.TOO_MANY_REQUESTS.code, True)


async def test_whoever_runs_the_hub_switches_it_off(hub: Hub, organization: str, ada: Asker) -> None:
    async with served(replace(hub, has_relay=False)) as off:
        asker = await new_person(off, "Eve", {organization: Role.OWNER})
        async with unknown_machine(off.public_url, asker) as refused:
            told = await refused.farewell()
        async with page(off.public_url, asker) as pages:
            answer = await pages.ask(new_ulid())
            listed = await pages.client.get("/api/v1/machines", headers=dict(asker.headers))

    assert told == (problems.RELAY_OFF.code, False)
    assert is_refused(answer, problems.RELAY_OFF)
    assert is_refused(listed, problems.RELAY_OFF)


async def test_what_acts_is_in_the_log_and_proofs_and_bodies_are_not(
    adas: Page, ada: Asker, laptop: Machine, capfd: pytest.CaptureFixture[str]
) -> None:
    acting = {"method": "POST", "target": "/agent/v1/serve", "proof": "canary.of-the.proof", "body": '{"canary": 1}'}
    for what in (acting, STATUS):
        task = asyncio.ensure_future(adas.ask(laptop.id, what))
        await laptop.answer(b'{"canary": 2}')
        request = (await task).headers["x-request-id"]
        if what is acting:
            acted = request
    said = "".join(capfd.readouterr())
    (line,) = [line for line in said.splitlines() if "passed to a machine" in line]

    for word in (acted, ada.user, laptop.id, "POST", "/agent/v1/serve"):
        assert word in line
    assert "canary" not in said
    assert token_of(ada) not in said
