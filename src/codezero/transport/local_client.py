"""Typed client of the Daemon's local API, over its UNIX socket; blocking, and light to import, for `czctl`."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import local_api, problem_json
from codezero.wire.access_file import TeamspaceAccess

DEADLINE_SECONDS = 10.0

T = TypeVar("T")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path, deadline: float | None) -> None:
        super().__init__(local_api.HOST, timeout=deadline)
        self._path = path

    def connect(self) -> None:
        """Open the socket instead of a TCP connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class LocalClient:
    """Asks the Daemon behind `socket_path`. Each call raises `CodezeroError`: the Daemon's own, or `NOT_RUNNING` and `TIMED_OUT`."""

    def __init__(self, socket_path: Path, *, deadline: float = DEADLINE_SECONDS) -> None:
        self._socket_path = socket_path
        self._deadline = deadline

    def status(self) -> local_api.StatusView:
        """How everything is."""
        return self._ask("GET", "/v1/status", local_api.StatusView)

    def select_teamspace(self, access: TeamspaceAccess) -> local_api.StatusView:
        """Connect to that Teamspace instead of the one before."""
        return self._ask("PUT", "/v1/teamspace", local_api.StatusView, access)

    def forget_teamspace(self) -> local_api.StatusView:
        """Leave the Teamspace and drop its key."""
        return self._ask("DELETE", "/v1/teamspace", local_api.StatusView)

    def services(self) -> local_api.ServicesView:
        """The catalog."""
        return self._ask("GET", "/v1/services", local_api.ServicesView)

    def consume(self) -> local_api.ConsumeView:
        """The consume rules and what they let in."""
        return self._ask("GET", "/v1/consume", local_api.ConsumeView)

    def change_consume(self, change: local_api.ConsumeChange) -> local_api.ConsumeView:
        """Change the consume rules."""
        return self._ask("PUT", "/v1/consume", local_api.ConsumeView, change)

    def test_consume(self, change: local_api.ConsumeChange) -> local_api.ConsumeView:
        """What a change of the rules would let in; changes nothing."""
        return self._ask("POST", "/v1/consume/test", local_api.ConsumeView, change)

    def select_primary_namespace(self, namespace: str | None) -> local_api.ConsumeView:
        """Choose whose services answer to their bare names."""
        return self._ask(
            "PUT", "/v1/primary-namespace", local_api.ConsumeView, local_api.PrimaryNamespaceChange(namespace)
        )

    def presence(self) -> local_api.PresenceView:
        """Who is connected to the Teamspace."""
        return self._ask("GET", "/v1/presence", local_api.PresenceView)

    def activity(self) -> local_api.ActivityView:
        """What happened lately."""
        return self._ask("GET", "/v1/activity", local_api.ActivityView)

    def reset(self) -> local_api.ConsumeView:
        """End everything the user consumes."""
        return self._ask("POST", "/v1/reset", local_api.ConsumeView)

    def shutdown(self) -> local_api.StatusView:
        """Stop Daemon and Supervisor; the machine is put back after the answer."""
        return self._ask("POST", "/v1/shutdown", local_api.StatusView)

    def events(self) -> Iterator[local_api.Event]:
        """Changes as they happen, until the Daemon stops."""
        connection, response = self._send("GET", "/v1/events", None, deadline=None)
        try:
            for line in response:
                yield msgspec.json.decode(line, type=local_api.Event)
        finally:
            connection.close()

    def _ask(self, method: str, path: str, answer: type[T], body: msgspec.Struct | None = None) -> T:
        connection, response = self._send(method, path, body, deadline=self._deadline)
        try:
            return msgspec.json.decode(response.read(), type=answer)
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            raise _failure(error) from error
        except msgspec.DecodeError as error:
            raise CodezeroError(
                problems.VERSIONS,
                f"the Daemon's answer cannot be read: {error}",
                fix="czctl and the Daemon are of different releases; run `czctl restart`",
            ) from None
        finally:
            connection.close()

    def _send(
        self, method: str, path: str, body: msgspec.Struct | None, *, deadline: float | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = _UnixConnection(self._socket_path, deadline)
        headers: dict[str, Any] = {"Accept": "application/json"}
        if method in ("PUT", "POST"):
            headers["Content-Type"] = "application/json"
        try:
            connection.request(
                method, path, msgspec.json.encode(body) if body is not None else None, headers, encode_chunked=False
            )
            response = connection.getresponse()
            if response.status >= 400:
                raise problem_json.decode(response.read(), status=response.status)
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            connection.close()
            raise _failure(error) from error
        except CodezeroError:
            connection.close()
            raise
        return connection, response


def _failure(error: Exception) -> CodezeroError:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return CodezeroError(problems.NOT_RUNNING, "the Daemon does not run", fix="czctl start")
        case PermissionError():
            return CodezeroError(
                problems.NOT_YOURS,
                "the Daemon's socket belongs to another user",
                fix="run czctl as the user who ran `czctl start`",
            )
        case TimeoutError():
            return CodezeroError(problems.TIMED_OUT, "the Daemon did not answer in time", fix="czctl restart")
        case _:
            return CodezeroError(
                problems.NOT_RUNNING, f"the Daemon ended while it was asked ({error})", fix="czctl status"
            )
