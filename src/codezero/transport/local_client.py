"""Typed client of the Daemon's local API, over its UNIX socket; blocking, and light to import, for `czctl`."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.unix_http import AnswerError, Exchange
from codezero.wire import local_api, problem_json
from codezero.wire.access_file import TeamspaceAccess

DEADLINE_SECONDS: Final = 10.0
# A serve waits for the Teamspace's answer and then for the service to be rewired.
SERVE_DEADLINE_SECONDS: Final = 40.0
END_DEADLINE_SECONDS: Final = 20.0
_MAX_LINE: Final = 1024 * 1024
# The longest path of a UNIX socket. Source: unix(7).
_MAX_PATH: Final = 107

T = TypeVar("T")


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

    def serves(self) -> local_api.ServesView:
        """What this laptop serves."""
        return self._ask("GET", "/v1/serve", local_api.ServesView)

    def serve(self, change: local_api.ServeChange) -> local_api.ServeResult:
        """Serve a service, or tell what that would do; returns when the variant answers, or after about 30 s with what stands."""
        return self._ask("POST", "/v1/serve", local_api.ServeResult, change, at_least=SERVE_DEADLINE_SECONDS)

    def end_serve(self, change: local_api.ServeEnd) -> local_api.ServeResult:
        """End variants of a service."""
        return self._ask("POST", "/v1/serve/end", local_api.ServeResult, change, at_least=END_DEADLINE_SECONDS)

    def presence(self) -> local_api.PresenceView:
        """Who is connected to the Teamspace."""
        return self._ask("GET", "/v1/presence", local_api.PresenceView)

    def activity(self) -> local_api.ActivityView:
        """What happened lately."""
        return self._ask("GET", "/v1/activity", local_api.ActivityView)

    def reset(self) -> local_api.ConsumeView:
        """End everything the user consumes and serves."""
        return self._ask("POST", "/v1/reset", local_api.ConsumeView, at_least=END_DEADLINE_SECONDS)

    def shutdown(self) -> local_api.StatusView:
        """Stop Daemon and Supervisor; the machine is put back after the answer."""
        return self._ask("POST", "/v1/shutdown", local_api.StatusView)

    def events(self) -> Generator[local_api.Event, None, None]:
        """Changes as they happen, until the Daemon stops; raises `CodezeroError` when it ends without a word. To be closed by the caller."""
        with self._exchange(deadline=None) as exchange, _failures():
            self._request(exchange, "GET", "/v1/events", None)
            for line in _lines(exchange.pieces()):
                yield msgspec.json.decode(line, type=local_api.Event)

    def traces(self) -> Generator[local_api.TraceLine, None, None]:
        """Requests and connections as they end, until the Daemon stops; otherwise as `events`."""
        with self._exchange(deadline=None) as exchange, _failures():
            self._request(exchange, "GET", "/v1/traces", None)
            for line in _lines(exchange.pieces()):
                yield msgspec.json.decode(line, type=local_api.TraceLine)

    def _ask(
        self,
        method: str,
        path: str,
        answer: type[T],
        body: msgspec.Struct | None = None,
        *,
        at_least: float = 0.0,
    ) -> T:
        content = msgspec.json.encode(body) if body is not None else None
        if content is not None and len(content) > local_api.MAX_BODY:
            raise CodezeroError(
                problems.TOO_LARGE, f"the request has {len(content)} bytes; the Daemon takes {local_api.MAX_BODY}"
            )
        with self._exchange(deadline=max(self._deadline, at_least)) as exchange, _failures():
            self._request(exchange, method, path, content)
            return msgspec.json.decode(exchange.content(), type=answer)

    def _exchange(self, *, deadline: float | None) -> Exchange:
        if len(bytes(self._socket_path)) > _MAX_PATH:
            raise CodezeroError(
                problems.BAD_REQUEST,
                f"the path of the Daemon's socket is longer than {_MAX_PATH} bytes: {self._socket_path}",
                fix="use a run folder with a shorter path",
            )
        try:
            return Exchange(self._socket_path, deadline=deadline)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise CodezeroError(problems.NOT_RUNNING, "the Daemon does not run", fix="czctl start") from None
        except PermissionError:
            raise CodezeroError(
                problems.NOT_YOURS,
                "the Daemon's socket belongs to another user",
                fix="run czctl as the user who ran `czctl start`",
            ) from None
        except TimeoutError:
            raise _timed_out() from None
        except OSError as error:
            raise CodezeroError(
                problems.NOT_RUNNING, f"{self._socket_path} cannot be connected to: {error}", fix="czctl restart"
            ) from error

    @staticmethod
    def _request(exchange: Exchange, method: str, path: str, content: bytes | None) -> None:
        status = exchange.request(method, path, host=local_api.HOST, body=content)
        if status >= 400:
            raise problem_json.decode(exchange.content(), status=status)


@contextmanager
def _failures() -> Generator[None, None, None]:
    """A block in which what goes wrong on the way becomes a `CodezeroError`."""
    try:
        yield
    except TimeoutError:
        raise _timed_out() from None
    except (OSError, EOFError) as error:
        raise CodezeroError(
            problems.NOT_RUNNING, f"the Daemon ended while it was asked ({error})", fix="czctl status"
        ) from error
    except AnswerError as error:
        raise CodezeroError(
            problems.PROTOCOL, f"what answers at the Daemon's socket is not a Daemon: {error}", fix="czctl restart"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CodezeroError(
            problems.VERSIONS,
            f"the Daemon's answer cannot be read: {error}",
            fix="czctl and the Daemon are of different releases; run `czctl restart`",
        ) from None


def _lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE:
            raise AnswerError(f"a line of the answer has more than {_MAX_LINE} bytes")
    if rest:
        raise EOFError("the connection ended in the middle of a line")


def _timed_out() -> CodezeroError:
    return CodezeroError(problems.TIMED_OUT, "the Daemon did not answer in time", fix="czctl cleanup, then czctl start")
