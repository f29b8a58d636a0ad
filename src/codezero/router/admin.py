"""What Envoy says about itself: which files it has taken, which it refused, what it listens on. Over its admin API on a UNIX socket."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from codezero.routing.envoy import CLUSTERS_FILE, LISTENERS_FILE, Configuration
from codezero.transport.unix_http import AnswerError, Exchange

_SECONDS = 2.0
_LIVE = 0
_NAMES = r"(cds|lds|\.rds\..*)\.(version_text|update_rejected|update_failure)$|warming|^server\.state$"
_HELD = r"^listener\..*\.downstream_cx_active$"
_STATISTICS = f"/stats?format=json&filter={quote(_NAMES)}"
_LISTENERS = "/listeners?format=json"
_DRAIN = "/drain_listeners?graceful&skip_exit"
_CONNECTIONS = f"/stats?format=json&filter={quote(_HELD)}"


class EnvoyAbsentError(Exception):
    """Envoy does not answer: it is starting, gone, or busy."""


class _Statistic(msgspec.Struct):
    name: str = ""
    value: Any = None


class _Statistics(msgspec.Struct):
    stats: list[_Statistic]


class _Listener(msgspec.Struct):
    name: str


class _Listeners(msgspec.Struct):
    listener_statuses: list[_Listener] = msgspec.field(default_factory=list[_Listener])


@dataclass(frozen=True, slots=True)
class EnvoyState:
    """A look at Envoy. `run` differs from start to start, `versions` are those of its files by statistic, `refused` counts refused files."""

    run: int
    is_live: bool
    versions: Mapping[str, str]
    refused: int
    is_warming: bool

    def has(self, files: Mapping[str, Configuration]) -> bool:
        """Whether Envoy works by `files`."""
        return not self.is_warming and all(
            self.versions.get(statistic) == content["version_info"] for statistic, content in _by_statistic(files)
        )


class Admin:
    """Asks the Envoy whose admin socket is `socket`. All questions raise `EnvoyAbsentError` when it does not answer."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def state(self) -> EnvoyState:
        """What Envoy has taken."""
        run = self._run()
        statistics = await self._statistics(_STATISTICS)
        return EnvoyState(
            run=run,
            is_live=statistics.get("server.state") == _LIVE,
            versions={
                _statistic(name.removesuffix(".version_text")): value
                for name, value in statistics.items()
                if name.endswith(".version_text") and isinstance(value, str)
            },
            refused=_sum(statistics, ".update_rejected") + _sum(statistics, ".update_failure"),
            is_warming=_sum(statistics, "warming_clusters") + _sum(statistics, "listeners_warming") > 0,
        )

    async def listeners(self) -> frozenset[str]:
        """The names of the listeners that stand."""
        answer = msgspec.json.decode(await self._ask("GET", _LISTENERS), type=_Listeners)
        return frozenset(listener.name for listener in answer.listener_statuses)

    async def connections(self) -> int:
        """How many connections its listeners hold."""
        statistics = await self._statistics(_CONNECTIONS)
        return sum(
            int(value)
            for name, value in statistics.items()
            if not name.startswith("listener.admin") and ".worker_" not in name
        )

    async def drain(self) -> None:
        """Let Envoy ask its clients to leave; it goes on taking connections meanwhile."""
        await self._ask("POST", _DRAIN)

    def _run(self) -> int:
        try:
            status = self._socket.stat()
        except OSError:
            raise EnvoyAbsentError from None
        return hash((status.st_ino, status.st_ctime_ns))

    async def _statistics(self, target: str) -> dict[str, Any]:
        answer = msgspec.json.decode(await self._ask("GET", target), type=_Statistics)
        return {one.name: one.value for one in answer.stats if one.value is not None}

    async def _ask(self, method: str, target: str) -> bytes:
        try:
            return await asyncio.to_thread(self._exchange, method, target)
        except (OSError, EOFError, AnswerError, msgspec.DecodeError) as error:
            raise EnvoyAbsentError(str(error)) from None

    def _exchange(self, method: str, target: str) -> bytes:
        with Exchange(self._socket, deadline=_SECONDS) as exchange:
            status = exchange.request(method, target, host="envoy")
            if status != 200:
                raise AnswerError(f"Envoy answers {status} to {target}")
            return exchange.content()


def _by_statistic(files: Mapping[str, Configuration]) -> list[tuple[str, Configuration]]:
    found: list[tuple[str, Configuration]] = []
    for name, content in files.items():
        match name:
            case str() if name == CLUSTERS_FILE:
                found.append(("cds", content))
            case str() if name == LISTENERS_FILE:
                found.append(("lds", content))
            case _:
                # Envoy writes a colon in a name as an underscore.
                found += [(f"rds.{one['name'].replace(':', '_')}", content) for one in content["resources"]]
    return found


def _statistic(name: str) -> str:
    """`cluster_manager.cds` is `cds`, `http.http.rds.http_80` is `rds.http_80`."""
    before, dot, route = name.rpartition(".rds.")
    return f"rds.{route}" if dot and before else name.rpartition(".")[2]


def _sum(statistics: Mapping[str, Any], suffix: str) -> int:
    return sum(int(value) for name, value in statistics.items() if name.endswith(suffix))
