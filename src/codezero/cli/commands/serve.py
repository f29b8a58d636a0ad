"""serve, serve list, serve end."""

import sys
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import click
import msgspec

from codezero.cli import completing, serve_arguments, wording
from codezero.cli.console import Output, Table, output_option, say, write
from codezero.cli.context import client
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.serve import Condition, condition_from_parts, condition_parts, parse_condition
from codezero.model.services import Service, ServiceRef
from codezero.model.variants import Mirror, PortPair, ServingState, VariantState, VariantView
from codezero.transport.local_client import LocalClient
from codezero.wire.local_api import ServeChange, ServedVariant, ServeEnd, ServeResult, ServesView

# What the Teamspace may take to put a Router in place after it has agreed. Images may have to be fetched first.
_READY_SECONDS = 90.0
_ASK_AGAIN_SECONDS = 0.2
# What the Teamspace waits for that long is told at once; else a quota that keeps it waiting would be named when all patience is over.
_TELL_AFTER_SECONDS = 4.0


@click.group(
    cls=serve_arguments.ServeGroup,
    invoke_without_command=True,
    no_args_is_help=True,
    subcommand_metavar="",
    options_metavar="[OPTIONS]",
)
@click.argument("service", metavar="SERVICE", shell_complete=completing.serve_targets)
@click.argument("ports", nargs=-1, metavar="[[[HOST:]LOCAL:]REMOTE]...", shell_complete=completing.ports)
@serve_arguments.condition_options
@click.option(
    "--mirror",
    type=click.Choice([kind.value for kind in Mirror]),
    is_flag=False,
    flag_value=Mirror.SAFE.value,
    help="Answer nothing, and get copies of requests that meet the condition and that no variant answers: of methods that "
    "change nothing (safe, also without a value) or all. czctl trace-connections shows how the answers differ.",
)
@click.option("--expires", metavar="DURATION", help="End it after 90s, 30m or 2h; after 8h without this option.")
@click.option(
    "--takeover", is_flag=True, help="Replace somebody else's variant with the same condition; they are told."
)
@click.option(
    "--restart", is_flag=True, help="Also restart the service's pods, so that connections opened before take part too."
)
@click.option("--dry-run", is_flag=True, help="Show effects and conflicts, and change nothing.")
@click.option(
    "--remove", is_flag=True, help="End your variants of SERVICE, or the one with this condition; see czctl serve end."
)
@output_option(Output.TABLE, Output.WIDE, Output.JSON, Output.YAML)
@click.pass_context
def serve(
    context: click.Context,
    *,
    service: str = "",
    ports: tuple[str, ...] = (),
    kinds: tuple[str, ...] = (),
    texts: tuple[str, ...] = (),
    mirror: str | None = None,
    expires: str | None = None,
    takeover: bool = False,
    restart: bool = False,
    dry_run: bool = False,
    remove: bool = False,
    output: Output = Output.TABLE,
) -> None:
    """Answer requests to SERVICE from this machine: those that meet a condition, and no others.

    \b
    SERVICE is namespace/name or name.namespace. 3000:80 sends requests to its port 80 to your
    port 3000; 3000 alone is port 3000 of both, or the service's only port; without any port it
    is the service's only port on both sides. With HOST: another machine answers, not this one.
    \b
    Without a condition, requests are yours that carry your user id in header x-c6o-userid.
    Several serves of one service, of one user or many, stand side by side. Serving again with
    the same condition changes ports and expiry.
    \b
    Examples:
      czctl serve shop/orders 3000:80
      czctl serve shop/orders 3000:80 --condition-type header --condition x-debug:alice
      czctl serve shop/orders 3000:80 --condition-type path --condition /api --dry-run
      czctl serve shop/orders --remove
      czctl serve list --all
    """
    if context.invoked_subcommand is not None:
        return
    ref = serve_arguments.service_of(service)
    condition = serve_arguments.condition_of(kinds, texts)
    if remove:
        if takeover or restart or mirror is not None or expires is not None:
            raise click.UsageError("--remove goes with a condition and ports only", context)
        _remove(ref, condition, ports, dry_run=dry_run, output=output)
        return
    change = ServeChange(
        str(ref),
        (PortPair(1, 1),),
        condition_parts(condition or parse_condition(())),
        expires_in=wording.duration(expires) if expires is not None else None,
        takeover=takeover,
        mirror=Mirror(mirror) if mirror is not None else None,
        preview=dry_run,
        restart=restart,
    )
    daemon = client()
    change = msgspec.structs.replace(change, ports=serve_arguments.ports_of(daemon, ref, ports))
    result = daemon.serve(change) if dry_run else _serve(daemon, ref, change)
    _tell(result, dry_run=dry_run)
    served = result.served
    write(result, output, lambda: _table([served]) if served is not None else _planned_table(ref, change))
    if served is not None and served.curl is not None and not dry_run:
        _tell_how_to_try(daemon, ref, served.curl)


@serve.command("list")
@click.option("--all", "everybody", is_flag=True, help="What everybody serves, not only this machine.")
@output_option(Output.TABLE, Output.WIDE, Output.JSON, Output.YAML, Output.NAME)
def list_(everybody: bool, output: Output) -> None:
    """List what is served, in the order in which it is asked.

    \b
    Examples:
      czctl serve list
      czctl serve list --all -o json
    """
    now = ServesView(tuple(_everybodys(client().services().services))) if everybody else client().serves()
    write(now, output, lambda: _table(now.serves))


@serve.command()
@click.argument("service", shell_complete=completing.served)
@serve_arguments.condition_options
@click.option(
    "--user",
    metavar="NAME|ID",
    shell_complete=completing.users,
    help="End the variants of somebody else; needs the permission for it, and --reason.",
)
@click.option("--reason", metavar="TEXT", default="", help="Why; told to the people whose variants end.")
@output_option()
def end(
    *, service: str, kinds: tuple[str, ...], texts: tuple[str, ...], user: str | None, reason: str, output: Output
) -> None:
    """End your variants of SERVICE, or the one with this condition.

    \b
    Also those of your other laptops. Requests go where they went before; other people's
    variants of the service stay. That you serve nothing there is no error.
    \b
    Examples:
      czctl serve end shop/orders
      czctl serve end shop/orders --condition-type header --condition x-debug:alice
      czctl serve end shop/orders --user bob --reason 'release at noon'
    """
    ref = serve_arguments.service_of(service)
    condition = serve_arguments.condition_of(kinds, texts)
    daemon = client()
    found = _own(daemon, ref) if user is None else _of_user(daemon, ref, user, reason)
    _end(daemon, ref, _meeting(ref, found, condition), reason=reason, output=output)


def _serve(daemon: LocalClient, ref: ServiceRef, change: ServeChange) -> ServeResult:
    """Serve, and wait until requests come; an interruption undoes it."""
    before = {one.variant.variant_id for one in daemon.serves().serves}
    try:
        with _progress(f"serving {ref}"):
            result = daemon.serve(change)
            if result.served is None:
                return result
            return msgspec.structs.replace(result, served=_until_ready(daemon, result.served))
    except KeyboardInterrupt:
        _undo(daemon, ref, before)
        raise


def _until_ready(daemon: LocalClient, served: ServedVariant) -> ServedVariant:
    """The variant as soon as requests reach it; raises `CodezeroError` where that does not come to pass."""
    begun = since = time.monotonic()
    waits_for = told = ""
    # Asked once: the catalog may be long.
    is_visible: bool | None = None
    while True:
        match served.serving:
            case ServingState.CONTESTED:
                raise CodezeroError(problems.CONTESTED, _detailed(served, "is contested"), fix="czctl serve list")
            case ServingState.REFUSED:
                raise CodezeroError(problems.NOT_SERVABLE, _detailed(served, "cannot be served"))
            case ServingState.ACTIVE if served.state is VariantState.ACTIVE:
                return served
            case _ if is_visible is None:
                is_visible = serve_arguments.in_catalog(daemon, served.service) is not None
            case _:
                pass
        if is_visible is False:
            say(f"note: you may not see {served.service}, so nothing tells here when requests come")
            return served
        now = time.monotonic()
        if now > begun + _READY_SECONDS:
            raise CodezeroError(
                problems.SERVE_FAILED,
                _detailed(served, f"is not ready after {_READY_SECONDS:.0f} s ({served.serving}, {served.state})"),
                fix=f"look again: czctl serve list; or give up: czctl serve end {served.service}",
            )
        if served.detail != waits_for:
            waits_for, since = served.detail, now
        elif waits_for and waits_for != told and now >= since + _TELL_AFTER_SECONDS:
            say(f"{served.service} waits: {waits_for}")
            told = waits_for
        time.sleep(_ASK_AGAIN_SECONDS)
        found = [one for one in daemon.serves().serves if one.variant.variant_id == served.variant.variant_id]
        if not found:
            raise CodezeroError(
                problems.SERVE_UNKNOWN,
                f"the serve of {served.service} was ended meanwhile",
                fix="czctl serve list --all",
            )
        served = found[0]


def _undo(daemon: LocalClient, ref: ServiceRef, before: set[str]) -> None:
    """End what an interrupted command had begun."""
    try:
        begun = [
            one.variant.variant_id
            for one in daemon.serves().serves
            if one.service == ref and one.variant.variant_id not in before
        ]
        if begun:
            daemon.end_serve(ServeEnd(str(ref), tuple(begun), "interrupted"))
    except CodezeroError as error:
        say(f"warning: {ref} may be served now ({error}); see: czctl serve list")
    else:
        say(f"{ref} is not served" if begun else "nothing was undone; see: czctl serve list")


def _remove(
    ref: ServiceRef, condition: Condition | None, texts: tuple[str, ...], *, dry_run: bool, output: Output
) -> None:
    daemon = client()
    found = _meeting(ref, _own(daemon, ref), condition)
    if texts:
        remotes = {pair.remote for pair in serve_arguments.ports_of(daemon, ref, texts)}
        found = [one for one in found if remotes & {pair.remote for pair in one.ports}]
    if dry_run:
        if not found:
            serve_arguments.required(daemon, ref)
        say(f"dry run: {len(found)} {_variants(found)} of {ref} would end; nothing is changed")
        _write_ended(ServeResult(ended=tuple(found)), ref, output)
        return
    _end(daemon, ref, found, reason="", output=output)


def _end(daemon: LocalClient, ref: ServiceRef, found: Sequence[VariantView], *, reason: str, output: Output) -> None:
    if not found:
        _agree_that_it_ended(daemon, ref)
        say(f"you do not serve {ref}")
        _write_ended(ServeResult(), ref, output)
        return
    result = daemon.end_serve(ServeEnd(str(ref), tuple(one.variant_id for one in found), reason))
    say(f"ended {len(result.ended)} {_variants(result.ended)} of {ref}")
    _write_ended(result, ref, output)


def _agree_that_it_ended(daemon: LocalClient, ref: ServiceRef) -> None:
    """Status says that a serve has ended until its user says so too; raises `CodezeroError` when there is not even such a service."""
    try:
        daemon.end_serve(ServeEnd(str(ref)))
    except CodezeroError as error:
        if error.problem not in (problems.SERVE_UNKNOWN, problems.NO_TEAMSPACE):
            raise
        serve_arguments.required(daemon, ref)


def _write_ended(result: ServeResult, ref: ServiceRef, output: Output) -> None:
    if output not in (Output.TABLE, Output.WIDE) or result.ended:
        write(result, output, lambda: _ended_table(ref, result.ended))


def _own(daemon: LocalClient, ref: ServiceRef) -> list[VariantView]:
    """The user's variants of the service: this laptop's, and those of other laptops as far as the catalog tells."""
    own = {one.variant.variant_id: one.variant for one in daemon.serves().serves if one.service == ref}
    teamspace = daemon.status().teamspace
    service = serve_arguments.in_catalog(daemon, ref)
    if service is not None and service.serving is not None and teamspace is not None and teamspace.user_id:
        own |= {one.variant_id: one for one in service.serving.variants if one.user == teamspace.user_id}
    return list(own.values())


def _of_user(daemon: LocalClient, ref: ServiceRef, user: str, reason: str) -> list[VariantView]:
    """The variants of that user, by name or id."""
    service = serve_arguments.in_catalog(daemon, ref)
    variants = service.serving.variants if service is not None and service.serving is not None else ()
    found = [one for one in variants if user in (one.user, one.user_name) or user.upper() == one.user]
    if not found:
        raise CodezeroError(problems.SERVE_UNKNOWN, f"{user!r} does not serve {ref}", fix="czctl serve list --all")
    if len({one.user for one in found}) > 1:
        raise CodezeroError(
            problems.BAD_SERVE,
            f"several users are called {user!r}: {', '.join(sorted({one.user for one in found}))}",
            fix=f"czctl serve end {ref} --user {found[0].user} --reason ...",
        )
    teamspace = daemon.status().teamspace
    if not reason.strip() and (teamspace is None or teamspace.user_id != found[0].user):
        raise CodezeroError(
            problems.BAD_SERVE,
            f"{found[0].user_name} is to be told why",
            fix=f"czctl serve end {ref} --user {user} --reason 'what you need it for'",
        )
    return found


def _meeting(ref: ServiceRef, variants: list[VariantView], condition: Condition | None) -> list[VariantView]:
    """Those of `variants` with exactly that condition; all of them without one."""
    if condition is None:
        return variants
    found = [one for one in variants if _same(one, condition)]
    if variants and not found:
        there = ", ".join(sorted(wording.condition(one.condition) for one in variants))
        raise CodezeroError(
            problems.SERVE_UNKNOWN, f"no variant of {ref} is for {condition}, only for {there}", fix="czctl serve list"
        )
    return found


def _same(variant: VariantView, condition: Condition) -> bool:
    try:
        return condition_from_parts(variant.condition) == condition
    except CodezeroError:
        return False  # of a release that knows more kinds


def _everybodys(services: Iterable[Service]) -> Generator[ServedVariant, None, None]:
    for service in services:
        if service.serving is not None:
            for one in service.serving.variants:
                yield ServedVariant(service.ref, one, one.state, service.serving.state, service.serving.detail)


def _tell(result: ServeResult, *, dry_run: bool) -> None:
    if dry_run:
        say("dry run: nothing is changed")
    for effect in result.effects:
        say(f"note: {effect}")
    for one in result.taken:
        verb = "would be taken over" if dry_run else "was taken over"
        say(f"note: the variant of {one.user_name} for {wording.condition(one.condition)} {verb}")


def _table(serves: Sequence[ServedVariant]) -> Table:
    return Table(
        ("SERVICE", "USER", "CONDITION", "PORTS", "STATE", "EXPIRES", "VARIANT", "SINCE", "REQUESTS", "FAILED"),
        [_row(one) for one in serves],
        empty="nothing is served",
        wide_from=6,
        names=list(dict.fromkeys(str(one.service) for one in serves)),
    )


def _row(one: ServedVariant) -> tuple[str, ...]:
    variant = one.variant
    return (
        str(one.service),
        variant.user_name,
        wording.variant_condition(variant),
        wording.ports(variant.ports),
        wording.variant_state(one),
        wording.until(variant.expires),
        variant.variant_id,
        wording.span(time.time() - variant.since / 1000),
        str(one.requests),
        str(one.failed),
    )


def _ended_table(ref: ServiceRef, ended: Sequence[VariantView]) -> Table:
    return Table(
        ("SERVICE", "USER", "CONDITION", "PORTS"),
        [(str(ref), one.user_name, wording.variant_condition(one), wording.ports(one.ports)) for one in ended],
        empty="nothing has ended",
    )


def _detailed(served: ServedVariant, what: str) -> str:
    return f"{served.service} {what}" + (f": {served.detail}" if served.detail else "")


def _planned_table(ref: ServiceRef, change: ServeChange) -> Table:
    """What was asked for, where no variant tells what came of it: a dry run makes none."""
    condition = wording.condition(change.condition)
    mirror = f" (mirror {change.mirror})" if change.mirror is not None else ""
    return Table(("SERVICE", "CONDITION", "PORTS"), [(str(ref), condition + mirror, wording.ports(change.ports))])


def _tell_how_to_try(daemon: LocalClient, ref: ServiceRef, curl: str) -> None:
    """One command to copy, and what it needs to work here."""
    if all(one.service != ref for one in daemon.consume().consumed):
        say(
            f"note: {ref} is not consumed here, so its name does not lead to it; "
            f"echo {ref} | czctl consume apply --append"
        )
    say(f"try it: {curl}")


def _variants(some: Sequence[object]) -> str:
    return "variant" if len(some) == 1 else "variants"


@contextmanager
def _progress(what: str) -> Generator[None, None, None]:
    """Tell a person at a terminal what takes longer than a moment, and how long it took."""
    if not sys.stderr.isatty():
        yield
        return
    import threading

    begun = time.monotonic()
    timer = threading.Timer(0.3, say, (f"{what} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if (took := time.monotonic() - begun) > 0.3:
            say(f"{what}: {took:.1f} s")
