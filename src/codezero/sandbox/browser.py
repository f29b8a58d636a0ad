"""Somebody with a browser, for the Hub's pages: reads a page, fills in its form, keeps the cookie. What people do by hand, done quickly."""

import html
import re
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.hub_http import Answer, HubEndpoint
from codezero.wire import problem_json

_HIDDEN: Final = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')
_ALERT: Final = re.compile(r'<p class="alert" role="alert">(.*?)</p>', re.DOTALL)
_TAG: Final = re.compile(r"<[^>]+>")


@dataclass(slots=True, repr=False)
class Browser:
    """One person's browser; signed in by any of its first three methods. All block. Raises `CodezeroError` with what the page or the API says.

    `origin` is the URL by which the Hub is known, where `endpoint` is one of its replicas.
    """

    endpoint: HubEndpoint
    origin: str | None = None
    _cookie: str | None = field(default=None, init=False)
    _csrf: str | None = field(default=None, init=False)

    @property
    def cookie(self) -> str | None:
        """By which it is signed in. A secret."""
        return self._cookie

    def elsewhere(self, endpoint: HubEndpoint) -> "Browser":
        """The same browser, at another replica."""
        other = Browser(endpoint, self.origin or self.endpoint.url)
        other._cookie, other._csrf = self._cookie, self._csrf
        return other

    def become_first_owner(self, link: str, *, name: str, email: str, password: str, organization: str) -> None:
        """Follow the link that `czhub` printed."""
        self._fill_in(_path(link), {"name": name, "email": email, "password": password, "organization": organization})

    def accept_invitation(self, link: str, *, name: str, password: str) -> None:
        """Follow the link of an invitation, as somebody who is new."""
        self._fill_in(_path(link), {"name": name, "password": password})

    def set_password(self, link: str, password: str) -> None:
        """Follow the link for a forgotten password."""
        self._fill_in(_path(link), {"password": password})

    def sign_in(self, email: str, password: str) -> None:
        """Sign in by password."""
        self._fill_in("/sign-in", {"email": email, "password": password})

    def approve_device(self, user_code: str) -> None:
        """Let the machine in that shows the code."""
        self._fill_in("/device", {"user_code": user_code, "answer": "approve"})

    def approve_redirect(self, url: str) -> str:
        """Let czctl in that opened the page `url`; the address that the browser is then sent to."""
        return self._fill_in(_path(url), {"answer": "approve"}).headers["location"]

    def ask(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:  # noqa: ANN401 - what JSON can be
        """What the API answers at `/api/v1{path}`; `key` makes a request that is sent again one that is done once."""
        headers = self._headers()
        if method != "GET":
            self._csrf = self._csrf or self._fields(self._page("/sign-in"))["csrf"]
            headers["X-Codezero-CSRF"] = self._csrf
        if key is not None:
            headers["Idempotency-Key"] = key
        content = None if body is None else msgspec.json.encode(body)
        answer = self.endpoint.request(method, f"/api/v1{path}", body=content, headers=headers)
        if answer.status >= 400:
            raise problem_json.decode(answer.content, status=answer.status)
        return msgspec.json.decode(answer.content) if answer.content else None

    def _fill_in(self, path: str, fields: dict[str, str]) -> Answer:
        """Read the page at `path`, and send its form with these fields."""
        hidden = self._fields(self._page(path))
        headers = {**self._headers(), "Content-Type": "application/x-www-form-urlencoded"}
        action = path.partition("?")[0]
        answer = self.endpoint.request("POST", action, body=urlencode({**hidden, **fields}).encode(), headers=headers)
        self._check(answer)
        cookie = answer.headers.get("set-cookie", "").partition(";")[0]
        if cookie:
            self._cookie, self._csrf = cookie, None
        return answer

    def _page(self, path: str) -> str:
        answer = self.endpoint.request("GET", path, headers=self._headers())
        self._check(answer)
        return answer.content.decode()

    def _check(self, answer: Answer) -> None:
        alert = _ALERT.search(answer.content.decode(errors="replace"))
        if answer.status >= 400 or alert:
            said = html.unescape(_TAG.sub("", alert[1])) if alert else f"the page answers {answer.status}"
            raise CodezeroError(problems.SIGN_IN_REFUSED, said.strip())

    def _fields(self, page: str) -> dict[str, str]:
        return {name: html.unescape(value) for name, value in _HIDDEN.findall(page)}

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/html, application/json", "Origin": self.origin or self.endpoint.url}
        return headers if self._cookie is None else {**headers, "Cookie": self._cookie}


def _path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
