"""All objects of a Teamspace, in the order in which they are applied.

Not among them are the namespace, Secret `codezero-identity` (ca.crt, device-issuer.crt, jwks.json, system.crt, system.key, orchestrator.crt,
orchestrator.key, and for the System alone ca.key, which signs the Routers' certificates, and seal.key, 32 random bytes as hexadecimal digits, never
changed: it seals routes) and ConfigMap `codezero-policy` (policy.json), which whoever installs a Teamspace without a Hub provides. With one both are
made empty, and the System fills them when it has joined; so pods begin without an identity.
"""

import hashlib
import json
from importlib.resources import files
from typing import Any, Final

import msgspec
import yaml

from codezero.deploy import access, fence
from codezero.deploy.access import IDENTITY, POLICY
from codezero.deploy.manifest import Json, Release, labelled, manifest, selected_by
from codezero.deploy.values import Entry, Resources, ServiceType, Values
from codezero.model import problems
from codezero.model.problems import CodezeroError

SETTINGS: Final = "codezero-settings"
ENTRY: Final = "codezero"
EXTERNAL_HOST: Final = "codezero.io/external-host"
EXTERNAL_PORT: Final = "codezero.io/external-port"

_CHECKSUM: Final = "codezero.io/settings"
_IDENTITY_FOLDER: Final = "/var/run/codezero/identity"
_POLICY_FOLDER: Final = "/etc/codezero/policy"
_USER: Final = 65532
# Until all nodes know that a pod takes no new connections; it still takes those of nodes that do not.
_FAREWELL_SECONDS: Final = 5


def objects(values: Values, *, namespace: str = "codezero", release: Release | None = None) -> tuple[Json, ...]:
    """Everything that `values` ask for, in order; applied again it changes nothing. Raises `CodezeroError` for values that do not go with `namespace`."""
    if namespace in values.serve.namespaces:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"serve.namespaces names {namespace}, the Teamspace's own namespace, of which nothing is served",
            fix="leave it out of --serve-namespace, --set serve.namespaces={...} or the values file",
        )
    return labelled(
        (
            serves_definition(),
            *access.objects(values, namespace),
            *fence.objects(values, namespace),
            _settings(values, namespace),
            *(_empty(namespace) if values.hub.url else ()),
            *_network_policies(values, namespace),
            *_services(values.service, namespace),
            *_disruption_budgets(namespace),
            _orchestrator(values, namespace),
            _system(values, namespace),
        ),
        release or Release(),
    )


def namespace_of(namespace: str) -> Json:
    """The namespace, for whoever makes one for a Teamspace: no pod in it has privileges."""
    content = manifest("v1", "Namespace", namespace, component=ENTRY)
    content["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "restricted"
    return content


def serves_definition() -> Json:
    """The definition of the Serve resource."""
    content: Json = yaml.safe_load((files("codezero.deploy") / "serves.yaml").read_text(encoding="utf-8"))
    return {**content, "metadata": {**content["metadata"], "labels": selected_by(ENTRY)}}


def _settings(values: Values, namespace: str) -> Json:
    return manifest(
        "v1", "ConfigMap", SETTINGS, component="system", namespace=namespace, data=_settings_of_the_system(values)
    )


def _settings_of_the_system(values: Values) -> dict[str, str]:
    """See docs/reference/environment.md."""
    return {
        "CODEZERO_ALLOWED_DOMAINS": ",".join(values.allowed_domains),
        "CODEZERO_ALLOWED_NETWORKS": ",".join(values.allowed_networks),
        "CODEZERO_LOG_LEVEL": str(values.system.log_level),
        "CODEZERO_ROUTER_IMAGE": values.router.image.reference,
        "CODEZERO_ROUTER_LINGER": str(values.router.linger),
        "CODEZERO_ROUTER_REPLICAS": str(values.router.replicas),
        "CODEZERO_ROUTER_RESOURCES": msgspec.json.encode(values.router.resources, order="sorted").decode(),
        "CODEZERO_SERVE_NAMESPACES": ",".join(values.serve.namespaces),
    }


def _empty(namespace: str) -> list[Json]:
    """What the System has no right to make, and fills."""
    return [
        manifest("v1", "Secret", IDENTITY, component=ENTRY, namespace=namespace, type="Opaque"),
        manifest("v1", "ConfigMap", POLICY, component=ENTRY, namespace=namespace),
    ]


def _hub(values: Values) -> list[Json]:
    """What both parts are told about the Hub."""
    hub = values.hub
    return [
        *([_variable("CODEZERO_HUB_URL", hub.url)] if hub.url else []),
        *([_variable("CODEZERO_HUB_CA", hub.ca_bundle)] if hub.ca_bundle else []),
    ]


def _opa(values: Values) -> list[Json]:
    """Whom both parts ask besides the policy."""
    return [_variable("CODEZERO_OPA_URL", values.opa.url)] if values.opa.enabled else []


def _network_policies(values: Values, namespace: str) -> list[Json]:
    version, kind = "networking.k8s.io/v1", "NetworkPolicy"
    everything: Json = {}
    anywhere: list[Json] = [
        {
            "to": [
                {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}},
                {"ipBlock": {"cidr": "::/0", "except": ["fd00:ec2::254/128"]}},
            ]
        }
    ]
    return [
        # Only Systems speak with the Orchestrator; probes come from the node, which no policy stops.
        manifest(
            version,
            kind,
            "orchestrator",
            component="orchestrator",
            namespace=namespace,
            spec={
                "podSelector": {"matchLabels": selected_by("orchestrator")},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {
                        "from": [{"podSelector": {"matchLabels": selected_by("system")}}],
                        "ports": [{"port": "coordination"}],
                    }
                ],
                # To its Hub, and to whom that or the administrator lets it ask; else to nobody.
                **({"egress": anywhere} if values.hub.url or values.opa.enabled else {}),
            },
        ),
        # A second fence behind the System's own rules: Routers come from the cluster's pods alone, and the cloud's metadata service is out of reach.
        # Routers stand in the namespaces of the services they serve, so any namespace may; each proves itself by its ServiceAccount token or
        # certificate.
        manifest(
            version,
            kind,
            "system",
            component="system",
            namespace=namespace,
            spec={
                "podSelector": {"matchLabels": selected_by("system")},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [
                    {"ports": [{"port": "tunnel"}]},
                    {"from": [{"namespaceSelector": everything}], "ports": [{"port": "routers"}]},
                ],
                "egress": anywhere,
            },
        ),
    ]


def _services(entry: Entry, namespace: str) -> list[Json]:
    return [
        # Without an address of its own: Systems choose one and the same of the pods behind it.
        manifest(
            "v1",
            "Service",
            "orchestrator",
            component="orchestrator",
            namespace=namespace,
            spec={
                "type": "ClusterIP",
                "clusterIP": "None",
                "selector": selected_by("orchestrator"),
                "ports": [_service_port("coordination", 8900)],
            },
        ),
        # Where Routers join and their requests for variants arrive. In the cluster alone.
        manifest(
            "v1",
            "Service",
            "system",
            component="system",
            namespace=namespace,
            spec={
                "type": "ClusterIP",
                "selector": selected_by("system"),
                "ports": [_service_port("routers", 8801)],
            },
        ),
        # The one port that is exposed.
        manifest(
            "v1",
            "Service",
            ENTRY,
            component="system",
            namespace=namespace,
            annotations=_entry_annotations(entry),
            spec=_entry_spec(entry),
        ),
    ]


def _entry_annotations(entry: Entry) -> dict[str, str]:
    if not entry.external_host:
        return entry.annotations
    # By these `czctl` knows where laptops connect to, whoever installed.
    return {
        **entry.annotations,
        EXTERNAL_HOST: entry.external_host,
        EXTERNAL_PORT: str(entry.external_port),
    }


def _entry_spec(entry: Entry) -> Json:
    port = _service_port("tunnel", 8800)
    if entry.node_port is not None:
        port["nodePort"] = entry.node_port
    spec: Json = {"type": str(entry.type), "selector": selected_by("system"), "ports": [port]}
    if entry.type is not ServiceType.CLUSTER_IP:
        spec["externalTrafficPolicy"] = str(entry.external_traffic_policy)
    return spec


def _service_port(name: str, number: int) -> Json:
    return {"name": name, "port": number, "targetPort": name, "protocol": "TCP"}


def _disruption_budgets(namespace: str) -> list[Json]:
    # Of one replica too this lets a node be drained, also while pods are not ready: nobody may keep an administrator from that.
    return [
        manifest(
            "policy/v1",
            "PodDisruptionBudget",
            component,
            component=component,
            namespace=namespace,
            spec={
                "maxUnavailable": 1,
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
                "selector": {"matchLabels": selected_by(component)},
            },
        )
        for component in ("orchestrator", "system")
    ]


def _orchestrator(values: Values, namespace: str) -> Json:
    part = values.orchestrator
    return _deployment(
        "orchestrator",
        values,
        namespace,
        replicas=part.replicas,
        resources=part.resources,
        environment=[
            _variable("CODEZERO_LISTEN", "0.0.0.0:8900"),
            _variable("CODEZERO_PROBES", "0.0.0.0:8901"),
            _variable("CODEZERO_IDENTITY_FOLDER", _IDENTITY_FOLDER),
            _variable("CODEZERO_POLICY_FOLDER", _POLICY_FOLDER),
            _variable("CODEZERO_LOG_LEVEL", part.log_level),
            *_hub(values),
            *_opa(values),
        ],
        ports={"coordination": 8900, "probes": 8901},
        identity=_identity_files("orchestrator"),
        # Nothing waits for its end but its connections, which it drops.
        grace=_FAREWELL_SECONDS + 10,
        pod={"automountServiceAccountToken": False},
    )


def _system(values: Values, namespace: str) -> Json:
    part = values.system
    return _deployment(
        "system",
        values,
        namespace,
        replicas=part.replicas,
        resources=part.resources,
        environment=[
            _variable("CODEZERO_LISTEN", "0.0.0.0:8800"),
            _variable("CODEZERO_ROUTERS_LISTEN", "0.0.0.0:8801"),
            _variable("CODEZERO_PROBES", "0.0.0.0:8802"),
            _variable("CODEZERO_ORCHESTRATOR", f"orchestrator.{namespace}.svc:8900"),
            _variable("CODEZERO_IDENTITY_FOLDER", _IDENTITY_FOLDER),
            _variable("CODEZERO_POLICY_FOLDER", _POLICY_FOLDER),
            # By these Routers find the replica that holds a laptop's tunnel, and replicas agree on who leads.
            _variable_of_pod("CODEZERO_NAMESPACE", "metadata.namespace"),
            _variable_of_pod("CODEZERO_POD", "metadata.name"),
            _variable_of_pod("CODEZERO_POD_IP", "status.podIP"),
            *_hub(values),
            *_opa(values),
        ],
        ports={"tunnel": 8800, "routers": 8801, "probes": 8802},
        # Signing the Routers' certificates and sealing routes: in no other pod.
        identity=[
            *_identity_files("system"),
            *map(_file, ("ca.key", "seal.key", "device-issuer.crt", "jwks.json")),
            *([_file("root.crt")] if values.hub.url else []),
        ],
        # Laptops are told to go, what is known of their tunnels is written, the lease is given up: each a few seconds at most.
        grace=_FAREWELL_SECONDS + 25,
        container={"envFrom": [{"configMapRef": {"name": SETTINGS}}]},
        # Settings are read once, at the start.
        annotations={_CHECKSUM: _checksum(_settings_of_the_system(values))},
    )


def _deployment(
    component: str,
    values: Values,
    namespace: str,
    *,
    replicas: int,
    resources: Resources,
    environment: list[Json],
    ports: dict[str, int],
    identity: list[Json],
    grace: int,
    container: Json | None = None,
    pod: Json | None = None,
    annotations: dict[str, str] | None = None,
) -> Json:
    main: Json = {
        "name": component,
        "image": values.image.reference,
        "imagePullPolicy": str(values.image.pull_policy),
        "command": [f"cz{component}"],
        "env": environment,
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports.items()],
        "startupProbe": _probe("/healthz", period=1, timeout=2, failures=60),
        "livenessProbe": _probe("/healthz", period=10, timeout=5, failures=3),
        "readinessProbe": _probe("/readyz", period=2, timeout=2, failures=3),
        "lifecycle": {"preStop": {"sleep": {"seconds": _FAREWELL_SECONDS}}},
        "resources": _present(requests=resources.requests, limits=resources.limits),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "identity", "mountPath": _IDENTITY_FOLDER, "readOnly": True},
            {"name": "policy", "mountPath": _POLICY_FOLDER, "readOnly": True},
        ],
        **(container or {}),
    }
    spec: Json = {
        "serviceAccountName": component,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            _spread(component, topology) for topology in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "containers": [main],
        "volumes": [
            {
                "name": "identity",
                # There before the Teamspace has joined its Hub: then nothing is in it.
                "secret": {"secretName": IDENTITY, "items": identity, **({"optional": True} if values.hub.url else {})},
            },
            {"name": "policy", "configMap": {"name": POLICY}},
        ],
        **(pod or {}),
        **_placement(values),
    }
    metadata: Json = {"labels": selected_by(component)}
    if annotations:
        metadata["annotations"] = annotations
    return manifest(
        "apps/v1",
        "Deployment",
        component,
        component=component,
        namespace=namespace,
        spec={
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            # A new pod is ready before an old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": selected_by(component)},
            "template": {"metadata": metadata, "spec": spec},
        },
    )


def _placement(values: Values) -> Json:
    return _present(
        imagePullSecrets=[msgspec.to_builtins(one) for one in values.image_pull_secrets],
        nodeSelector=values.node_selector,
        tolerations=[msgspec.to_builtins(one) for one in values.tolerations],
        affinity=msgspec.to_builtins(values.affinity),
    )


def _spread(component: str, topology: str) -> Json:
    return {
        "maxSkew": 1,
        "topologyKey": topology,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": selected_by(component)},
        # Pods of the last release, which are about to go, do not count.
        "matchLabelKeys": ["pod-template-hash"],
    }


def _probe(path: str, *, period: int, timeout: int, failures: int) -> Json:
    return {
        "httpGet": {"path": path, "port": "probes"},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }


def _identity_files(component: str) -> list[Json]:
    """Each part has its own key alone."""
    return [_file(f"{component}.crt", "tls.crt"), _file(f"{component}.key", "tls.key"), _file("ca.crt")]


def _file(key: str, path: str | None = None) -> Json:
    return {"key": key, "path": path or key}


def _variable(name: str, value: str) -> Json:
    return {"name": name, "value": str(value)}


def _variable_of_pod(name: str, field: str) -> Json:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": field}}}


def _checksum(content: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _present(**content: Any) -> Json:  # noqa: ANN401 - parts of objects
    """What is not empty."""
    return {name: value for name, value in content.items() if value}
