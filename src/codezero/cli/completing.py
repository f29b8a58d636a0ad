"""What the shell offers for an incomplete word: names as the Daemon knows them now. Quick or nothing: a TAB must never hang or complain."""

from collections.abc import Iterable

import click

from codezero.cli.context import client
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef, is_label

DEADLINE_SECONDS = 1.0


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


def codes(_context: click.Context, _parameter: click.Parameter, word: str) -> list[str]:
    """Error codes."""
    return _beginning(problems.ALL, word.upper())


def _services() -> list[ServiceRef]:
    try:
        known = client(deadline=DEADLINE_SECONDS).services().services
    except CodezeroError:
        return []
    # The shell's side of completion reads lines: only what is a name may become one.
    return [service.ref for service in known if is_label(service.ref.namespace) and is_label(service.ref.name)]


def _beginning(offered: Iterable[str], word: str) -> list[str]:
    return sorted(one for one in offered if one.startswith(word))
