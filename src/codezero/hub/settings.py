"""Settings of the Hub, from environment variables; all have defaults that make a Hub for this machine alone."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from codezero.kit.logs import LEVELS
from codezero.kit.settings import Environment, SettingsError

PREFIX: Final = "CODEZERO_HUB_"
DEFAULT_LISTEN: Final = "127.0.0.1:8700"
DATABASE_FILE: Final = "hub.db"
MASTER_KEY_FILE: Final = "master.key"

_SYSTEM_FOLDER: Final = "/var/lib/codezero-hub"
_MAX_FILE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where the Hub keeps its data, where it listens, how it is reached, and how it logs.

    `public_url` is how people, laptops and clusters reach it, without a slash at the end. `database_url` is `sqlite:///PATH` or `postgresql://...`.
    `certificate_file` and `key_file` (PEM) are both given or neither: without them it speaks plain HTTP, on loopback or to `trusted_proxies`.
    `providers_file` names the identity providers. `metrics_listen` is for Prometheus. `has_relay` lets pages reach machines through the Hub. `log_json` is None where the terminal decides.
    """

    data_folder: Path
    listen: tuple[str, int]
    public_url: str
    database_url: str
    master_key_file: Path
    certificate_file: Path | None
    key_file: Path | None
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    providers_file: Path | None
    metrics_listen: tuple[str, int]
    has_relay: bool
    log_level: str
    log_json: bool | None

    @property
    def has_tls(self) -> bool:
        """Whether it speaks TLS itself."""
        return self.certificate_file is not None


def from_environment(variables: Mapping[str, str]) -> HubSettings:
    """The settings; raises `SettingsError` with all mistakes."""
    environment = Environment(variables, PREFIX)
    mistakes: list[str] = []
    data_folder = environment.path("DATA_FOLDER", _default_folder(variables))
    listen = environment.address("LISTEN", DEFAULT_LISTEN)
    certificate_file = _optional(environment, variables, "TLS_CERT_FILE")
    key_file = _optional(environment, variables, "TLS_KEY_FILE")
    if (certificate_file is None) != (key_file is None):
        mistakes.append(f"{PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE are given both or neither")
    proxies = _networks(environment.text("TRUSTED_PROXIES", ""), mistakes)
    if certificate_file is None and not proxies and not _is_loopback(listen[0]):
        mistakes.append(
            f"{PREFIX}LISTEN is {listen[0]}, which others reach, too: give {PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE, "
            f"or name the proxies that bring the requests in {PREFIX}TRUSTED_PROXIES"
        )
    scheme = "http" if certificate_file is None else "https"
    settings = HubSettings(
        data_folder=data_folder,
        listen=listen,
        public_url=_public_url(environment.text("PUBLIC_URL", f"{scheme}://{_host(listen[0])}:{listen[1]}"), mistakes),
        database_url=_database_url(variables, data_folder, mistakes),
        master_key_file=environment.path("MASTER_KEY_FILE", str(data_folder / MASTER_KEY_FILE)),
        certificate_file=certificate_file,
        key_file=key_file,
        trusted_proxies=proxies,
        providers_file=_optional(environment, variables, "PROVIDERS_FILE"),
        metrics_listen=environment.address("METRICS_LISTEN", "127.0.0.1:8701"),
        has_relay=environment.text("RELAY", "on", choices=("on", "off")) == "on",
        log_level=environment.text("LOG_LEVEL", "info", choices=LEVELS),
        log_json={"": None, "json": True, "text": False}[
            environment.text("LOG_FORMAT", "", choices=("", "json", "text"))
        ],
    )
    try:
        environment.check()
    except SettingsError as error:
        mistakes.extend(error.mistakes)
    if mistakes:
        raise SettingsError(mistakes)
    return settings


def _default_folder(variables: Mapping[str, str]) -> str:
    """Root's Hub is the machine's; anybody else's is their own."""
    if os.geteuid() == 0:
        return _SYSTEM_FOLDER
    home = variables.get("HOME") or "/"
    return f"{variables.get('XDG_DATA_HOME') or f'{home}/.local/share'}/codezero-hub"


def _optional(environment: Environment, variables: Mapping[str, str], name: str) -> Path | None:
    return environment.path(name, "/") if variables.get(PREFIX + name) else None


def _database_url(variables: Mapping[str, str], data_folder: Path, mistakes: list[str]) -> str:
    """The URL, which may hold a password, so that a file may hold it instead of the environment."""
    url = variables.get(f"{PREFIX}DATABASE_URL")
    file = variables.get(f"{PREFIX}DATABASE_URL_FILE")
    if url and file:
        mistakes.append(f"{PREFIX}DATABASE_URL and {PREFIX}DATABASE_URL_FILE are both given; one is enough")
    if not file:
        return url or f"sqlite:///{data_folder / DATABASE_FILE}"
    try:
        with Path(file).open("rb") as opened:
            return opened.read(_MAX_FILE).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        mistakes.append(f"{PREFIX}DATABASE_URL_FILE: {file} cannot be read: {reason}")
        return ""


def _networks(text: str, mistakes: list[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    networks: list[IPv4Network | IPv6Network] = []
    for word in text.replace(",", " ").split():
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError:
            mistakes.append(f"{PREFIX}TRUSTED_PROXIES has {word!r}, which is neither an address nor a network")
    return tuple(networks)


def _public_url(text: str, mistakes: list[str]) -> str:
    """The URL, checked: everything the Hub signs and every link it gives hangs on it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    is_plain = parts.path.rstrip("/") == "" and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not is_plain:
        mistakes.append(f"{PREFIX}PUBLIC_URL must be like https://hub.example.com, without a path, not {text!r}")
    elif parts.scheme == "http" and not _is_loopback(parts.hostname):
        mistakes.append(f"{PREFIX}PUBLIC_URL is {text!r}; other machines reach a Hub by https:// alone")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
