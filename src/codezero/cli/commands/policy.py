"""policy show, edit, apply, diff, test, versions, rollback, explain."""

import os
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

import click
import msgspec

from codezero.cli import hub_selection, wording
from codezero.cli.console import Output, Table, output_option, say, write_lines, write_text
from codezero.cli.hub_client import HubClient, Reply
from codezero.cli.hub_output import ago, facts, write_list, write_one
from codezero.cli.hub_selection import hub_options, organization_option, space_option
from codezero.model import problems
from codezero.model.access import Operation
from codezero.model.problems import CodezeroError

MAX_POLICY = 256 * 1024


class Policy(msgspec.Struct, frozen=True):
    """A version of a Teamspace's policy."""

    text: str = ""
    number: int = 0
    comment: str = ""
    author: str = ""
    created_at: str | None = None


class Mistake(msgspec.Struct, frozen=True):
    """What is wrong with a policy (a failed test among others), where, and what to do about it."""

    code: str
    message: str
    line: int
    column: int
    fix: str


class Checked(msgspec.Struct, frozen=True):
    """Whether a policy could be put in force: its mistakes, how many tests it has, and what it would change."""

    valid: bool
    errors: tuple[Mistake, ...] = ()
    tests: int = 0
    diff: str = ""


class Explained(msgspec.Struct, frozen=True):
    """A decision, its reason, and the policies that made it."""

    allowed: bool
    reason: str = ""
    policies: tuple[str, ...] = ()


@click.group()
def policy() -> None:
    """What members may consume and serve in a Teamspace: Cedar policies, with tests inside.

    \b
    Examples:
      czctl policy show > shop.cedar
      czctl policy test shop.cedar
      czctl policy apply shop.cedar --comment 'bob may serve orders'
    """


def _selected(client: HubClient, organization: str | None, space: str | None) -> str:
    owner = hub_selection.organization(client, organization)
    where = hub_selection.space(client, owner, space)
    return f"/organizations/{owner.id}/spaces/{where.id}"


@policy.command()
@click.option("--version", "number", type=int, metavar="N", help="An earlier version.")
@organization_option
@space_option
@hub_options
@output_option()
def show(*, client: HubClient, number: int | None, organization: str | None, space: str | None, output: Output) -> None:
    """Print the policy in force."""
    reply = client.get(_version_path(_selected(client, organization, space), number))
    if output is Output.TABLE:
        text = reply.as_(Policy).text
        write_text(text if text.endswith("\n") or not text else f"{text}\n")
    else:
        write_one(reply, output, lambda: Table((), ()))


@policy.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--comment", default="", help="Why; kept with the version.")
@organization_option
@space_option
@hub_options
@output_option()
def apply(
    *,
    client: HubClient,
    file: IO[bytes],
    comment: str,
    organization: str | None,
    space: str | None,
    output: Output,
) -> None:
    """Put the policy of FILE, or of stdin, in force, if its tests pass.

    \b
    It reaches the Teamspace within two seconds; what it does not allow any more ends.
    \b
    Examples:
      czctl policy apply shop.cedar --comment 'bob may serve orders'
    """
    path = _selected(client, organization, space)
    text = _read(file)
    before = client.get(f"{path}/policy")
    _write_applied(client.put(f"{path}/policy", {"text": text, "comment": comment}, etag=before.etag), output)


@policy.command()
@click.option(
    "--editor", help="The editor to use; else $VISUAL, $EDITOR, or one that is found. It must wait (code -w)."
)
@click.option("--comment", default="", help="Why; kept with the version.")
@organization_option
@space_option
@hub_options
def edit(*, client: HubClient, editor: str | None, comment: str, organization: str | None, space: str | None) -> None:
    """Edit the policy in force in your editor; what is refused stays in a file that the error names."""
    path = _selected(client, organization, space)
    before = client.get(f"{path}/policy")
    text = before.as_(Policy).text
    descriptor, name = tempfile.mkstemp(prefix="czctl-", suffix=".cedar")
    file = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(text)
    click.edit(filename=name, editor=editor)
    try:
        with file.open("rb") as opened:
            edited = _read(opened)
    except OSError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"the editor left no policy: {file}: {error.strerror}") from None
    if edited == text:
        file.unlink(missing_ok=True)
        say("policy unchanged")
        return
    try:
        reply = client.put(f"{path}/policy", {"text": edited, "comment": comment}, etag=before.etag)
    except CodezeroError as error:
        raise CodezeroError(
            error.problem,
            f"{error.detail}; your text is kept in {file}",
            fix=f"mend {file}, then: czctl policy apply {file}",
        ) from error
    file.unlink(missing_ok=True)
    _write_applied(reply, Output.TABLE)


@policy.command("test")
@click.argument("file", type=click.File("rb"), default="-")
@organization_option
@space_option
@hub_options
@output_option()
def test_(*, client: HubClient, file: IO[bytes], organization: str | None, space: str | None, output: Output) -> None:
    """Check the policy of FILE, or of stdin, and run the tests in it; changes nothing.

    Ends with 0 when it could be put in force, and with 1 when not.
    """
    path = _selected(client, organization, space)
    reply = client.post(f"{path}/policy/check", {"text": _read(file)})
    checked = reply.as_(Checked)
    if output is Output.TABLE:
        write_lines(_checked_lines(checked))
    else:
        write_one(reply, output, lambda: Table((), ()))
    if not checked.valid:
        raise click.exceptions.Exit(1)


@policy.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--from", "number", type=int, metavar="N", help="Compare with version N in place of the one in force.")
@organization_option
@space_option
@hub_options
def diff(
    *, client: HubClient, file: IO[bytes] | None, number: int | None, organization: str | None, space: str | None
) -> None:
    """Show what FILE would change in the policy; without FILE what changed since version N, or since the one before.

    \b
    Examples:
      czctl policy diff shop.cedar
      czctl policy diff --from 3
    """
    import difflib

    path = _selected(client, organization, space)
    present = client.get(f"{path}/policy").as_(Policy)
    if file is not None:
        old = present if number is None else client.get(_version_path(path, number)).as_(Policy)
        new_text, new_name = _read(file), file.name
    else:
        earlier = number if number is not None else present.number - 1
        if earlier < 1:
            say("this is the first version")
            return
        old = client.get(_version_path(path, earlier)).as_(Policy)
        new_text, new_name = present.text, f"version {present.number}"
    lines = list(
        difflib.unified_diff(
            old.text.splitlines(), new_text.splitlines(), f"version {old.number}", new_name, lineterm=""
        )
    )
    if lines:
        write_lines(lines)
    else:
        say("no difference")


@policy.command()
@organization_option
@space_option
@hub_options
@output_option()
def versions(*, client: HubClient, organization: str | None, space: str | None, output: Output) -> None:
    """List all versions of the policy, who made them, and why."""
    path = _selected(client, organization, space)
    write_list(
        "versions",
        client.items(f"{path}/policy/versions", msgspec.Raw),
        Policy,
        output,
        lambda shown: Table(
            ("VERSION", "AGE", "AUTHOR", "COMMENT"),
            [(str(one.number), ago(one.created_at), one.author or "-", one.comment or "-") for one in shown],
            empty="no versions",
        ),
    )


@policy.command()
@click.argument("number", type=int, metavar="VERSION")
@organization_option
@space_option
@hub_options
@output_option()
def rollback(*, client: HubClient, number: int, organization: str | None, space: str | None, output: Output) -> None:
    """Put an earlier version in force again, as a new one."""
    path = _selected(client, organization, space)
    _write_applied(client.post(f"{path}/policy/rollback", {"version": number}), output)


@policy.command()
@click.argument("operation", type=click.Choice([one.value for one in Operation]))
@click.argument("service", metavar="SERVICE")
@click.option("--as", "user", metavar="USER", help="E-mail address or id of another member; for admins.")
@organization_option
@space_option
@hub_options
@output_option()
def explain(
    *,
    client: HubClient,
    operation: str,
    service: str,
    user: str | None,
    organization: str | None,
    space: str | None,
    output: Output,
) -> None:
    """Tell which policies allow or forbid something, and why.

    \b
    Examples:
      czctl policy explain consume orders.shop --as bob@example.org
    """
    ref = wording.service(service)
    body: dict[str, Any] = {"operation": operation, "service": f"{ref.name}.{ref.namespace}"}
    if user is not None:
        body["as"] = user
    reply = client.post(f"{_selected(client, organization, space)}/can-i", body)
    told = reply.as_(Explained)
    write_one(
        reply,
        output,
        lambda: facts(
            [
                ("Allowed", "yes" if told.allowed else "no"),
                ("Why", told.reason),
                ("Policies", ", ".join(told.policies)),
            ]
        ),
    )


def _version_path(path: str, number: int | None) -> str:
    return f"{path}/policy" if number is None else f"{path}/policy/versions/{number}"


def _read(file: IO[bytes]) -> str:
    if file.name == "<stdin>" and sys.stdin.isatty():
        say("reading the policy from the terminal; end with Ctrl-D")
    content = file.read(MAX_POLICY + 1)
    if len(content) > MAX_POLICY:
        raise CodezeroError(problems.TOO_LARGE, f"a policy has at most {MAX_POLICY} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise CodezeroError(problems.BAD_REQUEST, f"{file.name} is not UTF-8 text") from None


def _write_applied(reply: Reply, output: Output) -> None:
    now = reply.as_(Policy)
    write_one(reply, output, lambda: facts([("Version", str(now.number)), ("Comment", now.comment)]))
    say("in force within seconds; next: czctl auth can-i consume SERVICE")


def _checked_lines(checked: Checked) -> list[str]:
    if checked.valid:
        tests = "its only test passes" if checked.tests == 1 else f"all {checked.tests} tests pass"
        return [f"it could be put in force; {tests if checked.tests else 'it has no tests'}"]
    return [
        line
        for one in checked.errors
        for line in (f"line {one.line}, column {one.column}: {one.message} [{one.code}]", f"  fix: {one.fix}")
    ]
