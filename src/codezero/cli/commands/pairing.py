"""pair, pairing list, pairing revoke, confirm: pages of the Hub that may ask this machine (ADR 17)."""

import contextlib
import importlib.util
import secrets
import signal
import sys
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import click
import msgspec

from codezero.cli import wording
from codezero.cli.console import Output, Table, output_option, say, write, write_now
from codezero.cli.hub_client import connect
from codezero.cli.hub_selection import address_options
from codezero.cli.paired import process, state
from codezero.cli.paired.state import OFFER_SECONDS, Offer, Pairing, Question, State
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.paired import PairingView

API_VERSION = "codezero.io/paired/v1"
_LOOK_SECONDS = 0.2
_SHOWN = 12  # of an id: enough to tell twenty apart
_LEAST = 4


class PairingsView(msgspec.Struct, frozen=True):
    """What is paired with this machine, and whether it is answered."""

    machine: str | None
    pairings: tuple[PairingView, ...]
    port: int | None = None
    relays: bool = False
    relay_reason: str = ""
    api: str = API_VERSION


class QuestionView(msgspec.Struct, frozen=True):
    """What waits to be confirmed; `asked` says it in lines for people."""

    id: str
    page: str
    origin: str
    method: str
    target: str
    asked: tuple[str, ...]
    asked_at: float
    expires_at: float


class QuestionsView(msgspec.Struct, frozen=True):
    """All that waits."""

    questions: tuple[QuestionView, ...]
    api: str = API_VERSION


@click.command()
@click.option("--read-only", is_flag=True, help="The page may look, and change nothing.")
@click.option(
    "--relay/--no-relay",
    "relays",
    default=None,
    help="Whether pages reach this machine through the Hub, too. It stays as it was without; at first they do.",
)
@click.option("--open/--no-open", "opens", default=True, help="Whether the browser is opened.")
@click.option("--name", metavar="NAME", help="What the pairing is called, in place of what the browser calls itself.")
@address_options
def pair(
    *, read_only: bool, relays: bool | None, opens: bool, name: str | None, hub: str | None, hub_ca: Path | None
) -> None:
    """Let the Hub's page in your browser use the agent of this machine.

    \b
    The browser opens at an address that is good once, within five minutes. The page keeps a key
    of its own, by which it signs what it asks. It may see and change what you consume and serve;
    what touches the requests of others, and each port that it serves from the first time, is asked
    in your terminal: czctl confirm.
    \b
    Examples:
      czctl pair
      czctl pair --read-only           ... to look, and to change nothing
      czctl pair --no-relay            ... never through the Hub, only from a browser on this machine
      czctl pair --no-open             print the address, and open no browser
      czctl pairing revoke --all       take it back
    """
    if process.is_of_sudo():
        raise CodezeroError(
            problems.BAD_REQUEST, "pages are paired with you, and not with root", fix="czctl pair, without sudo"
        )
    if name is not None and not 1 <= len(name) <= 100:
        raise CodezeroError(problems.BAD_REQUEST, "a name has 1 to 100 characters")
    _require_parts()
    origin = connect(hub, hub_ca).context.url
    code, began = secrets.token_urlsafe(32), time.time()
    offer = Offer(code, origin, not read_only, began + OFFER_SECONDS, name=name)
    state.change(lambda present: (_offering(present, offer, relays), None))
    try:
        with _interrupted_by(signal.SIGTERM, signal.SIGHUP):
            _wait(code, origin, began, opens=opens)
    finally:
        state.change(lambda present: (_withdrawn(present, code), None))
        process.nudge()


@click.group()
def pairing() -> None:
    """Pages that may ask this machine.

    \b
    Examples:
      czctl pair                       let another one in
      czctl pairing list
      czctl pairing revoke u7Hk2p      what the list calls it, or the beginning of that
      czctl pairing revoke --all
    """


@pairing.command("list")
@output_option(Output.TABLE, Output.JSON, Output.YAML, Output.NAME)
def list_(output: Output) -> None:
    """List the pages that are paired with this machine."""
    present, running = state.load(), process.found()
    pairings = present.pairings if present is not None else ()
    view = PairingsView(
        present.machine if present is not None else None,
        tuple(one.view() for one in pairings),
        running.port if running is not None else None,
        running is not None and running.relay_stands,
        running.relay_reason if running is not None else "",
    )
    write(
        view,
        output,
        lambda: Table(
            ("ID", "PAGE", "HUB", "MAY", "PAIRED", "ENDS", "ASKED LAST"),
            [
                (
                    one.id[:_SHOWN],
                    one.name,
                    one.origin,
                    "change" if one.acts else "look",
                    _ago(one.created_at),
                    f"in {wording.span(one.expires_at - time.time())}",
                    "-" if one.used_at is None else _ago(one.used_at),
                )
                for one in pairings
            ],
            empty="no page is paired; next: czctl pair",
            names=[one.id for one in pairings],
        ),
    )
    if output is Output.TABLE and pairings and running is None:
        say("note: they are not answered now; next: czctl start")


@pairing.command()
@click.argument("ids", metavar="ID...", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="All of them.")
def revoke(ids: Sequence[str], is_all: bool) -> None:
    """Let pages ask nothing of this machine any more; what they are being told ends at once."""
    if is_all == bool(ids):
        raise CodezeroError(
            problems.BAD_REQUEST, "it is not clear which pairings", fix="czctl pairing revoke ID, or --all"
        )

    def revoked(present: State) -> tuple[State, tuple[Pairing, ...]]:
        ended = present.pairings if is_all else tuple(_named(present.pairings, one) for one in ids)
        return present.without(frozenset(one.id for one in ended)), ended

    ended = state.change(revoked)
    process.nudge()
    for one in ended:
        say(f"{one.name} is not paired any more")
    if not ended:
        say("no page is paired")


@click.command()
@click.argument("name", metavar="[ID]", required=False)
@click.option("--yes/--no", "answer", default=None, help="Confirm or refuse it without being asked.")
@output_option()
def confirm(name: str | None, answer: bool | None, output: Output) -> None:
    """Say yes or no to what a paired page asks of this machine.

    \b
    A confirmation is for exactly what was asked: once, within ten minutes, whether or not the agent
    can do it then. That a service is served from a port of this machine is remembered for that page.
    \b
    Examples:
      czctl confirm                    see what waits, and be asked about each
      czctl confirm 4f7rk2qz --yes
      czctl confirm -o json            what waits, for programs
    """
    present = state.load()
    waiting = _waiting(present, name) if present is not None else ()
    if name is not None and not waiting:
        raise CodezeroError(problems.NOT_FOUND, f"no question {name[:50]!r} waits", fix="czctl confirm")
    is_asked = sys.stdin.isatty() and sys.stderr.isatty() and output is Output.TABLE
    if answer is not None and name is None:
        raise CodezeroError(problems.BAD_REQUEST, "it is not said what to answer", fix="czctl confirm ID --yes")
    if present is None or not waiting or (answer is None and not is_asked):
        _show(present, waiting, output)
        return
    for question in waiting:
        if answer is None:
            _tell(present, question)
        is_confirmed = answer if answer is not None else click.confirm("Do it?", default=False, err=True)
        _answer(question, is_confirmed=is_confirmed)


def _offering(present: State, offer: Offer, relays: bool | None) -> State:
    return msgspec.structs.replace(present, offer=offer, relays=present.relays if relays is None else relays)


def _withdrawn(present: State, code: str) -> State:
    is_ours = present.offer is not None and present.offer.code == code
    return msgspec.structs.replace(present, offer=None) if is_ours else present


@contextlib.contextmanager
def _interrupted_by(*numbers: signal.Signals) -> Generator[None]:
    """A block that those signals end as Ctrl-C does: whoever closes the terminal waits no longer either."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # What whoever started us lets us ignore, as nohup does, is ignored.
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(code: str, origin: str, began: float, *, opens: bool) -> None:
    """Until a page is paired; raises `CodezeroError` where none is."""
    from codezero.cli.ui import opening

    running = process.ensure()
    present = state.load()
    assert present is not None
    address = f"{origin}/ui/pair#machine={present.machine}&port={running.port}&code={code}"
    write_now(f"{address}\n")
    say(f"waiting for the page, until Ctrl-C; its address is good once, within {OFFER_SECONDS / 60:.0f} minutes")
    with contextlib.ExitStack() as leading:
        if opens and opening.can_open():
            try:
                file = leading.enter_context(opening.leading_file(address))
            except CodezeroError as error:
                say(f"no browser was opened: {error.detail}; open the address yourself")
            else:
                say("opening the browser; if none opens, open the address yourself")
                opening.open_browser(file)
        while (present := state.load()) is not None and present.offer is not None and present.offer.code == code:
            time.sleep(_LOOK_SECONDS)
            if process.found() is None:
                # Ended for having nobody to answer, in the moment before there was somebody.
                process.ensure()
    made = [one for one in present.pairings if one.created_at >= began and one.origin == origin] if present else []
    if not made:
        raise _not_paired(present, began)
    _tell_paired(max(made, key=lambda one: one.created_at))


def _not_paired(present: State | None, began: float) -> CodezeroError:
    if present is not None and present.offer is not None:
        return CodezeroError(problems.PAIRING_CLOSED, "another czctl pair waits in place of this one")
    if time.time() - began >= OFFER_SECONDS:
        return CodezeroError(problems.TIMED_OUT, "no page came in time", fix="czctl pair")
    return CodezeroError(
        problems.PAIRING_CLOSED,
        "a wrong code came too often, so the address is worth nothing any more",
        fix="czctl pair",
    )


def _tell_paired(made: Pairing) -> None:
    say(f"paired with {made.name} at {made.origin}, for {(made.expires_at - made.created_at) / 86400:.0f} days")
    if made.acts:
        say("it may see and change what this machine consumes and serves")
        say("what touches the requests of others, and each port of this machine once, waits for: czctl confirm")
    else:
        say("it may look, and change nothing")
    # Ids may begin as options do.
    dashes = "-- " if made.id.startswith("-") else ""
    say(f"take it back: czctl pairing revoke {dashes}{made.id[:_SHOWN]}")


def _named(pairings: Sequence[Pairing], asked: str) -> Pairing:
    found = [one for one in pairings if one.id.startswith(asked)] if len(asked) >= _LEAST else []
    if len(found) != 1:
        why = f"several begin with {asked!r}" if found else f"no page {asked[:50]!r} is paired"
        raise CodezeroError(problems.NOT_FOUND, why, fix="czctl pairing list")
    return found[0]


def _waiting(present: State, name: str | None) -> tuple[Question, ...]:
    from codezero.cli.paired import confirming

    return tuple(one for one in confirming.waiting(present) if name in (None, one.id))


def _answer(question: Question, *, is_confirmed: bool) -> None:
    from codezero.cli.paired import confirming

    state.change(lambda now: (confirming.answered(now, question.id, is_confirmed=is_confirmed), None))
    say("confirmed; the page does it now" if is_confirmed else "refused")


def _show(present: State | None, waiting: Sequence[Question], output: Output) -> None:
    view = QuestionsView(tuple(_view(present, one) for one in waiting) if present is not None else ())
    write(
        view,
        output,
        lambda: Table(
            ("ID", "PAGE", "SINCE", "ASKS TO"),
            [(one.id, one.page, _ago(one.asked_at), "; ".join(one.asked)) for one in view.questions],
            empty="nothing waits to be confirmed",
        ),
    )
    if output is Output.TABLE and waiting:
        say("next: czctl confirm ID --yes, or --no")


def _tell(present: State, question: Question) -> None:
    view = _view(present, question)
    say(f"{view.page} at {view.origin} asks, since {_ago(view.asked_at)}, to")
    for line in view.asked:
        say(f"  {line}")


def _view(present: State, question: Question) -> QuestionView:
    page = present.pairing(question.pairing)
    return QuestionView(
        question.id,
        page.name if page is not None else question.pairing,
        page.origin if page is not None else "",
        question.method,
        question.target,
        question.lines,
        question.asked_at,
        question.expires_at,
    )


def _ago(moment: float) -> str:
    return wording.ago(moment).removeprefix("since ")


def _require_parts() -> None:
    for part in ("joserfc", "uvicorn", "websockets"):
        if importlib.util.find_spec(part) is None:
            raise CodezeroError(
                problems.BAD_REQUEST,
                f"pairing needs {part}, which is not installed",
                fix="pip install 'codezero[daemon]'",
            )
