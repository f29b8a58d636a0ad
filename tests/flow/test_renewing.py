"""The System renews certificates in the Teamspace's Secret, by a real API server: in time, also when they have run out, and nothing else in it."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from cryptography import x509

from codezero.deploy import access, identity
from codezero.deploy.identity import Issuers, TeamspaceKeys
from codezero.deploy.values import Values
from codezero.kit import certificates
from codezero.kit.certificates import Credentials
from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system import joining
from codezero.system.joining import Membership
from codezero.system.kubernetes.client import ApiError, from_kubeconfig
from codezero.system.renewing import LIFETIME, RENEWED_BEFORE, Renewal
from codezero.testing.kubernetes import until
from codezero.testing.serving import Json, ServingCluster, serving_cluster
from codezero.transport.hub import HubAddress
from codezero.transport.identity import Identity, from_files

ISSUERS = Issuers.create("test")
SECRET = ("secrets", "codezero", "codezero-identity")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        cluster.add_namespace("codezero")
        yield cluster


@pytest.fixture
def keys() -> TeamspaceKeys:
    return ISSUERS.keys()


def put(cluster: ServingCluster, keys: TeamspaceKeys, *, lifetime: timedelta, **changes: str | None) -> None:
    """The Secret with leaves of `lifetime`."""
    content = identity.secret(ISSUERS, keys, namespace="codezero", lifetime=lifetime)
    content = {**content, **{name.replace("_", "."): value for name, value in changes.items()}}
    secret = identity.secret_object({k: v for k, v in content.items() if v is not None}, namespace="codezero")
    if cluster.store.find(*SECRET) is None:
        cluster.store.create(*SECRET[:2], secret)
    else:
        cluster.store.patch(*SECRET, secret)


def held(cluster: ServingCluster) -> dict[str, str]:
    return identity.secret_content(cluster.store.get(*SECRET).content)


def left(content: dict[str, str], role: str) -> timedelta:
    leaf = Credentials.from_pem(content[f"{role}.crt"], content[f"{role}.key"]).chain[0]
    return leaf.not_valid_after_utc - datetime.now(UTC)


def renewal(cluster: ServingCluster, mounted: Watched[Identity | None] | None = None) -> Renewal:
    return Renewal(cluster.api, namespace="codezero", identities=mounted or Watched(None))


def looks(cluster: ServingCluster) -> int:
    return sum(one["count"] for one in cluster.server.requests.counts() if one["resource"] == "secrets")


def is_accepted(content: dict[str, str], role: str) -> bool:
    """Whether a part with these files is one of this Teamspace to every other."""
    files = {"tls.crt": content[f"{role}.crt"], "tls.key": content[f"{role}.key"], "ca.crt": content["ca.crt"]}
    found = from_files({name: text.encode() for name, text in files.items()}, role=role)
    found.credentials.chain[0].verify_directly_issued_by(x509.load_pem_x509_certificate(content["ca.crt"].encode()))
    return found.teamspace == ISSUERS.teamspace


async def test_nothing_is_written_while_there_is_time(cluster: ServingCluster, keys: TeamspaceKeys) -> None:
    put(cluster, keys, lifetime=RENEWED_BEFORE + timedelta(minutes=5))
    before = cluster.store.storage.revision

    assert await renewal(cluster).renew() == ()
    assert cluster.store.storage.revision == before


@pytest.mark.parametrize("lifetime", [RENEWED_BEFORE - timedelta(minutes=5), timedelta(seconds=-30)])
async def test_certificates_are_renewed_before_they_end_and_after_it(
    cluster: ServingCluster, keys: TeamspaceKeys, lifetime: timedelta
) -> None:
    """A cluster that slept over night wakes up with certificates that nobody believes any more."""
    put(cluster, keys, lifetime=lifetime)
    before = held(cluster)

    assert await renewal(cluster).renew() == ("system", "orchestrator")

    after = held(cluster)
    for role in identity.ROLES:
        assert LIFETIME - timedelta(minutes=1) < left(after, role) <= LIFETIME
        assert after[f"{role}.key"] != before[f"{role}.key"]
        assert is_accepted(after, role)
    names = x509.load_pem_x509_certificate(after["orchestrator.crt"].encode()).extensions
    assert "orchestrator.codezero.svc" in names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)  # fmt: skip
    assert {name: text for name, text in after.items() if name.split(".")[0] not in identity.ROLES} == {
        name: text for name, text in before.items() if name.split(".")[0] not in identity.ROLES
    }


@pytest.mark.parametrize("broken", [None, "", "no certificate"])
async def test_one_that_cannot_be_used_is_replaced(
    cluster: ServingCluster, keys: TeamspaceKeys, broken: str | None
) -> None:
    put(cluster, keys, lifetime=timedelta(hours=24), orchestrator_crt=broken)

    assert await renewal(cluster).renew() == ("orchestrator",)
    assert is_accepted(held(cluster), "orchestrator")


async def test_one_that_a_fast_clock_made_is_replaced(
    cluster: ServingCluster, keys: TeamspaceKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader whose clock was a year ahead for a moment; everybody would wait a year for its certificates to be valid."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + timedelta(days=365)

    with monkeypatch.context() as patched:
        patched.setattr(certificates, "datetime", Ahead)
        put(cluster, keys, lifetime=LIFETIME)

    assert await renewal(cluster).renew() == ("system", "orchestrator")
    assert left(held(cluster), "system") <= LIFETIME


async def test_who_wrote_in_between_is_not_overwritten(cluster: ServingCluster, keys: TeamspaceKeys) -> None:
    """Two Systems that both believe to lead, or an administrator."""
    put(cluster, keys, lifetime=timedelta(minutes=1))
    real, before = cluster.api, held(cluster)

    class Overtaken:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def get(self, path: str, parameters: dict[str, str]) -> bytes:
            content = await real.get(path, parameters)
            cluster.store.patch(*SECRET, {"metadata": {"labels": {"somebody": "wrote"}}})
            return content

    overtaken: Any = Overtaken()

    with pytest.raises(ApiError) as refused:
        await Renewal(overtaken, namespace="codezero", identities=Watched(None)).renew()

    assert refused.value.status == 409
    assert held(cluster) == before


@pytest.mark.parametrize("missing", ["ca_key", "ca_crt"])
async def test_without_the_authority_it_says_what_to_put_back(
    cluster: ServingCluster, keys: TeamspaceKeys, missing: str
) -> None:
    changes: Json = {missing: None}
    put(cluster, keys, lifetime=timedelta(minutes=1), **changes)

    with pytest.raises(CodezeroError, match="no usable") as refused:
        await renewal(cluster).renew()

    assert refused.value.problem is problems.BAD_IDENTITY
    assert "PRIVATE" not in str(refused.value)


async def test_an_authority_that_has_run_out_signs_nothing(cluster: ServingCluster) -> None:
    """Everybody would refuse what it signs, and nobody would know why."""
    put(cluster, ISSUERS.keys(authority_lifetime=timedelta(hours=2)), lifetime=timedelta(minutes=1))
    old = ISSUERS.keys(authority_lifetime=timedelta(seconds=-30))
    cluster.store.patch(
        *SECRET,
        identity.secret_object(
            {"ca.crt": old.authority.certificate_pem, "ca.key": old.authority.credentials.key_pem}, namespace="codezero"
        ),
    )

    with pytest.raises(CodezeroError, match="has expired"):
        await renewal(cluster).renew()


async def test_a_change_of_what_is_mounted_makes_it_look_at_once(cluster: ServingCluster, keys: TeamspaceKeys) -> None:
    """Somebody put an old Secret back; five minutes are long then."""
    put(cluster, keys, lifetime=timedelta(hours=24))
    mounted: Watched[Identity | None] = Watched(None)
    async with task_group("test") as tasks:
        tasks.start_service("renewal", renewal(cluster, mounted).run())
        # Once at the start, once for what is mounted then.
        await until(lambda: looks(cluster) == 2)
        put(cluster, keys, lifetime=timedelta(minutes=1))
        files = held(cluster)
        content = {"tls.crt": files["system.crt"], "tls.key": files["system.key"], "ca.crt": files["ca.crt"]}
        mounted.set(from_files({name: text.encode() for name, text in content.items()}, role="system"))

        await until(lambda: left(held(cluster), "system") > timedelta(minutes=50))


async def test_the_rights_of_the_system_are_enough_for_it(
    cluster: ServingCluster, keys: TeamspaceKeys, tmp_path: Path
) -> None:
    """With its own account, as the objects of a Teamspace give it rights; to this Secret and no other."""
    for one in access.objects(Values(), "codezero"):
        kind = cluster.store.types.of_kind(one["apiVersion"], one["kind"])
        assert kind is not None
        cluster.store.create(kind.key, one["metadata"].get("namespace", ""), one)
    put(cluster, keys, lifetime=timedelta(minutes=1))
    config: Json = yaml.safe_load(cluster.kubeconfig.read_text())
    config["users"][0]["user"]["token"], _ = cluster.server.tokens.issue("codezero", "system")
    (tmp_path / "system").write_text(yaml.safe_dump(config))
    api = from_kubeconfig(tmp_path / "system")
    try:
        assert await Renewal(api, namespace="codezero", identities=Watched(None)).renew() == identity.ROLES
        with pytest.raises(ApiError) as refused:
            await api.get("/api/v1/namespaces/codezero/secrets/another", {})
    finally:
        await api.close()

    assert refused.value.status == 403
    assert is_accepted(held(cluster), "system")


# --- with a Hub ----------------------------------------------------------------------------------------------------------------------------


async def test_a_hub_that_does_not_come_to_an_end_delays_no_certificate_of_ours(
    cluster: ServingCluster, keys: TeamspaceKeys
) -> None:
    asked = asyncio.Event()

    async def ask(path: str, body: msgspec.Struct, proof: str | None) -> bytes:
        asked.set()
        await asyncio.Event().wait()
        return b""

    # It has joined, and a key is on the way, so that the Hub is asked at once.
    put(cluster, keys, lifetime=timedelta(hours=24), root_crt=ISSUERS.root.certificate_pem, next_key="lost")
    hub = HubAddress("http://127.0.0.1:1")
    member = Membership(cluster.api, hub, namespace="codezero", ask=ask)
    mounted: Watched[Identity | None] = Watched(None)
    kept = Renewal(cluster.api, namespace="codezero", identities=mounted, membership=member)
    async with task_group("test") as tasks:
        tasks.start_service("renewal", kept.run())
        await asked.wait()
        put(cluster, keys, lifetime=timedelta(minutes=1), root_crt=ISSUERS.root.certificate_pem)
        mounted.touch()
        await until(lambda: all(left(held(cluster), role) > RENEWED_BEFORE for role in identity.ROLES))


async def test_nothing_is_signed_for_a_teamspace_that_its_hub_has_not_signed_itself(
    cluster: ServingCluster, keys: TeamspaceKeys
) -> None:
    put(cluster, keys, lifetime=timedelta(minutes=1))
    member = Membership(cluster.api, HubAddress("http://127.0.0.1:1"), namespace="codezero")

    assert await Renewal(cluster.api, namespace="codezero", identities=Watched(None), membership=member).renew() == ()


async def test_a_hub_that_sends_a_byte_now_and_then_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joining, "ANSWER_SECONDS", 0.5)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        try:
            while not writer.is_closing():
                writer.write(b" ")
                await asyncio.sleep(0.05)
        finally:
            writer.close()
            ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    hub = HubAddress(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server, asyncio.timeout(30):
        with pytest.raises(CodezeroError, match="does not answer") as away:
            await joining._Https(hub)("/x", msgspec.defstruct("Nothing", [])(), None)
        assert away.value.problem is problems.HUB_UNREACHABLE
        await ended.wait()
