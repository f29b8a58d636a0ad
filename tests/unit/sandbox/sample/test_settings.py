import pytest

from codezero.model.problems import CodezeroError
from codezero.sandbox.sample.settings import PORTS, read


def test_every_part_has_defaults_for_the_cluster() -> None:
    """The manifests say only what differs from the plain case."""
    core = read("core", {})

    assert core.port == PORTS["core"] == 3000
    assert core.leaf_url == "http://sample-project-leaf:3010"
    assert core.nag_interval == 5.0


def test_a_part_listens_on_loopback_unless_told_otherwise() -> None:
    """A developer who runs a part on a laptop must not offer it to the whole network."""
    assert read("core", {}).address == "127.0.0.1"


def test_all_mistakes_are_reported_together() -> None:
    """Nobody wants to find three mistakes by three restarts."""
    environment = {"SP_PORT": "0", "SP_SOCKET_INTERVAL": "often", "SP_LEAF_URL": "ftp://leaf"}

    with pytest.raises(CodezeroError) as failure:
        read("core", environment)

    assert all(name in failure.value.detail for name in environment)


def test_passwords_never_appear() -> None:
    """Settings and mistakes end in logs."""
    with pytest.raises(CodezeroError) as failure:
        read("core", {"SP_DATABASE_URL": "postgresql://sample:geheim@host/sample"})
    settings = read("core", {"SP_DATABASE_PASSWORD": "geheim"})

    assert "geheim" not in str(failure.value)
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize("password", [None, "two\nlines"])
def test_a_database_needs_a_usable_password(password: str | None) -> None:
    """A database that lets everybody in, or a password that ends a command early, must not start."""
    with pytest.raises(CodezeroError, match="SP_DATABASE_PASSWORD"):
        read("database", {} if password is None else {"SP_DATABASE_PASSWORD": password})


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://host:port", "host:3000", "http://ho\nst", "http://user:x@host"]
)
def test_an_unusable_address_is_refused_at_the_start(url: str) -> None:
    """Otherwise each request would fail with a riddle."""
    with pytest.raises(CodezeroError, match="SP_LEAF_URL"):
        read("core", {"SP_LEAF_URL": url})
