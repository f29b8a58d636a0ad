"""One request to a Hub over HTTPS, blocking: for czctl, and in a thread for the Daemon. What goes wrong on the way is named.

Nothing is sent before the Hub has proven who it is, redirects are not followed, and plain HTTP is spoken to this machine alone. Proxies come from
the environment (`https_proxy`, `no_proxy`), as every other program has them.
"""

import base64
import contextlib
import http.client
import ipaddress
import queue
import socket
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Final

from codezero import __version__
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire import problem_json

DEADLINE_SECONDS: Final = 15.0
MAX_CONTENT: Final = 64 * 1024 * 1024
# Below this, clocks are taken for equal.
SKEW_SECONDS: Final = 30.0
_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a Hub answered. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_json(self) -> bool:
        """Whether its content is JSON, as everything is that a Hub says to programs."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        return kind in ("application/json", problem_json.CONTENT_TYPE)


@dataclass(slots=True)
class HubEndpoint:
    """A Hub at `url` (see `hub_url`). With `ca` (PEM) only authorities in it are believed, else those this machine believes.

    `proxy` is used in place of the environment's, where one is given. `skew` is how far this machine's clock was behind the Hub's at the last answer, in seconds; None where it is not known.
    """

    url: str
    ca: str | None = None
    proxy: str | None = field(default=None, repr=False)
    skew: float | None = None
    _context: ssl.SSLContext | None = field(default=None, repr=False)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        deadline: float = DEADLINE_SECONDS,
    ) -> Answer:
        """Ask; the answer may be a refusal (`checked` raises those). Raises `CodezeroError` (HUB_UNREACHABLE, HUB_NOT_BELIEVED) when there is none."""
        until = time.monotonic() + deadline
        connection = self._connection(deadline)
        with self._failures(deadline):
            answer = _Exchange(connection, method, path, body, _headers(body, headers)).answer(until)
        self._note_clock(answer)
        return answer

    @contextlib.contextmanager
    def opened(
        self, path: str, kind: str, *, headers: Mapping[str, str] | None = None, deadline: float = DEADLINE_SECONDS
    ) -> Generator[tuple[Answer, Iterator[bytes]], None, None]:
        """Read something long of the content type `kind` piece by piece, however long it takes: `deadline` is for each piece. A refusal has all its content, and no pieces.

        Otherwise as `request`; a connection that is cut raises `CodezeroError` (HUB_UNREACHABLE) between the pieces.
        """
        connection = self._connection(deadline)
        with contextlib.closing(connection):
            with self._failures(deadline):
                _connect(connection)
                connection.request("GET", path, headers=_headers(None, {"Accept": kind, **(headers or {})}))
                response = connection.getresponse()
                is_it = response.status == 200 and response.headers.get_content_type() == kind
                told = {name.lower(): value for name, value in response.getheaders()}
                answer = Answer(response.status, told, b"" if is_it else _content(response))
            self._note_clock(answer)
            if answer.status < 300 and not is_it:
                raise self._no_hub(f"it answers {told.get('content-type', 'without a type')[:80]}")
            yield answer, self._pieces(response, deadline) if is_it else iter(())

    def _pieces(self, response: http.client.HTTPResponse, deadline: float) -> Iterator[bytes]:
        while True:
            with self._failures(deadline):
                piece = response.read1(_PIECE)
                if not piece and response.length:
                    raise self._unreachable("the connection was cut")
            if not piece:
                return
            yield piece

    @contextlib.contextmanager
    def _failures(self, deadline: float) -> Generator[None, None, None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise self._not_believed(error.verify_message) from None
        except ssl.SSLError as error:
            raise self._not_believed(_reason(error)) from None
        except TimeoutError:
            raise self._unreachable(f"it did not answer within {deadline:.0f} s") from None
        except (socket.gaierror, _NoNameError):
            raise self._unreachable("its name is not known here") from None
        except http.client.IncompleteRead:
            raise self._unreachable("the connection was cut") from None
        except http.client.HTTPException as error:
            raise self._no_hub(f"its answer is no HTTP ({type(error).__name__})") from None
        except OSError as error:
            raise self._unreachable(_reason(error)) from None

    def checked(self, answer: Answer) -> bytes:
        """The content of an answer that is none of a refusal; raises `CodezeroError`: the Hub's own, or HUB_UNREACHABLE for what no Hub says."""
        if 300 <= answer.status < 400:
            raise self._no_hub(f"it sends on to {answer.headers.get('location', 'elsewhere')[:200]}")
        if answer.status >= 400:
            if answer.is_json:
                raise problem_json.decode(answer.content, status=answer.status)
            if answer.status in (502, 503, 504):
                raise self._unreachable(f"what stands before it says {answer.status}")
            raise self._no_hub(f"HTTP {answer.status} {answer.headers.get('content-type', 'without a type')[:80]}")
        if answer.content and not answer.is_json:
            raise self._no_hub(f"it answers {answer.headers.get('content-type', 'without a type')[:80]}")
        return answer.content

    def now(self) -> float:
        """The time as the Hub has it, in UNIX seconds, as far as it is known."""
        skew = self.skew or 0.0
        return time.time() + (skew if abs(skew) > SKEW_SECONDS else 0.0)

    @property
    def is_skewed(self) -> bool:
        """Whether this machine's clock differs from the Hub's by more than a little."""
        return self.skew is not None and abs(self.skew) > SKEW_SECONDS

    def _connection(self, deadline: float) -> http.client.HTTPConnection:
        parts = urllib.parse.urlsplit(self.url)
        host = parts.hostname or ""
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, parts.port or 80, timeout=deadline)
        if self._context is None:
            self._context = _tls(self.ca)
        found = self.proxy or environment_proxy(self.url)
        proxy = _proxy(found) if found is not None else None
        if proxy is None:
            return http.client.HTTPSConnection(host, parts.port or 443, timeout=deadline, context=self._context)
        at, headers = proxy
        connection = http.client.HTTPSConnection(
            at.hostname or "", at.port or 8080, timeout=deadline, context=self._context
        )
        connection.set_tunnel(host, parts.port or 443, headers)
        return connection

    def _note_clock(self, answer: Answer) -> None:
        try:
            self.skew = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
        except (KeyError, ValueError, TypeError, OverflowError):
            return

    def _not_believed(self, reason: str) -> CodezeroError:
        return CodezeroError(
            problems.HUB_NOT_BELIEVED,
            f"what answers at {self.url} could not prove to be the Hub, so nothing was sent: {reason}",
            fix="open the network's sign-in page if it has one; where the Hub has an authority of its own, give --hub-ca FILE",
        )

    def _unreachable(self, reason: str) -> CodezeroError:
        return CodezeroError(
            problems.HUB_UNREACHABLE,
            f"the Hub at {self.url} cannot be reached: {reason}",
            fix=f"check the address and the network, for example: curl {self.url}/healthz",
        )

    def _no_hub(self, reason: str) -> CodezeroError:
        return CodezeroError(
            problems.HUB_UNREACHABLE,
            f"what answers at {self.url} is no Hub: {reason}",
            fix="check the address, and whether a proxy or a network's sign-in page answers in its place",
        )


def hub_url(text: str) -> str:
    """The address of a Hub in its one form, without a slash at the end; raises `CodezeroError` for what is none, and for plain HTTP to other machines."""
    try:
        parts = urllib.parse.urlsplit(text.strip() if "://" in text else f"https://{text.strip()}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _bad_url(text, "it cannot be understood") from None
    if parts.scheme not in ("https", "http") or not host or not text.isprintable() or " " in parts.netloc:
        raise _bad_url(text, "it is no https:// address")
    if parts.username is not None or parts.password is not None:
        # Not quoted: it would be in logs.
        raise CodezeroError(problems.BAD_HUB_URL, "the Hub's address holds a user or a password; give it without")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise _bad_url(text, "it has a path")
    if parts.scheme == "http" and not is_loopback(host):
        raise _bad_url(text, "plain http would show your sign-in to everybody on the way")
    shown = f"[{host}]" if ":" in host else host
    is_usual = port in (None, 443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{shown}" if is_usual else f"{parts.scheme}://{shown}:{port}"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _NoNameError(Exception):
    """What is to be looked up can be nobody's name, such as `hub..example`."""


class _Exchange:
    """One request and its answer, in a thread of its own: looking up, connecting, TLS, headers and content each have their own limits, and some have none.

    Only who waits for all of it can give it one end; whoever asks may hold a lock meanwhile.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._request = (method, path, body, headers)
        self._socket: socket.socket | None = None
        self._is_over = threading.Event()
        self._outcome: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()

    def answer(self, until: float) -> Answer:
        """The answer, by then of the monotonic clock; raises `TimeoutError` where there is none, and what went wrong."""
        threading.Thread(target=self._run, name="hub-request", daemon=True).start()
        try:
            outcome = self._outcome.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise TimeoutError from None
        finally:
            self._end()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _end(self) -> None:
        # In this order, so that nothing is sent any more by a connection that comes to stand now.
        self._is_over.set()
        for one in (self._connection.sock, self._socket):
            if one is not None:
                # Under TLS, whose own way changes what the thread is reading from; closed already where all went well.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(one, socket.SHUT_RDWR)

    def _run(self) -> None:
        try:
            outcome = self._ask()
        except Exception as error:  # noqa: BLE001 - raised again by who waits
            outcome = error
        finally:
            self._connection.close()
        self._outcome.put(outcome)

    def _ask(self) -> Answer:
        method, path, body, headers = self._request
        _connect(self._connection)
        self._socket = self._connection.sock
        if self._is_over.is_set():
            raise TimeoutError
        self._connection.request(method, path, body=body, headers=dict(headers))
        response = self._connection.getresponse()
        return Answer(
            response.status, {name.lower(): value for name, value in response.getheaders()}, _content(response)
        )


def _connect(connection: http.client.HTTPConnection) -> None:
    try:
        connection.connect()
    except UnicodeError:
        raise _NoNameError from None


def _headers(body: bytes | None, more: Mapping[str, str] | None) -> dict[str, str]:
    return {
        "Accept": "application/json",
        "User-Agent": f"codezero/{__version__}",
        "Connection": "close",
        **({"Content-Type": "application/json"} if body is not None else {}),
        **(more or {}),
    }


def _content(response: http.client.HTTPResponse) -> bytes:
    content = bytearray()
    while piece := response.read(_PIECE):
        content += piece
        if len(content) > MAX_CONTENT:
            raise CodezeroError(problems.TOO_LARGE, f"the Hub's answer has more than {MAX_CONTENT} bytes")
    return bytes(content)


def _tls(ca: str | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=ca)
    except ssl.SSLError:
        raise CodezeroError(
            problems.BAD_REQUEST, "the Hub's authority is no certificate in PEM", fix="give --hub-ca FILE"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def environment_proxy(url: str) -> str | None:
    """The proxy by which the environment wants a Hub reached; None for none."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http" or is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies_environment().get("https") or None


def _proxy(text: str) -> tuple[urllib.parse.SplitResult, dict[str, str]]:
    try:
        proxy = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
        usable = proxy.scheme == "http" and bool(proxy.hostname) and (proxy.port or 1) > 0
    except ValueError:
        usable, proxy = False, None
    if not usable or proxy is None:
        raise CodezeroError(
            problems.HUB_UNREACHABLE,
            "https_proxy in the environment is no http:// address of a proxy",
            fix="mend https_proxy, or name the Hub's host in no_proxy",
        )
    if proxy.username is None:
        return proxy, {}
    user = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return proxy, {"Proxy-Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"}


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or "TLS failed").replace("_", " ").lower()
        return "it speaks no TLS" if "wrong version" in reason or "http request" in reason else reason
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    # Of http.client, where a proxy refuses to connect.
    return error.strerror or str(error)[:200]


def _bad_url(text: str, why: str) -> CodezeroError:
    return CodezeroError(
        problems.BAD_HUB_URL, f"{text[:200]!r} is not the address of a Hub: {why}", fix="write https://hub.example.org"
    )
