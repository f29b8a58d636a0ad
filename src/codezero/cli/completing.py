"""What the shell offers for an incomplete word: names as the Daemon knows them now. Quick or nothing: a TAB must never hang or complain."""

import re
from collections.abc import Iterable

import click

from codezero.cli.context import client
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import Protocol, Service, ServiceRef, is_label

DEADLINE_SECONDS = 1.0
# Names of users come from elsewhere: what a shell could take for more than a word is not offered.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


def namespaces(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Namespaces that have services."""
    return _beginning({service.namespace for service in _services()}, word)


def rules(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Consume rules in the form that was begun: `service.namespace`, `namespace/service`, `*.namespace`, each also after `!`."""
    exclusion = "!" if word.startswith("!") else ""
    begun = word.removeprefix("!")
    known = _services()
    if "/" in begun:
        offered = {str(service) for service in known}
    elif begun.startswith("*"):
        offered = {f"*.{service.namespace}" for service in known}
    else:
        offered = {f"{service.name}.{service.namespace}" for service in known}
    return [exclusion + rule for rule in _beginning(offered, begun)]


def filters(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Values of `--filter`: namespaces, and their services once a slash is written."""
    known = _services()
    return _beginning({str(service) if "/" in word else service.namespace for service in known}, word)


def servable(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Services in the form that was begun: `namespace/service`, or `service.namespace` once that is what the word begins."""
    known = _services()
    whole = _beginning(map(str, known), word)
    return whole if "/" in word or not word else _beginning({*whole, *map(_dotted, known)}, word)


def served(context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Services that this machine serves; those that anybody does where `--user` is given."""
    if context.params.get("user"):
        return _beginning({str(service.ref) for service in _catalog() if service.serving is not None}, word)
    try:
        own = client(deadline=DEADLINE_SECONDS).serves().serves
    except CodezeroError:
        return []
    return _beginning({str(one.service) for one in own if _is_name(one.service)}, word)


def serve_targets(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """What may follow `serve`: its verbs and services, with `--remove` those that are served."""
    if context.params.get("remove"):
        return served(context, parameter, word)
    verbs = _beginning(("end", "list"), word)
    return [*verbs, *servable(context, parameter, word)]


def ports(context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """The ports of the service that was written, after what was written of the own one."""
    asked = context.params.get("service") or ""
    own, colon, begun = word.rpartition(":")
    return [
        f"{own}{colon}{port.port}"
        for service in _catalog()
        if asked in (str(service.ref), _dotted(service.ref))
        for port in service.ports
        if port.protocol is Protocol.TCP and str(port.port).startswith(begun)
    ]


def users(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Users who serve something."""
    found = {variant.user_name for one in _catalog() if one.serving is not None for variant in one.serving.variants}
    return _beginning({name for name in found if _PLAIN.fullmatch(name)}, word)


def codes(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Error codes."""
    return _beginning(problems.ALL, word.upper())


def organizations(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Organizations that the Hub told last."""
    from codezero.cli import hub_context  # here, because only few completions are about the Hub

    return _beginning({name for name in hub_context.load_names().organizations if _PLAIN.fullmatch(name)}, word)


def spaces(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Teamspaces that the Hub told last: those of the selected organization, else all."""
    from codezero.cli import hub_context

    try:
        known = hub_context.load()
    except CodezeroError:
        return []
    told = hub_context.load_names().spaces
    selected = known.organization.id if known is not None and known.organization is not None else None
    found = told.get(selected, ()) if selected is not None else [name for names in told.values() for name in names]
    return _beginning({name for name in found if _PLAIN.fullmatch(name)}, word)


def _services() -> list[ServiceRef]:
    return [service.ref for service in _catalog()]


def _catalog() -> list[Service]:
    try:
        known = client(deadline=DEADLINE_SECONDS).services().services
    except CodezeroError:
        return []
    return [service for service in known if _is_name(service.ref)]


def _is_name(service: ServiceRef) -> bool:
    # The shell's side of completion reads lines: only what is a name may become one.
    return is_label(service.namespace) and is_label(service.name)


def _dotted(service: ServiceRef) -> str:
    return f"{service.name}.{service.namespace}"


def _beginning(offered: Iterable[str], word: str) -> list[str]:
    return sorted(one for one in offered if one.startswith(word))
