"""who: the laptops of the Teamspace, and what each consumes and serves."""

from collections.abc import Iterable

import click
import msgspec

from codezero.cli import wording
from codezero.cli.console import Output, Table, output_option, write
from codezero.cli.context import client
from codezero.model.services import Service, ServiceRef
from codezero.model.sessions import Presence, PresenceState
from codezero.model.variants import VariantView
from codezero.wire.local_api import API_VERSION


class LaptopServes(msgspec.Struct, frozen=True):
    """A variant that a laptop answers for, and the service it stands in for."""

    service: ServiceRef
    variant: VariantView


class LaptopView(msgspec.Struct, frozen=True):
    """A laptop. `user` is a ULID; `user_name` and `name`, of the laptop, are for people; `since` is UNIX seconds, null where only its variants are known."""

    session: str
    user: str
    user_name: str
    name: str
    state: PresenceState
    since: float | None
    consumes: tuple[ServiceRef, ...] = ()
    serves: tuple[LaptopServes, ...] = ()


class WhoView(msgspec.Struct, frozen=True):
    """The laptops, sorted by user and laptop."""

    laptops: tuple[LaptopView, ...]
    api: str = API_VERSION


@click.command()
@output_option(Output.TABLE, Output.WIDE, Output.JSON, Output.YAML)
def who(output: Output) -> None:
    """Show the laptops of the Teamspace, and what each serves and consumes.

    \b
    A laptop that is away keeps what it serves for a while; meanwhile the services' own pods
    answer. Services that the policy hides from you are left out.
    \b
    Examples:
      czctl who
      czctl who -o json
    """
    daemon = client()
    now = daemon.status()
    names = {now.teamspace.user_id: now.teamspace.user} if now.teamspace is not None and now.teamspace.user_id else {}
    view = view_of(daemon.presence().presences, daemon.services().services, names)
    write(view, output, lambda: _table(view))


def view_of(presences: Iterable[Presence], services: Iterable[Service], names: dict[str, str]) -> WhoView:
    """Presences and variants, put together by session. `names` are those of users known from elsewhere."""
    serves: dict[str, list[LaptopServes]] = {}
    named = dict(names)
    for service in services:
        for variant in service.serving.variants if service.serving is not None else ():
            serves.setdefault(variant.session, []).append(LaptopServes(service.ref, variant))
            named.setdefault(variant.user, variant.user_name)
    laptops = [
        LaptopView(
            one.session,
            one.device.user,
            one.user_name or named.get(one.device.user, one.device.user),
            one.name,
            one.state,
            one.since,
            one.consumes,
            tuple(serves.pop(one.session, ())),
        )
        for one in presences
        if one.state is not PresenceState.GONE
    ]
    # Variants whose laptop nobody has seen for a while: they wait for it.
    laptops += [
        LaptopView(
            session, left[0].variant.user, left[0].variant.user_name, "", PresenceState.AWAY, None, serves=tuple(left)
        )
        for session, left in serves.items()
    ]
    return WhoView(tuple(sorted(laptops, key=lambda one: (one.user_name, one.name, one.session))))


def _table(view: WhoView) -> Table:
    return Table(
        ("USER", "LAPTOP", "STATE", "SINCE", "SERVES", "CONSUMES", "USER ID"),
        [
            (
                one.user_name,
                one.name or "-",
                one.state.value,
                wording.ago(one.since).removeprefix("since ") if one.since is not None else "-",
                "; ".join(f"{served.service} for {wording.variant_condition(served.variant)}" for served in one.serves)
                or "-",
                _consumes(one.consumes),
                one.user,
            )
            for one in view.laptops
        ],
        empty="nobody is connected",
        wide_from=6,
    )


def _consumes(services: tuple[ServiceRef, ...]) -> str:
    """A few names, or how many there are."""
    if len(services) > 3:
        return f"{len(services)} services"
    return ", ".join(map(str, services)) or "-"
