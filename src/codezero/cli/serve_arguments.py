"""What the words of `czctl serve` and its verbs spell: service, ports and condition."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from codezero.cli import wording
from codezero.cli.console import say
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import Condition, ConditionKind, parse_condition
from codezero.model.services import Protocol, Service, ServiceRef
from codezero.model.variants import Mirror, PortPair
from codezero.transport.local_client import LocalClient

_EXAMPLES = {"path": "/api", "method": "GET", "percent": "10"}
_VALUELESS = (ConditionKind.DEFAULT, ConditionKind.USER)

F = TypeVar("F", bound=Callable[..., Any])


class ServeGroup(click.Group):
    """A group that is a command as well: `serve list` and `serve end` by name, `serve NS/NAME ...` for every other first word."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the words of a verb to the verb."""
        is_verb = bool(args) and args[0] in self.commands
        ctx.meta[__name__] = is_verb
        # Options of a serve may come after its service; those of a verb are the verb's.
        ctx.allow_interspersed_args = not is_verb
        return super().parse_args(ctx, args if is_verb else _with_mirror_value(args))

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """The parameters of a serve, which a verb does not take."""
        parameters = super().get_params(ctx)
        # By the context of a verb, click asks what stands before its name.
        is_verb = ctx.command is not self or ctx.meta.get(__name__)
        return [one for one in parameters if one.name == "help"] if is_verb else parameters


def condition_options(command: F) -> F:
    """`--condition-type` and `--condition`, as parameters `kinds` and `texts`."""
    kinds = click.option(
        "--condition-type",
        "kinds",
        multiple=True,
        type=click.Choice([kind.value for kind in ConditionKind]),
        help="What a request is chosen by. May be given several times: a request must meet all of them.",
    )
    texts = click.option(
        "--condition",
        "texts",
        multiple=True,
        metavar="TEXT",
        help="KEY:VALUE for header, baggage, query and cookie; /PREFIX for path; GET for method; 10 or HEADER:10 for percent. "
        "One for each type that needs one, in their order; user and default need none.",
    )
    return kinds(texts(command))


def service_of(text: str) -> ServiceRef:
    """The service; a word that is none, and nearly a verb, was meant to be the verb."""
    if "/" not in text and "." not in text:
        import difflib

        if near := difflib.get_close_matches(text, ("list", "end"), n=1):
            raise CodezeroError(problems.BAD_SERVE, f"{text[:200]!r} is no service", fix=f"czctl serve {near[0]}")
    return wording.service(text)


def condition_of(kinds: tuple[str, ...], texts: tuple[str, ...]) -> Condition | None:
    """What the options spell; None without any."""
    needing = [kind for kind in kinds if kind not in _VALUELESS]
    if len(texts) > len(needing):
        extra = texts[len(needing)]
        if not kinds:
            raise CodezeroError(
                problems.BAD_CONDITION,
                f"--condition {extra[:100]!r} has no --condition-type",
                fix=f"add --condition-type header, or another of {', '.join(ConditionKind)}",
            )
        raise CodezeroError(
            problems.BAD_CONDITION,
            f"--condition {extra[:100]!r} belongs to no --condition-type; user and default take none",
            fix="give one --condition for each type that needs one",
        )
    if len(needing) > len(texts):
        kind = needing[len(texts)]
        example = _EXAMPLES.get(kind, "key:value")
        raise CodezeroError(
            problems.BAD_CONDITION,
            f"--condition-type {kind} needs a --condition",
            fix=f"add --condition {example}",
        )
    if not kinds:
        return None
    left = iter(texts)
    return parse_condition([(kind, None if kind in _VALUELESS else next(left)) for kind in kinds])


def ports_of(daemon: LocalClient, ref: ServiceRef, texts: tuple[str, ...]) -> tuple[PortPair, ...]:
    """The pairs that the arguments spell; what they leave out is the service's only port."""
    read = [wording.port_pair(text) for text in texts]
    if not read or any(is_alone for _, is_alone in read):
        service = required(daemon, ref)
        offered = [port.port for port in service.ports if port.protocol is Protocol.TCP]
        read = [
            (_completed(pair, offered, ref) if is_alone else pair, False)
            for pair, is_alone in read or [(PortPair(0, 0), True)]
        ]
    pairs = [pair for pair, _ in read]
    for pair in pairs:
        if [other.remote for other in pairs].count(pair.remote) > 1:
            raise CodezeroError(
                problems.BAD_SERVE,
                f"port {pair.remote} of {ref} is given twice",
                fix="give each port of the service once",
            )
    return tuple(pairs)


def required(daemon: LocalClient, ref: ServiceRef) -> Service:
    """The service as the catalog shows it; raises `CodezeroError` where it shows none."""
    service = in_catalog(daemon, ref)
    if service is None:
        raise CodezeroError(problems.SERVICE_UNKNOWN, f"there is no service {ref} for you", fix="czctl services list")
    return service


def in_catalog(daemon: LocalClient, ref: ServiceRef) -> Service | None:
    """The service as the catalog shows it; None where it shows none."""
    return next((one for one in daemon.services().services if one.ref == ref), None)


def _completed(pair: PortPair, offered: list[int], ref: ServiceRef) -> PortPair:
    if pair.local in offered:
        return pair
    if len(offered) == 1:
        if pair.local:
            say(f"note: {pair.local} here answers for {offered[0]}, the only port of {ref}")
        return PortPair(offered[0], pair.local or offered[0])
    there = ", ".join(map(str, offered)) or "no TCP port"
    missing = f"not {pair.local}" if pair.local else "and none was named"
    raise CodezeroError(
        problems.BAD_SERVE,
        f"{ref} has {there}, {missing}",
        fix=f"czctl serve {ref} {pair.local or 3000}:{offered[0]}" if offered else "czctl services list",
    )


def _with_mirror_value(args: list[str]) -> list[str]:
    """`--mirror` before another word than its own values stands alone: that word is the service or a port."""
    values = [kind.value for kind in Mirror]
    return [
        f"--mirror={Mirror.SAFE}" if argument == "--mirror" and following not in values else argument
        for argument, following in zip(args, (*args[1:], ""), strict=False)
    ]
