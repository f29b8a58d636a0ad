"""What a part of the sample project can be told through its environment; read once, all mistakes reported together."""

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from codezero.model.problems import BAD_REQUEST, CodezeroError

Part = Literal["frontend", "core", "leaf", "sockets", "database"]

PORTS: Mapping[Part, int] = {"frontend": 3030, "core": 3000, "leaf": 3010, "sockets": 8999, "database": 5432}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one part; each part uses those it needs."""

    address: str
    """SP_ADDRESS: where to listen; loopback unless told otherwise, the manifests say 0.0.0.0."""
    port: int
    """SP_PORT."""
    where: str
    """HOSTNAME: what the part calls the place it runs in; the name of the pod, or of this machine."""
    core_url: str
    """SP_CORE_URL: where `frontend` passes `/api`."""
    sockets_url: str
    """SP_SOCKETS_URL: where `frontend` passes `/sockets`."""
    leaf_url: str
    """SP_LEAF_URL: whom `core` asks."""
    database_url: str
    """SP_DATABASE_URL: without a password."""
    database_password: str | None = field(repr=False)
    """SP_DATABASE_PASSWORD: for `core` to connect with and for `database` to ask for."""
    message_file: Path
    """SP_FILE: the file whose text `core` shows."""
    nag_interval: float
    """SP_SOCKET_INTERVAL, in milliseconds there and in seconds here: how often `sockets` reminds its clients."""
    tls_port: int
    """SP_TLS_PORT: where `leaf` listens with TLS when it has a certificate."""
    tls_folder: Path
    """SP_TLS_FOLDER: holds `tls.crt` and `tls.key`, as a mounted Secret does."""


def read(part: Part, environment: Mapping[str, str]) -> Settings:
    """The settings of `part` in `environment`.

    Raises `CodezeroError` that names every value it could not use, and repeats none that may be secret.
    """
    mistakes: list[str] = []

    def value(name: str, default: T, parse: Callable[[str], T]) -> T:
        text = environment.get(name)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as mistake:
            mistakes.append(f"{name} {mistake}")
            return default

    settings = Settings(
        address=value("SP_ADDRESS", "127.0.0.1", str),
        port=value("SP_PORT", PORTS[part], _port),
        where=value("HOSTNAME", socket.gethostname(), str),
        core_url=value("SP_CORE_URL", "http://sample-project-core:3000", _http_url),
        sockets_url=value("SP_SOCKETS_URL", "ws://sample-project-sockets:8999", _websocket_url),
        leaf_url=value("SP_LEAF_URL", "http://sample-project-leaf:3010", _http_url),
        database_url=value("SP_DATABASE_URL", "postgresql://sample@sample-project-database:5432/sample", _database_url),
        database_password=value("SP_DATABASE_PASSWORD", None, _password),
        message_file=value("SP_FILE", Path("data/message.txt"), Path),
        nag_interval=value("SP_SOCKET_INTERVAL", 5.0, _milliseconds),
        tls_port=value("SP_TLS_PORT", 3443, _port),
        tls_folder=value("SP_TLS_FOLDER", Path("/etc/sample-project/tls"), Path),
    )
    if part == "database" and settings.database_password is None and not mistakes:
        mistakes.append("SP_DATABASE_PASSWORD is missing: a database without a password is not started")
    if mistakes:
        raise CodezeroError(BAD_REQUEST, "; ".join(mistakes), fix="correct the environment and start again")
    return settings


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise ValueError("must be a port from 1 to 65535")
    return int(text)


def _milliseconds(text: str) -> float:
    if not text.isdecimal() or not 10 <= int(text) <= 86_400_000:
        raise ValueError("must be milliseconds from 10 to 86400000")
    return int(text) / 1000


def _password(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


def _http_url(text: str) -> str:
    return _url(text, ("http", "https"))


def _websocket_url(text: str) -> str:
    return _url(text, ("ws", "wss"))


def _database_url(text: str) -> str:
    return _url(text, ("postgresql", "postgres"))


def _url(text: str, schemes: tuple[str, ...]) -> str:
    wanted = f"must be an address like {schemes[0]}://host:port, without a password"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if parts.scheme not in schemes or not parts.hostname or parts.password is not None or not text.isprintable():
        raise ValueError(wanted)
    return text.rstrip("/")
