"""Settings of a Router, from environment variables: its processes have the same."""

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
class RouterSettings:
    """The first plan, where and how the System is found and believed, how Envoy is run, where to listen, and how to log.

    `folder` is what Envoy and our processes share, `bind` the address that Envoy's listeners bind to, `token_file` the ServiceAccount token
    that proves this Router, `program` the Envoy to run (None: the one that is installed).
    """

    plan: RoutePlan
    folder: Path
    bind: str
    system: tuple[str, int]
    authority: str
    teamspace: TeamspaceId
    token_file: Path
    pod: str
    program: Path | None
    threads: int
    drain_seconds: float
    probes: tuple[str, int]
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


def from_environment(variables: Mapping[str, str]) -> RouterSettings:
    """The settings of a Router; raises `SettingsError` with all mistakes."""
    reader = _Reader(variables)
    environment = reader.environment
    plan = reader.plan()
    program = environment.text("ENVOY", "")
    rest = {
        "folder": reader.folder(),
        "bind": reader.bind(),
        "system": environment.address("SYSTEM", "system.codezero.svc:8801"),
        "authority": reader.authority(),
        "teamspace": reader.teamspace(),
        "token_file": environment.path("TOKEN_FILE", "/var/run/secrets/codezero/token"),
        "pod": environment.text("POD", "") or socket.gethostname(),
        "program": environment.path("ENVOY", program) if program else None,
        "threads": int(environment.number("ENVOY_THREADS", 2, least=1, most=64)),
        "drain_seconds": environment.number("DRAIN_SECONDS", 30, most=3600),
        "probes": environment.address("PROBES", "0.0.0.0:8803"),
        "log_level": environment.text("LOG_LEVEL", "info", choices=LEVELS),
        "log_json": environment.text("LOG_FORMAT", "json", choices=("json", "text")) == "json",
    }
    reader.check()
    assert plan is not None
    return RouterSettings(plan=plan, **rest)  # pyright: ignore[reportArgumentType] - each value has its field's type
