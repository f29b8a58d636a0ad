"""Settings of the System, from environment variables.

Not `CODEZERO_PORT`: Kubernetes sets that for the Service `codezero`.
"""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from codezero.deploy.values import Resources, Router
from codezero.kit.logs import LEVELS
from codezero.kit.settings import Environment, SettingsError
from codezero.model.problems import CodezeroError
from codezero.system.endpoints import AddressRules, parse_allowed_domains, parse_networks
from codezero.system.serving.enabled import EnabledNamespaces, parse_namespaces
from codezero.system.serving.manifests import DEFAULT_IMAGE, RouterSettings
from codezero.transport.hub import HubAddress, address_of


@dataclass(frozen=True, slots=True)
class SystemSettings:
    """Where to listen, where the Orchestrator and the mounted files are, where streams may lead, and how to log.

    `listen` is for laptops, `routers_listen` for Routers. `kubeconfig` is None in a pod, which uses its service account. `token_issuer` is who tokens for the CONNECT door must come from. `pod`,
    `pod_address` and `namespace` say where this replica is: by them Routers find it, and replicas agree on who leads. `serve_namespaces` are those
    whose Services may be served. `hub` is the Hub of this Teamspace, None where it has none. `opa_url` is a policy decision
    point that is asked besides the policy.
    """

    listen: tuple[str, int]
    routers_listen: tuple[str, int]
    probes: tuple[str, int]
    orchestrator: tuple[str, int]
    identity_folder: Path
    policy_folder: Path
    kubeconfig: Path | None
    addresses: AddressRules
    token_issuer: str | None
    namespace: str
    pod: str
    pod_address: str | None
    serve_namespaces: EnabledNamespaces
    router: RouterSettings
    hub: HubAddress | None
    opa_url: str | None
    log_level: str
    log_json: bool


def from_environment(variables: Mapping[str, str]) -> SystemSettings:
    """The settings; raises `SettingsError` with all mistakes."""
    environment = Environment(variables, "CODEZERO_")
    mistakes: list[str] = []
    addresses = AddressRules()
    try:
        addresses = AddressRules(
            domains=parse_allowed_domains(environment.text("ALLOWED_DOMAINS", "")),
            networks=parse_networks(environment.text("ALLOWED_NETWORKS", "")),
        )
    except CodezeroError as error:
        mistakes.append(f"CODEZERO_ALLOWED_DOMAINS or CODEZERO_ALLOWED_NETWORKS: {error.detail}")
    enabled = EnabledNamespaces()
    try:
        enabled = parse_namespaces(environment.text("SERVE_NAMESPACES", ""))
    except CodezeroError as error:
        mistakes.append(f"CODEZERO_SERVE_NAMESPACES: {error.detail}")
    resources = Router().resources
    try:
        if text := environment.text("ROUTER_RESOURCES", ""):
            resources = msgspec.json.decode(text, type=Resources)
    except msgspec.MsgspecError as error:
        mistakes.append(f"CODEZERO_ROUTER_RESOURCES: {error}")
    hub = None
    url, authority = environment.text("HUB_URL", ""), environment.text("HUB_CA", "")
    if url:
        try:
            hub = address_of(url, authority)
        except CodezeroError as error:
            mistakes.append(f"CODEZERO_HUB_URL: {error.detail}")
    namespace = environment.text("NAMESPACE", "codezero")
    settings = SystemSettings(
        listen=environment.address("LISTEN", "0.0.0.0:8800"),
        routers_listen=environment.address("ROUTERS_LISTEN", "0.0.0.0:8801"),
        probes=environment.address("PROBES", "0.0.0.0:8802"),
        orchestrator=environment.address("ORCHESTRATOR", "orchestrator.codezero.svc:8900"),
        identity_folder=environment.path("IDENTITY_FOLDER", "/var/run/codezero/identity"),
        policy_folder=environment.path("POLICY_FOLDER", "/etc/codezero/policy"),
        kubeconfig=environment.path("KUBECONFIG", "/") if variables.get("CODEZERO_KUBECONFIG") else None,
        addresses=addresses,
        token_issuer=environment.text("TOKEN_ISSUER", "") or None,
        namespace=namespace,
        pod=environment.text("POD", "") or socket.gethostname(),
        pod_address=environment.text("POD_IP", "") or None,
        serve_namespaces=enabled,
        router=RouterSettings(
            image=environment.text("ROUTER_IMAGE", DEFAULT_IMAGE),
            replicas=int(environment.number("ROUTER_REPLICAS", 2, least=1, most=20)),
            resources=resources,
            linger=environment.number("ROUTER_LINGER", 1800.0, most=7 * 86400.0),
            drain=environment.number("ROUTER_DRAIN", 30.0, most=600.0),
            system="{}:{}".format(*environment.address("ROUTER_SYSTEM", f"system.{namespace}.svc:8801")),
            log_level=environment.text("LOG_LEVEL", "info", choices=LEVELS),
            log_format=environment.text("LOG_FORMAT", "json", choices=("json", "text")),
        ),
        hub=hub,
        opa_url=environment.text("OPA_URL", "") or None,
        log_level=environment.text("LOG_LEVEL", "info", choices=LEVELS),
        log_json=environment.text("LOG_FORMAT", "json", choices=("json", "text")) == "json",
    )
    try:
        environment.check()
    except SettingsError as error:
        mistakes.extend(error.mistakes)
    if mistakes:
        raise SettingsError(mistakes)
    return settings
