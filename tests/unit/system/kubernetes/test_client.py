"""The client comes from settings that are safe to use, or not at all; what the server asks for is understood."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.kubernetes.client import from_kubeconfig, in_cluster, retry_after

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


def kubeconfig(folder: Path, **changes: Any) -> Path:
    content: dict[str, Any] = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:6443", **changes.pop("cluster", {})}}],
        "users": [{"name": "u", "user": {"token": "very-secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
        **changes,
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(content))
    return file


async def test_a_usable_kubeconfig_names_the_server(tmp_path: Path) -> None:
    """The address of the API must be known to be refused to streams."""
    client = from_kubeconfig(kubeconfig(tmp_path))
    await client.close()

    assert client.host == "127.0.0.1"


@pytest.mark.parametrize(
    "changes",
    [
        {"cluster": {"server": "http://127.0.0.1:8080"}},
        {"cluster": {"insecure-skip-tls-verify": True}},
        {"cluster": {"certificate-authority": "/nowhere/ca.crt"}},
        {"cluster": {"certificate-authority-data": "bm90IGEgY2VydGlmaWNhdGU="}},
        {"cluster": {"certificate-authority-data": "%%%"}},
        {"clusters": []},
        {"clusters": "none"},
        {"contexts": []},
        {"current-context": "other"},
        {"current-context": None},
        {"users": [{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}]},
        {"users": [{"name": "u", "user": {"client-certificate": "/nowhere/crt", "client-key": "/nowhere/key"}}]},
        {"users": [{"name": "u", "user": 5}]},
    ],
)
def test_settings_that_cannot_be_used_are_named_and_no_secret_is_shown(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The System must not start half configured, and never speak without TLS."""
    with pytest.raises(CodezeroError) as caught:
        from_kubeconfig(kubeconfig(tmp_path, **changes))

    assert caught.value.problem is problems.CLUSTER_SETTINGS
    assert caught.value.fix
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("content", ["token: very-secret\n\t:", "very-secret", "[1, 2]", "", "{a: very-secret"])
def test_a_file_that_is_no_kubeconfig_is_not_quoted(tmp_path: Path, content: str) -> None:
    """Parsers like to show the line, and with it the token."""
    (tmp_path / "config").write_text(content)

    with pytest.raises(CodezeroError) as caught:
        from_kubeconfig(tmp_path / "config")

    assert "very-secret" not in str(caught.value)


def test_outside_a_pod_there_is_no_service_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who runs the System by hand is told what to do."""
    with pytest.raises(CodezeroError) as caught:
        in_cluster(tmp_path)
    assert caught.value.problem is problems.CLUSTER_SETTINGS

    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "token").write_text("very-secret")
    (tmp_path / "namespace").write_text("codezero")
    with pytest.raises(CodezeroError, match="KUBERNETES_SERVICE_HOST is missing"):
        in_cluster(tmp_path)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        (" 120 ", 120.0),
        ("99999999999999", 999999999.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
    ],
)
def test_both_forms_of_retry_after_are_understood_and_nonsense_is_not(value: str, seconds: float | None) -> None:
    """RFC 9110 knows seconds and dates."""
    assert retry_after(value, now=NOW) == seconds
