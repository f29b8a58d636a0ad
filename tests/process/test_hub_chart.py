"""The Hub's Helm chart: what Helm makes of it starts a Hub whose settings are good, without rights, and with its secrets in Secrets alone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from codezero import __version__
from codezero.hub import settings

CHART = Path(__file__).parent.parent.parent / "deploy" / "helm" / "codezero-hub"
HELM = Path(sys.executable).parent / "helm"

SQLITE = "publicUrl: https://hub.example.com\ntrustedProxies: [10.0.0.0/8]\n"
POSTGRESQL = """
publicUrl: https://hub.example.com
replicas: 2
database: {existingSecret: hub-database}
masterKey: {existingSecret: hub-master-key}
tls: {existingSecret: hub-tls}
providers: {existingSecret: hub-providers}
service: {type: LoadBalancer, port: 8443, annotations: {cloud.example.com/scheme: internal}}
image: {repository: registry.example.com:5000/team/hub, tag: "1.2"}
imagePullSecrets: [{name: registry}]
relay: false
nodeSelector: {pool: tools}
tolerations: [{operator: Exists}]
"""
SETS = {"sqlite": SQLITE, "postgresql": POSTGRESQL}
WRONG = [
    "trustedProxies: [10.0.0.0/8]",
    "publicUrl: http://hub.example.com\ntls: {existingSecret: x}",
    "publicUrl: https://hub.example.com/path\ntls: {existingSecret: x}",
    "publicUrl: https://hub.example.com",
    SQLITE + "replicas: 2",
    SQLITE + "database: {existingSecret: x}",
    SQLITE + "database: {url: postgresql://user:password@host/name}",
    SQLITE + "masterKey: {value: secret}",
    SQLITE + "unknown: 1",
    SQLITE + "logLevel: loud",
    SQLITE + "relay: maybe",
    SQLITE + "persistence: {size: lots}",
    SQLITE + "service: {type: ExternalName}",
    SQLITE + "resources: {limits: {memory: lots}}",
]


def helm(text: str) -> subprocess.CompletedProcess[str]:
    command = [HELM, "template", "mine", CHART, "--namespace", "tools", "--values", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)


def rendered(text: str) -> dict[str, dict[str, Any]]:
    ended = helm(text)
    assert (ended.returncode, ended.stderr) == (0, "")
    return {one["kind"]: one for one in yaml.safe_load_all(ended.stdout) if one}


def container(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    (only,) = found["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


@pytest.mark.parametrize("name", SETS)
def test_the_settings_it_gives_are_good(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the settings are only held together by this."""
    variables = {one["name"]: one["value"] for one in container(rendered(SETS[name]))["env"]}
    if "CODEZERO_HUB_DATABASE_URL_FILE" in variables:
        (tmp_path / "url").write_text("postgresql://hub@db/hub")
        variables["CODEZERO_HUB_DATABASE_URL_FILE"] = str(tmp_path / "url")

    read = settings.from_environment(variables)

    assert all(variable.startswith(settings.PREFIX) for variable in variables)
    assert read.public_url == "https://hub.example.com"
    assert read.has_tls == (name == "postgresql")
    assert read.has_relay == (name == "sqlite")
    assert read.database_url.startswith(name)
    assert read.log_json


@pytest.mark.parametrize("name", SETS)
def test_it_runs_without_rights(name: str) -> None:
    """The restricted Pod Security Standard, and no account of the API."""
    found = rendered(SETS[name])
    pod = found["Deployment"]["spec"]["template"]["spec"]
    security = container(found)["securityContext"]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {tuple(volume)[1] for volume in pod["volumes"]} <= {"secret", "emptyDir", "persistentVolumeClaim"}


def test_each_mount_has_its_volume_and_each_file_its_mount() -> None:
    pod = rendered(POSTGRESQL)["Deployment"]["spec"]["template"]["spec"]
    (only,) = pod["containers"]
    mounts = {one["name"]: one["mountPath"] for one in only["volumeMounts"]}

    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    for variable in only["env"]:
        if variable["name"].endswith("_FILE"):
            assert any(variable["value"].startswith(f"{path}/") for path in mounts.values()), variable


def test_replicas_take_turns_and_one_on_sqlite_is_never_two() -> None:
    alone, shared = rendered(SQLITE), rendered(POSTGRESQL)

    assert alone["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert "PodDisruptionBudget" not in alone
    assert alone["PersistentVolumeClaim"]["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert shared["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert shared["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    assert "PersistentVolumeClaim" not in shared


@pytest.mark.parametrize("name", SETS)
def test_selectors_find_the_pods(name: str) -> None:
    found = rendered(SETS[name])
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert found["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    ports = {port["name"] for port in container(found)["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} <= ports


@pytest.mark.parametrize("text", WRONG)
def test_what_would_not_be_safe_or_is_unknown_is_refused(text: str) -> None:
    ended = helm(text)

    assert ended.returncode != 0
    assert "schema" in ended.stderr


def test_its_version_is_the_package_s() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
