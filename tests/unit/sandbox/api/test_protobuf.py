"""Bodies in protobuf: what kubectl sends, and what nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox.api.documents import DocumentError
from codezero.sandbox.api.protobuf import decode


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def envelope(kind: str, raw: bytes, api_version: str = "v1") -> bytes:
    return b"k8s\x00" + field(1, field(1, api_version.encode()) + field(2, kind.encode())) + field(2, raw)


def test_config_map_is_read() -> None:
    metadata = field(1, b"settings") + field(3, b"shop") + field(8, b"") + field(11, field(1, b"app") + field(2, b"x"))
    raw = field(1, metadata) + field(2, field(1, b"a") + field(2, b"b")) + field(4, 0)

    assert decode(envelope("ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "shop", "labels": {"app": "x"}},
        "data": {"a": "b"},
        "immutable": False,
    }


def test_service_port_forms_are_read() -> None:
    def port(target: bytes) -> bytes:
        return field(1, field(1, b"") + field(3, 80) + field(4, target) + field(5, 0))

    raw = field(
        2, port(field(1, 0) + field(2, 8080) + field(3, b"")) + port(field(1, 1) + field(2, 0) + field(3, b"http"))
    )

    assert decode(envelope("Service", raw))["spec"]["ports"] == [
        {"port": 80, "targetPort": 8080},
        {"port": 80, "targetPort": "http"},
    ]


def test_secrets_are_bytes() -> None:
    assert decode(envelope("Secret", field(2, field(1, b"k") + field(2, b"\x00\xff"))))["data"] == {"k": "AP8="}


def test_what_would_be_lost_is_refused() -> None:
    """Dropping a field silently would run something else than was asked for."""
    volumes = field(2, field(3, field(2, field(1, field(1, b"volume")))))

    with pytest.raises(DocumentError, match="send JSON"):
        decode(envelope("Deployment", volumes, "apps/v1"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"k8s",
        b"k8s\x00",
        b"{}",
        b"k8s\x00\xff",
        b"k8s\x00\x0a\xff\xff\xff\xff\x0f",
        envelope("Lease", b""),
        b"k8s\x00\x0d1234",
    ],
)
def test_broken_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(DocumentError):
        decode(body)


@given(st.sampled_from(["ConfigMap", "Service", "Deployment", "Role", "TokenRequest"]), st.binary(max_size=60))
def test_no_body_breaks_the_reader(kind: str, raw: bytes) -> None:
    try:
        decode(envelope(kind, raw))
    except DocumentError:
        pass
