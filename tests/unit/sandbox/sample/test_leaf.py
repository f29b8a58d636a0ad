from pathlib import Path

import httpx2

from codezero.kit.certificates import Authority, client_context
from codezero.testing.sample_parts import SampleParts, free_port, is_open
from codezero.testing.waiting import eventually


def test_leaf_says_who_and_where_it_is(parts: SampleParts) -> None:
    """The demo shows by `where` whether the cluster or a laptop answered."""
    leaf = parts.start("leaf")

    assert leaf.get("/api").json() == {"who": "leaf", "where": "leaf-pod"}
    assert leaf.get("/healthz").status_code == leaf.get("/readyz").status_code == 200


def test_leaf_listens_with_tls_when_a_certificate_is_mounted(parts: SampleParts, tmp_path: Path) -> None:
    """Consuming a service that ends TLS itself must be possible to try."""
    authority = Authority.create("sample")
    credentials = authority.issue("leaf", dns=("localhost",), server=True)
    (tmp_path / "tls.crt").write_text(credentials.certificate_pem)
    (tmp_path / "tls.key").write_text(credentials.key_pem)
    port = free_port()

    leaf = parts.start("leaf", SP_TLS_FOLDER=str(tmp_path), SP_TLS_PORT=str(port))

    eventually(lambda: is_open(port))
    with httpx2.Client(verify=client_context(roots=authority.certificate_pem), trust_env=False) as client:
        assert client.get(f"https://localhost:{port}/api").json()["who"] == "leaf"
    assert leaf.get("/api").json()["who"] == "leaf"


def test_an_unusable_certificate_is_named(parts: SampleParts, tmp_path: Path) -> None:
    """Falling back to plain HTTP in silence would hide the mistake."""
    (tmp_path / "tls.crt").write_text("nonsense")
    (tmp_path / "tls.key").write_text("nonsense")

    leaf = parts.start("leaf", wait=False, SP_TLS_FOLDER=str(tmp_path))

    assert leaf.process.wait(30) == 1
    assert "could not start" in leaf.log.read_text()
