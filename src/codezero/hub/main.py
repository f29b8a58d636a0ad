"""`czhub`: runs the Hub, and does what its administrators do beside it. Errors have the form of czctl's."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click
import uvloop

from codezero import __version__
from codezero.hub import settings
from codezero.hub.settings import HubSettings
from codezero.kit import logs, memory
from codezero.kit.settings import SettingsError
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.hub.checking import Finding

T = TypeVar("T")

_INTERRUPTED: Final = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="czhub", message="%(prog)s %(version)s")
def czhub() -> None:
    """Run a Hub: who may do what in which Teamspace.

    Settings are environment variables, CODEZERO_HUB_...; without any it is a Hub for this machine.

    \b
    Examples:
      czhub serve                      run it; the first time it prints the link for its first owner
      czhub owner-link                 print that link again
      czhub password-link ada@acme.com somebody forgot their password
      czhub backup /backups/hub.db     copy the database while it runs (the master key is no part of it)
      czhub rotate-keys --at-once      the key that signs tokens was stolen: make it worth nothing
      czhub check                      see whether it could run
    """


@czhub.command()
def serve() -> None:
    """Run the Hub until it is told to stop (SIGTERM, Ctrl-C)."""
    from codezero.hub import running

    wanted = _settings()
    memory.settle()
    # For eyes at a terminal, never for a log.
    _run(running.run(wanted, show_link=_show_link if sys.stdout.isatty() else None))


@czhub.command("owner-link")
def owner_link() -> None:
    """Print the link by which the first owner signs up; it works once, and those before it no more."""

    async def work() -> str | None:
        from codezero.hub import opening
        from codezero.hub.signin import first_owner

        async with opening.opened(_settings()) as hub:
            return await first_owner.link(hub)

    link = _run(work())
    if link is None:
        raise CodezeroError(
            problems.ALREADY_THERE, "this Hub has an owner already", fix="ask an owner for an invitation"
        )
    click.echo(link)


@czhub.command("password-link")
@click.argument("email")
def password_link(email: str) -> None:
    """Print the link by which the person with this EMAIL sets a new password, once and within an hour.

    All that is signed in as them ends then.
    """

    async def work() -> str:
        from codezero.hub import opening
        from codezero.hub.signin import forgotten

        async with opening.opened(_settings()) as hub:
            return await forgotten.link(hub, email)

    click.echo(_run(work()))


@czhub.command()
@click.argument("file", type=click.Path(path_type=Path))
def backup(file: Path) -> None:
    """Copy the database into the new FILE, also while the Hub runs (SQLite; for PostgreSQL it says what does).

    The master key is no part of it: keep that file at another place. Without it a backup cannot be restored.
    """
    from codezero.hub import backup as backups

    wanted = _settings()
    backups.back_up(wanted, file)
    click.echo(f"{file} holds the database; the master key {wanted.master_key_file} is kept apart", err=True)


@czhub.command()
@click.argument("file", type=click.Path(path_type=Path))
def restore(file: Path) -> None:
    """Make the database out of the backup FILE, where there is none. The master key's file has to be there."""
    from codezero.hub import backup as backups

    _run(backups.restore(_settings(), file))
    click.echo("restored; next: czhub serve", err=True)


@czhub.command("rotate-keys")
@click.option("--at-once", is_flag=True, help="The key was stolen: all tokens by it are worth nothing from now on.")
def rotate_keys(at_once: bool) -> None:
    """Follow the key that signs tokens by a new one, also while the Hub runs. It does so by itself every two months.

    The new key is published at once and signs after an hour, so nobody notices. With --at-once it signs within seconds,
    and whoever is signed in gets a new token by themselves.
    """

    async def work() -> None:
        from codezero.hub import opening

        async with opening.opened(_settings()) as hub:
            await hub.authorities.rotate_token_key(hub.signals, at_once=at_once)

    _run(work())
    click.echo("a new key signs " + ("now; those before are worth nothing" if at_once else "in an hour"), err=True)


@czhub.command("verify-audit")
def verify_audit() -> int:
    """Recompute the audit of every organization, and say where it was changed."""
    from codezero.hub import checking

    return _run(_report(checking.audits(_settings())))


@czhub.command()
def check() -> int:
    """See whether the Hub could run with these settings: database, master key, certificate, providers. Changes nothing."""
    from codezero.hub import checking

    return _run(_report(checking.everything(_settings())))


async def _report(findings: "AsyncIterator[Finding]") -> int:
    """Print what checks find; the exit code of the last one that failed."""
    code = 0
    async for finding in findings:
        click.echo(f"{'ok    ' if finding.problem is None else 'FAILED'} {finding.what}: {finding.said}")
        if finding.problem is not None:
            code = finding.problem.problem.exit_code
            if finding.problem.fix:
                click.echo(f"       fix: {finding.problem.fix}")
    return code


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    # Whatever it makes is for its own user alone.
    os.umask(0o077)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run `czhub` with `arguments`; returns the exit code."""
    try:
        outcome = czhub.main(list(arguments), prog_name="czhub", standalone_mode=False)
    except CodezeroError as error:
        return _complain(error)
    except (click.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return problems.BAD_REQUEST.exit_code
    except click.ClickException as error:
        return _complain(CodezeroError(problems.BAD_REQUEST, error.format_message().rstrip("."), fix="czhub --help"))
    return outcome if isinstance(outcome, int) else 0


def _settings() -> HubSettings:
    try:
        wanted = settings.from_environment(os.environ)
    except SettingsError as error:
        raise CodezeroError(
            problems.BAD_REQUEST, "\n       ".join(error.mistakes), fix="correct the settings"
        ) from None
    logs.configure(level=wanted.log_level, json=not sys.stderr.isatty() if wanted.log_json is None else wanted.log_json)
    return wanted


def _run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _show_link(link: str) -> None:
    click.echo(f"\nNobody owns this Hub yet. Sign up as its first owner:\n\n  {link}\n")


def _complain(error: CodezeroError) -> int:
    lines = [f"error: {error.detail} [{error.problem.code}]", f"  why:  {error.problem.meaning}"]
    lines += [f"  fix:  {error.fix}"] if error.fix else []
    lines += [f"  more: czctl explain {error.problem.code}"]
    click.echo("\n".join(lines), err=True)
    return error.problem.exit_code


if __name__ == "__main__":
    main()
