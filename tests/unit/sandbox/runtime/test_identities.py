import warnings

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from codezero.kit import certificates
from codezero.kit.certificates import Authority, Credentials
from codezero.model.access import Operation
from codezero.model.ids import Device, Workload
from codezero.model.services import ServiceRef
from codezero.sandbox.identities import USERS, Identities
from codezero.system.tokens import TokenVerifier
from codezero.wire import access_file

_DER = Encoding.DER


@pytest.fixture(scope="module")
def identities() -> Identities:
    return Identities.create()


def test_a_developers_access_file_is_read_as_one(identities: Identities) -> None:
    found = access_file.decode(msgspec.json.encode(identities.access("dev1")))
    leaf = Credentials.from_pem(found.certificate, found.key)

    assert (found.host, found.port) == ("198.51.100.10", 8800)
    assert [str(Device.parse(uri)) for uri in certificates.uris_of(leaf.chain[0].public_bytes(_DER))]
    assert found.server_name == identities.issuers.server_name


def test_each_part_has_its_own_name_and_key(identities: Identities) -> None:
    secret = identities.secret()
    system = Credentials.from_pem(secret["system.crt"], secret["system.key"])
    orchestrator = Credentials.from_pem(secret["orchestrator.crt"], secret["orchestrator.key"])

    assert secret["system.key"] != secret["orchestrator.key"]
    assert certificates.uris_of(system.chain[0].public_bytes(_DER)) == (str(Workload(identities.teamspace, "system")),)
    assert "orchestrator.codezero.svc" in _dns(orchestrator)
    assert _dns(system) == [identities.issuers.server_name]


def test_laptops_are_believed_below_the_device_issuer_alone(identities: Identities) -> None:
    """A device certificate must not open in-cluster doors, nor a workload's pass as a device (T25)."""
    secret = identities.secret()
    issuer = x509.load_pem_x509_certificate(secret["device-issuer.crt"].encode())
    authority = x509.load_pem_x509_certificate(secret["ca.crt"].encode())
    found = identities.access("dev1")
    device = x509.load_pem_x509_certificates(found.certificate.encode())[0]
    system = x509.load_pem_x509_certificates(secret["system.crt"].encode())[0]

    device.verify_directly_issued_by(issuer)
    system.verify_directly_issued_by(authority)
    assert issuer.subject != authority.subject
    assert "PRIVATE" not in secret["ca.crt"] + secret["device-issuer.crt"] + secret["jwks.json"]


def test_the_system_can_sign_for_routers_and_seal_for_the_sandboxes_life(identities: Identities) -> None:
    """Routes that were sealed before a renewal of certificates must still be followed after it."""
    before, after = (identities.secret() for _ in range(2))
    authority = Authority(Credentials.from_pem(before["ca.crt"], before["ca.key"]))
    router = Workload(identities.teamspace, "router", "shop/orders")
    leaf = authority.issue("router", uris=[str(router)], client=True)

    leaf.chain[0].verify_directly_issued_by(identities.keys.authority.certificate)
    assert (before["ca.key"], before["seal.key"]) == (after["ca.key"], after["seal.key"])
    assert len(bytes.fromhex(before["seal.key"])) == 32
    assert Identities.create().keys.seal_key != identities.keys.seal_key
    assert before["seal.key"] not in repr(identities)


def test_a_token_is_accepted_by_the_system(identities: Identities) -> None:
    keys = TokenVerifier()
    keys.read_keys(identities.secret()["jwks.json"].encode())

    assert keys.verify(identities.token("dev2"), identities.teamspace) == identities.users["dev2"]


def test_making_a_token_warns_of_nothing(identities: Identities) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        identities.token("dev1")


def test_the_policy_allows_the_sandboxes_developers_and_nobody_else(identities: Identities) -> None:
    policy = identities.policy()
    service = ServiceRef("shop", "orders")
    stranger = Device("elsewhere", Identities.create().issuers.organization, *["01ARZ3NDEKTSV4RRFFQ69G5FAV"] * 2)

    assert all(policy.decide(identities.users[user], Operation.CONSUME, service).allowed for user in USERS)
    assert not policy.decide(stranger, Operation.CONSUME, service).allowed


def _dns(credentials: Credentials) -> list[str]:
    names = credentials.chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)
