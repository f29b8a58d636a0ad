"""The identities of a Teamspace without a Hub: who signs for whom, what goes where, and that files give it back."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from codezero.deploy import identity
from codezero.deploy.identity import Issuers, TeamspaceKeys
from codezero.kit import certificates
from codezero.kit.certificates import Credentials
from codezero.model import problems
from codezero.model.access import Operation
from codezero.model.ids import Device, Workload, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef
from codezero.wire import policy_file

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def issuers() -> Issuers:
    return Issuers.create("shop").with_user("dev1")


@pytest.fixture(scope="module")
def keys(issuers: Issuers) -> TeamspaceKeys:
    return issuers.keys()


@pytest.fixture(scope="module")
def content(issuers: Issuers, keys: TeamspaceKeys) -> dict[str, str]:
    return identity.secret(issuers, keys, namespace="codezero")


def leaf(content: dict[str, str], role: str) -> x509.Certificate:
    return Credentials.from_pem(content[f"{role}.crt"], content[f"{role}.key"]).chain[0]


def names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return extension.value.get_values_for_type(x509.DNSName)


def test_keys_of_root_and_devices_never_get_into_the_cluster(issuers: Issuers, content: dict[str, str]) -> None:
    """Whoever breaks the cluster must not be able to make laptops (T25)."""
    whole = json.dumps(content)

    for authority in (issuers.root, issuers.device_issuer):
        assert authority.credentials.key_pem.splitlines()[1] not in whole
    assert set(content) == {
        *("ca.crt", "ca.key", "device-issuer.crt", "jwks.json", "seal.key"),
        *("system.crt", "system.key", "orchestrator.crt", "orchestrator.key"),
    }
    assert "d" not in json.loads(content["jwks.json"])["keys"][0]


def test_parts_are_signed_by_the_teamspace_and_that_by_the_root(issuers: Issuers, content: dict[str, str]) -> None:
    authority = x509.load_pem_x509_certificate(content["ca.crt"].encode())

    authority.verify_directly_issued_by(issuers.root.certificate)
    for role in identity.ROLES:
        leaf(content, role).verify_directly_issued_by(authority)
        uris = certificates.uris_of(leaf(content, role).public_bytes(Encoding.DER))
        assert uris == (str(Workload(issuers.teamspace, role)),)
    assert names(leaf(content, "system")) == [issuers.server_name]


@pytest.mark.parametrize("namespace", ["codezero", "team-x"])
def test_the_orchestrator_is_known_by_its_service(issuers: Issuers, keys: TeamspaceKeys, namespace: str) -> None:
    found = leaf(identity.secret(issuers, keys, namespace=namespace), "orchestrator")

    assert f"orchestrator.{namespace}.svc" in names(found)
    assert f"orchestrator.{namespace}.svc.cluster.local" in names(found)


def test_first_leaves_outlive_a_night(content: dict[str, str]) -> None:
    left = leaf(content, "system").not_valid_after_utc - datetime.now(UTC)

    assert timedelta(hours=23) < left <= DAY


def test_no_leaf_outlives_its_authority(issuers: Issuers) -> None:
    brief = issuers.keys(authority_lifetime=timedelta(minutes=5))
    found = leaf(identity.secret(issuers, brief, namespace="codezero"), "system")

    assert found.not_valid_after_utc <= brief.authority.certificate.not_valid_after_utc
    with pytest.raises(CodezeroError, match="has expired"):
        identity.secret(issuers, issuers.keys(authority_lifetime=timedelta(seconds=-5)), namespace="codezero")


def test_an_access_file_is_for_one_new_device_of_its_user(issuers: Issuers, content: dict[str, str]) -> None:
    def access(lifetime: timedelta) -> tuple[Device, x509.Certificate]:
        device = issuers.new_device("dev1")
        found = issuers.access(
            "dev1", device, host="h", port=1, roots=content["ca.crt"], lifetime=lifetime, organization="shop"
        )
        certificate = Credentials.from_pem(found.certificate, found.key).chain[0]
        assert certificates.uris_of(certificate.public_bytes(Encoding.DER)) == (str(device),)
        assert found.server_name == issuers.server_name
        return device, certificate

    (first, short), (second, long) = access(DAY), access(timedelta(days=9999))

    assert first.user == second.user == issuers.users["dev1"]
    assert first.device != second.device
    assert short.not_valid_after_utc - datetime.now(UTC) <= DAY
    assert long.not_valid_after_utc <= issuers.device_issuer.certificate.not_valid_after_utc
    short.verify_directly_issued_by(x509.load_pem_x509_certificate(content["device-issuer.crt"].encode()))


def test_a_user_stays_the_same_to_policies(issuers: Issuers) -> None:
    again = issuers.with_user("dev1").with_user("dev2")

    assert again.users["dev1"] == issuers.users["dev1"]
    assert again.users["dev2"] != again.users["dev1"]
    assert "dev2" not in issuers.users


def test_the_file_gives_back_all_of_it(issuers: Issuers) -> None:
    found = identity.decode(identity.encode(issuers))

    assert (found.teamspace, found.name, found.users) == (issuers.teamspace, "shop", issuers.users)
    assert found.root.certificate == issuers.root.certificate
    assert identity.encode(found) == identity.encode(issuers)


@pytest.mark.parametrize("part", ["root", "device_issuer", "token_key", "users", "api"])
def test_a_damaged_file_is_refused_without_being_quoted(issuers: Issuers, part: str) -> None:
    file = json.loads(identity.encode(issuers))
    file[part] = {"certificate": ["SECRET"]} if isinstance(file[part], dict) else "SECRET"

    with pytest.raises(CodezeroError) as refused:
        identity.decode(json.dumps(file).encode())

    assert refused.value.problem is problems.BAD_REQUEST
    assert "PRIVATE" not in str(refused.value)


def test_nothing_secret_shows(issuers: Issuers, keys: TeamspaceKeys) -> None:
    shown = f"{issuers!r} {keys!r}"

    assert keys.seal_key not in shown
    assert "PRIVATE" not in shown


def test_the_default_policy_is_for_this_teamspaces_people(issuers: Issuers) -> None:
    content = identity.policy_object(issuers.default_policy(), namespace="codezero")["data"]["policy.json"]
    policy = policy_file.decode(content.encode())
    stranger = Device("elsewhere", new_ulid(), new_ulid(), new_ulid())

    assert policy.decide(issuers.new_device("dev1"), Operation.SERVE, ServiceRef("shop", "orders")).allowed
    assert not policy.decide(stranger, Operation.SERVE, ServiceRef("shop", "orders")).allowed


def test_the_secret_says_which_teamspace_it_is_of(issuers: Issuers, content: dict[str, str]) -> None:
    """Also where one certificate is broken."""
    secret = identity.secret_object({**content, "system.crt": "broken"}, namespace="codezero")

    assert identity.teamspace_of(identity.secret_content(secret)) == issuers.teamspace
    with pytest.raises(CodezeroError, match="says which Teamspace"):
        identity.teamspace_of({})
