"""teamspace install, upgrade, identity: a Teamspace with a kubeconfig alone; with a Hub it joins that, without one its keys are made here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
import msgspec

from codezero.cli import value_arguments, wording
from codezero.cli.commands.teamspace import giving, joining
from codezero.cli.commands.teamspace.cluster import API_VERSION, Cluster, cluster_options
from codezero.cli.commands.teamspace.giving import AccessView
from codezero.cli.commands.teamspace.joining import Joining
from codezero.cli.console import Output, Table, output_option, say, write, write_lines, write_text
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import is_label

if TYPE_CHECKING:
    from codezero.deploy.identity import Issuers
    from codezero.model.access import Policy
    from codezero.system.installing.applying import Change, Present, Wish
    from codezero.system.kubernetes.client import ApiClient

F = TypeVar("F", bound=Callable[..., Any])

_POLICY_BYTES: Final = 1024 * 1024
_ALLOWS_ALL: Final = '{"rules": [{"effect": "allow", "operations": ["consume", "serve", "takeover", "terminate"]}]}'


class ChangeView(msgspec.Struct, frozen=True):
    """What became of an object, or with `dry_run` would: `create`, `change` (with the fields), `delete`."""

    action: str
    object: str
    fields: tuple[str, ...] = ()


class InstallView(msgspec.Struct, frozen=True):
    """What was done. `ready` and `entry` are None where nobody waited for them."""

    name: str
    namespace: str
    changes: tuple[ChangeView, ...]
    ready: bool | None = None
    entry: str | None = None
    access: tuple[AccessView, ...] = ()
    dry_run: bool = False
    api: str = API_VERSION


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the command line asks for."""

    cluster: Cluster
    name: str | None = None
    file: Path | None = None
    texts: tuple[str, ...] = ()
    serve_namespaces: tuple[str, ...] = ()
    policy: Path | None = None
    access: tuple[tuple[str, Path], ...] = ()
    wait: float | None = None
    dry_run: bool = False
    is_upgrade: bool = False
    allow_downgrade: bool = False
    hub: Joining | None = None
    output: Output = Output.TABLE
    # Objects that are printed instead of being applied.
    manifests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])


def _install_options(command: F) -> F:
    """What install and upgrade share."""
    for option in reversed(
        (
            click.option(
                "--values",
                "file",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="All values as YAML, those of the Helm chart; without it those of before stay.",
            ),
            click.option(
                "--set",
                "texts",
                multiple=True,
                metavar="KEY=VALUE",
                help="Change one value: service.type=NodePort. May be repeated.",
            ),
            click.option(
                "--serve-namespace",
                "serve_namespaces",
                multiple=True,
                metavar="NAME",
                help="Let services of this namespace be served too; * for all. May be repeated.",
            ),
            click.option(
                "--policy",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Who may do what, as JSON; its organization is filled in. Without it the policy of before stays.",
            ),
            click.option(
                "--wait",
                default="5m",
                show_default=True,
                metavar="TIME",
                help="How long to wait until all of it works.",
            ),
            click.option("--no-wait", is_flag=True, help="Do not wait."),
            click.option(
                "--allow-downgrade", is_flag=True, help="Go on where a newer czctl has installed the Teamspace."
            ),
            click.option(
                "--dry-run",
                is_flag=True,
                help="Show what would change, and change nothing; with -o yaml the manifests.",
            ),
            cluster_options(),
            output_option(Output.TABLE, Output.JSON, Output.YAML),
        )
    ):
        command = option(command)
    return command


@click.command()
@click.option("--name", metavar="NAME", help="What people call the Teamspace; needed once, without a Hub.")
@click.option("--hub", metavar="URL", help="The Hub that the Teamspace belongs to, as pods of the cluster reach it.")
@click.option(
    "--hub-ca",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Whom to believe that it is the Hub (PEM); not needed where its certificate is one that everybody believes.",
)
@click.option(
    "--join-token-file",
    metavar="FILE",
    help="The file with the token by which the cluster joins; - reads it from standard input, or asks for it.",
)
@click.option(
    "--access",
    "accesses_wanted",
    multiple=True,
    metavar="USER=FILE",
    help="Write an access file for USER when all works, as `teamspace access` does. May be repeated.",
)
@_install_options
def install(
    *,
    name: str | None,
    hub: str | None,
    hub_ca: Path | None,
    join_token_file: str | None,
    accesses_wanted: tuple[str, ...],
    file: Path | None,
    texts: tuple[str, ...],
    serve_namespaces: tuple[str, ...],
    policy: Path | None,
    wait: str,
    no_wait: bool,
    allow_downgrade: bool,
    dry_run: bool,
    cluster: Cluster,
    output: Output,
) -> None:
    """Install a Teamspace into a cluster, without Helm.

    \b
    Makes the namespace, identities, all objects, and waits until they work. Can be run again at
    any time, also after an interruption: it goes on where it was. Nothing is changed that was
    not made by czctl; a Teamspace that Helm installed is Helm's.
    \b
    The keys that sign for laptops stay on this machine, in ~/.config/codezero/authorities
    ($XDG_CONFIG_HOME is respected), and never reach the cluster. Keep a copy in a safe place:
    without it nobody can be given access, and whoever has it can be any laptop.
    \b
    With --hub none of these keys are made: the cluster joins the Hub by a token that is good
    once (`czctl space create` and `czctl space join-token` give one), and the Hub says who may
    do what.
    \b
    Examples:
      czctl teamspace install --hub https://hub.example.com --join-token-file token.txt
      czctl teamspace install --name shop --serve-namespace shop --access dev1=dev1.json
      czctl teamspace install --name shop --values values.yaml --dry-run
      czctl teamspace install --name shop --set service.type=NodePort --set service.nodePort=30880
    """
    _check_name(name)
    _apply(
        _Wanted(
            cluster,
            name,
            file,
            texts,
            serve_namespaces,
            policy,
            tuple(_access_of(text) for text in accesses_wanted),
            _seconds(wait, no_wait=no_wait),
            dry_run,
            allow_downgrade=allow_downgrade,
            hub=joining.read(hub, hub_ca, join_token_file),
            output=output,
        )
    )


@click.command()
@_install_options
def upgrade(
    *,
    file: Path | None,
    texts: tuple[str, ...],
    serve_namespaces: tuple[str, ...],
    policy: Path | None,
    wait: str,
    no_wait: bool,
    allow_downgrade: bool,
    dry_run: bool,
    cluster: Cluster,
    output: Output,
) -> None:
    """Bring an installed Teamspace to this version of czctl, and to other values.

    \b
    Values that are not named stay as they are; --values replaces all of them. Identities stay:
    access files go on. Laptops reconnect while the System's pods are replaced.
    \b
    Examples:
      czctl teamspace upgrade --dry-run
      czctl teamspace upgrade --serve-namespace billing
      czctl teamspace upgrade --set system.replicas=3 --wait 10m
    """
    seconds = _seconds(wait, no_wait=no_wait)
    _apply(
        _Wanted(
            cluster,
            None,
            file,
            texts,
            serve_namespaces,
            policy,
            (),
            seconds,
            dry_run,
            is_upgrade=True,
            allow_downgrade=allow_downgrade,
            output=output,
        )
    )


@click.command()
@click.option("--name", required=True, metavar="NAME", help="What people call the Teamspace.")
@click.option(
    "--policy",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Who may do what, as JSON; its organization is filled in.",
)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@cluster_options()
@output_option(Output.TABLE, Output.JSON)
def identity(*, name: str, policy: Path | None, dry_run: bool, cluster: Cluster, output: Output) -> None:
    """Make the identities and the policy of a Teamspace alone; Helm or GitOps brings the rest.

    \b
    Makes the namespace where there is none, Secret codezero-identity and ConfigMap
    codezero-policy. An identity that is there stays. Secrets are applied and never printed.
    `teamspace access` and `teamspace status` work afterwards as with `teamspace install`.
    \b
    Examples:
      czctl teamspace identity --name shop
      helm install codezero deploy/helm/codezero --namespace codezero
    """
    _check_name(name)
    wanted = _Wanted(cluster, name, policy=policy, dry_run=dry_run, output=output)

    async def run(api: "ApiClient") -> InstallView:
        from codezero.system.installing.applying import Installer

        installer = Installer(api, namespace=cluster.namespace)
        present = await installer.present()
        wish, _ = _wish(wanted, present)
        return _view(wanted, wish.name, await installer.identify(wish, present, dry_run=dry_run))

    view = cluster.run(run, manager="czctl")
    _show(view, output)
    if not dry_run:
        say("next: czctl teamspace access USER, when the rest is installed")


def _check_name(name: str | None) -> None:
    if name is not None and not is_label(name):
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{name[:80]!r} is no name for a Teamspace",
            fix="use lower-case letters, digits and -",
        )


def _apply(wanted: _Wanted) -> None:
    view = wanted.cluster.run(lambda api: _applied(api, wanted), manager="czctl")
    if wanted.dry_run and wanted.output is Output.YAML:
        _print_manifests(wanted)
        return
    _show(view, wanted.output)
    if not wanted.dry_run:
        _tell_next(view, wanted)


async def _applied(api: "ApiClient", wanted: _Wanted) -> InstallView:
    from codezero.system.installing import waiting
    from codezero.system.installing.applying import Installer

    namespace = wanted.cluster.namespace
    installer = Installer(api, namespace=namespace)
    present = await installer.present()
    if wanted.is_upgrade and (present.record is None or present.secret is None):
        await _refuse_upgrade(api, namespace)
    if not wanted.allow_downgrade:
        installer.refuse_downgrade(present)
    wish, issuers = _wish(wanted, present)
    if wanted.dry_run and wanted.output is Output.YAML:
        wanted.manifests.extend(installer.manifests(wish))
        return _view(wanted, wish.name, [])
    _refuse_foreign_files(wanted.access, "" if issuers is None else issuers.teamspace)
    changes = await installer.install(wish, present, dry_run=wanted.dry_run)
    view = _view(wanted, wish.name, changes)
    if wanted.dry_run or (wanted.wait is None and not wanted.access):
        return view
    if wanted.wait is not None:
        seen = await waiting.until_ready(api, namespace, seconds=wanted.wait, tell=say)
        entry = None if seen.entry is None else str(seen.entry)
        view = msgspec.structs.replace(view, ready=True, entry=entry)
    files = [(user, file) for user, file in wanted.access if not file.exists()]
    if files:
        issuers, roots = await giving.issuers_of(api, namespace)
        lifetime = giving.lifetime_of(giving.LIFETIME)
        given = await giving.give(api, namespace, issuers, roots, files, lifetime=lifetime, force=False)
        view = msgspec.structs.replace(view, access=tuple(given))
    return view


def _wish(wanted: _Wanted, present: "Present") -> "tuple[Wish, Issuers | None]":
    """What to install over what is there, and what signs for it, where that is on this machine."""
    from codezero.cli import authorities
    from codezero.deploy import identity as identities
    from codezero.deploy.identity import Issuers
    from codezero.system.installing.applying import Installer, Wish

    Installer.refuse_foreign_identity(present)
    record = present.record
    before = {} if record is None else record.values
    values = before if wanted.file is None else value_arguments.read(wanted.file)
    values = value_arguments.changed(values, wanted.texts, serve_namespaces=wanted.serve_namespaces)
    if wanted.hub is not None:
        values = wanted.hub.values(values)
    if joining.url_of(values):
        return _joining_wish(wanted, present, values), None
    if joining.url_of(before):
        raise CodezeroError(
            problems.IN_THE_WAY,
            f"the Teamspace belongs to the Hub {joining.url_of(before)}, whose keys nobody else has",
            fix="keep the value hub.url; to go without a Hub, uninstall it and install it anew",
        )
    if record is not None and wanted.name not in {None, record.name}:
        raise CodezeroError(
            problems.IN_THE_WAY,
            f"namespace {wanted.cluster.namespace} holds the Teamspace {record.name} already",
            fix="leave --name out to go on with it, or choose another --namespace",
        )
    name = wanted.name or (record.name if record is not None else None)
    if name is None:
        raise CodezeroError(problems.BAD_REQUEST, "a new Teamspace needs a name", fix="add --name NAME")
    if present.secret is None:
        new = Issuers.create(name)
        policy = _new_policy(wanted.policy, present, new)
        return (
            Wish(
                name,
                values,
                new,
                policy,
                keep=lambda: authorities.save(new),
                forget=lambda: _forget(new.teamspace),
            ),
            new,
        )
    known = authorities.find(identities.teamspace_of(identities.secret_content(present.secret)))
    return Wish(name, values, None, _kept_policy(wanted.policy, present, known)), known


def _joining_wish(wanted: _Wanted, present: "Present", values: dict[str, Any]) -> "Wish":
    """What to install for a Hub, which names the Teamspace and says who may do what."""
    from codezero.system.installing.applying import Wish

    if wanted.policy is not None or wanted.access:
        raise CodezeroError(
            problems.BAD_REQUEST,
            "policy and access are the Hub's to give",
            fix="leave --policy and --access out; see czctl policy --help and czctl organization members --help",
        )
    token = None if wanted.hub is None else wanted.hub.token
    if present.secret is None and token is None:
        raise CodezeroError(
            problems.BAD_REQUEST,
            "a new Teamspace of a Hub joins it by a token",
            fix="czctl space create NAME gives one; add --hub URL --join-token-file FILE",
        )
    name = wanted.name or (present.record.name if present.record is not None else "teamspace")
    return Wish(name, values, None, None, join_token=token)


def _new_policy(file: Path | None, present: "Present", new: "Issuers") -> "Policy":
    """The policy of a new identity: the rules of before stay, so that a Secret that got lost opens the Teamspace to nobody."""
    if file is None and present.policy is not None:
        return replace(_held(present.policy), organization=new.organization)
    return _policy(file, new.organization) or new.default_policy()


def _held(policy: dict[str, Any]) -> "Policy":
    from codezero.wire import policy_file

    data: dict[str, str] = policy.get("data") or {}
    return policy_file.decode(data.get("policy.json", "").encode())


def _kept_policy(file: Path | None, present: "Present", known: "Issuers | None") -> "Policy | None":
    """The policy to write for an identity that is there; None where that of before stays."""
    if file is None and present.policy is not None:
        return None
    if file is None:
        raise CodezeroError(
            problems.NO_POLICY,
            "ConfigMap codezero-policy is gone, and what it said is nowhere else; everybody would be allowed everything",
            fix=f"bring the policy of before with --policy FILE; a file that allows everybody everything: {_ALLOWS_ALL}",
        )
    organization = None if known is None else known.organization
    if organization is None and present.policy is not None:
        organization = _held(present.policy).organization
    if organization is None:
        raise CodezeroError(
            problems.NO_ISSUER,
            "ConfigMap codezero-policy is gone, and only the keys of the Teamspace tell its organization",
            fix="run this where the Teamspace was installed",
        )
    return _policy(file, organization)


def _policy(file: Path | None, organization: str) -> "Policy | None":
    if file is None:
        return None
    from codezero.wire import policy_file

    try:
        with file.open("rb") as opened:
            content = opened.read(_POLICY_BYTES + 1)
        given = msgspec.json.decode(content, type=dict[str, Any])
    except OSError as error:
        raise CodezeroError(problems.BAD_REQUEST, f"{file} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise CodezeroError(problems.NO_POLICY, f"{file} is no policy: {error}") from None
    return policy_file.decode(msgspec.json.encode({**given, "organization": organization}))


def _forget(teamspace: str) -> None:
    from codezero.cli import authorities

    authorities.remove(teamspace)


async def _refuse_upgrade(api: "ApiClient", namespace: str) -> None:
    from codezero.system.installing.looking import look

    seen = await look(api, namespace)
    if seen is not None and seen.manager == "Helm":
        raise CodezeroError(
            problems.IN_THE_WAY,
            f"the Teamspace in namespace {namespace} belongs to a Helm release",
            fix="upgrade it with helm; serve.namespaces is a value of its chart",
        )
    raise giving.not_installed(namespace)


def _access_of(text: str) -> tuple[str, Path]:
    user, equals, file = text.partition("=")
    if not equals or not file:
        raise CodezeroError(
            problems.BAD_REQUEST, f"--access {text[:80]} has no USER=FILE", fix="write --access dev1=dev1.json"
        )
    giving.check_user(user)
    return user, Path(file)


def _refuse_foreign_files(wanted: Sequence[tuple[str, Path]], teamspace: str) -> None:
    """A file that is there stays if it is of this Teamspace: then this is run again. Any other would not be what was asked for."""
    from codezero.wire import access_file

    for _, file in wanted:
        if not file.exists():
            continue
        try:
            found = access_file.decode(file.read_bytes())
        except (CodezeroError, OSError):
            found = None
        if found is None or found.teamspace != teamspace:
            raise CodezeroError(
                problems.FILE_EXISTS, f"{file} is there already, and not of this Teamspace", fix="name another file"
            )
        say(f"{file} stays; to renew it: czctl teamspace access {found.user} --out {file} --force")


def _seconds(text: str, *, no_wait: bool) -> float | None:
    return None if no_wait else wording.duration(text, option="--wait", problem=problems.BAD_REQUEST)


def _view(wanted: _Wanted, name: str, changes: "Sequence[Change]") -> InstallView:
    shown = tuple(ChangeView(one.action, str(one.object), one.fields) for one in changes if one.action != "keep")
    return InstallView(name, wanted.cluster.namespace, shown, dry_run=wanted.dry_run)


def _show(view: InstallView, output: Output) -> None:
    if output is not Output.TABLE:
        write(view, output, lambda: Table((), ()))
        return
    would = "would " if view.dry_run else ""
    write_lines(
        [f"{would}{one.action} {one.object}{': ' if one.fields else ''}{', '.join(one.fields)}" for one in view.changes]
    )
    if not view.changes:
        say("nothing to change")


def _tell_next(view: InstallView, wanted: _Wanted) -> None:
    if view.ready:
        say(f"Teamspace {view.name} is ready{f' at {view.entry}' if view.entry else ''}")
    if wanted.hub is not None:
        say(f"next, on laptops: czctl auth login --hub {wanted.hub.url}")
        return
    for one in view.access:
        say(f"{one.file}: access for {one.user} until {one.until}; a secret, hand it over as one")
        say(f"next, on their machine: czctl start --teamspace {Path(one.file).name}")
    if not view.access and not wanted.is_upgrade:
        say("next: czctl teamspace access USER writes the file for somebody's laptop")


def _print_manifests(wanted: _Wanted) -> None:
    import yaml

    write_text(yaml.safe_dump_all(wanted.manifests, sort_keys=False, allow_unicode=True))
    say("without Secret codezero-identity and ConfigMap codezero-policy: czctl teamspace identity makes these")
