"""Who a part is, from its mounted folder."""

import asyncio
from pathlib import Path

import pytest

from codezero.kit.certificates import Authority
from codezero.kit.mounted import Content
from codezero.model import problems
from codezero.model.ids import TeamspaceId, Workload, new_ulid
from codezero.model.problems import CodezeroError
from codezero.transport import identity

TEAMSPACE = TeamspaceId(new_ulid())
PARTS, DEVICES = Authority.create("parts"), Authority.create("devices")


def files(role: str = "system", **changes: bytes | None) -> Content:
    own = PARTS.issue(role, uris=[str(Workload(TEAMSPACE, role))], server=True, client=True)
    content: dict[str, bytes | None] = {
        "tls.crt": own.certificate_pem.encode(),
        "tls.key": own.key_pem.encode(),
        "ca.crt": PARTS.certificate_pem.encode(),
        "device-issuer.crt": DEVICES.certificate_pem.encode(),
        **{name.replace("_", ".", 1).replace("_", "-"): value for name, value in changes.items()},
    }
    return {name: value for name, value in content.items() if value is not None}


def test_the_folder_says_who_we_are() -> None:
    """And whom to believe; the laptops' issuer is for the System alone."""
    found = identity.from_files(files(), role="system")

    assert found.workload == Workload(TEAMSPACE, "system")
    assert found.teamspace == TEAMSPACE
    assert found.device_issuer is not None
    assert "PRIVATE" not in repr(found)
    orchestrator = files("orchestrator")
    del orchestrator["device-issuer.crt"]
    assert identity.from_files(orchestrator, role="orchestrator").device_issuer is None


def test_the_authority_s_key_makes_a_signer() -> None:
    """Only the System has it, and all but signing works without."""
    signer = identity.from_files(files(ca_key=PARTS.credentials.key_pem.encode()), role="system").signer

    assert signer is not None
    assert signer.certificate == PARTS.certificate
    assert identity.from_files(files(), role="system").signer is None


@pytest.mark.parametrize("key", [b"", b"nonsense", b"\xff", DEVICES.credentials.key_pem.encode()])
def test_a_key_that_is_not_the_authority_s_signs_nothing(key: bytes) -> None:
    """The rest of the identity stays good: the Secret may be between two generations."""
    found = identity.from_files(files(ca_key=key), role="system")

    assert found.signer is None
    assert found.teamspace == TEAMSPACE


@pytest.mark.parametrize(
    "changes",
    [
        {"tls_crt": None},
        {"tls_key": None},
        {"ca_crt": None},
        {"tls_crt": b""},
        {"tls_crt": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"},
        {"tls_key": b"\xff\xfe"},
        {"ca_crt": b"nothing"},
        {"tls_key": files()["tls.key"]},
        {"tls_crt": PARTS.issue("none").certificate_pem.encode()},
    ],
    ids=lambda changes: f"{next(iter(changes))} {str(next(iter(changes.values())))[:20]}",
)
def test_files_that_do_not_fit_are_refused(changes: dict[str, bytes | None]) -> None:
    """With the reason, and no key in it."""
    with pytest.raises(CodezeroError) as caught:
        identity.from_files(files(**changes), role="system")

    assert caught.value.problem is problems.BAD_IDENTITY
    assert "PRIVATE" not in caught.value.detail


@pytest.mark.parametrize(
    "uris", [[], ["spiffe://x"], [str(Workload(TEAMSPACE, role)) for role in ("system", "router")]]
)
def test_a_certificate_names_one_part(uris: list[str]) -> None:
    """Two names in one certificate would make it both."""
    own = PARTS.issue("part", uris=uris)
    with pytest.raises(CodezeroError):
        identity.from_files(files(tls_crt=own.certificate_pem.encode(), tls_key=own.key_pem.encode()), role="system")


def test_the_certificate_of_another_part_is_refused() -> None:
    """A mix-up of mounts shows at the start, not as a refusal elsewhere."""
    with pytest.raises(CodezeroError, match="orchestrator"):
        identity.from_files(files("orchestrator"), role="system")


async def test_a_half_changed_folder_is_waited_out(tmp_path: Path) -> None:
    """Certificate and key of two generations; the last good ones stay in use."""

    def write(content: Content) -> None:
        for name, value in content.items():
            (tmp_path / name).write_bytes(value)

    write(files())
    following = identity.follow(tmp_path, role="system")
    first = await anext(following)
    later = files()
    write({"tls.crt": later["tls.crt"]})
    waiting = asyncio.ensure_future(anext(following))  # type: ignore[arg-type]
    write({"tls.key": later["tls.key"]})

    second = await asyncio.wait_for(waiting, 20)
    assert second.credentials.certificate_pem.encode() == later["tls.crt"]
    assert second.credentials.certificate_pem != first.credentials.certificate_pem
