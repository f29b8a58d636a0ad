"""Settings of the Orchestrator, from environment variables.

Not `CODEZERO_PORT`: Kubernetes sets that for the Service `codezero`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codezero.kit.logs import LEVELS
from codezero.kit.settings import Environment, SettingsError
from codezero.model.problems import CodezeroError
from codezero.orchestrator.leases import DEFAULT_TTL_SECONDS
from codezero.transport.hub import HubAddress, address_of


@dataclass(frozen=True, slots=True)
class OrchestratorSettings:
    """Where to listen, where identity and policy are mounted, how long a lost laptop's session is kept (seconds), and how to log.

    `hub` is the Hub of this Teamspace, None where it has none. `opa_url` is a policy decision
    point that is asked besides the policy.
    """

    listen: tuple[str, int]
    probes: tuple[str, int]
    identity_folder: Path
    policy_folder: Path
    session_seconds: float
    hub: HubAddress | None
    opa_url: str | None
    log_level: str
    log_json: bool


def from_environment(variables: Mapping[str, str]) -> OrchestratorSettings:
    """The settings; raises `SettingsError` with all mistakes."""
    environment = Environment(variables, "CODEZERO_")
    mistakes: list[str] = []
    hub = None
    url, authority = environment.text("HUB_URL", ""), environment.text("HUB_CA", "")
    if url:
        try:
            hub = address_of(url, authority)
        except CodezeroError as error:
            mistakes.append(f"CODEZERO_HUB_URL: {error.detail}")
    settings = OrchestratorSettings(
        listen=environment.address("LISTEN", "0.0.0.0:8900"),
        probes=environment.address("PROBES", "0.0.0.0:8901"),
        identity_folder=environment.path("IDENTITY_FOLDER", "/var/run/codezero/identity"),
        policy_folder=environment.path("POLICY_FOLDER", "/etc/codezero/policy"),
        session_seconds=environment.number("SESSION_SECONDS", DEFAULT_TTL_SECONDS, least=15, most=7 * 86400),
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
