"""A route plan as Envoy configuration: the contents of the files a Router's Envoy watches, as plain dictionaries ready for JSON.

What the Router adds must not be noticed by requests that meet no condition (the transparent profile): no header of ours, no time limit of
ours, no path or letter case changed. What Envoy cannot pass on: the target `*` (answered 404), a target with bytes that are not ASCII (400), the
letter case of trailers, a request of POST's kind that says nothing of its length (`content-length: 0` is added), an answer without a `Date` (one
is added, as RFC 9110, 6.6.1 asks of recipients).

Listeners depend on the ports alone, so that a serve which comes or goes never drains a connection.

Written for the Envoy release that `requirements` pin; matching line by line is younger than CVE-2026-26308.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codezero.model.serve import (
    LOTS,
    SAFE_METHODS,
    Baggage,
    Cookie,
    Header,
    Method,
    Path,
    Percent,
    Predicate,
    Query,
    User,
)
from codezero.model.variants import Mirror
from codezero.routing.plan import Address, PortKind, PortPlan, RoutePlan, Rule

Configuration = dict[str, Any]

CLUSTERS_FILE, LISTENERS_FILE = "cds.json", "lds.json"
# Envoy takes one secret and one route configuration from a file, no more.
IDENTITY_FILE, AUTHORITY_FILE, ROUTES_FILE = "sds-identity.json", "sds-authority.json", "rds-{listen}.json"
VARIANT_HEADER, FALLBACK_HEADER = "x-codezero-variant", "x-codezero-fallback"
# On the copy of a request that a mirror gets: an id that nobody can guess.
MIRROR_HEADER = "x-codezero-mirror"
# What Envoy is started with besides its bootstrap file: the access log must not wait ten seconds for more of it.
OPTIONS = ("--file-flush-interval-msec", "200")
# A longer request is not copied.
MIRRORED_BYTES = 1 << 20
# After its answer's end the origin's answer is told to the mirror: `POST` to this path and the id of the copy, over HTTP/1.1, with the status, the
# milliseconds until its end and its length in headers named as below; the body is its header lines as in HTTP/1.1, an empty line, and as much
# of its body as this.
MIRROR_PATH = "/.codezero/mirror/"
MIRROR_STATUS, MIRROR_MILLISECONDS = "x-codezero-mirror-status", "x-codezero-mirror-milliseconds"
MIRROR_BYTES = "x-codezero-mirror-bytes"
MIRRORED_ANSWER_BYTES = 1 << 16
UNREACHABLE, AWAY = "unreachable", "away"

_TYPE = "type.googleapis.com/"
_EXTENSIONS = f"{_TYPE}envoy.extensions."
_NEVER = "0s"
_PLENTY = 1_000_000
_HEADER_KILOBYTES = 1024
# Programs close connections that nobody used for two seconds and more (gunicorn 2, Node 5, uvicorn 5). A request that crosses such an end fails,
# and the caller, whose own connection is fine, would not know to ask again; so we are the first to close.
_KEPT_OPEN = "1s"
_HEADER_LINES = 1000
# Bytes of a request kept for the origin while a variant is tried. Envoy reads on during the attempt, and gives up falling back when more than
# this came; so it bounds both the memory of a request with a condition and the upload that survives a variant which just died. Times the requests
# that the System lets a Router have (`system.variant_port`) it has to fit into the memory of the pod: the team's requests are in there too.
_KEPT_FOR_RETRY = 4 << 20
# What else a request holds while its variant does not read: on its way out of Envoy, and in the kernel.
_ON_THE_WAY = 256 << 10
_SOL_SOCKET, _SO_SNDBUF = 1, 7
# Those that are used inside of clusters: WebSocket, and what container engines and Kubernetes attach to a process by.
_UPGRADES = ("websocket", "tcp", "spdy/3.1")
_KEPT_PROTO, _KEPT_FORWARDED = "x-codezero-forwarded-proto", "x-codezero-forwarded-for"
_NOT_SENT_YET = "connect-failure,refused-stream,reset-before-request"
_MIRROR, _MIRROR_ID, _MIRROR_TELLS = "codezero.mirror", "envoy.filters.http.set_filter_state", "envoy.filters.http.lua"
# A mirror that stalls costs no more than this: so many copies at once, each for so long.
_COPIES, _COPY_LASTS = 64, "60s"

# One line of JSON on standard output for each request or connection that a variant's rule decided, after its end; `wire.access_log` reads it.
# No value of a header, no query, no body. `rule` is empty for a connection that is not HTTP: there the host says which rule it was.
_LOGGED = {
    "start": "%START_TIME(%s.%6f)%",
    "rule": "%ROUTE_NAME%",
    "host": "%UPSTREAM_METADATA(codezero)%",
    "protocol": "%PROTOCOL%",
    "method": "%REQ(:METHOD):32%",
    "path": "%PATH(NQ):300%",
    "status": "%RESPONSE_CODE%",
    "sent": "%BYTES_SENT%",
    "received": "%BYTES_RECEIVED%",
    "microseconds": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "milliseconds": "%DURATION%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
}
# By which the routes of rules mark their requests for the access log; whoever meets no condition pays no more for it than a look whether it is there.
_DECIDED_MARK = "codezero.decided"
# An answer of Envoy's own may come before the mark, such as the refusal of an upgrade; asking this of each request costs a tenth of its way.
_DECIDED = "xds.route_name.startsWith('variant:')"
_REFUSED_FROM = 400
_DECIDED_RAW = "'codezero' in xds.upstream_host_metadata.filter_metadata"

# What is asked of Envoy about itself (`router.admin`). Nobody reads its other numbers, and to count them takes a tenth of a request's way.
_COUNTED = (
    {"suffix": ".version_text"},
    {"suffix": ".update_rejected"},
    {"suffix": ".update_failure"},
    {"contains": "warming"},
    {"exact": "server.state"},
    {"safe_regex": {"regex": r"listener\..*\.downstream_cx_active"}},
)

_RUNTIME = {
    # Values of conditions become patterns of a few instructions a letter; their length is limited where they are read.
    "re2.max_program_size.error_level": _PLENTY,
    # A condition looks at each line of a header; older releases compare all lines joined by commas.
    "envoy.reloadable_features.match_headers_individually": True,
}


def files(plan: RoutePlan, *, folder: str, bind: str = "0.0.0.0") -> dict[str, Configuration]:
    """The files for `plan` by name, to be put into `folder` one by one, in this order, by rename; listeners bind to the address `bind`.

    The order matters: Envoy must know a cluster before a route names it, or it answers 503 in between.
    """
    clusters = {CLUSTERS_FILE: _response("envoy.config.cluster.v3.Cluster", _clusters(plan, folder))}
    routes = {
        ROUTES_FILE.format(listen=port.listen): _response("envoy.config.route.v3.RouteConfiguration", [_routes(port)])
        for port in plan.ports
        if port.kind is not PortKind.RAW
    }
    listeners = _response("envoy.config.listener.v3.Listener", (_listener(port, folder, bind) for port in plan.ports))
    return clusters | routes | {LISTENERS_FILE: listeners}


def listeners(plan: RoutePlan) -> frozenset[str]:
    """The names of the listeners that Envoy has by the files for `plan`."""
    return frozenset(map(_name_of, plan.ports))


def secrets(*, certificate: str, key: str, authorities: str, system_id: str) -> dict[str, Configuration]:
    """The secrets' files by name: the Router's own `certificate` and `key`, and that it speaks to none but the System.

    All in PEM; `system_id` is the System's SPIFFE id under `authorities`. One file holds the key, so they are of mode 0600. They must be
    there before the first cluster that leads to a variant.
    """
    own = {"certificate_chain": {"inline_string": certificate}, "private_key": {"inline_string": key}}
    trusted = {
        "trusted_ca": {"inline_string": authorities},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": system_id}}],
    }
    kind = "envoy.extensions.transport_sockets.tls.v3.Secret"
    return {
        IDENTITY_FILE: _response(kind, [{"name": "identity", "tls_certificate": own}]),
        AUTHORITY_FILE: _response(kind, [{"name": "authority", "validation_context": trusted}]),
    }


def bootstrap(*, folder: str, node: str, admin_socket: str) -> Configuration:
    """What Envoy starts with: where the files are; the admin API on a Unix socket only."""
    return {
        "node": {"id": node, "cluster": "router"},
        "admin": {"address": {"pipe": {"path": admin_socket, "mode": 0o600}}},
        "dynamic_resources": {
            "lds_config": _watched(folder, LISTENERS_FILE),
            "cds_config": _watched(folder, CLUSTERS_FILE),
        },
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": list(_COUNTED)}}},
        "layered_runtime": {"layers": [{"name": "codezero", "static_layer": _RUNTIME}]},
    }


def baggage_pattern(predicate: Baggage) -> str:
    """An RE2 pattern that the joined `baggage` lines match in full exactly when a member has the key and, decoded, the value."""
    value = "".join(
        _octet(byte, raw=chr(byte) not in '",;\\%' and 0x20 < byte < 0x7F) for byte in predicate.value.encode()
    )
    return rf"(?:\C*,)?[ \t]*{_literal(predicate.key)}[ \t]*=[ \t]*{value}[ \t]*(?:[;,]\C*)?"


def cookie_pattern(predicate: Cookie) -> str:
    """An RE2 pattern that the joined `cookie` lines match in full exactly when one cookie has the name and value."""
    return rf"(?:\C*[;,])?[ \t]*{_literal(predicate.key)}={_literal(predicate.value)}[ \t]*(?:[;,]\C*)?"


def query_pattern(predicate: Query) -> str:
    """An RE2 pattern that the parameter's value as sent matches in full exactly when it decodes to the value."""
    return "".join(
        r"(?:\x2b|%20)" if byte == 0x20 else _octet(byte, raw=chr(byte) not in "#%&+" and 0x20 < byte < 0x7F)
        for byte in predicate.value.encode()
    )


def _octet(byte: int, *, raw: bool) -> str:
    high, low = f"{byte:02x}"
    escaped = f"%{_digit(high)}{_digit(low)}"
    return f"(?:{_literal(chr(byte))}|{escaped})" if raw else escaped


def _digit(digit: str) -> str:
    return digit if digit.isdigit() else f"[{digit}{digit.upper()}]"


def _literal(text: str) -> str:
    return "".join(letter if letter.isalnum() else f"\\x{ord(letter):02x}" for letter in text)


def _response(kind: str, resources: Iterable[Configuration]) -> Configuration:
    typed = [{"@type": _TYPE + kind, **resource} for resource in resources]
    version = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:16]
    return {"version_info": version, "resources": typed}


def _watched(folder: str, name: str) -> Configuration:
    return {"path_config_source": {"path": f"{folder}/{name}"}, "resource_api_version": "V3"}


def _extension(name: str, kind: str, **fields: object) -> Configuration:
    return {"name": name, "typed_config": {"@type": _EXTENSIONS + kind, **fields}}


# Clusters ------------------------------------------------------------------------------------------------------------------------------


def _clusters(plan: RoutePlan, folder: str) -> Iterator[Configuration]:
    for port in plan.ports:
        yield _origin(f"origin:{port.listen}", port.origin)
        yield _origin(f"{UNREACHABLE}:{port.listen}", port.origin, metadata={"fallback": UNREACHABLE})
        yield _origin(f"{AWAY}:{port.listen}", port.origin, metadata={"fallback": AWAY})
        for rule in port.rules:
            if rule.holder is None or port.kind is PortKind.RAW:
                continue
            yield _variant(_name(rule), rule, rule.holder, folder)
            if rule.mirror is None:
                yield _first_of(_served(rule), _name(rule), f"{UNREACHABLE}:{port.listen}")
        if port.kind is not PortKind.HTTP:
            yield from _raw_clusters(port, folder)


def _raw_clusters(port: PortPlan, folder: str) -> Iterator[Configuration]:
    rule = port.raw
    if rule is None:
        yield _first_of(f"raw:{port.listen}", f"origin:{port.listen}")
        return
    # A connection has no route that could be logged; the host it reached tells the rule.
    reason, name = UNREACHABLE if rule.holder else AWAY, f"{rule.variant_id}:{rule.port}"
    yield _origin(f"instead:{name}", port.origin, metadata={"fallback": reason, "rule": _name(rule)})
    if rule.holder is None:
        yield _first_of(f"raw:{port.listen}", f"instead:{name}")
        return
    yield _variant(f"direct:{name}", rule, rule.holder, folder) | {"outlier_detection": _OUT_AT_ONCE}
    yield _first_of(f"raw:{port.listen}", f"direct:{name}", f"instead:{name}")


# Raw connections have no retry by priority: a failed one is taken out so that the next attempt goes to the origin. Requests have, and their
# variant stays in, since Envoy counts a connection that a program broke off as such a failure too.
_OUT_AT_ONCE: Configuration = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 1,
    "enforcing_consecutive_local_origin_failure": 100,
    "enforcing_local_origin_success_rate": 0,
    "enforcing_consecutive_5xx": 0,
    "enforcing_consecutive_gateway_failure": 0,
    "enforcing_success_rate": 0,
    "base_ejection_time": "1s",
    "max_ejection_time": "1s",
    "interval": "0.5s",
    "max_ejection_percent": 100,
    # Envoy spares the last host of a cluster from ejection otherwise.
    "always_eject_one_host": True,
}


def _name(rule: Rule) -> str:
    return f"{'variant' if rule.mirror is None else 'mirror'}:{rule.variant_id}:{rule.port}"


def _served(rule: Rule) -> str:
    return f"served:{rule.variant_id}:{rule.port}"


def _origin(name: str, address: Address, *, metadata: Mapping[str, str] | None = None) -> Configuration:
    return {
        **_cluster(name, connect_timeout="60s"),
        "type": "STATIC",
        "load_assignment": _endpoint(name, address, metadata),
    }


def _variant(name: str, rule: Rule, holder: Address, folder: str) -> Configuration:
    tls = {
        "sni": rule.server_name,
        "common_tls_context": {
            # Without the maximum Envoy stops at TLS 1.2 towards upstreams and the handshake fails.
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [{"name": "identity", "sds_config": _watched(folder, IDENTITY_FILE)}],
            "validation_context_sds_secret_config": {
                "name": "authority",
                "sds_config": _watched(folder, AUTHORITY_FILE),
            },
        },
    }
    # A System pod that vanished without a word is noticed by probes of idle connections. Not by TCP_USER_TIMEOUT: Linux ends with it also whoever
    # merely does not read (`tcp_probe_timer`), as a laptop does whose program stands at a breakpoint.
    alive = {"keepalive_time": 5, "keepalive_interval": 2, "keepalive_probes": 3}
    kind = _mirror_cluster(name)
    if rule.mirror is None:
        kind = _cluster(name, connect_timeout="0.5s") | {"per_connection_buffer_limit_bytes": _ON_THE_WAY}
    send_buffer = {"level": _SOL_SOCKET, "name": _SO_SNDBUF, "int_value": _ON_THE_WAY, "state": "STATE_PREBIND"}
    return {
        **kind,
        "type": "STATIC",
        "load_assignment": _endpoint(name, holder, {"variant": rule.variant_id, "rule": _name(rule)}),
        "upstream_connection_options": {"tcp_keepalive": alive},
        "upstream_bind_config": {"socket_options": [send_buffer]},
        "transport_socket": _extension(
            "envoy.transport_sockets.tls", "transport_sockets.tls.v3.UpstreamTlsContext", **tls
        ),
    }


def _first_of(name: str, *clusters: str) -> Configuration:
    return {
        **_cluster(name, connect_timeout="60s"),
        "lb_policy": "CLUSTER_PROVIDED",
        "cluster_type": _extension(
            "envoy.clusters.aggregate", "clusters.aggregate.v3.ClusterConfig", clusters=list(clusters)
        ),
    }


def _mirror_cluster(name: str) -> Configuration:
    cluster = _cluster(name, connect_timeout="0.5s", at_once=_COPIES)
    protocol = cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    protocol["common_http_protocol_options"]["max_stream_duration"] = _COPY_LASTS
    # Envoy streams a copy beside its request and would hold the request back with it. A copy that is sent when it is whole never does, and one
    # that grows too long is given up, as long as the buffers on its way are never full.
    protocol["http_filters"] = [
        _header_mutation(_COPY_DEPARTURE),
        _extension("envoy.filters.http.buffer", "filters.http.buffer.v3.Buffer", max_request_bytes=MIRRORED_BYTES),
        _extension("envoy.filters.http.upstream_codec", "filters.http.upstream_codec.v3.UpstreamCodec"),
    ]
    return cluster | {"per_connection_buffer_limit_bytes": (_COPIES + 1) * MIRRORED_BYTES}


def _cluster(name: str, *, connect_timeout: str, at_once: int = _PLENTY) -> Configuration:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {
        "name": name,
        "connect_timeout": connect_timeout,
        "circuit_breakers": {"thresholds": [{"priority": "DEFAULT", **dict.fromkeys(limits, at_once)}]},
        # A single host that is out must be out, or a failed variant would still be asked first.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_EXTENSIONS}upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {
                    "idle_timeout": _KEPT_OPEN,
                    "max_headers_count": _HEADER_LINES,
                    "max_response_headers_kb": _HEADER_KILOBYTES,
                },
                "use_downstream_protocol_config": {
                    "http_protocol_options": _http1(),
                    "http2_protocol_options": {"allow_connect": True},
                },
            }
        },
    }


def _endpoint(name: str, address: Address, metadata: Mapping[str, str] | None) -> Configuration:
    endpoint: Configuration = {"endpoint": {"address": _socket(address)}}
    if metadata:
        endpoint["metadata"] = {"filter_metadata": {"codezero": dict(metadata)}}
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]}


def _socket(address: Address) -> Configuration:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _http1() -> Configuration:
    case = _extension(
        "envoy.http.stateful_header_formatters.preserve_case",
        "http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
        forward_reason_phrase=True,
    )
    return {"header_key_format": {"stateful_formatter": case}, "enable_trailers": True}


# Routes --------------------------------------------------------------------------------------------------------------------------------


def _routes(port: PortPlan) -> Configuration:
    routes = [_route(rule, port) for rule in port.rules if rule.mirror is None]
    routes += [_mirror_route(rule, port) for rule in port.rules if rule.mirror and rule.holder]
    routes.append({"name": "origin", "match": {"prefix": "/"}, "route": _action(f"origin:{port.listen}")})
    host = {"name": "all", "domains": ["*"], "routes": routes, **_DEPARTURE}
    # Those of hosts come first: what they read is taken out here.
    return {"name": f"http:{port.listen}", "virtual_hosts": [host], "request_headers_to_remove": [_KEPT_PROTO]}


def _route(rule: Rule, port: PortPlan) -> Configuration:
    return {
        "name": _name(rule),
        "request_body_buffer_limit": _KEPT_FOR_RETRY,
        "match": _match(rule.condition.predicates),
        "route": _action(f"{AWAY}:{port.listen}" if rule.holder is None else _served(rule)),
        # The host that answered says which of the two it was; the other header comes out empty and is left out.
        "response_headers_to_add": [
            _mark(VARIANT_HEADER, "%UPSTREAM_METADATA(codezero:variant)%"),
            _mark(FALLBACK_HEADER, "%UPSTREAM_METADATA(codezero:fallback)%"),
        ],
        "typed_per_filter_config": {_DECIDED_MARK: _switched_on(_decided_mark())},
    }


def _mirror_route(rule: Rule, port: PortPlan) -> Configuration:
    match = _match(rule.condition.predicates)
    # An upgraded connection is no request that could be asked again.
    only: list[Configuration] = [{"name": "upgrade", "present_match": False}]
    if rule.mirror is Mirror.SAFE:
        only.append({"name": ":method", "string_match": _fits("|".join(SAFE_METHODS))})
    policy = {
        "cluster": _name(rule),
        "disable_shadow_host_suffix_append": True,
        "request_headers_mutations": _COPY_ARRIVAL,
    }
    return {
        "name": _name(rule),
        "match": match | {"headers": [*match.get("headers", []), *only]},
        "route": _action(f"origin:{port.listen}") | {"request_mirror_policies": [policy]},
        "typed_per_filter_config": {
            _MIRROR_ID: _mirror_id()["typed_config"],
            _MIRROR_TELLS: {"@type": f"{_EXTENSIONS}filters.http.lua.v3.LuaPerRoute"},
        },
    }


def _mark(header: str, value: str) -> Configuration:
    return {"header": {"key": header, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _action(cluster: str) -> Configuration:
    return {
        "cluster": cluster,
        "timeout": _NEVER,
        "idle_timeout": _NEVER,
        "retry_policy": {
            "retry_on": _NOT_SENT_YET,
            "num_retries": 1,
            "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
            "retry_priority": _extension(
                "envoy.retry_priorities.previous_priorities",
                "retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                update_frequency=1,
            ),
        },
    }


def _match(predicates: Iterable[Predicate]) -> Configuration:
    match: Configuration = {"prefix": "/"}
    headers: list[Configuration] = []
    queries: list[Configuration] = []
    for predicate in predicates:
        match predicate:
            case Header(key, value):
                headers.append({"name": key, "string_match": {"exact": value}})
            case Method(name):
                headers.append({"name": ":method", "string_match": {"exact": name}})
            case Baggage():
                headers.append({"name": "baggage", "string_match": _fits(baggage_pattern(predicate))})
            case Cookie():
                headers.append({"name": "cookie", "string_match": _fits(cookie_pattern(predicate))})
            case Query(key, _):
                queries.append({"name": key, "string_match": _fits(query_pattern(predicate))})
            case Path("/"):
                pass
            case Path(prefix):
                match["path_separated_prefix"] = prefix
                del match["prefix"]
            case Percent(percent, None):
                # Envoy draws once for each request, and all routes look at the same lot.
                match["runtime_fraction"] = {"default_value": {"numerator": percent, "denominator": "HUNDRED"}}
            case Percent(percent, key):
                headers.append({"name": key, "string_match": {"custom": _drawn(percent)}})
            case User():
                raise ValueError("a plan's conditions are bound to their owners")
    return match | ({"headers": headers} if headers else {}) | ({"query_parameters": queries} if queries else {})


def _fits(pattern: str) -> Configuration:
    return {"safe_regex": {"regex": pattern}}


def _drawn(percent: int) -> Configuration:
    return _extension(
        "envoy.string_matcher.lua",
        "string_matcher.lua.v3.Lua",
        source_code={"inline_string": _LOT_OF.replace("LOTS", str(LOTS)).replace("PERCENT", str(percent))},
    )


# `model.serve.lot_of`. The prime is 2**24 + 403, multiplied in two steps because Lua's numbers are exact up to 2**53 only.
_LOT_OF = """\
local bit = require("bit")
function envoy_match(value)
  local lot = 2166136261
  for at = 1, #value do
    lot = bit.bxor(lot, string.byte(value, at)) % 4294967296
    lot = (lot % 256 * 16777216 + lot * 403) % 4294967296
  end
  return lot % LOTS < PERCENT
end
"""


# Listeners -----------------------------------------------------------------------------------------------------------------------------


def _name_of(port: PortPlan) -> str:
    return f"port:{port.listen}"


def _listener(port: PortPlan, folder: str, bind: str) -> Configuration:
    listener: Configuration = {"name": _name_of(port), "address": _socket(Address(bind, port.listen))}
    match port.kind:
        case PortKind.HTTP:
            return listener | {"filter_chains": [{"filters": [_http(port, folder)]}]}
        case PortKind.RAW:
            return listener | {"filter_chains": [{"filters": [_raw(port)]}]}
        case PortKind.UNKNOWN:
            spoken = {"application_protocols": ["http/1.0", "http/1.1", "h2c"]}
            return listener | {
                "listener_filters": [
                    _extension(
                        "envoy.filters.listener.http_inspector",
                        "filters.listener.http_inspector.v3.HttpInspector",
                    )
                ],
                # A server that speaks first must not wait for its client longer than this.
                "listener_filters_timeout": "0.1s",
                "continue_on_listener_filters_timeout": True,
                "filter_chains": [{"filter_chain_match": spoken, "filters": [_http(port, folder)]}],
                "default_filter_chain": {"filters": [_raw(port)]},
            }


def _access_log(which: Configuration) -> list[Configuration]:
    line = {"json_format": _LOGGED, "omit_empty_values": True}
    log = _extension("envoy.access_loggers.stdout", "access_loggers.stream.v3.StdoutAccessLog", log_format=line)
    return [log | {"filter": which}]


def _holds(expression: str) -> Configuration:
    name, kind = "envoy.access_loggers.extension_filters.cel", "access_loggers.filters.cel.v3.ExpressionFilter"
    return {"extension_filter": _extension(name, kind, expression=expression)}


def _decided() -> Configuration:
    mark = {"filter": _DECIDED_MARK, "path": [{"key": "rule"}], "value": {"present_match": True}}
    refused = {"op": "GE", "value": {"default_value": _REFUSED_FROM, "runtime_key": "codezero.refused_from"}}
    may_lack_it = {"filters": [{"status_code_filter": {"comparison": refused}}, _holds(_DECIDED)]}
    marked = {"matcher": mark, "match_if_key_not_found": False}
    return {"or_filter": {"filters": [{"metadata_filter": marked}, {"and_filter": may_lack_it}]}}


def _decided_mark() -> Configuration:
    mark = {"metadata_namespace": _DECIDED_MARK, "value": {"rule": True}}
    return _extension(_DECIDED_MARK, "filters.http.set_metadata.v3.Config", metadata=[mark])


def _switched_on(filter_: Configuration) -> Configuration:
    return {"@type": f"{_TYPE}envoy.config.route.v3.FilterConfig", "config": filter_["typed_config"]}


def _raw(port: PortPlan) -> Configuration:
    return _extension(
        "envoy.filters.network.tcp_proxy",
        "filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix="raw",
        cluster=f"raw:{port.listen}",
        access_log=_access_log(_holds(_DECIDED_RAW)),
        idle_timeout=_NEVER,
        max_connect_attempts=4,
        backoff_options={"base_interval": "0.02s", "max_interval": "0.1s"},
    )


def _http(port: PortPlan, folder: str) -> Configuration:
    return _extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        access_log=_access_log(_decided()),
        codec_type="AUTO",
        rds={
            "route_config_name": f"http:{port.listen}",
            "config_source": _watched(folder, ROUTES_FILE.format(listen=port.listen)),
        },
        stream_idle_timeout=_NEVER,
        request_timeout=_NEVER,
        request_headers_timeout=_NEVER,
        common_http_protocol_options={"idle_timeout": _NEVER, "max_headers_count": _HEADER_LINES},
        max_request_headers_kb=_HEADER_KILOBYTES,
        http_protocol_options={
            **_http1(),
            "accept_http_10": True,
            # Envoy warns once for each listener that this is young.
            "allow_custom_methods": True,
            "ignore_http_11_upgrade": [{"prefix": "tls/", "ignore_case": True}],
            "default_host_for_http_10": str(port.origin),
        },
        # One bad request must not end the others of its connection.
        http2_protocol_options={"override_stream_error_on_invalid_http_message": True, "allow_connect": True},
        server_header_transformation="PASS_THROUGH",
        generate_request_id=False,
        preserve_external_request_id=True,
        use_remote_address=False,
        skip_xff_append=True,
        normalize_path=False,
        merge_slashes=False,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        proxy_100_continue=True,
        # Any other upgrade is answered 403, except those that servers may ignore and do.
        upgrade_configs=[{"upgrade_type": kind} for kind in _UPGRADES],
        early_header_mutation_extensions=[
            _extension(
                "envoy.http.early_header_mutation.header_mutation",
                "http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=_ARRIVAL,
            )
        ],
        http_filters=[
            # Routes of rules switch on the first, those of mirrors the others.
            _decided_mark() | {"disabled": True},
            _mirror_id() | {"disabled": True},
            _mirror_tells() | {"disabled": True},
            _extension(
                "envoy.filters.http.router",
                "filters.http.router.v3.Router",
                suppress_envoy_headers=True,
                dynamic_stats=False,
            ),
        ],
    )


def _mirror_id() -> Configuration:
    id_ = {
        "object_key": _MIRROR,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": "%UNIQUE_ID%"}},
    }
    return _extension(_MIRROR_ID, "filters.http.set_filter_state.v3.Config", on_request_headers=[id_])


def _mirror_tells() -> Configuration:
    script = _ORIGIN_ANSWERED.replace("LONGEST", str(MIRRORED_ANSWER_BYTES))
    return _extension(_MIRROR_TELLS, "filters.http.lua.v3.Lua", default_source_code={"inline_string": script})


# The body passes piece by piece, and what it was is told after its end, without waiting for an answer: the caller notices nothing.
_ORIGIN_ANSWERED = """\
function envoy_on_request(handle)
  handle:streamInfo():dynamicMetadata():set("codezero.mirror", "began", handle:timestamp())
end

function envoy_on_response(handle)
  local began = handle:streamInfo():dynamicMetadata():get("codezero.mirror")["began"]
  local id = handle:streamInfo():filterState():get("codezero.mirror")
  local cluster = handle:streamInfo():routeName()
  local status = handle:headers():get(":status")
  local told, left, bytes = {}, LONGEST, 0
  for name, value in pairs(handle:headers()) do
    local line = name .. ": " .. value .. "\\r\\n"
    if string.sub(name, 1, 1) ~= ":" and #line <= left then
      left = left - #line
      told[#told + 1] = line
    end
  end
  told[#told + 1] = "\\r\\n"
  left = LONGEST
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    if left > 0 and length > 0 then
      local taken = math.min(left, length)
      told[#told + 1] = chunk:getBytes(0, taken)
      left = left - taken
    end
    bytes = bytes + length
  end
  handle:httpCall(cluster, {
    [":method"] = "POST",
    [":path"] = "/.codezero/mirror/" .. id,
    [":authority"] = "codezero",
    ["x-codezero-mirror-status"] = status,
    ["x-codezero-mirror-milliseconds"] = string.format("%d", handle:timestamp() - began),
    ["x-codezero-mirror-bytes"] = string.format("%d", bytes),
  }, table.concat(told), 10000, true)
end
"""


def _header_mutation(mutations: list[Configuration]) -> Configuration:
    return _extension(
        "envoy.filters.http.header_mutation",
        "filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": mutations},
    )


# Headers that command Envoy are for no caller to set (T21). Envoy always adds x-forwarded-proto where there is none, so the one the caller
# sent is put aside before and restored after.
_ARRIVAL: list[Configuration] = [
    {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
    {"remove": _KEPT_PROTO},
    {"append": _mark(_KEPT_PROTO, "%REQ(x-forwarded-proto)%")},
]
_DEPARTURE: Configuration = {
    "request_headers_to_remove": ["x-forwarded-proto"],
    "request_headers_to_add": [_mark("x-forwarded-proto", f"%REQ({_KEPT_PROTO})%")],
}
# Envoy sends copies as a client of its own would: it says that it is internal and adds its own address to those forwarded for.
_COPY_ARRIVAL: list[Configuration] = [
    {"append": _mark(MIRROR_HEADER, f"%FILTER_STATE({_MIRROR}:PLAIN)%")},
    {"remove": _KEPT_FORWARDED},
    {"append": _mark(_KEPT_FORWARDED, "%REQ(x-forwarded-for)%")},
]
_COPY_DEPARTURE: list[Configuration] = [
    {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-", "ignore_case": True}}},
    {"remove": "x-forwarded-for"},
    {"append": _mark("x-forwarded-for", f"%REQ({_KEPT_FORWARDED})%")},
    {"remove": _KEPT_FORWARDED},
]
