"""Writes the reference pages that come from the code: commands, error codes, settings and options of the processes, values of a Teamspace, the Hub's API,
and capabilities.

Usage: python tools/reference.py [--check] [FOLDER]   (with --check it only says whether the pages of FOLDER are up to date)

A page whose code cannot be imported here (an extra is not installed) is left as it is.
"""

import argparse
import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn
from unittest import mock

import click
import made_files

from codezero.cli import context, hub_context
from codezero.cli.main import COMMANDS, czctl
from codezero.deploy import values_schema
from codezero.kit.settings import Environment, SettingsError
from codezero.model import capabilities, problems
from codezero.wire import local_api

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by tools/reference.py from the code; do not edit. -->\n"
WIDTH = 100

# What each environment variable is for; a variable without a line here fails the check, as does a line without its variable.
CZCTL_VARIABLES = {
    context.RUN_FOLDER_VARIABLE: (f"`{local_api.DEFAULT_RUN_FOLDER}`", "Where the Daemon's socket is."),
    context.STATE_FOLDER_VARIABLE: (
        f"`{local_api.DEFAULT_STATE_FOLDER}`",
        "Where the agent keeps rules, journal and log.",
    ),
    hub_context.HUB_VARIABLE: ("", "Address of the Hub to ask, in place of the one signed in to."),
    hub_context.CA_VARIABLE: ("", "File of the authorities (PEM) by which alone that Hub is believed."),
    hub_context.TOKEN_VARIABLE: ("", "Access token to ask the Hub with; nothing is kept."),
    hub_context.API_KEY_VARIABLE: ("", "API key to ask the Hub with; nothing is kept."),
    hub_context.ORGANIZATION_VARIABLE: ("", "Name or id of the organization, in place of the selected one."),
    hub_context.SPACE_VARIABLE: ("", "Name or id of the Teamspace, in place of the selected one."),
    "BROWSER": ("", "The program that `czctl auth login` and `czctl ui` open their pages with."),
    "https_proxy": ("", "The proxy by which the Hub is reached; `no_proxy` names hosts that are reached without."),
    "VISUAL": ("", "The editor of `czctl consume edit`; it must wait (`code -w`)."),
    "EDITOR": ("", "The editor where `VISUAL` is not set."),
    "NO_COLOR": ("", "Not empty: no colour, also on a terminal."),
}
MEANINGS = {
    "ALLOWED_DOMAINS": "Names that ExternalName services may lead to, by commas or spaces: `name` or `*.name`; with `=private` also at private addresses.",
    "ALLOWED_NETWORKS": "Networks like `10.0.0.0/24`, by commas or spaces, that streams may enter although they hold nodes, loopback or link-local addresses.",
    "AUTHORITY": "The authority above all parts of the Teamspace, in PEM: who else the System could be, the Router does not believe.",
    "BIND": "The address that the Router's Envoy listens on; `::` where pods have IPv6 addresses only.",
    "DRAIN_SECONDS": "How long, in seconds, connections may take to end when the pod goes.",
    "ENVOY": "The Envoy to run; without it the one that is installed.",
    "ENVOY_THREADS": "How many threads Envoy has.",
    "HUB_CA": "The certificate (PEM) of the authority that signed the Hub's; without it those that the image believes.",
    "HUB_URL": "The Hub of this Teamspace, `https://host[:port]`; without it the Teamspace has none.",
    "IDENTITY_FOLDER": "Where the certificate, its key and the authorities are mounted; changes are followed.",
    "KUBECONFIG": "A kubeconfig to reach the cluster by; without it the pod's service account.",
    "LISTEN": "Where laptops (System) or Systems (Orchestrator) connect to.",
    "LOG_FORMAT": "One JSON object a line, or text for people.",
    "LOG_LEVEL": "The least that is logged.",
    "NAMESPACE": "The namespace of the Teamspace's own parts.",
    "ORCHESTRATOR": "Where the Orchestrator is.",
    "PLAN": "The first plan as JSON, which leads to the origin alone. The System sends the others.",
    "OPA_URL": "A policy decision point (OPA) that is asked besides the policy: the URL of its rule; without it none, unless the Hub names one.",
    "POD": "The name of this pod; without it the host's name.",
    "POD_IP": "The address of this pod, by which Routers reach the laptops whose tunnels it holds.",
    "POLICY_FOLDER": "Where `policy.json`, and for the System `jwks.json`, are mounted; changes are followed.",
    "PROBES": "Where `/healthz`, `/readyz` and `/metrics` are answered, in plain HTTP.",
    "ROUTERS_LISTEN": "Where Routers connect to, for variants and plans.",
    "ROUTER_DRAIN": "How long, in seconds, a Router still answers after its service has its own pods back.",
    "ROUTER_FOLDER": "The folder that the processes of a Router share, in memory.",
    "ROUTER_IMAGE": "The image of Routers.",
    "ROUTER_LINGER": "How long, in seconds, a Router stays after the last serve of its service.",
    "ROUTER_REPLICAS": "How many pods a Router has.",
    "ROUTER_RESOURCES": "What each pod of a Router is given, as JSON: `requests` and `limits`; without it the default of value `router.resources`.",
    "ROUTER_SYSTEM": "Where Routers find the System.",
    "SERVE_NAMESPACES": "Namespaces whose services may be served, by commas or spaces; `*` for all, nothing for none.",
    "SESSION_SECONDS": "How long the session of a lost laptop is kept, in seconds.",
    "SYSTEM": "Where the System is.",
    "TEAMSPACE": "The Teamspace's ULID.",
    "TOKEN_FILE": "The ServiceAccount token that proves the Router; read anew each time.",
    "TOKEN_ISSUER": "Who tokens of the CONNECT door must come from; without it the installation that the token's device belongs to.",
}
# Form, default, meaning.
HUB_VARIABLES = {
    "DATABASE_URL": (
        "URL",
        "-",
        "`postgresql://USER@HOST/NAME` or `sqlite:///PATH`; without it SQLite in the data folder.",
    ),
    "DATABASE_URL_FILE": ("path", "-", "A file that holds that URL, where it has a password."),
    "DATA_FOLDER": (
        "absolute path",
        "-",
        "Where all is kept; without it `/var/lib/codezero-hub` for root, else `~/.local/share/codezero-hub`.",
    ),
    "LISTEN": (
        "`host:port`",
        "`127.0.0.1:8700`",
        "Where it listens: beyond loopback with TLS, or for trusted proxies, alone.",
    ),
    "LOG_FORMAT": (
        "`json` or `text`",
        "-",
        "One JSON object a line, or text for people; without it text at a terminal.",
    ),
    "LOG_LEVEL": ("`debug` or `info` or `warning` or `error`", "`info`", "The least that is logged."),
    "MASTER_KEY_FILE": (
        "absolute path",
        "-",
        "The key that seals all others; without it `master.key` in the data folder.",
    ),
    "METRICS_LISTEN": (
        "`host:port`",
        "`127.0.0.1:8701`",
        "Where `/healthz`, `/readyz` and `/metrics` are answered, in plain HTTP.",
    ),
    "PROVIDERS_FILE": ("absolute path", "-", "The identity providers, as JSON; without it people have passwords."),
    "RELAY": (
        "`on` or `off`",
        "`on`",
        "Whether pages that are paired with a machine reach it through the Hub.",
    ),
    "PUBLIC_URL": ("URL", "-", "How people, laptops and clusters reach it; without it by the address it listens on."),
    "TLS_CERT_FILE": ("absolute path", "-", "Its certificate and those it hangs on, in PEM; changes are followed."),
    "TLS_KEY_FILE": ("absolute path", "-", "The certificate's key, without a password."),
    "TRUSTED_PROXIES": ("addresses or networks", "-", "Who may say whom a request is from, by commas or spaces."),
}
SETTINGS = {
    "czsystem": "codezero.system.settings:from_environment",
    "czorchestrator": "codezero.orchestrator.settings:from_environment",
    "czrouter": "codezero.router.settings:from_environment",
}
PREFIX = "CODEZERO_"


def commands() -> str:
    """Every command of czctl with its help."""
    for module, _attribute, _help in COMMANDS.values():
        importlib.import_module(f"codezero.cli.commands.{module}")
    parts = [NOTE, "# czctl\n"]
    for command in _tree(_context(czctl, "czctl")):
        level = "##" if command.command_path.count(" ") < 2 else "###"
        parts.append(
            f"{level} `{command.command_path}`\n\n```text\n{_without_trailing_blanks(command.get_help())}\n```\n"
        )
    return "\n".join(parts)


def errors() -> str:
    """Every error code."""
    rows = [
        (f"`{problem.code}`", problem.title, problem.meaning, str(problem.exit_code), str(problem.status))
        for problem in sorted(problems.ALL.values(), key=lambda problem: problem.code)
    ]
    table = _table(("Code", "Title", "Meaning", "Exit code", "HTTP status"), rows)
    return f"{NOTE}\n# Error codes\n\nCodes are never reused; `czctl explain CODE` tells the same.\n\n{table}"


def environment() -> str:
    """Every environment variable of czctl and of the processes in the cluster."""
    unused = set(MEANINGS)
    parts = [NOTE, "# Environment variables\n", "## czctl\n"]
    parts.append(
        _table(
            ("Variable", "Default", "Meaning"),
            [(f"`{name}`", default or "-", meaning) for name, (default, meaning) in CZCTL_VARIABLES.items()],
        )
    )
    for process, reader in SETTINGS.items():
        module, _, read = reader.partition(":")
        variables = _variables(importlib.import_module(module), read)
        if missing := set(variables) - set(MEANINGS):
            sys.exit(f"say in tools/reference.py what {', '.join(sorted(missing))} of {process} means")
        unused -= set(variables)
        parts.append(f"## {process}\n\nAll mistakes are told at once at the start, which then ends with 2.\n")
        rows = [
            (f"`{PREFIX}{name}`", form, default, MEANINGS[name]) for name, (form, default) in sorted(variables.items())
        ]
        parts.append(_table(("Variable", "Form", "Default", "Meaning"), rows))
    parts.append(_of_hub())
    if unused:
        sys.exit(f"tools/reference.py tells of {', '.join(sorted(unused))}, which nothing reads")
    return "\n".join(parts)


def _of_hub() -> str:
    settings = importlib.import_module("codezero.hub.settings")
    nothing = _Nothing()
    settings.from_environment(nothing)
    read = {name.removeprefix(settings.PREFIX) for name in nothing.asked if name.startswith(settings.PREFIX)}
    if differing := read ^ set(HUB_VARIABLES):
        sys.exit(f"tools/reference.py and czhub do not agree about {', '.join(sorted(differing))}")
    rows = [(f"`{settings.PREFIX}{name}`", *told) for name, told in HUB_VARIABLES.items()]
    table = _table(("Variable", "Form", "Default", "Meaning"), rows)
    return f"## czhub\n\nAll mistakes are told at once at the start, which then ends with 2.\n\n{table}"


def options() -> str:
    """The options of the processes on the laptop."""
    parts = [
        NOTE,
        "# Options of the agent's processes\n",
        "`czctl start` gives them; by hand they help to find trouble.\n",
    ]
    daemon = importlib.import_module("codezero.local.daemon.main")
    supervisor = importlib.import_module("codezero.local.supervisor.command_line")
    starts: Sequence[Callable[[], object]] = (lambda: supervisor.run([]), lambda: daemon.main([]))
    for start in starts:
        parser = _parser(start)
        rows = [
            _option(action) for action in parser._actions if action.help != argparse.SUPPRESS and action.dest != "help"
        ]
        parts.append(f"## {parser.prog}\n\n{parser.description}\n")
        parts.append(_table(("Option", "Form", "Default", "Meaning"), rows))
    return "\n".join(parts)


def values() -> str:
    """Every value of the Helm chart and of `czctl teamspace install`."""
    rows = [
        (f"`{path}`", _form(part), f"`{json.dumps(part['default'], ensure_ascii=False)}`", part["description"])
        for path, part in _values(values_schema.schema(), "")
    ]
    return (
        f"{NOTE}\n# Values of a Teamspace\n\n"
        "What the Helm chart takes by `--values` and `--set`, and `czctl teamspace install` by `--values`.\n"
        "Maps merge with the defaults, lists replace them; what is not named here is refused.\n\n"
        + _table(("Value", "Form", "Default", "Meaning"), rows)
    )


def hub_api() -> str:
    """Every operation of the Hub's API, out of its OpenAPI document."""
    app = importlib.import_module("codezero.hub.api.app")
    document = importlib.import_module("codezero.hub.api.document")
    made = app.application().openapi()
    parts = [
        NOTE,
        "# The Hub's API\n",
        f"The same as an OpenAPI document is at `{document.PATH}` of each Hub.\n"
        "Bodies are JSON; fields that are not named are refused.\n"
        "Errors are problem documents (RFC 9457) with a code and what to do next: [errors](errors.md).\n"
        "*Needs* says who may: `nothing` (what is shown in the body is enough), `sign-in` (anybody signed in), or the permission that the role in the organization must give.\n"
        "Lists come in pages: `next` is the `cursor` of the next one.\n"
        "Each POST takes an `Idempotency-Key`; what has an `ETag` takes `If-Match` when it is changed.\n",
    ]
    tag = ""
    for entry in document.operations(made):
        if entry.needs == "":
            continue
        if (found := entry.content["tags"][0]) != tag:
            tag = found
            parts.append(f"## {tag[:1].upper()}{tag[1:]}\n")
        parts.append(
            f"### `{entry.method} {entry.path}`\n\n{entry.content['description']}\n\nNeeds: `{entry.needs}`.\n"
        )
        rows = [
            (
                f"`{one['name']}`",
                one["in"],
                _schema_form(one["schema"]),
                one.get("description") or one["schema"].get("description", ""),
            )
            for one in entry.content.get("parameters", ())
            if one["in"] != "path" and one["name"] != "Idempotency-Key"
        ]
        rows += [(f"`{name}`", "body", form, meaning) for name, form, meaning in _fields(entry.content, made)]
        if rows:
            parts.append(_table(("Input", "Where", "Form", "Meaning"), rows))
        answers = ", ".join(sorted(entry.content["responses"]))
        parts.append(f"Answers: {answers}.\n")
    return "\n".join([*parts, _events(), _connect()])


def _events() -> str:
    """The WebSocket, which has no place in an OpenAPI document."""
    module = importlib.import_module("codezero.hub.api.events")
    first, block, rest = (module.__doc__ or "").split("\n\n", 2)
    messages = "\n".join(line.strip() for line in block.splitlines())
    return f"## The stream of events\n\nA WebSocket at `/api/v1/events`. {first}\n\n```text\n{messages}\n```\n\n{rest}"


def _connect() -> str:
    module = importlib.import_module("codezero.hub.api.connect_rpc")
    calls = "".join(f"- `POST {route.path}`\n" for route in module.routes.routes)
    return f"## Connect calls\n\n{module.__doc__}\n{calls}"


def capability_list() -> str:
    """What can be done, and how: by the page, by czctl, by the APIs."""
    parts = [
        NOTE,
        "# Capabilities\n",
        "Whatever Codezero does for a person can be done in three ways: in the page, by `czctl`, and by an API.\n"
        "Where one of them is missing, the reason stands there; a test fails for whatever is added to one and not to the others.\n"
        "Pages are paths below `/ui`, in the Hub or in the console of this machine (`czctl ui`); what is below `/machine` shows this machine in the console alone.\n"
        "Operations below `/api/v1` are [the Hub's](hub-api.md), those below `/v1` the agent's, those below `/console` the console's.\n",
    ]
    for group, found in capabilities.GROUPS.items():
        rows = [
            (
                f"`{one.name}`",
                one.does,
                _codes(one.pages, one.no_page),
                _codes([f"czctl {command}" for command in one.commands], one.no_command),
                _codes(one.operations, one.no_operation),
            )
            for one in found
        ]
        parts.append(f"## {group}\n\n{_table(('Name', 'What', 'Pages', 'Commands', 'Operations'), rows)}")
    told = [f"- `czctl {command}`: {reason}.\n" for command, reason in capabilities.TERMINAL_COMMANDS.items()]
    parts.append(f"## Commands without a page\n\n{''.join(told)}")
    told = [f"- `{operation}`: {reason}.\n" for operation, reason in capabilities.MACHINE_OPERATIONS.items()]
    parts.append(f"## Operations of machines\n\n{''.join(told)}")
    return "\n".join(parts)


def _codes(some: Sequence[str], missing: str) -> str:
    return "<br>".join(f"`{one}`" for one in some) if some else f"- ({missing})"


def _fields(operation: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    contents = operation.get("requestBody", {}).get("content", {}).values()
    for schema in (content["schema"] for content in contents):
        name = schema.get("$ref", "").rpartition("/")[2]
        found = document["components"]["schemas"].get(name, schema)
        for field, part in found.get("properties", {}).items():
            form = _schema_form(part) + ("" if field in found.get("required", ()) else ", optional")
            yield field, form, part.get("description", "")


def _schema_form(part: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return f"`{part['$ref'].rpartition('/')[2]}`"
    if "enum" in part:
        return " or ".join(f"`{one}`" for one in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    if "anyOf" in part:
        return " or ".join(_schema_form(one) for one in part["anyOf"] if one.get("type") != "null")
    match part.get("type"):
        case "array":
            return f"list of {_schema_form(part['items'])}"
        case "string":
            return "text"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "true or false"
        case _:
            return "object"


def _values(part: Mapping[str, Any], above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, below in part["properties"].items():
        path = f"{above}{name}"
        if "default" in below:
            yield path, below
        else:
            yield from _values(below, f"{path}.")


def _form(part: Mapping[str, Any]) -> str:
    if "enum" in part:
        return " or ".join(f"`{one}`" for one in part["enum"])
    if "anyOf" in part:
        return " or ".join(_form(one) for one in part["anyOf"])
    match part["type"]:
        case "integer" if "minimum" in part:
            return f"number from {part['minimum']} to {part['maximum']}"
        case "array":
            return "list of objects" if part["items"]["type"] == "object" else "list of texts"
        case "object":
            return "map"
        case "null":
            return "`null`"
        case _:
            return "text"


def _tree(of: click.Context) -> Iterator[click.Context]:
    yield of
    if isinstance(of.command, click.Group):
        for name in of.command.list_commands(of):
            command = of.command.get_command(of, name)
            if command is not None and not command.hidden:
                yield from _tree(_context(command, name, parent=of))


def _context(command: click.Command, name: str, *, parent: click.Context | None = None) -> click.Context:
    settings: dict[str, Any] = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    return click.Context(command, info_name=name, parent=parent, **settings)


def _without_trailing_blanks(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines())


class _Nothing(Mapping[str, str]):
    """An environment without variables that remembers what was looked for."""

    def __init__(self) -> None:
        self.asked: dict[str, None] = {}

    def __getitem__(self, name: str) -> str:
        self.asked[name] = None
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _variables(module: ModuleType, read: str) -> dict[str, tuple[str, str]]:
    """Form and default of each variable that function `read` of a settings module reads, found out by letting it read."""
    found: dict[str, tuple[str, str]] = {}

    class Recording(Environment):
        def text(self, name: str, default: str, *, choices: tuple[str, ...] = ()) -> str:
            found[name] = (" or ".join(f"`{choice}`" for choice in choices) or "text", _shown(default))
            return super().text(name, default, choices=choices)

        def path(self, name: str, default: str) -> Path:
            found[name] = ("absolute path", _shown(default))
            return super().path(name, default)

        def number(self, name: str, default: float, *, least: float = 0.0, most: float) -> float:
            found[name] = (f"number from {least:g} to {most:g}", _shown(f"{default:g}"))
            return super().number(name, default, least=least, most=most)

        def address(self, name: str, default: str) -> tuple[str, int]:
            found[name] = ("`host:port`", _shown(default))
            return super().address(name, default)

    nothing = _Nothing()
    # That some have no default is one of the mistakes it tells of.
    with mock.patch.object(module, "Environment", Recording), contextlib.suppress(SettingsError):
        getattr(module, read)(nothing)
    for name in nothing.asked:
        found.setdefault(name.removeprefix(PREFIX), ("absolute path", "-"))
    return found


class _FoundError(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def _parser(start: Callable[[], object]) -> argparse.ArgumentParser:
    """The parser that a process makes before it does anything else."""

    def stop(parser: argparse.ArgumentParser, *_arguments: object, **_named: object) -> NoReturn:
        raise _FoundError(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
        try:
            start()
        except _FoundError as found:
            return found.parser
    sys.exit("a process did not parse its arguments")


def _option(action: argparse.Action) -> tuple[str, str, str, str]:
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    if action.nargs == 0:
        form = "-"
    elif action.choices is not None:
        form = " or ".join(f"`{choice}`" for choice in action.choices)
    else:
        form = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    match action.default:
        case True:
            default = action.option_strings[0]
        case str() | Path() if action.default != argparse.SUPPRESS:
            default = str(action.default)
        case _:
            # A number is a default of this very run, such as the user's id.
            default = ""
    meaning = (action.help or MEANINGS.get(action.dest.upper(), "")).rstrip(".")
    return names, form, _shown(default), f"{meaning[:1].upper()}{meaning[1:]}."


def _shown(default: str) -> str:
    return f"`{default}`" if default else "-"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


PAGES = {
    "capabilities.md": capability_list,
    "czctl.md": commands,
    "errors.md": errors,
    "environment.md": environment,
    "options.md": options,
    "values.md": values,
    "hub-api.md": hub_api,
}


if __name__ == "__main__":
    made_files.run(PAGES, FOLDER, sys.argv[1:])
