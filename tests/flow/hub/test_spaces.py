"""A cluster becomes a Teamspace of a real Hub, by a token that is good once (T28), and stays one: also where it dies in between, and when it gets another key (R26)."""

import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from cryptography import x509
from tests import hub_spaces
from tests.hub_databases import HubClock
from tests.hub_spaces import Organization, bring_token, held, membership, new_tenant, policy, served, token_left

from codezero.deploy import identity
from codezero.deploy.identity import HUB_STATE, NEXT_KEY, ROOT
from codezero.hub.context import Hub
from codezero.hub.spaces import teamspaces
from codezero.hub.spaces.teamspaces import State, state_of
from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.access import Bundle
from codezero.model.ids import TeamspaceId, Workload
from codezero.model.problems import CodezeroError
from codezero.system.installing import looking
from codezero.system.joining import Membership
from codezero.system.kubernetes.client import ApiClient, ApiError
from codezero.testing.kubernetes import until
from codezero.testing.serving import Deaths, KilledError, MortalApi, ServingCluster, serving_cluster
from codezero.transport.hub import proof_of_authority
from codezero.transport.identity import from_files
from codezero.wire import policy_file
from codezero.wire.coordination import KeysTold, PolicyTold, RotationWanted
from codezero.wire.hub_channel import JOIN_PATH, CertificateRequest, JoinRequest, certificate_path, leave_path

Json = dict[str, Any]


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[ServingCluster]:
    async with serving_cluster(tmp_path) as cluster:
        yield cluster


@pytest.fixture
async def reached(hub: Hub) -> AsyncIterator[Hub]:
    async with served(hub) as reached:
        yield reached


@pytest.fixture
async def tenant(reached: Hub) -> Organization:
    return await new_tenant(reached)


def request(**changes: Any) -> JoinRequest:
    return JoinRequest(
        **{"csr": certificates.certificate_request(certificates.new_key()), "release": "test", **changes}
    )


async def post(hub: Hub, path: str, body: msgspec.Struct, *, proof: str | None = None) -> httpx2.Response:
    headers = {"Content-Type": "application/json", **({} if proof is None else {"Authorization": proof})}
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(hub.public_url + path, content=msgspec.json.encode(body), headers=headers)


def code(answer: httpx2.Response) -> str:
    return str(answer.json()["code"])


def state(cluster: ServingCluster) -> identity.HubState:
    return msgspec.json.decode(policy(cluster)[HUB_STATE], type=identity.HubState)


async def joined(cluster: ServingCluster, tenant: Organization, name: str = "shop") -> tuple[Membership, str]:
    """A cluster that has joined, and the Teamspace it is."""
    invited = await tenant.new_space(name)
    hub_spaces.install(cluster, tenant.hub, invited.token)
    member = membership(cluster, tenant.hub)
    await member.keep()
    return member, invited.space.id


# --- joining -------------------------------------------------------------------------------------------------------------------------------


async def test_a_cluster_joins_by_its_token_and_has_all_it_needs_to_go_on_alone(
    cluster: ServingCluster, tenant: Organization
) -> None:
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token)

    await membership(cluster, tenant.hub).keep()

    content = held(cluster)
    for role in identity.ROLES:
        files = {"tls.crt": content[f"{role}.crt"], "tls.key": content[f"{role}.key"], "ca.crt": content["ca.crt"]}
        found = from_files({name: text.encode() for name, text in files.items()}, role=role)
        assert found.teamspace == invited.space.id
    assert content[ROOT] == tenant.hub.authorities.root_pem
    assert content["device-issuer.crt"] == tenant.hub.authorities.device_issuer_pem
    assert len(bytes.fromhex(content["seal.key"])) == 32
    assert NEXT_KEY not in content
    assert token_left(cluster) is None
    bundle = policy_file.read(policy(cluster)["policy.json"].encode())
    assert getattr(bundle, "space", None) == invited.space.id
    space = await tenant.space(invited.space.id)
    assert state_of(space, tenant.hub.clock()) is State.UNREACHABLE
    authority = x509.load_pem_x509_certificate(content["ca.crt"].encode())
    assert space.authority == content["ca.crt"]
    assert space.fingerprint is not None
    (entry,) = await tenant.audit("space.join")
    assert (entry.outcome, entry.target["name"], entry.details["fingerprint"]) == ("ok", "shop", space.fingerprint)
    assert authority.not_valid_after_utc - datetime.now(authority.not_valid_after_utc.tzinfo) > timedelta(days=29)
    assert state(cluster).joined


async def test_the_key_of_the_authority_never_leaves_the_cluster_and_the_token_is_nowhere(
    cluster: ServingCluster, tenant: Organization
) -> None:
    sent: list[bytes] = []
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token)
    real = membership(cluster, tenant.hub)._ask

    async def ask(path: str, body: msgspec.Struct, proof: str | None) -> bytes:
        sent.append(msgspec.json.encode(body) + (proof or "").encode())
        return await real(path, body, proof)

    await membership(cluster, tenant.hub, ask=ask).keep()

    secret = "".join(held(cluster)["ca.key"].splitlines()[1:-1])
    assert sent
    assert all(secret[:40].encode() not in one for one in sent)
    everything = repr([one.content for kind in cluster.store.types.all() for one in cluster.store.list(kind.key)])
    assert invited.token not in everything
    assert invited.token not in repr(invited)


async def test_a_token_that_was_used_is_good_for_no_second_cluster(tenant: Organization, tmp_path: Path) -> None:
    """T28: and whoever looks after the Teamspace sees that somebody tried."""
    invited = await tenant.new_space()
    first = await post(tenant.hub, JOIN_PATH, request(token=invited.token))
    second = await post(tenant.hub, JOIN_PATH, request(token=invited.token))

    assert (first.status_code, second.status_code) == (200, 403)
    assert code(second) == problems.NOT_JOINED.code
    assert [one.outcome for one in await tenant.audit("space.join")] == ["ok", "denied"]
    space = await tenant.space(invited.space.id)
    assert space.authority == first.json()["certificate"]


async def test_the_same_cluster_is_answered_again(tenant: Organization) -> None:
    """It died before it had written the answer down; nothing of that is a second Teamspace."""
    invited, csr = await tenant.new_space(), certificates.certificate_request(certificates.new_key())

    answers = [await post(tenant.hub, JOIN_PATH, request(token=invited.token, csr=csr)) for _ in range(3)]

    assert [one.status_code for one in answers] == [200] * 3
    assert [one.outcome for one in await tenant.audit("space.join")] == ["ok"]
    assert (await tenant.space(invited.space.id)).authority == answers[-1].json()["certificate"]


async def test_wrong_expired_replaced_and_foreign_tokens_join_nothing(
    tenant: Organization, hub_clock: HubClock
) -> None:
    invited = await tenant.new_space()
    for token in ("x", "cz_join_" + "A" * 43, invited.token[:-1], invited.token + "A"):
        assert code(await post(tenant.hub, JOIN_PATH, request(token=token))) == problems.NOT_JOINED.code
    another = await tenant.do(teamspaces.invite, invited.space.id)
    assert code(await post(tenant.hub, JOIN_PATH, request(token=invited.token))) == problems.NOT_JOINED.code
    hub_clock.advance(teamspaces.JOIN_LIFETIME)

    late = await post(tenant.hub, JOIN_PATH, request(token=another.token))

    assert (late.status_code, code(late)) == (403, problems.NOT_JOINED.code)
    assert "expired" in late.json()["detail"]
    assert (await tenant.space(invited.space.id)).authority is None


@pytest.mark.parametrize(
    "csr", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
async def test_a_request_that_is_none_uses_no_token_up(tenant: Organization, csr: str) -> None:
    invited = await tenant.new_space()

    refused = await post(tenant.hub, JOIN_PATH, request(token=invited.token, csr=csr))

    assert refused.status_code in {400, 422}
    assert (await post(tenant.hub, JOIN_PATH, request(token=invited.token))).status_code == 200


async def test_a_cluster_without_a_token_says_what_it_waits_for(cluster: ServingCluster, tenant: Organization) -> None:
    """R46: it waits for ever, and says why where people look."""
    hub_spaces.install(cluster, tenant.hub, None)
    member = membership(cluster, tenant.hub)

    with pytest.raises(CodezeroError, match="no join token") as waiting:
        await member.keep()

    assert waiting.value.problem is problems.NOT_JOINED
    assert "codezero-join" in state(cluster).reason
    assert "czctl space join-token" in state(cluster).fix
    (event,) = (one.content for one in cluster.store.list("events", "codezero"))
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "system")
    assert "no join token" in event["message"]
    with pytest.raises(CodezeroError, match="no join token"):
        await member.keep()
    assert len(cluster.store.list("events", "codezero")) == 1


async def test_it_joins_as_soon_as_token_and_hub_are_there(cluster: ServingCluster, hub: Hub, tmp_path: Path) -> None:
    async with served(hub) as before:
        port = hub_spaces.port_of(before)
        tenant = await new_tenant(before)
        invited = await tenant.new_space()
    hub_spaces.install(cluster, before, None)
    member = membership(cluster, before)
    async with task_group("test") as tasks:
        tasks.start_service("renewal", hub_spaces.renewal(cluster, member).run())
        await until(lambda: "no join token" in policy(cluster).get(HUB_STATE, ""))
        bring_token(cluster, invited.token)
        member.news.touch()
        await until(lambda: "cannot be reached" in policy(cluster).get(HUB_STATE, ""))
        assert NEXT_KEY in held(cluster)
        async with served(hub, port=port):
            member.news.touch()
            await until(lambda: ROOT in held(cluster) and token_left(cluster) is None)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", [1, 2, 3, 4])
async def test_a_system_that_dies_while_it_joins_goes_on_with_the_same_key(
    cluster: ServingCluster, tenant: Organization, at: int, before: bool
) -> None:
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token)
    deaths = Deaths(at, before=before)
    mortal: Any = MortalApi(cluster.api, deaths)
    try:
        await membership(cluster, tenant.hub, api=mortal).keep()
    except KilledError:
        pass
    assert deaths.writes >= at
    journaled = held(cluster).get(NEXT_KEY) or held(cluster).get("ca.key")

    await membership(cluster, tenant.hub).keep()

    content = held(cluster)
    Credentials.from_pem(content["ca.crt"], content["ca.key"])
    assert journaled is None or journaled == content["ca.key"]
    assert (await tenant.space(invited.space.id)).authority == content["ca.crt"]
    assert token_left(cluster) is None
    assert [one.outcome for one in await tenant.audit("space.join")] == ["ok"]


async def test_an_answer_that_got_lost_is_asked_for_again(cluster: ServingCluster, tenant: Organization) -> None:
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token)
    real = membership(cluster, tenant.hub)._ask

    async def lost(path: str, body: msgspec.Struct, proof: str | None) -> bytes:
        await real(path, body, proof)
        raise CodezeroError(problems.HUB_UNREACHABLE, "the connection broke")

    with pytest.raises(CodezeroError, match="broke"):
        await membership(cluster, tenant.hub, ask=lost).keep()
    await membership(cluster, tenant.hub).keep()

    assert (await tenant.space(invited.space.id)).authority == held(cluster)["ca.crt"]
    assert await tenant.actions("space.join") == ["space.join"]


async def test_another_token_lets_a_cluster_take_the_place_of_one_that_is_lost(
    cluster: ServingCluster, tenant: Organization
) -> None:
    member, space = await joined(cluster, tenant)
    before = held(cluster)
    bring_token(cluster, (await tenant.do(teamspaces.invite, space)).token)

    await member.keep()

    after = held(cluster)
    assert after["ca.key"] != before["ca.key"]
    assert after["seal.key"] == before["seal.key"]
    assert identity.teamspace_of(after) == space
    assert await tenant.actions("space.rejoin") == ["space.rejoin"]
    assert token_left(cluster) is None


async def test_a_hub_that_answers_nonsense_changes_nothing(cluster: ServingCluster, tenant: Organization) -> None:
    hub_spaces.install(cluster, tenant.hub, "token")
    good = {
        "space": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "organization": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "name": "shop",
        "certificate": "",
        "root": "",
        "device_issuers": "",
        "jwks": "",
        "policy": "",
    }
    for content in (b"", b"<html>", b"{}", msgspec.json.encode(good), msgspec.json.encode({**good, "space": "../x"})):

        async def ask(path: str, body: msgspec.Struct, proof: str | None, content: bytes = content) -> bytes:
            return content

        with pytest.raises(CodezeroError) as refused:
            await membership(cluster, tenant.hub, ask=ask).keep()
        assert refused.value.problem is problems.HUB_UNREACHABLE
        assert ROOT not in held(cluster)
        assert token_left(cluster) == "token\n"


async def test_no_teamspace_makes_itself_another_one(cluster: ServingCluster, tenant: Organization) -> None:
    """All are below one root, which laptops and Routers believe: what keeps them apart are the names that each may sign for."""
    _, space = await joined(cluster, tenant)
    other = (await tenant.new_space("other")).space.id
    content = held(cluster)
    authority = Authority(Credentials.from_pem(content["ca.crt"], content["ca.key"]))

    def is_believed(credentials: Credentials, name: str) -> bool:
        return handshake(credentials, roots=content[ROOT], server_name=name)

    own, theirs = (identity.server_name(TeamspaceId(one)) for one in (space, other))
    assert is_believed(Credentials.from_pem(content["system.crt"], content["system.key"]), own)
    orchestrator = Credentials.from_pem(content["orchestrator.crt"], content["orchestrator.key"])
    assert is_believed(orchestrator, "orchestrator.codezero")
    for forged in (
        authority.issue("system", dns=[theirs], server=True),
        authority.issue("system", dns=[own, theirs], server=True),
        authority.issue("system", dns=["hub.example.com"], server=True),
        authority.issue("system", uris=[str(Workload(TeamspaceId(other), "system"))], dns=[own], server=True),
    ):
        for name in (own, theirs, "hub.example.com"):
            assert not is_believed(forged, name)


def handshake(credentials: Credentials, *, roots: str, server_name: str) -> bool:
    """Whether a client that believes `roots` takes a server with these credentials for `server_name`."""
    ends = [(ssl.MemoryBIO(), ssl.MemoryBIO()) for _ in range(2)]
    (in_of_server, out_of_server), (in_of_client, out_of_client) = ends
    server = certificates.server_context(credentials).wrap_bio(in_of_server, out_of_server, server_side=True)
    context = certificates.client_context(roots=roots)
    client = context.wrap_bio(in_of_client, out_of_client, server_hostname=server_name)
    done: set[str] = set()
    for _ in range(10):
        for name, end in (("client", client), ("server", server)):
            try:
                end.do_handshake()
                done.add(name)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
        in_of_server.write(out_of_client.read())
        in_of_client.write(out_of_server.read())
    return done == {"client", "server"}


# --- renewing ------------------------------------------------------------------------------------------------------------------------------


async def test_the_authority_is_signed_again_with_a_third_of_its_life_left_and_keeps_its_key(
    cluster: ServingCluster, tenant: Organization, hub_clock: HubClock
) -> None:
    """All that it has signed goes on being believed, so nobody notices."""
    _, space = await joined(cluster, tenant)
    before = held(cluster)
    member = membership(cluster, tenant.hub, clock=hub_clock)
    hub_clock.advance(timedelta(days=19))
    await member.keep()
    assert held(cluster) == before
    hub_clock.advance(timedelta(days=2))

    await member.keep()

    after = held(cluster)
    assert after["ca.key"] == before["ca.key"]
    assert after["ca.crt"] != before["ca.crt"]
    leaf = x509.load_pem_x509_certificate(before["system.crt"].encode())
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(after["ca.crt"].encode()))
    assert (await tenant.space(space)).authority == after["ca.crt"]


async def test_an_authority_that_has_run_out_is_signed_again(
    cluster: ServingCluster, tenant: Organization, hub_clock: HubClock
) -> None:
    """A cluster that slept for months; its key is the pinned one all the same."""
    await joined(cluster, tenant)
    hub_clock.advance(timedelta(days=90))

    await membership(cluster, tenant.hub, clock=hub_clock).keep()

    authority = x509.load_pem_x509_certificate(held(cluster)["ca.crt"].encode())
    assert authority.not_valid_after_utc > hub_clock() + timedelta(days=29)


async def test_a_hub_that_is_away_keeps_no_part_from_its_certificate(cluster: ServingCluster, hub: Hub) -> None:
    """R05."""
    async with served(hub) as reached:
        tenant = await new_tenant(reached)
        member, _ = await joined(cluster, tenant)
    content = {name: text for name, text in held(cluster).items() if name != "orchestrator.crt"}
    cluster.store.patch(*hub_spaces.SECRET, {"data": {"orchestrator.crt": ""}})
    member.heard(RotationWanted(1.0))
    async with task_group("test") as tasks:
        tasks.start_service("renewal", hub_spaces.renewal(cluster, member).run())

        await until(lambda: "CERTIFICATE" in held(cluster).get("orchestrator.crt", ""))
        await until(lambda: "cannot be reached" in policy(cluster)[HUB_STATE])

    assert held(cluster)["ca.key"] == content["ca.key"]
    assert state(cluster).joined


async def test_another_key_is_made_when_the_hub_wants_one_and_the_old_one_is_believed_no_more(
    cluster: ServingCluster, tenant: Organization
) -> None:
    member, space = await joined(cluster, tenant)
    before = held(cluster)
    old = Credentials.from_pem(before["ca.crt"], before["ca.key"]).key
    wanted = (await tenant.do(teamspaces.rotate, space)).rotate_at
    assert wanted is not None
    member.heard(RotationWanted(wanted.timestamp()))

    await member.keep()

    after = held(cluster)
    assert after["ca.key"] != before["ca.key"]
    assert after["seal.key"] == before["seal.key"]
    assert NEXT_KEY not in after
    assert after["system.key"] != before["system.key"]
    row = await tenant.space(space)
    assert (row.rotate_at, row.authority) == (None, after["ca.crt"])
    assert await tenant.actions("space.rekey") == ["space.rekey"]
    refused = await post(
        tenant.hub,
        certificate_path(space),
        CertificateRequest(certificates.certificate_request(old)),
        proof=proof_of_authority(old, TeamspaceId(space), tenant.hub.public_url),
    )
    assert refused.status_code == 403
    member.heard(RotationWanted(wanted.timestamp()))
    await member.keep()
    assert held(cluster) == after, "the same wish again is no other one"
    fresh = membership(cluster, tenant.hub)
    fresh.heard(RotationWanted(wanted.timestamp()))
    await fresh.keep()
    assert held(cluster) == after, "nor is it for a System that leads from now on"


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("at", [1, 2])
async def test_a_system_that_dies_while_it_gets_another_key_gets_it(
    cluster: ServingCluster, tenant: Organization, at: int, before: bool
) -> None:
    _, space = await joined(cluster, tenant)
    old = held(cluster)["ca.key"]
    wanted = (await tenant.do(teamspaces.rotate, space)).rotate_at
    mortal: Any = MortalApi(cluster.api, Deaths(at, before=before))
    dying = membership(cluster, tenant.hub, api=mortal)
    dying.heard(RotationWanted(wanted.timestamp()))
    with pytest.raises(KilledError):
        await dying.keep()

    next_one = membership(cluster, tenant.hub)
    if (await tenant.space(space)).rotate_at is not None:
        next_one.heard(RotationWanted(wanted.timestamp()))
    await next_one.keep()

    content = held(cluster)
    assert content["ca.key"] != old
    assert NEXT_KEY not in content
    assert (await tenant.space(space)).authority == content["ca.crt"]


async def test_no_other_key_is_signed_unless_somebody_wants_one(cluster: ServingCluster, tenant: Organization) -> None:
    """Whoever has stolen the key for a moment cannot make it his own."""
    _, space = await joined(cluster, tenant)
    content = held(cluster)
    key = Credentials.from_pem(content["ca.crt"], content["ca.key"]).key
    mine = CertificateRequest(certificates.certificate_request(certificates.new_key()))

    refused = await post(
        tenant.hub,
        certificate_path(space),
        mine,
        proof=proof_of_authority(key, TeamspaceId(space), tenant.hub.public_url),
    )

    assert (refused.status_code, code(refused)) == (409, problems.NO_OTHER_KEY.code)
    assert (await tenant.space(space)).authority == content["ca.crt"]


async def test_a_wrong_token_stops_no_renewals(
    cluster: ServingCluster, tenant: Organization, hub_clock: HubClock
) -> None:
    """The Teamspace stays what it is, says why the token is good for nothing, and keeps its key."""
    _, space = await joined(cluster, tenant)
    before = held(cluster)
    issuers = before["device-issuer.crt"]
    member = membership(cluster, tenant.hub, clock=hub_clock)
    bring_token(cluster, "cz_join_wrong")
    for number in range(3):
        member.heard(KeysTold(f'{{"keys": [], "n": {number}}}', issuers))
        with pytest.raises(CodezeroError, match="not one of this Hub"):
            await member.keep()
        assert NEXT_KEY not in held(cluster)
    assert '"n": 2' in held(cluster)["jwks.json"]
    assert len(await tenant.actions("space.renew")) == 1, "not again and again"
    assert "not one of this Hub" in state(cluster).reason
    hub_clock.advance(timedelta(days=21))

    with pytest.raises(CodezeroError, match="not one of this Hub"):
        await member.keep()

    after = held(cluster)
    assert after["ca.key"] == before["ca.key"]
    authority = x509.load_pem_x509_certificate(after["ca.crt"].encode())
    assert authority.not_valid_after_utc > hub_clock() + timedelta(days=29)
    bring_token(cluster, (await tenant.do(teamspaces.invite, space)).token)
    await member.keep()
    assert (await tenant.space(space)).authority == held(cluster)["ca.crt"] != after["ca.crt"]


async def test_what_is_pushed_is_kept_whatever_becomes_of_a_token(
    cluster: ServingCluster, tenant: Organization
) -> None:
    from codezero.hub.policies.bundle import bundle

    _, space = await joined(cluster, tenant)
    newer = await tenant.hub.database.run(lambda session: bundle(tenant.hub, session, space))

    async def away(path: str, body: msgspec.Struct, proof: str | None) -> bytes:
        raise CodezeroError(problems.HUB_UNREACHABLE, "nobody answers")

    member = membership(cluster, tenant.hub, ask=away)
    bring_token(cluster, "cz_join_other")
    member.heard(PolicyTold(newer))

    with pytest.raises(CodezeroError, match="nobody answers"):
        await member.keep()

    assert policy(cluster)["policy.json"].encode() == newer


class FullConfigMap:
    """The API server, which takes no ConfigMap that is patched."""

    def __init__(self, real: ApiClient) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def patch(self, path: str, *arguments: Any, **options: Any) -> bytes:
        if "/configmaps/" in path:
            raise ApiError("ConfigMap is too long: must have at most 1048576 bytes", status=422, reason="Invalid")
        return await self._real.patch(path, *arguments, **options)


async def test_a_policy_that_cannot_be_kept_stops_nothing_else_and_is_told(
    cluster: ServingCluster, tenant: Organization
) -> None:
    from codezero.hub.policies.bundle import bundle

    _, space = await joined(cluster, tenant)
    before, issuers = held(cluster), held(cluster)["device-issuer.crt"]
    wanted = (await tenant.do(teamspaces.rotate, space)).rotate_at
    newer = await tenant.hub.database.run(lambda session: bundle(tenant.hub, session, space))
    full: Any = FullConfigMap(cluster.api)
    member = membership(cluster, tenant.hub, api=full)
    member.heard(PolicyTold(newer))
    member.heard(KeysTold('{"keys": []}', issuers + issuers))
    member.heard(RotationWanted(wanted.timestamp()))

    with pytest.raises(ApiError, match="too long"):
        await member.keep()

    after = held(cluster)
    assert after["ca.key"] != before["ca.key"]
    assert "too long" in member.waiting
    (event,) = (one.content for one in cluster.store.list("events", "codezero"))
    assert "too long" in event["message"]
    assert policy(cluster)["policy.json"].encode() != newer
    again = membership(cluster, tenant.hub)
    again.heard(PolicyTold(newer))
    await again.keep()
    assert policy(cluster)["policy.json"].encode() == newer


async def test_status_says_joined_by_the_certificate_and_not_by_what_is_said_about_it(
    cluster: ServingCluster, tenant: Organization
) -> None:
    url = tenant.hub.public_url
    container = {"name": "system", "image": "system:1", "env": [{"name": "CODEZERO_HUB_URL", "value": url}]}
    content = {
        "metadata": {"name": "system", "labels": {"app.kubernetes.io/part-of": "codezero"}},
        "spec": {
            "selector": {"matchLabels": {"app": "system"}},
            "template": {"metadata": {"labels": {"app": "system"}}, "spec": {"containers": [container]}},
        },
    }

    def say(text: str | None) -> None:
        cluster.store.patch(*hub_spaces.POLICY, {"data": {HUB_STATE: text}})

    async def is_joined() -> bool:
        seen = await looking.look(cluster.api, hub_spaces.NAMESPACE)
        assert seen is not None
        assert seen.hub is not None
        return seen.hub.joined

    hub_spaces.install(cluster, tenant.hub, None)
    cluster.store.create("deployments.apps", hub_spaces.NAMESPACE, content)
    say(msgspec.json.encode(identity.HubState(url, joined=True, connected=True)).decode())
    assert not await is_joined()
    bring_token(cluster, (await tenant.new_space()).token)
    await membership(cluster, tenant.hub).keep()
    assert await is_joined()
    for text in (None, "{", msgspec.json.encode(identity.HubState(url)).decode()):
        say(text)
        assert await is_joined()


async def test_the_policy_that_comes_with_joining_is_written_in_the_end(
    cluster: ServingCluster, tenant: Organization
) -> None:
    invited = await tenant.new_space()
    hub_spaces.install(cluster, tenant.hub, invited.token)
    full: Any = FullConfigMap(cluster.api)
    member = membership(cluster, tenant.hub, api=full)
    with pytest.raises(ApiError, match="too long"):
        await member.keep()
    assert "policy.json" not in policy(cluster)

    member._api = cluster.api
    await member.keep()

    bundle = policy_file.read(policy(cluster)["policy.json"].encode())
    assert getattr(bundle, "space", None) == invited.space.id


async def test_a_cluster_that_becomes_another_teamspace_gets_its_policy_whatever_its_number(
    cluster: ServingCluster, tenant: Organization, hub_clock: HubClock
) -> None:
    from codezero.hub.policies.bundle import bundle

    member, first = await joined(cluster, tenant)
    hub_clock.advance(timedelta(hours=1))
    newest = await tenant.hub.database.run(lambda session: bundle(tenant.hub, session, first))
    hub_clock.advance(timedelta(hours=-1))
    member.heard(PolicyTold(newest))
    await member.keep()
    assert policy(cluster)["policy.json"].encode() == newest
    other = await tenant.new_space("other")
    bring_token(cluster, other.token)

    await member.keep()

    def of() -> tuple[str, int]:
        found = policy_file.read(policy(cluster)["policy.json"].encode())
        assert isinstance(found, Bundle)
        return found.space, found.serial

    assert of()[0] == other.space.id
    assert of()[1] < getattr(policy_file.read(newest), "serial", 0)
    # An Orchestrator that has not heard of it yet.
    member.heard(PolicyTold(newest))
    await member.keep()
    assert of()[0] == other.space.id


async def test_a_wish_for_another_key_that_the_hub_has_forgotten_is_none(
    cluster: ServingCluster, tenant: Organization
) -> None:
    """It was put back from a backup in between."""
    _, space = await joined(cluster, tenant)
    before = held(cluster)
    member = membership(cluster, tenant.hub)
    member.heard(RotationWanted(5.0))

    await member.keep()
    await member.keep()

    after = held(cluster)
    assert (after["ca.key"], NEXT_KEY in after) == (before["ca.key"], False)
    assert (await tenant.space(space)).authority == after["ca.crt"]
    assert await tenant.actions("space.renew") == ["space.renew"]


async def test_a_used_token_takes_no_wish_for_another_key_away(tenant: Organization) -> None:
    """Whoever has stolen key and token would keep the key good."""
    invited, csr = await tenant.new_space(), certificates.certificate_request(certificates.new_key())
    assert (await post(tenant.hub, JOIN_PATH, request(token=invited.token, csr=csr))).status_code == 200
    await tenant.do(teamspaces.rotate, invited.space.id)

    again = await post(tenant.hub, JOIN_PATH, request(token=invited.token, csr=csr))

    assert again.status_code == 200
    assert (await tenant.space(invited.space.id)).rotate_at is not None


async def test_proofs_are_for_one_request_one_hub_one_teamspace_and_now(
    cluster: ServingCluster, tenant: Organization
) -> None:
    _, space = await joined(cluster, tenant)
    content = held(cluster)
    key = Credentials.from_pem(content["ca.crt"], content["ca.key"]).key
    own = CertificateRequest(certificates.certificate_request(key))
    other = TeamspaceId("01ARZ3NDEKTSV4RRFFQ69G5FAV")
    now = tenant.hub.clock().timestamp()
    good = proof_of_authority(key, TeamspaceId(space), tenant.hub.public_url)

    async def ask(proof: str | None, path: str = certificate_path(space)) -> int:
        return (await post(tenant.hub, path, own, proof=proof)).status_code

    assert await ask(good) == 200
    assert await ask(good) == 401, "used before"
    assert await ask(None) == 401
    assert await ask("Bearer x") == 401
    assert await ask(proof_of_authority(key, TeamspaceId(space), "https://other.example.com")) == 401
    assert await ask(proof_of_authority(key, other, tenant.hub.public_url)) == 401
    assert await ask(proof_of_authority(key, other, tenant.hub.public_url), certificate_path(other)) == 403
    assert await ask(proof_of_authority(certificates.new_key(), TeamspaceId(space), tenant.hub.public_url)) == 403
    for clock in (now - 90, now + 90):
        late = proof_of_authority(key, TeamspaceId(space), tenant.hub.public_url, clock=lambda clock=clock: clock)
        assert await ask(late) not in {200, 500}
    fresh = proof_of_authority(key, TeamspaceId(space), tenant.hub.public_url)
    assert await ask(fresh[:-6] + "AAAAAA") == 401


async def test_what_the_hub_pushes_is_kept_in_the_cluster_and_never_goes_back(
    cluster: ServingCluster, tenant: Organization
) -> None:
    member, space = await joined(cluster, tenant)
    first = policy(cluster)["policy.json"]
    await tenant.do(teamspaces.suspend, space)
    from codezero.hub.policies.bundle import bundle

    newer = await tenant.hub.database.run(lambda session: bundle(tenant.hub, session, space))
    issuers = held(cluster)["device-issuer.crt"]
    member.heard(PolicyTold(newer))
    member.heard(KeysTold('{"keys": []}', issuers + issuers))

    await member.keep()

    assert policy(cluster)["policy.json"].encode() == newer
    assert held(cluster)["jwks.json"] == '{"keys": []}'
    assert held(cluster)["device-issuer.crt"] == issuers + issuers
    for jwks, bad in (('{"keys": []}', ""), ('{"keys": []}', "x"), ("x", issuers), ("[]", issuers)):
        member.heard(KeysTold(jwks, bad))
        await member.keep()
        assert held(cluster)["device-issuer.crt"] == issuers + issuers
    member.heard(PolicyTold(first.encode()))
    await member.keep()
    assert policy(cluster)["policy.json"].encode() == newer


async def test_a_cluster_that_is_taken_away_says_so(cluster: ServingCluster, tenant: Organization) -> None:
    _, space = await joined(cluster, tenant)
    content = held(cluster)
    key = Credentials.from_pem(content["ca.crt"], content["ca.key"]).key

    left = await post(
        tenant.hub, leave_path(space), msgspec.defstruct("Nothing", [])(), proof=proof_of_authority(key, TeamspaceId(space), tenant.hub.public_url)
    )  # fmt: skip

    assert left.status_code == 204
    row = await tenant.space(space)
    assert (row.authority, state_of(row, tenant.hub.clock())) == (None, State.INVITED)
    assert await tenant.actions("space.leave") == ["space.leave"]


async def test_names_are_labels_and_nobodys_twice(tenant: Organization) -> None:
    for name in ("", "Shop", "a" * 64, "-a", "a b", "a/b", "ä"):
        with pytest.raises(CodezeroError, match="no name for a Teamspace"):
            await tenant.new_space(name)
    first = await tenant.new_space("shop")
    with pytest.raises(CodezeroError) as taken:
        await tenant.new_space("shop")
    assert taken.value.problem is problems.ALREADY_THERE
    await tenant.do(teamspaces.remove, first.space.id)
    assert (await tenant.new_space("shop")).space.id != first.space.id
    with pytest.raises(CodezeroError) as gone:
        await tenant.do(teamspaces.suspend, first.space.id)
    assert gone.value.problem is problems.NOT_FOUND


async def test_a_suspended_teamspace_is_joined_by_nobody(tenant: Organization) -> None:
    invited = await tenant.new_space()
    await tenant.do(teamspaces.suspend, invited.space.id)

    refused = await post(tenant.hub, JOIN_PATH, request(token=invited.token))
    await tenant.do(teamspaces.resume, invited.space.id)

    assert code(refused) == problems.SUSPENDED.code
    assert (await post(tenant.hub, JOIN_PATH, request(token=invited.token))).status_code == 200


async def test_a_removed_teamspace_is_believed_no_more(cluster: ServingCluster, tenant: Organization) -> None:
    member, space = await joined(cluster, tenant)
    await tenant.do(teamspaces.remove, space)
    member.heard(RotationWanted(1.0))

    with pytest.raises(CodezeroError, match="does not know this Teamspace"):
        await member.keep()

    assert "does not know" in state(cluster).reason
