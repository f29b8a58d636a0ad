"""How to reach a variant by hand: one command to copy."""

import shlex
from urllib.parse import quote

from codezero.local.daemon.naming import names_of
from codezero.model.serve import USER_HEADER, ConditionKind
from codezero.model.services import Protocol, Service, ServiceRef
from codezero.model.variants import ConditionPart, VariantView
from codezero.routing.compile import port_kind
from codezero.routing.plan import PortKind

# What a request can be made to have. Of a percentage it has or has not the luck.
_SPELLED = frozenset(
    {
        ConditionKind.DEFAULT,
        ConditionKind.USER,
        ConditionKind.HEADER,
        ConditionKind.BAGGAGE,
        ConditionKind.COOKIE,
        ConditionKind.QUERY,
        ConditionKind.PATH,
        ConditionKind.METHOD,
    }
)


def curl_to(ref: ServiceRef, variant: VariantView, service: Service | None) -> str | None:
    """A curl command whose request meets the condition of `variant` at its first port that may speak HTTP; None where there is none."""
    port = _http_port(variant, service)
    if port is None or any(part.kind not in _SPELLED for part in variant.condition):
        return None
    options = [*_method(variant.condition), *_headers(variant.condition, variant.user)]
    url = f"http://{names_of(ref)[0]}:{port}{_target(variant.condition)}"
    if any(mark in url for mark in "[]{}"):
        options.append("-g")  # else curl takes them for patterns
    if "/." in url:
        options.append("--path-as-is")
    return shlex.join(["curl", *options, url])


def _http_port(variant: VariantView, service: Service | None) -> int | None:
    raw = {
        port.port
        for port in (service.ports if service is not None else ())
        if port.protocol is Protocol.TCP and port_kind(port) is PortKind.RAW
    }
    return next((pair.remote for pair in variant.ports if pair.remote not in raw), None)


def _method(condition: tuple[ConditionPart, ...]) -> list[str]:
    name = next((part.value for part in condition if part.kind == ConditionKind.METHOD), None)
    if name is None:
        return []
    # With -X HEAD curl would wait for a body.
    return ["-I"] if name == "HEAD" else ["-X", name]


def _headers(condition: tuple[ConditionPart, ...], user: str) -> list[str]:
    lines: list[str] = []
    members: list[str] = []
    cookies: list[str] = []
    for part in condition:
        if part.kind == ConditionKind.USER:
            lines.append(f"{USER_HEADER}: {user}")
        elif part.kind == ConditionKind.HEADER:
            lines.append(f"{part.key}: {part.value}")
        elif part.kind == ConditionKind.BAGGAGE:
            members.append(f"{part.key}={quote(part.value or '', safe='')}")
        elif part.kind == ConditionKind.COOKIE:
            cookies.append(f"{part.key}={part.value}")
    if members:
        lines.append(f"baggage: {','.join(members)}")
    if cookies:
        lines.append(f"cookie: {'; '.join(cookies)}")
    return [argument for line in lines for argument in ("-H", line)]


def _target(condition: tuple[ConditionPart, ...]) -> str:
    path = next((part.value for part in condition if part.kind == ConditionKind.PATH), None) or "/"
    query = "&".join(
        f"{part.key}={quote(part.value or '', safe='')}" for part in condition if part.kind == ConditionKind.QUERY
    )
    return f"{path}?{query}" if query else path
