"""Signing in with a browser: by a redirect back to this machine, or where there is no browser, by a short code that is typed into one elsewhere.

The redirect comes to a port of 127.0.0.1 that is open for this one answer; `state` and the issuer tie it to what was asked, PKCE the code to us.
"""

import base64
import hashlib
import hmac
import os
import secrets
import socket
import sys
import time
import urllib.parse
from typing import Final

import msgspec

from codezero.cli.console import say
from codezero.cli.hub_client import API, CLIENT_ID, DeviceKey, HubClient, Reply, Tokens, oauth_error, oauth_reason
from codezero.model import problems
from codezero.model.problems import CodezeroError

DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
WAIT_SECONDS: Final = 300.0
_CALLBACK: Final = "/callback"
_MAX_HEAD: Final = 16 * 1024
_ONE_REQUEST_SECONDS: Final = 2.0
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Codezero</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>
"""


class _DeviceCode(msgspec.Struct, frozen=True):
    device_code: str
    user_code: str
    verification_uri: str
    expires_in: float
    interval: float = 5.0


def has_browser() -> bool:
    """Whether a browser can be expected to open where the person sits: not over SSH, and with a display."""
    environment = os.environ
    if environment.get("BROWSER"):
        return True
    if environment.get("SSH_CONNECTION") or environment.get("SSH_TTY"):
        return False
    return sys.platform == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def by_redirect(client: HubClient, key: DeviceKey, *, device_name: str) -> Tokens:
    """Sign in with the browser of this machine; raises `CodezeroError`."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        redirect = f"http://127.0.0.1:{listener.getsockname()[1]}{_CALLBACK}"
        asked = {
            "client_id": CLIENT_ID,
            "response_type": "code",
            "redirect_uri": redirect,
            "state": state,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "device_name": device_name,
        }
        url = f"{client.context.url}{API}/auth/authorize?{urllib.parse.urlencode(asked)}"
        _open(url)
        values = _wait(listener, state)
    if not hmac.compare_digest(values.get("iss", "").encode(), client.context.url.encode()):
        raise CodezeroError(
            problems.SIGN_IN_REFUSED,
            f"the answer came from {values.get('iss', 'nobody')[:200]!r} and not from {client.context.url}",
            fix="sign in to the Hub by the address it is known by: czctl auth login --hub URL",
        )
    if "error" in values:
        raise _refused(values.get("error_description") or values["error"])
    answer = client.form(
        {
            "grant_type": "authorization_code",
            "code": values.get("code", ""),
            "redirect_uri": redirect,
            "code_verifier": verifier,
            "device_name": device_name,
        },
        proof=key,
    )
    if oauth_error(answer):
        raise client.refusal(answer)
    return Reply(client.endpoint.checked(answer)).as_(Tokens)


def by_code(client: HubClient, key: DeviceKey, *, device_name: str) -> Tokens:
    """Sign in with any browser anywhere, into which the person types a code; raises `CodezeroError`."""
    asked = client.post_form(f"{API}/auth/device-code", {"client_id": CLIENT_ID, "device_name": device_name})
    if oauth_error(asked):
        raise client.refusal(asked)
    code = Reply(client.endpoint.checked(asked)).as_(_DeviceCode)
    say(f"open {code.verification_uri} in a browser and type {code.user_code}")
    say(f"waiting; the code is good for {code.expires_in / 60:.0f} minutes")
    until = time.monotonic() + code.expires_in
    interval = code.interval
    while time.monotonic() < until:
        time.sleep(interval)
        answer = client.form(
            {"grant_type": DEVICE_GRANT, "device_code": code.device_code, "device_name": device_name}, proof=key
        )
        match oauth_error(answer):
            case "authorization_pending":
                continue
            case "slow_down":
                interval += 5
            case "":
                return Reply(client.endpoint.checked(answer)).as_(Tokens)
            case "access_denied":
                raise _refused(oauth_reason(answer))
            case _:
                raise client.refusal(answer)
    raise CodezeroError(problems.TIMED_OUT, "nobody typed the code in time", fix="czctl auth login")


def _open(url: str) -> None:
    import threading
    import webbrowser

    say(f"opening the browser; if none opens, open this yourself: {url}")
    # Some browsers are only done when their window is closed, and the answer comes before.
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _wait(listener: socket.socket, state: str) -> dict[str, str]:
    """The answer that comes with our state. Whatever else comes (a browser's icon, another page's try) is answered and means nothing."""
    until = time.monotonic() + WAIT_SECONDS
    while (left := until - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        with connection:
            try:
                connection.settimeout(min(left, _ONE_REQUEST_SECONDS))
                values = _values(_head(connection), port=listener.getsockname()[1])
                if values is not None and hmac.compare_digest(values.get("state", "").encode(), state.encode()):
                    is_good = "error" not in values
                    _reply(
                        connection,
                        "200 OK",
                        "You are signed in" if is_good else "You are not signed in",
                        "You can close this window." if is_good else "See what czctl says in the terminal.",
                    )
                    return values
                _reply(connection, "404 Not Found", "Nothing here", "This is not the answer that czctl waits for.")
            except OSError:
                # Somebody who connected and left.
                continue
    raise CodezeroError(
        problems.TIMED_OUT,
        f"nobody signed in within {WAIT_SECONDS / 60:.0f} minutes",
        fix="czctl auth login, with --no-browser where the browser is on another machine",
    )


def _head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD:
        piece = connection.recv(4096)
        if not piece:
            break
        head += piece
    return head


def _values(head: bytes, *, port: int) -> dict[str, str] | None:
    """The values of an answer; None for any other request. What does not name us as we named ourselves comes from elsewhere (DNS rebinding)."""
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    hosts = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("host:")]
    if len(parts) != 3 or parts[0] != "GET" or hosts != [f"127.0.0.1:{port}"]:
        return None
    path, _, query = parts[1].partition("?")
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    values = dict(pairs)
    return values if path == _CALLBACK and len(values) == len(pairs) else None


def _reply(connection: socket.socket, status: str, title: str, text: str) -> None:
    content = _PAGE.format(title=title, text=text).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {len(content)}\r\n"
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n"
        "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    connection.sendall(head.encode() + content)


def _refused(reason: str) -> CodezeroError:
    return CodezeroError(problems.SIGN_IN_REFUSED, f"the Hub did not sign you in: {reason}", fix="czctl auth login")
