"""What the Hub signs with: made once, sealed at rest, renewed so that nobody who verifies is surprised."""

import asyncio
import base64
import json
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import func, select, text
from tests.hub_databases import HubClock, PostgresServer, running_hub

from codezero.hub import signals
from codezero.hub.authorities import Authorities, fingerprint
from codezero.hub.context import Hub
from codezero.hub.sealing import Sealer
from codezero.hub.storage.database import Database
from codezero.hub.storage.tables import AuthorityKey, Install
from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials, certificate_request, new_key
from codezero.model import problems
from codezero.model.ids import Device, TeamspaceId, Workload, new_ulid
from codezero.model.problems import CodezeroError
from codezero.system.tokens import TokenVerifier


def verified(token: str, keys: dict[str, Ed25519PublicKey]) -> dict[str, object]:
    header, claims, signature = token.split(".")

    def decoded(part: str) -> bytes:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))

    keys[json.loads(decoded(header))["kid"]].verify(decoded(signature), f"{header}.{claims}".encode())
    return json.loads(decoded(claims))


def a_device(hub: Hub) -> Device:
    return Device(hub.authorities.trust_domain, new_ulid(), new_ulid(), new_ulid())


async def test_two_replicas_that_start_at_once_have_the_same_keys(database_url: str, sealer: Sealer) -> None:
    replicas = [Database.open(database_url) for _ in range(4)]
    loaded = await asyncio.gather(*(Authorities.load(one, sealer, HubClock()) for one in replicas))

    assert len({one.install for one in loaded}) == 1
    assert len({one.root_pem for one in loaded}) == 1
    assert len({one.device_issuer_pem for one in loaded}) == 1
    assert len({json.dumps(one.jwks()) for one in loaded}) == 1
    async with replicas[0].reading() as session:
        assert await session.scalar(select(func.count()).select_from(Install)) == 1
        assert await session.scalar(select(func.count()).select_from(AuthorityKey)) == 4
    for one in replicas:
        await one.close()


async def test_a_later_start_has_the_same_keys_and_no_row_has_one_in_clear(hub: Hub, sealer: Sealer) -> None:
    again = await Authorities.load(hub.database, sealer, hub.clock)

    assert (again.install, again.root_pem, again.jwks()) == (
        hub.authorities.install,
        hub.authorities.root_pem,
        hub.authorities.jwks(),
    )
    async with hub.database.reading() as session:
        rows = (await session.execute(text("SELECT public, sealed FROM authority_keys"))).all()
    token = hub.authorities._tokens[0].private.private_bytes_raw()
    scalars = [
        authority.credentials.key.private_numbers().private_value.to_bytes(32, "big")
        for authority in (hub.authorities._root, hub.authorities._issuers[0].authority)
    ]
    for public, sealed in rows:
        assert "PRIVATE" not in public
        assert b"PRIVATE" not in sealed
        for secret in (token, *scalars):
            assert secret not in sealed
            assert secret.hex() not in public


async def test_another_master_key_opens_nothing(hub: Hub) -> None:
    with pytest.raises(CodezeroError) as raised:
        await Authorities.load(hub.database, Sealer(Sealer.new_master_key()), hub.clock)

    assert raised.value.problem is problems.BAD_MASTER_KEY


async def test_a_laptop_gets_a_certificate_of_a_day_below_the_root(hub: Hub) -> None:
    device, key = a_device(hub), new_key()
    chain = hub.authorities.sign_device(key.public_key(), device, timedelta(days=9))
    own = Credentials.from_pem(
        chain,
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
    )

    leaf, issuer = own.chain
    assert certificates.uris_of(leaf.public_bytes(serialization.Encoding.DER)) == (str(device),)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(hours=24, minutes=2)
    leaf.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(x509.load_pem_x509_certificate(hub.authorities.root_pem.encode()))
    assert x509.load_pem_x509_certificates(hub.authorities.device_issuer_pem.encode()) == [issuer]
    with pytest.raises(CodezeroError):
        hub.authorities.sign_device(key.public_key(), Device("other.hub.codezero", *[new_ulid()] * 3))
    with pytest.raises(CodezeroError):
        hub.authorities.sign_device(ec.generate_private_key(ec.SECP384R1()).public_key(), device)


async def test_a_teamspace_signs_its_own_parts_and_nobody_elses(hub: Hub) -> None:
    space, key = new_ulid(), new_key()
    certified = hub.authorities.sign_teamspace(certificate_request(key), space)
    intermediate = x509.load_pem_x509_certificate(certified.pem.encode())
    authority = Authority(Credentials(key, (intermediate,)))
    own = str(Workload(TeamspaceId(space), "orchestrator"))
    foreign = str(Workload(TeamspaceId(new_ulid()), "orchestrator"))

    assert certified.fingerprint == fingerprint(intermediate)
    leaf = authority.issue("orchestrator", uris=[own], client=True).chain[0]
    assert hub.authorities.verify_teamspace_chain(leaf, intermediate) == Workload.parse(own)
    assert hub.authorities.verify_teamspace(intermediate) == space
    stranger = Authority.create("stranger").issue_authority("space")
    for bad, above in (
        (authority.issue("x", uris=[foreign], client=True).chain[0], intermediate),
        (authority.issue("x", uris=[own, own], client=True).chain[0], intermediate),
        (authority.issue("x", client=True).chain[0], intermediate),
        (authority.issue("x", uris=["spiffe://x/system"]).chain[0], intermediate),
        (authority.sign(key.public_key(), "x", uris=[own], now=hub.clock() - timedelta(hours=2)), intermediate),
        (authority.issue_authority("below").certificate, intermediate),
        (stranger.issue("x", uris=[own], client=True).chain[0], intermediate),
        (stranger.issue("x", uris=[own], client=True).chain[0], stranger.certificate),
        (leaf, stranger.certificate),
        (intermediate, x509.load_pem_x509_certificate(hub.authorities.root_pem.encode())),
        (
            hub.authorities._issuers[0].authority.issue("x", uris=[own], client=True).chain[0],
            hub.authorities._issuers[0].authority.certificate,
        ),
    ):
        with pytest.raises(CodezeroError) as raised:
            hub.authorities.verify_teamspace_chain(bad, above)
        assert raised.value.problem is problems.BAD_IDENTITY


async def test_a_certificate_request_proves_its_key(hub: Hub) -> None:
    for key in (ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
        with pytest.raises(CodezeroError):
            hub.authorities.sign_teamspace(request, new_ulid())
    good = x509.load_pem_x509_csr(certificate_request(new_key()).encode()).public_bytes(serialization.Encoding.DER)
    forged = base64.encodebytes(good[:-1] + bytes([good[-1] ^ 1])).decode()
    for request in (
        f"-----BEGIN CERTIFICATE REQUEST-----\n{forged}-----END CERTIFICATE REQUEST-----\n",
        "nothing",
        "",
    ):
        with pytest.raises(CodezeroError) as raised:
            hub.authorities.sign_teamspace(request, new_ulid())
        assert raised.value.problem is problems.BAD_REQUEST
    with pytest.raises(CodezeroError):
        hub.authorities.sign_teamspace(certificate_request(new_key()), "../../etc")


async def test_a_system_believes_a_token_of_the_hub(hub: Hub) -> None:
    device, space = a_device(hub), new_ulid()
    now = int(hub.clock().timestamp())
    claims = {"iss": hub.authorities.issuer, "sub": str(device), "aud": space, "iat": now, "exp": now + 600}
    verifier = TokenVerifier()

    assert verifier.read_keys(json.dumps(hub.authorities.jwks()).encode()) == 1
    assert verifier.verify(hub.authorities.sign(claims, typ="JWT"), TeamspaceId(space)) == device


async def test_a_new_token_key_is_known_before_it_signs_and_the_old_one_after_it_signed(
    hub: Hub, hub_clock: HubClock
) -> None:
    old, before = hub.authorities.sign({"n": 1}, typ="x"), set(hub.authorities.token_keys)
    await hub.authorities.rotate_token_key(hub.signals)

    assert set(hub.authorities.token_keys) > before
    known = dict(hub.authorities.token_keys)
    hub_clock.advance(timedelta(hours=1, seconds=1))
    assert verified(hub.authorities.sign({"n": 2}, typ="x"), known) == {"n": 2}
    assert verified(old, dict(hub.authorities.token_keys)) == {"n": 1}
    hub_clock.advance(timedelta(hours=2, minutes=2))
    assert len(hub.authorities.token_keys) == 1
    assert not before & set(hub.authorities.token_keys)
    await hub.authorities.renew(hub.signals)
    async with hub.database.reading() as session:
        assert await session.scalar(select(func.count()).where(AuthorityKey.kind == "token")) == 1


async def test_a_stolen_token_key_is_worth_nothing_at_once(hub: Hub) -> None:
    old = hub.authorities.sign({"n": 1}, typ="x")
    await hub.authorities.rotate_token_key(hub.signals, at_once=True)

    with pytest.raises(KeyError):
        verified(old, dict(hub.authorities.token_keys))
    assert verified(hub.authorities.sign({"n": 2}, typ="x"), dict(hub.authorities.token_keys)) == {"n": 2}


async def test_a_replica_hears_of_a_rotation_by_another(
    postgres_server: PostgresServer, sealer: Sealer, hub_clock: HubClock
) -> None:
    url = postgres_server.url(postgres_server.new_database())
    one, other = Database.open(url), Database.open(url)
    async with running_hub(one, sealer, hub_clock) as first, running_hub(other, sealer, hub_clock) as second:
        await first.authorities.rotate_token_key(first.signals, at_once=True)
        async with asyncio.timeout(30):
            while second.authorities.jwks() != first.authorities.jwks():
                await asyncio.sleep(0.01)
    await one.close()
    await other.close()


async def test_keys_are_renewed_with_a_third_of_their_life_left(hub: Hub, hub_clock: HubClock) -> None:
    first_issuer = hub.authorities.device_issuer_pem
    hub_clock.advance(timedelta(days=59))
    await hub.authorities.renew(hub.signals)
    assert len(hub.authorities.token_keys) == 1
    hub_clock.advance(timedelta(days=2))
    await hub.authorities.renew(hub.signals)
    assert len(hub.authorities.token_keys) == 2
    await hub.authorities.renew(hub.signals)
    assert len(hub.authorities.token_keys) == 2

    hub_clock.advance(timedelta(days=190))
    await hub.authorities.renew(hub.signals)
    assert len(x509.load_pem_x509_certificates(hub.authorities.device_issuer_pem.encode())) == 2
    assert first_issuer in hub.authorities.device_issuer_pem
    device, key = a_device(hub), new_key().public_key()
    assert hub.authorities.sign_device(key, device).endswith(first_issuer)
    hub_clock.advance(timedelta(days=14, hours=1))
    assert not hub.authorities.sign_device(key, device).endswith(first_issuer)
    assert first_issuer in hub.authorities.device_issuer_pem
    hub_clock.advance(timedelta(days=1))
    assert first_issuer not in hub.authorities.device_issuer_pem


@pytest.mark.parametrize("away", [timedelta(days=91), timedelta(days=400)])
async def test_a_hub_that_was_off_until_its_keys_had_run_out_signs_at_once(
    database: Database, sealer: Sealer, hub_clock: HubClock, away: timedelta
) -> None:
    before = await Authorities.load(database, sealer, hub_clock)
    hub_clock.advance(away)
    after = await Authorities.load(database, sealer, hub_clock)
    again = await Authorities.load(database, sealer, hub_clock)

    assert after.root_pem == before.root_pem
    assert verified(again.sign({"n": 1}, typ="x"), dict(after.token_keys)) == {"n": 1}
    device = Device(after.trust_domain, new_ulid(), new_ulid(), new_ulid())
    issuers = x509.load_pem_x509_certificates(after.device_issuer_pem.encode())
    leaf = x509.load_pem_x509_certificates(again.sign_device(new_key().public_key(), device).encode())[0]
    assert len(issuers) == 1
    leaf.verify_directly_issued_by(issuers[0])
    # What has run out goes, and what has followed it stays.
    async with running_hub(database, sealer, hub_clock) as hub:
        for _ in range(2):
            await hub.authorities.renew(hub.signals)
        assert hub.authorities.jwks() == after.jwks()
        assert hub.authorities.device_issuer_pem == after.device_issuer_pem
        async with database.reading() as session:
            assert await session.scalar(select(func.count()).where(AuthorityKey.kind == "token")) == 1


async def test_a_hub_that_runs_signs_again_soon_after_its_clock_jumped(hub: Hub, hub_clock: HubClock) -> None:
    hub_clock.advance(timedelta(days=400))
    device, key = a_device(hub), new_key().public_key()

    async with asyncio.timeout(30):
        while True:
            try:
                token, leaf = hub.authorities.sign({"n": 1}, typ="x"), hub.authorities.sign_device(key, device)
                break
            except CodezeroError:
                await asyncio.sleep(0.05)

    assert verified(token, dict(hub.authorities.token_keys)) == {"n": 1}
    assert leaf.endswith(hub.authorities.device_issuer_pem)


async def test_a_hub_that_runs_hears_of_a_rotation_by_a_command_beside_it(
    hub: Hub, database_url: str, sealer: Sealer, hub_clock: HubClock
) -> None:
    beside = Database.open(database_url)
    command = await Authorities.load(beside, sealer, hub_clock)
    heard = hub.signals.changes()
    await command.rotate_token_key(signals.of(beside), at_once=True)
    await beside.close()

    async with asyncio.timeout(30):
        while (changed := await anext(heard)) is None or changed.kind != "authority":
            pass
        while hub.authorities.jwks() != command.jwks():
            await asyncio.sleep(0.05)
    assert verified(hub.authorities.sign({"n": 1}, typ="x"), dict(command.token_keys)) == {"n": 1}
