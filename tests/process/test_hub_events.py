"""The stream of events of a Hub process, as a page opens it: through uvicorn, by a ticket, and not from pages of others."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from codezero.sandbox.browser import Browser
from codezero.testing.hub_process import HubProcess


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    made = HubProcess(tmp_path / "data")
    yield made.start()
    made.close()


def test_a_page_hears_of_what_changes_until_its_session_ends(hub: HubProcess) -> None:
    owner: Browser = hub.owner()
    organization = owner.ask("GET", "/organizations")["items"][0]["id"]
    ticket = owner.ask("POST", "/events/tickets")["ticket"]
    address = f"{hub.url.replace('http', 'ws')}/api/v1/events"
    with connect(address, origin=hub.public_url) as stream:
        stream.send(msgspec.json.encode({"ticket": ticket}).decode())
        first = stream.recv(20)
        space = owner.ask("POST", f"/organizations/{organization}/spaces", {"name": "new"})["id"]
        heard = [msgspec.json.decode(stream.recv(20)) for _ in range(1)]
        while heard[-1].get("kind") != "space":
            heard.append(msgspec.json.decode(stream.recv(20)))
        owner.ask("POST", "/auth/sign-out-everywhere")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                stream.recv(40)

    assert first == '{"type":"snapshot"}'
    assert (heard[-1]["organization"], heard[-1]["space"]) == (organization, space)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401
    assert ticket not in hub.log.read_text()


def test_a_page_of_somebody_else_gets_a_refusal_and_no_stream(hub: HubProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{hub.url.replace('http', 'ws')}/api/v1/events", origin="https://evil.example").close()

    assert refused.value.response.status_code == 403
    assert b"CZ-HUB-002" in refused.value.response.body
