"""Settings of the two processes of a Router, from environment variables."""

import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from codezero.kit import certificates
from codezero.kit.certificates import CertificateError
from codezero.kit.logs import LEVELS
from codezero.kit.settings import Environment, SettingsError
from codezero.model.ids import TeamspaceId, is_ulid
from codezero.model.problems import CodezeroError
from codezero.routing.plan import RoutePlan
from codezero.wire import route_plan
from codezero.wire.route_plan import Plan

DEFAULT_FOLDER = "/run/codezero-router"
# A socket's path may have 107 bytes, and its name in the folder needs some of them.
_LONGEST_FOLDER = 90


@dataclass(frozen=True, slots=True)
class SidecarSettings:
    """The first plan, where and how the System is found and believed, the folder shared with Envoy, where to listen, and how to log.

    `bind` is the address that Envoy's listeners bind to, `token_file` the ServiceAccount token that proves this Router.
    """

    plan: RoutePlan
    folder: Path
    bind: str
    system: tuple[str, int]
    authority: str
    teamspace: TeamspaceId
    token_file: Path
    pod: str
    probes: tuple[str, int]
    log_level: str
    log_json: bool


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """Which Envoy to run (None: the one that is installed), how, and how long its connections may take to end."""

    folder: Path
    program: Path | None
    threads: int
    drain_seconds: float
    log_level: str
    log_json: bool


class _Reader:
    """Reads from the environment and collects mistakes, also those of values that only this process knows."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.environment = Environment(variables, "CODEZERO_")
        self.mistakes: list[str] = []

    def folder(self) -> Path:
        folder = self.environment.path("ROUTER_FOLDER", DEFAULT_FOLDER)
        if len(str(folder).encode()) > _LONGEST_FOLDER:
            self.mistakes.append(f"CODEZERO_ROUTER_FOLDER must have at most {_LONGEST_FOLDER} bytes: it holds sockets")
        return folder

    def log_level(self) -> str:
        return self.environment.text("LOG_LEVEL", "info", choices=LEVELS)

    def log_json(self) -> bool:
        return self.environment.text("LOG_FORMAT", "json", choices=("json", "text")) == "json"

    def plan(self) -> RoutePlan | None:
        try:
            plan = route_plan.from_wire(msgspec.json.decode(self.environment.text("PLAN", ""), type=Plan))
        except (CodezeroError, msgspec.DecodeError) as error:
            self.mistakes.append(f"CODEZERO_PLAN must be the first plan: {error}")
            return None
        if not plan.ports or any(port.rules for port in plan.ports):
            self.mistakes.append("CODEZERO_PLAN must have ports, and lead to nothing but the origin")
        return plan

    def bind(self) -> str:
        address = self.environment.text("BIND", "0.0.0.0")
        try:
            ipaddress.ip_address(address)
        except ValueError:
            self.mistakes.append(f"CODEZERO_BIND must be an IP address, not {address!r}")
        return address

    def authority(self) -> str:
        authority = self.environment.text("AUTHORITY", "")
        try:
            certificates.client_context(roots=authority)
        except (CertificateError, ValueError) as error:
            self.mistakes.append(f"CODEZERO_AUTHORITY must be the Teamspace's authority in PEM: {error}")
        return authority

    def teamspace(self) -> TeamspaceId:
        teamspace = self.environment.text("TEAMSPACE", "")
        if not is_ulid(teamspace):
            self.mistakes.append(f"CODEZERO_TEAMSPACE must be the Teamspace's ULID, not {teamspace!r}")
        return TeamspaceId(teamspace)

    def check(self) -> None:
        """Raise `SettingsError` with all mistakes, if there are any."""
        try:
            self.environment.check()
        except SettingsError as error:
            self.mistakes = [*error.mistakes, *self.mistakes]
        if self.mistakes:
            raise SettingsError(self.mistakes)


def sidecar(variables: Mapping[str, str]) -> SidecarSettings:
    """The settings of `czrouter sidecar`; raises `SettingsError` with all mistakes."""
    reader = _Reader(variables)
    environment = reader.environment
    plan = reader.plan()
    rest = {
        "folder": reader.folder(),
        "bind": reader.bind(),
        "system": environment.address("SYSTEM", "system.codezero.svc:8801"),
        "authority": reader.authority(),
        "teamspace": reader.teamspace(),
        "token_file": environment.path("TOKEN_FILE", "/var/run/secrets/codezero/token"),
        "pod": environment.text("POD", "") or socket.gethostname(),
        "probes": environment.address("PROBES", "0.0.0.0:8803"),
        "log_level": reader.log_level(),
        "log_json": reader.log_json(),
    }
    reader.check()
    assert plan is not None
    return SidecarSettings(plan=plan, **rest)  # pyright: ignore[reportArgumentType] - each value has its field's type


def envoy(variables: Mapping[str, str]) -> EnvoySettings:
    """The settings of `czrouter envoy`; raises `SettingsError` with all mistakes."""
    reader = _Reader(variables)
    environment = reader.environment
    program = environment.text("ENVOY", "")
    settings = EnvoySettings(
        folder=reader.folder(),
        program=environment.path("ENVOY", program) if program else None,
        threads=int(environment.number("ENVOY_THREADS", 2, least=1, most=64)),
        drain_seconds=environment.number("DRAIN_SECONDS", 30, most=3600),
        log_level=reader.log_level(),
        log_json=reader.log_json(),
    )
    reader.check()
    return settings
