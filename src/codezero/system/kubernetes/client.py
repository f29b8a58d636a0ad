"""HTTP to the API server, set up by lightkube from the pod's service account or a kubeconfig; every failure is an `ApiError`.

Answers stay bytes: the mirrors decode them into structs of their own. Writes are made under a field manager, the System's is `codezero-system`, which is
how a foreign change of an object is told from ours. Proxies and other settings of the environment are ignored.
"""

import asyncio
import os
import socket
import ssl
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import httpx2
import msgspec
import yaml
from lightkube.config.client_adapter import user_auth
from lightkube.config.kubeconfig import SERVICE_ACCOUNT, KubeConfig, SingleConfig, StrOrPath
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.kubernetes.objects import Status

MAX_BODY = 128 * 1024 * 1024
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
FIELD_MANAGER = "codezero-system"

PatchKind = Literal["json", "merge", "apply"]

_PATCHES: Mapping[PatchKind, str] = {
    "json": "application/json-patch+json",
    "merge": "application/merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
_READ = "application/json"
_SUCCESS = frozenset({200, 201, 202})

# A silent cut of the network shows within 30 s, also on a watch that has nothing to say.
_SOCKET_OPTIONS = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


class ApiError(Exception):
    """A request that the API server refused or did not answer.

    `status` is the HTTP status, None where there was no answer. `retry_after` is in seconds, where the server asks for it. `silent` says that
    the connection stood and nothing came.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        retry_after: float | None = None,
        silent: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.silent = silent

    @property
    def is_expired(self) -> bool:
        """Whether the server has forgotten the version or the page that was asked for."""
        return self.status == 410 or self.reason in {"Expired", "Gone"}

    @property
    def is_missing(self) -> bool:
        """Whether what was asked for is not there."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """Whether somebody else wrote first (409), or a JSON patch tested for what is not there any more (422): look again."""
        return self.status == 409 or (self.status == 422 and self.reason == "Invalid")


class ApiClient:
    """Requests to one API server, each answered within `answer_seconds` or failed. Close it when done."""

    def __init__(
        self, config: SingleConfig, *, answer_seconds: float = ANSWER_SECONDS, manager: str = FIELD_MANAGER
    ) -> None:
        """`manager` is whose the fields are that this client writes."""
        self._answer_seconds = answer_seconds
        self._managed: Mapping[str, str] = {"fieldManager": manager}
        if not (config.cluster.server or "").startswith("https://") or config.cluster.insecure:
            raise _bad_settings("only https with a verified certificate is spoken")
        try:
            context = _tls_context(config)
            auth = user_auth(config.user)
        except (ConfigError, OSError, ssl.SSLError, ValueError) as error:
            raise _bad_settings(str(error)) from error
        transport = httpx2.AsyncHTTPTransport(
            verify=context,
            trust_env=False,
            limits=httpx2.Limits(max_connections=20, max_keepalive_connections=5),
            socket_options=_SOCKET_OPTIONS,
        )
        self._http = httpx2.AsyncClient(
            base_url=config.cluster.server,
            auth=auth,
            transport=transport,
            trust_env=False,
            headers={"Accept": "application/json", "User-Agent": manager},
            timeout=httpx2.Timeout(answer_seconds, connect=CONNECT_SECONDS),
        )

    @property
    def host(self) -> str:
        """Host name or address of the API server."""
        return self._http.base_url.host

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        """The body of a successful answer; raises `ApiError`."""
        return await self._whole("GET", path, parameters)

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Create an object in the collection at `path`; its state afterwards. Raises `ApiError`, 409 where there is one of that name."""
        return await self._whole("POST", path, self._managed, content=msgspec.json.encode(body))

    async def replace(self, path: str, body: Mapping[str, Any]) -> bytes:
        """Replace the object at `path`; its state afterwards. A `resourceVersion` and a `uid` in `body` have to be the object's, else 409."""
        return await self._whole("PUT", path, self._managed, content=msgspec.json.encode(body))

    async def patch(self, path: str, body: object, *, kind: PatchKind, dry_run: bool = False) -> bytes:
        """Change the object at `path`, or with `dry_run` do as if; its state afterwards. `apply` takes fields over from other managers."""
        force = {"force": "true"} if kind == "apply" else {}
        parameters = {**self._managed, **force, **({"dryRun": "All"} if dry_run else {})}
        content = msgspec.json.encode(body)
        return await self._whole("PATCH", path, parameters, content=content, media_type=_PATCHES[kind])

    async def delete(
        self, path: str, *, uid: str | None = None, resource_version: str | None = None, propagation: str = "Background"
    ) -> None:
        """Delete the object at `path` if it has that uid and version (409 otherwise); raises `ApiError` also where there is none (404)."""
        wanted = {"uid": uid, "resourceVersion": resource_version}
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": propagation,
            "preconditions": {name: value for name, value in wanted.items() if value is not None},
        }
        await self._whole("DELETE", path, {}, content=msgspec.json.encode(body))

    @asynccontextmanager
    async def watch(
        self, path: str, parameters: Mapping[str, str], *, silence: float
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        """The body of a successful answer, piece by piece as it comes; raises `ApiError`, also after `silence` seconds without a piece."""
        request = self._request("GET", path, parameters, silence=silence, headers={"Accept-Encoding": "identity"})
        async with self._stream(request, silence=silence) as chunks:
            yield chunks

    async def close(self) -> None:
        """End all connections."""
        await self._http.aclose()

    async def _whole(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        content: bytes | None = None,
        media_type: str = _READ,
    ) -> bytes:
        headers = {} if content is None else {"Content-Type": media_type}
        request = self._request(
            method, path, parameters, silence=self._answer_seconds, headers=headers, content=content
        )
        body = bytearray()
        try:
            async with (
                asyncio.timeout(2 * self._answer_seconds),
                self._stream(request, silence=self._answer_seconds) as chunks,
            ):
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise ApiError(f"the answer is larger than {MAX_BODY} bytes")
        except TimeoutError:
            raise ApiError("the answer took too long", silent=True) from None
        return bytes(body)

    def _request(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        *,
        silence: float,
        headers: Mapping[str, str],
        content: bytes | None = None,
    ) -> httpx2.Request:
        timeout = httpx2.Timeout(self._answer_seconds, connect=CONNECT_SECONDS, read=silence)
        return self._http.build_request(
            method, path, params=parameters, headers=headers, timeout=timeout, content=content
        )

    @asynccontextmanager
    async def _stream(self, request: httpx2.Request, *, silence: float) -> AsyncGenerator[AsyncIterator[bytes], None]:
        try:
            response = await self._begin(request)
            try:
                if response.status_code not in _SUCCESS:
                    raise _refusal(response, await _start_of(response))
                async with aclosing(response.aiter_bytes()) as chunks:
                    yield chunks
            finally:
                await response.aclose()
        except httpx2.ReadTimeout as error:
            raise ApiError(f"silent for {silence:g} s", silent=True) from error
        except (httpx2.HTTPError, ConfigError, ssl.SSLError) as error:
            raise ApiError(f"{type(error).__name__}: {error}") from error

    async def _begin(self, request: httpx2.Request) -> httpx2.Response:
        """The head of the answer, which has to come soon even where the body may take its time."""
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await self._http.send(request, stream=True)
        except TimeoutError:
            raise ApiError(f"no answer within {self._answer_seconds:g} s", silent=True) from None
        except OSError as error:
            raise ApiError(f"{type(error).__name__}: {error}") from error


def in_cluster(service_account: Path = Path(SERVICE_ACCOUNT)) -> ApiClient:
    """A client for the cluster this pod runs in; raises `CodezeroError` when this is no pod with a service account.

    The token is read again when the API server refuses it.
    """
    with _settings_checked():
        return ApiClient(_chosen(KubeConfig.from_service_account(service_account).get()))


def from_kubeconfig(
    kubeconfig: Path,
    *,
    context: str | None = None,
    answer_seconds: float = ANSWER_SECONDS,
    manager: str = FIELD_MANAGER,
) -> ApiClient:
    """A client for the cluster of the current (or the named) context of a kubeconfig; raises `CodezeroError` when it cannot be used."""
    with _settings_checked():
        config = _chosen(KubeConfig.from_file(kubeconfig).get(context))
        return ApiClient(config, answer_seconds=answer_seconds, manager=manager)


def _tls_context(config: SingleConfig) -> ssl.SSLContext:
    """TLS by the kubeconfig's authority and client certificate; keys in the file itself reach OpenSSL without touching a disk."""
    cluster, user = config.cluster, config.user or User()
    if cluster.certificate_auth:
        context = ssl.create_default_context(cafile=config.abs_file(cluster.certificate_auth))
    elif cluster.certificate_auth_data:
        context = ssl.create_default_context(cadata=b64decode(cluster.certificate_auth_data, validate=True).decode())
    else:
        context = ssl.create_default_context()
    with ExitStack() as stack:
        certificate = _file_of(config, user.client_cert_data, user.client_cert, stack)
        key = _file_of(config, user.client_key_data, user.client_key, stack)
        if certificate is not None:
            # A password, even an empty one, keeps OpenSSL from asking on a terminal.
            context.load_cert_chain(certificate, key, password="")
    return context


def _file_of(config: SingleConfig, content: str | None, name: str | None, stack: ExitStack) -> StrOrPath | None:
    if content is None:
        return None if name is None else config.abs_file(name)
    descriptor = os.memfd_create("credentials", os.MFD_CLOEXEC)
    stack.callback(os.close, descriptor)
    os.write(descriptor, b64decode(content, validate=True))
    return f"/proc/self/fd/{descriptor}"


def _chosen(config: SingleConfig | None) -> SingleConfig:
    if config is None:
        raise _bad_settings("there is no current context")
    return config


@contextmanager
def _settings_checked() -> Generator[None, None, None]:
    try:
        yield
    except KeyError as error:
        raise _bad_settings(f"{error.args[0]} is missing") from error
    except yaml.YAMLError:
        # Its text quotes the file, and with it tokens and keys.
        raise _bad_settings("the kubeconfig is not YAML") from None
    except (ConfigError, OSError, ValueError, TypeError, AttributeError) as error:
        raise _bad_settings(str(error)) from error


def _bad_settings(why: str) -> CodezeroError:
    return CodezeroError(
        problems.CLUSTER_SETTINGS,
        f"the settings of the Kubernetes API cannot be used: {why}",
        fix="run in a pod with a service account, or name a kubeconfig whose current context works with kubectl",
    )


async def _start_of(response: httpx2.Response, most: int = 64 * 1024) -> bytes:
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) >= most:
                break
    return bytes(body[:most])


def _refusal(response: httpx2.Response, body: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(body, type=Status)
    except msgspec.DecodeError:
        status = Status()
    return ApiError(
        f"HTTP {response.status_code} {status.message or response.reason_phrase}"[:500],
        status=response.status_code,
        reason=status.reason,
        retry_after=retry_after(response.headers.get("Retry-After", ""), now=datetime.now(UTC)),
    )


def retry_after(value: str, *, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks to wait, in either of its forms (RFC 9110, 10.2.3); None when it says nothing."""
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
