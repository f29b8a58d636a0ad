"""The outermost layer of the console: whether a request comes from its own page in its user's browser, decided on the raw scope before any routing (security.md 5).

Pages of other origins can make a browser send requests to loopback, by their own name after a rebinding (T01) or across origins (T36); programs of other
users of the machine can connect. Each check stands alone: no answer of any kind is given to a request that fails one of them.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from codezero.cli import errors
from codezero.cli.console import say
from codezero.cli.loopback import requests
from codezero.cli.loopback.asking import Asked
from codezero.cli.ui.entry import Entry
from codezero.model import problems
from codezero.model.problems import CodezeroError

SESSION_PATH: Final = "/console/session"
CSRF: Final = "x-codezero-csrf"
CSRF_VALUE: Final = "console"

_APIS: Final = (b"/agent/", b"/api/", b"/console/")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_ONCE: Final = frozenset(
    {"host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "content-length", "content-type", CSRF}
)

Application = Callable[[Asked], Awaitable[None]]


class Guard:
    """An ASGI application that gives `pages` and `streams` (WebSockets) what comes from the page at `http://127.0.0.1:<port>`, and from nobody else.

    `users` are the ids of those whose programs may connect; what cannot be told of a connection (`None`) is not held against it.
    """

    def __init__(
        self, pages: Application, streams: Application, *, port: int, entry: Entry, users: frozenset[int]
    ) -> None:
        self._pages = pages
        self._streams = streams
        self._host = f"127.0.0.1:{port}"
        self._origin = f"http://{self._host}"
        self._entry = entry
        self._users = users

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on; the edge of each request."""
        is_websocket = scope["type"] == "websocket"
        sending = requests.Sending(send)
        try:
            headers = self._check(scope)
            target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
            asked = Asked(
                "GET" if is_websocket else scope["method"],
                scope["raw_path"].decode("ascii"),
                target.decode("ascii"),
                headers,
                b"" if is_websocket else await requests.body_of(receive),
                receive,
                sending.send,
            )
            await (self._streams if is_websocket else self._pages)(asked)
        except CodezeroError as error:
            await sending.problem(error, is_websocket=is_websocket)
        except requests.GoneError:
            return
        except Exception as error:  # noqa: BLE001 - the edge of one request
            told = errors.from_defect(error)
            say(f"a request failed: {told.detail}; {told.fix or ''}")
            await sending.problem(
                CodezeroError(problems.INTERNAL, "the request failed; the terminal of `czctl ui` says more"),
                is_websocket=is_websocket,
            )

    def _check(self, scope: Scope) -> Mapping[str, str]:
        """The headers of a request that is let in; raises `CodezeroError`."""
        is_websocket = scope["type"] == "websocket"
        user = scope.get("state", {}).get("peer_user")
        if user is not None and user not in self._users:
            raise _foreign(f"this console belongs to another user than whoever asks (user id {user})")
        method = "GET" if is_websocket else scope["method"]
        if method not in _METHODS:
            raise CodezeroError(problems.METHOD_UNKNOWN, f"there is no method {method[:20]!r} here")
        path: bytes = scope["raw_path"]
        is_api = path.startswith(_APIS)
        requests.check_target(path, scope["query_string"], is_api=is_api)
        headers = requests.headers_of(scope["headers"], once=_ONCE)
        if headers.get("host") != self._host:
            raise _foreign(f"the Host of the request is not {self._host}")
        origin = headers.get("origin")
        if origin != self._origin and (origin is not None or is_websocket):
            raise _foreign("the request comes from a page of another origin")
        for name in requests.FORWARDED & headers.keys():
            raise _foreign(f"the header {name} has no place here: nothing stands between the browser and this console")
        text = path.decode("ascii")
        if not is_websocket:
            _check_fetch(headers, is_api=is_api)
            requests.check_body(method, headers)
            if not is_api:
                if method not in requests.READING:
                    raise CodezeroError(problems.METHOD_UNKNOWN, f"{text[:100]} is only read")
                return headers
            if headers.get(CSRF) != CSRF_VALUE:
                raise _foreign(f"the header {CSRF} is missing, which only the console's own page can send")
        if text != SESSION_PATH:
            self._entry.check(headers.get("cookie", ""))
        return headers


def _check_fetch(headers: Mapping[str, str], *, is_api: bool) -> None:
    """What browsers say about why they ask. WebSockets say it in different ways, and always name their origin."""
    site = headers.get("sec-fetch-site", "same-origin")
    if site == "same-origin":
        return
    if not is_api:
        # An address typed; or a link, such as the file that `czctl ui` opens: a page of its own, which holds no secret and cannot be framed.
        is_page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
        if site == "none" or is_page:
            return
    raise _foreign(f"the request comes from another site (Sec-Fetch-Site: {site[:40]})")


def _foreign(detail: str) -> CodezeroError:
    return CodezeroError(
        problems.CONSOLE_FOREIGN, detail, fix="open the address that czctl ui printed, on this machine: czctl ui"
    )
