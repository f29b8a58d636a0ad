import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from codezero.testing.sample_parts import RunningPart, SampleParts, free_port


def start_frontend(
    parts: SampleParts, *, core: RunningPart | None = None, sockets: RunningPart | None = None
) -> RunningPart:
    return parts.start(
        "frontend",
        SP_CORE_URL=f"http://127.0.0.1:{core.port if core else free_port()}",
        SP_SOCKETS_URL=f"ws://127.0.0.1:{sockets.port if sockets else free_port()}",
    )


def test_the_page_loads_nothing_from_elsewhere(parts: SampleParts) -> None:
    """It must work in a cluster without a way out, and run no stranger's script."""
    frontend = start_frontend(parts)

    page = frontend.get("/")

    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    for name in ("page.js", "style.css"):
        assert name in page.text
        assert frontend.get(f"/{name}").status_code == 200
    assert frontend.get("/?l=1").status_code == 200
    assert frontend.get("/../settings.py").status_code == 404


def test_api_is_what_core_answers(parts: SampleParts) -> None:
    """The browser sees core as it is, and core sees the browser's headers."""
    frontend = start_frontend(parts, core=parts.core(leaf=parts.start("leaf")))

    answer = frontend.get(
        "/api", headers={"x-c6o-userid": "me", "baggage": "k=v", "connection": "x-hop, close", "x-hop": "1"}
    )

    assert answer.json()["who"] == "core"
    assert answer.json()["leaf"]["propagated-headers"] == {"x-c6o-userid": "me", "baggage": "k=v"}
    assert len(answer.headers.get_list("date")) == 1


def test_a_core_that_is_away_is_a_bad_gateway(parts: SampleParts) -> None:
    """The page shows the reason instead of waiting."""
    answer = start_frontend(parts).get("/api")

    assert answer.status_code == 502
    assert "core did not answer" in answer.json()["error"]


async def test_sockets_passes_both_ways(parts: SampleParts) -> None:
    """Upgrade, text, bytes and the end must pass."""
    frontend = start_frontend(parts, sockets=parts.start("sockets"))

    async with connect(f"ws://127.0.0.1:{frontend.port}/sockets", proxy=None) as client:
        assert "sockets-pod" in str(await client.recv())
        await client.send("hello")
        assert await client.recv() == "Received: hello"
        await client.send(b"bytes")
        assert await client.recv() == "Received: 5 bytes"
    assert client.close_code == 1000


async def test_the_browser_learns_that_sockets_went_away(parts: SampleParts) -> None:
    """Otherwise the page would show a connection that is none."""
    sockets = parts.start("sockets")
    frontend = start_frontend(parts, sockets=sockets)

    async with connect(f"ws://127.0.0.1:{frontend.port}/sockets", proxy=None) as client:
        await client.recv()
        sockets.stop()
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.reason == "sockets went away"


async def test_sockets_that_are_away_are_told(parts: SampleParts) -> None:
    """A close code and a reason, not a connection that says nothing."""
    frontend = start_frontend(parts)

    async with connect(f"ws://127.0.0.1:{frontend.port}/sockets", proxy=None) as client:
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert "Traceback" not in frontend.log.read_text()
