"""A laptop's certificate is renewed with the Hub in good time, while the tunnel stands; and what is told where it cannot be.

System and Orchestrator are real. The Hub is a small one that signs with their authority; the whole of it is in `tests/process/test_czctl_hub.py`.
"""

import http.server
import json
import os
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jws
from joserfc.jwk import ECKey
from tests.flow.test_daemon import Laptop, access_to, laptop_at

from codezero.kit import certificates
from codezero.kit.certificates import Credentials
from codezero.local.daemon import link, renewing
from codezero.local.daemon.daemon import TEAMSPACE_REFUSED
from codezero.local.daemon.state import StateFolder
from codezero.model import problems
from codezero.model.ids import Device
from codezero.model.problems import CodezeroError
from codezero.testing.bundles import bundle
from codezero.testing.teamspace import RealTeamspace, echo_server, free_port
from codezero.testing.tunnels import until
from codezero.wire import problem_json
from codezero.wire.access_file import HubReference, TeamspaceAccess
from codezero.wire.local_api import HubState, TunnelState

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: consumed ports such as 80 are bound"),
]


@dataclass
class SmallHub:
    """Renews certificates of laptops, or refuses. `late` is by how much its clock is ahead of the laptop's."""

    teamspace: RealTeamspace
    refusal: CodezeroError | None = None
    late: timedelta = timedelta()
    lifetime: timedelta = timedelta(hours=24)
    renewed: int = 0
    refused: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    device: str = ""
    roots: str | None = None

    def answer(self, path: str, proof: str, body: dict[str, str]) -> tuple[int, bytes]:
        if self.refusal is not None:
            self.refused += 1
            return self.refusal.problem.status, problem_json.encode(self.refusal)
        header = jws.extract_compact(proof.encode()).headers()
        claims = json.loads(
            jws.deserialize_compact(proof, ECKey.import_key(header["jwk"]), algorithms=["ES256"]).payload
        )
        at = (datetime.now(UTC) + self.late).timestamp()
        assert (claims["aud"], claims["htm"], claims["htu"]) == (self.url, "POST", path)
        if abs(claims["iat"] - at) > 60:
            self.refused += 1
            return 401, problem_json.encode(CodezeroError(problems.SIGN_IN_REFUSED, "the proof is of another time"))
        self.seen.append(claims)
        device = Device.parse(self.device)
        leaf = self.teamspace.authorities.devices.sign(
            certificates.requested_key(body["csr"]),
            "laptop",
            uris=[self.device],
            lifetime=self.lifetime,
            client=True,
        )
        self.renewed += 1
        issued = {
            "space": body["space"], "name": "test", "host": "127.0.0.1", "port": self.teamspace.port,
            "roots": self.roots or self.teamspace.authorities.parts.certificate_pem,
            "certificate": leaf.public_bytes(Encoding.PEM).decode(),
            "organization": device.organization, "user": "ann",
        }  # fmt: skip
        return 200, json.dumps(issued).encode()

    def access(self, *, lifetime: timedelta) -> TeamspaceAccess:
        """An access of a new laptop that this Hub renews."""
        device = self.teamspace.authorities.device()
        self.device = str(device)
        own = self.teamspace.authorities.laptop(device, lifetime=lifetime)
        return msgspec.structs.replace(
            access_to(self.teamspace, device),
            certificate=own.certificate_pem,
            key=own.key_pem,
            device=device.device,
            organization_id=device.organization,
            hub=HubReference(self.url),
        )


@pytest.fixture
async def teamspace(tmp_path: Path) -> AsyncGenerator[RealTeamspace, None]:
    async with RealTeamspace(tmp_path / "teamspace").running() as running:
        yield running


@pytest.fixture
async def laptop(tmp_path: Path) -> AsyncGenerator[Laptop, None]:
    async with laptop_at(tmp_path / "laptop") as found:
        yield found


@pytest.fixture
async def hub(teamspace: RealTeamspace) -> AsyncGenerator[SmallHub, None]:
    small = SmallHub(teamspace)
    with serving(small):
        yield small


@contextmanager
def serving(hub: SmallHub) -> Iterator[None]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, b'{"release": "test"}')

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            proof = self.headers["Authorization"].removeprefix("Codezero-Proof ")
            self.reply(*hub.answer(self.path, proof, body))

        def reply(self, status: int, content: bytes) -> None:
            self.send_response_only(status)
            self.send_header("Date", format_datetime(datetime.now(UTC) + hub.late, usegmt=True))
            self.send_header("Content-Type", "application/json" if status < 400 else "application/problem+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def until_of(access: TeamspaceAccess) -> datetime:
    return Credentials.from_pem(access.certificate, access.key).chain[0].not_valid_after_utc


def warning(laptop: Laptop, code: str) -> Any:
    return next((one for one in laptop.daemon.status().warnings if one.code == code), None)


async def test_a_certificate_with_little_life_left_is_renewed_under_the_standing_tunnel(
    hub: SmallHub, laptop: Laptop, tmp_path: Path
) -> None:
    """Connections go on; the next tunnel uses the new one, and so does the next Daemon."""
    before = hub.access(lifetime=timedelta(seconds=20))
    async with echo_server() as port:
        hub.teamspace.offer("orders", port)
        await laptop.daemon.select_teamspace(before)
        await laptop.consume("*.shop")
        session = laptop.daemon.status().tunnel.session
        reader, writer = await laptop.dial("orders")
        await until(lambda: hub.renewed > 0)
        writer.write(b"still here")
        writer.write_eof()

        assert await reader.read() == b"still here"
        writer.close()
    await until(lambda: laptop.daemon.status().hub.state is HubState.REACHABLE)
    now = laptop.daemon.status()
    assert (now.tunnel.session, now.tunnel.reconnects) == (session, 0)
    assert now.hub.certificate_until > (datetime.now(UTC) + timedelta(hours=23)).timestamp()
    kept = StateFolder(tmp_path / "laptop" / "state").teamspace()
    assert kept is not None
    assert kept.key == before.key
    assert until_of(kept) > until_of(before)
    assert now.teamspace.user == "ann"


async def test_another_access_of_the_same_device_cuts_nothing(hub: SmallHub, laptop: Laptop, tmp_path: Path) -> None:
    """`czctl start` where the agent runs: it brings the present way to the Hub, and connections go on."""
    now = hub.access(lifetime=timedelta(hours=24))
    before = msgspec.structs.replace(now, hub=HubReference(f"http://127.0.0.1:{free_port()}"))
    async with echo_server() as port:
        hub.teamspace.offer("orders", port)
        await laptop.daemon.select_teamspace(before)
        await laptop.consume("*.shop")
        session = laptop.daemon.status().tunnel.session
        await until(lambda: laptop.daemon.status().hub.state is HubState.UNREACHABLE)
        reader, writer = await laptop.dial("orders")

        await laptop.daemon.select_teamspace(now)

        await until(lambda: laptop.daemon.status().hub.state is HubState.REACHABLE)
        writer.write(b"still here")
        writer.write_eof()
        assert await reader.read() == b"still here"
        writer.close()
    status = laptop.daemon.status()
    assert (status.tunnel.session, status.tunnel.reconnects) == (session, 0)
    assert (status.teamspace.device, now.device is not None) == (now.device, True)
    assert StateFolder(tmp_path / "laptop" / "state").teamspace() == now


async def test_the_tunnel_is_made_anew_when_nothing_goes_through_it(
    hub: SmallHub, laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the Teamspace would end it when the older certificate runs out, whatever goes through it then."""
    monkeypatch.setattr(link, "EXCHANGE_LOOK_SECONDS", 0.02)
    async with echo_server() as port:
        hub.teamspace.offer("orders", port)
        await laptop.daemon.select_teamspace(hub.access(lifetime=timedelta(hours=24)))
        await laptop.consume("*.shop")
        session = laptop.daemon.status().tunnel.session
        reader, writer = await laptop.dial("orders")
        assert laptop.daemon._joined is not None
        laptop.daemon._joined.renewal._due_at = 0.0
        laptop.daemon._joined.renewal._now.set()
        await until(lambda: hub.renewed > 0)
        writer.write(b"still here")
        await reader.readexactly(len(b"still here"))
        assert laptop.daemon.status().tunnel.reconnects == 0

        writer.write_eof()
        await reader.read()
        writer.close()
        await until(lambda: laptop.daemon.status().tunnel.reconnects == 1)
        await until(lambda: laptop.tunnel_state is TunnelState.CONNECTED)
        assert laptop.daemon.status().tunnel.session == session
        assert await laptop.reaches("orders")
    assert laptop.daemon.status().tunnel.reconnects == 1


async def test_one_that_ran_out_while_the_laptop_slept_is_renewed_before_anything_else(
    hub: SmallHub, laptop: Laptop
) -> None:
    """R17: nobody has to sign in again after a night."""
    await laptop.daemon.select_teamspace(hub.access(lifetime=timedelta(seconds=-10)))

    await until(lambda: laptop.tunnel_state is TunnelState.CONNECTED)
    assert hub.renewed == 1


async def test_a_hub_that_is_away_is_told_and_asked_again(hub: SmallHub, laptop: Laptop) -> None:
    hub.refusal = CodezeroError(problems.DATABASE_BUSY, "the database is too busy at the moment")
    await laptop.daemon.select_teamspace(hub.access(lifetime=timedelta(seconds=20)))

    await until(lambda: warning(laptop, renewing.RENEWAL_FAILED) is not None)
    assert "too busy" in warning(laptop, renewing.RENEWAL_FAILED).text
    assert laptop.daemon.status().hub.state is HubState.UNREACHABLE
    assert laptop.tunnel_state is TunnelState.CONNECTED

    hub.refusal = None
    assert laptop.daemon._joined is not None
    # The delay is not waited for.
    laptop.daemon._joined.renewal._due_at = 0.0
    laptop.daemon._joined.renewal._now.set()
    await until(lambda: hub.renewed == 1)
    await until(lambda: warning(laptop, renewing.RENEWAL_FAILED) is None)


async def test_a_laptop_that_was_revoked_is_told_so_with_what_to_do(hub: SmallHub, laptop: Laptop) -> None:
    hub.refusal = CodezeroError(problems.SIGN_IN_REFUSED, "this device was revoked", fix="czctl auth login")
    await laptop.daemon.select_teamspace(hub.access(lifetime=timedelta(seconds=20)))

    await until(lambda: warning(laptop, renewing.HUB_REFUSED) is not None)
    told = warning(laptop, renewing.HUB_REFUSED)
    assert "this device was revoked" in told.text
    assert (told.severity, told.fix) == ("error", "czctl auth login")
    assert laptop.daemon.status().hub.state is HubState.REFUSED

    await laptop.daemon.forget_teamspace()
    assert warning(laptop, renewing.HUB_REFUSED) is None


async def test_a_tunnel_that_ends_because_of_a_revocation_says_so(hub: SmallHub, laptop: Laptop) -> None:
    """Both say it: the Teamspace, which ends the tunnel, and the Hub, which is asked for a better certificate at once."""
    access = hub.access(lifetime=timedelta(hours=24))
    device = Device.parse(hub.device)
    hub.teamspace.write_policy(bundle([device], serial=1))
    await laptop.daemon.select_teamspace(access)
    await until(lambda: laptop.tunnel_state is TunnelState.CONNECTED)
    hub.refusal = CodezeroError(problems.SIGN_IN_REFUSED, "the device was revoked", fix="czctl auth login")

    hub.teamspace.write_policy(bundle([device], serial=2, revoked=[device.device]))

    await until(lambda: warning(laptop, TEAMSPACE_REFUSED) is not None)
    told = warning(laptop, TEAMSPACE_REFUSED)
    assert "revoked" in told.text
    # Machines with an API key cannot sign in.
    assert told.fix.startswith("czctl start, ")
    assert "czctl auth login" in told.fix
    await until(lambda: warning(laptop, renewing.HUB_REFUSED) is not None)
    assert laptop.daemon.status().hub.state is HubState.REFUSED


async def test_a_clock_that_is_off_by_ten_minutes_is_named_and_does_not_hinder(hub: SmallHub, laptop: Laptop) -> None:
    """R27: the proof is made anew by the Hub's time."""
    hub.late = timedelta(minutes=10)
    await laptop.daemon.select_teamspace(hub.access(lifetime=timedelta(seconds=20)))

    await until(lambda: hub.renewed == 1)
    await until(lambda: warning(laptop, renewing.CLOCK_WRONG) is not None)
    assert "behind the Hub's" in warning(laptop, renewing.CLOCK_WRONG).text
    assert hub.refused == 1


async def test_a_certificate_of_somebody_else_is_not_taken(hub: SmallHub, laptop: Laptop) -> None:
    access = hub.access(lifetime=timedelta(seconds=20))
    hub.device = str(hub.teamspace.authorities.device())
    await laptop.daemon.select_teamspace(access)

    await until(lambda: warning(laptop, renewing.HUB_REFUSED) is not None)
    assert "somebody else" in warning(laptop, renewing.HUB_REFUSED).text


async def test_an_answer_that_cannot_be_used_ends_nothing(hub: SmallHub, laptop: Laptop, tmp_path: Path) -> None:
    """One odd answer, and the Daemon would end, and so would each that follows it."""
    hub.roots = "-----BEGIN CERTIFICATE-----\nnonsense"
    access = hub.access(lifetime=timedelta(seconds=20))
    await laptop.daemon.select_teamspace(access)

    await until(lambda: warning(laptop, renewing.HUB_REFUSED) is not None)
    assert "cannot be used" in warning(laptop, renewing.HUB_REFUSED).text
    assert laptop.tunnel_state is TunnelState.CONNECTED
    assert StateFolder(tmp_path / "laptop" / "state").teamspace() == access

    hub.roots = None
    assert laptop.daemon._joined is not None
    laptop.daemon._joined.renewal._due_at = 0.0
    laptop.daemon._joined.renewal._now.set()
    await until(lambda: warning(laptop, renewing.HUB_REFUSED) is None)
    assert laptop.daemon.status().hub.state is HubState.REACHABLE


async def test_one_with_time_left_is_not_asked_for(hub: SmallHub, laptop: Laptop) -> None:
    await laptop.daemon.select_teamspace(hub.access(lifetime=timedelta(hours=24)))
    assert laptop.daemon.status().hub is not None

    await until(lambda: laptop.daemon.status().hub.state is HubState.REACHABLE)
    assert hub.renewed == 0


async def test_without_a_hub_there_is_nothing_to_renew(teamspace: RealTeamspace, laptop: Laptop) -> None:
    await laptop.daemon.select_teamspace(access_to(teamspace))

    assert laptop.daemon.status().hub is None
    assert laptop.tunnel_state is TunnelState.CONNECTED
