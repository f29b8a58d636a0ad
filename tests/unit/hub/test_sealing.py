import pytest

from codezero.hub.sealing import Sealer
from codezero.model import problems
from codezero.model.problems import CodezeroError


def test_what_is_sealed_comes_back_for_its_purpose_alone() -> None:
    sealer = Sealer(Sealer.new_master_key())
    sealed = sealer.seal(b"key", purpose="root 1")
    assert sealer.unseal(sealed, purpose="root 1") == b"key"
    assert b"key" not in sealed
    for other, content, purpose in (
        (sealer, sealed, "root 2"),
        (Sealer(Sealer.new_master_key()), sealed, "root 1"),
        (sealer, sealed[:-1] + bytes([sealed[-1] ^ 1]), "root 1"),
        (sealer, b"", "root 1"),
    ):
        with pytest.raises(CodezeroError) as raised:
            other.unseal(content, purpose=purpose)
        assert raised.value.problem is problems.BAD_MASTER_KEY
        assert "in no backup" in (raised.value.fix or "")


def test_a_hash_depends_on_the_master_key() -> None:
    one, other = Sealer(Sealer.new_master_key()), Sealer(Sealer.new_master_key())
    assert one.hash("token") == one.hash("token")
    assert one.hash("token") != other.hash("token")
    assert one.hash("token") != one.hash("Token")


def test_a_master_key_of_another_length_is_refused() -> None:
    with pytest.raises(CodezeroError) as raised:
        Sealer(b"short")
    assert raised.value.problem is problems.BAD_MASTER_KEY
