"""The direct way: HTTP on loopback, for pages of those origins that are paired with this machine, or that it waits for.

Other pages can send requests here, too, and other programs of the machine. They get the same refusal, whatever is wrong, and a browser lets none of them
read it: only a good origin is named by `Access-Control-Allow-Origin`. Cookies mean nothing here, so none can be used by somebody else.
"""

from collections.abc import Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from codezero.cli.loopback import requests
from codezero.cli.loopback.asking import Asked
from codezero.cli.paired.desk import AUTHORIZATION, Desk
from codezero.cli.paired.state import Live
from codezero.cli.paired.used import BusyError
from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.paired import ALLOWED

_PREFLIGHT: Final = "OPTIONS"
_HEADERS: Final = frozenset({AUTHORIZATION, "content-type"})
_PREFLIGHT_SECONDS: Final = 600
_ONCE: Final = frozenset(
    {
        *("host", "origin", "content-length", "content-type", AUTHORIZATION),
        *("access-control-request-method", "access-control-request-headers"),
    }
)
_METHODS: Final[Mapping[str, frozenset[str]]] = {
    target: frozenset(method for method, path in ALLOWED if path == target) for _, target in ALLOWED
}

_log = get_logger("paired")


class Gate:
    """An ASGI application that gives the desk what comes from the right pages. `users` are the ids of those whose programs may connect."""

    def __init__(self, desk: Desk, live: Live, *, port: int, users: frozenset[int]) -> None:
        self._desk = desk
        self._live = live
        self._host = f"127.0.0.1:{port}"
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then answer; the edge of each request."""
        told = {**requests.HEADERS, b"vary": b"Origin"}
        sending = requests.Sending(send, told)
        is_websocket = scope["type"] == "websocket"
        try:
            if is_websocket:
                raise _refused()
            headers, origin = self._let_in(scope)
            told |= {
                b"access-control-allow-origin": origin.encode("ascii"),
                b"access-control-expose-headers": b"retry-after",
                b"cross-origin-resource-policy": b"cross-origin",
            }
            await self._answer(scope, headers, origin, receive, sending)
        except CodezeroError as error:
            if isinstance(error, BusyError):
                told[b"retry-after"] = str(error.seconds).encode()
            await sending.problem(error, is_websocket=is_websocket)
        except requests.GoneError:
            return
        except Exception:  # noqa: BLE001 - the edge of one request
            _log.exception("a request failed")
            await sending.problem(CodezeroError(problems.INTERNAL, "the request failed; the machine's log says more"))

    def _let_in(self, scope: Scope) -> tuple[Mapping[str, str], str]:
        """Headers and origin of a request of a page that may ask; raises `CodezeroError`."""
        user = scope.get("state", {}).get("peer_user")
        if user is not None and user not in self._users:
            raise _refused()
        headers = requests.headers_of(scope["headers"], once=_ONCE)
        origin = headers.get("origin", "")
        if headers.get("host") != self._host or origin not in self._live.now.origins:
            raise _refused()
        if requests.FORWARDED & headers.keys():
            # Nothing stands between the browser and us.
            raise _refused()
        return headers, origin

    async def _answer(
        self, scope: Scope, headers: Mapping[str, str], origin: str, receive: Receive, sending: requests.Sending
    ) -> None:
        method, path, query = scope["method"], scope["raw_path"], scope["query_string"]
        requests.check_target(path, query)
        requests.check_body(method, headers)
        target = (path + (b"?" + query if query else b"")).decode("ascii")
        body = await requests.body_of(receive)
        asked = Asked(method, path.decode("ascii"), target, headers, body, receive, sending.send)
        if method == _PREFLIGHT:
            await _preflight(asked)
        elif method not in _METHODS.get(target, _ALL):
            raise CodezeroError(problems.METHOD_UNKNOWN, f"there is no {method[:20]!r} {target[:200]} here")
        else:
            await self._desk.answer(asked, origin=origin)


_ALL: Final = frozenset(method for method, _ in ALLOWED)


async def _preflight(asked: Asked) -> None:
    """Tell a browser what a page of a good origin may send; it asks before the page's own request."""
    method = asked.headers.get("access-control-request-method", "")
    wanted = asked.headers.get("access-control-request-headers", "")
    names = {name.strip().lower() for name in wanted.split(",") if name.strip()}
    if method not in _METHODS.get(asked.target, frozenset()) or not names <= _HEADERS:
        raise CodezeroError(problems.PAGE_MAY_NOT, "that is nothing that a page may send")
    await asked.answer(
        204,
        headers={
            "access-control-allow-methods": method,
            "access-control-allow-headers": ", ".join(sorted(_HEADERS)),
            "access-control-max-age": str(_PREFLIGHT_SECONDS),
        },
    )


def _refused() -> CodezeroError:
    return CodezeroError(problems.PAGE_NOT_PAIRED, "this machine does not answer whoever asks", fix="czctl pair")
