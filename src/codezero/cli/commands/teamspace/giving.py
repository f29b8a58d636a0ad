"""Gives people access to a Teamspace that has no Hub: what `teamspace access` and `teamspace install --access` share."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from codezero.cli import private_files, wording
from codezero.cli.commands.teamspace.cluster import API_VERSION
from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.deploy.identity import Issuers
    from codezero.system.kubernetes.client import ApiClient

# Nobody renews these files: a week's work, and a lost laptop is out in a week.
LIFETIME: Final = "168h"
LONGEST: Final = timedelta(days=31)
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


class AccessView(msgspec.Struct, frozen=True):
    """An access file that was written: whose it is, by the name and the ULID that policies know, and until when (RFC 3339)."""

    user: str
    user_id: str
    file: str
    until: str
    api: str = API_VERSION


def check_user(user: str) -> None:
    """Raise `CodezeroError` unless this can be the name of a user, and part of that of a file."""
    if _USER.fullmatch(user) is None:
        raise CodezeroError(
            problems.BAD_REQUEST, f"{user[:80]!r} is no name for a user", fix="use letters, digits and . _ @ -"
        )


def lifetime_of(text: str) -> timedelta:
    """How long an access file is good."""
    span = timedelta(seconds=wording.duration(text, option="--lifetime", problem=problems.BAD_REQUEST))
    if span > LONGEST:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{text} is longer than {LONGEST.days * 24}h",
            fix="renew it: nobody can take it back before its time",
        )
    return span


async def issuers_of(api: "ApiClient", namespace: str) -> "tuple[Issuers, str]":
    """What signs for the Teamspace in `namespace`, from this machine, and the authority of its parts; raises `CodezeroError` without either."""
    from codezero.cli import authorities
    from codezero.deploy import identity
    from codezero.system.installing.applying import Installer

    present = await Installer(api, namespace=namespace).present()
    if present.secret is None:
        raise not_installed(namespace)
    content = identity.secret_content(present.secret)
    if identity.ROOT in content:
        raise CodezeroError(
            problems.BAD_REQUEST,
            "access to this Teamspace is given by its Hub, to members of its organization",
            fix="czctl organization members invite E-MAIL; they sign in: czctl auth login --hub URL",
        )
    return authorities.required(identity.teamspace_of(content)), content.get("ca.crt", "")


async def give(
    api: "ApiClient",
    namespace: str,
    issuers: "Issuers",
    roots: str,
    wanted: Sequence[tuple[str, Path]],
    *,
    lifetime: timedelta,
    force: bool,
) -> list[AccessView]:
    """Write access files; raises `CodezeroError` where laptops have no way in, or a file cannot be written."""
    from codezero.cli import authorities
    from codezero.system.installing.looking import entry_of

    entry, missing = await entry_of(api, namespace)
    if entry is None:
        raise CodezeroError(
            problems.NOT_READY,
            f"laptops have no way in: {missing or 'the Service codezero is of type ClusterIP'}",
            fix="wait for the address, or name one: czctl teamspace upgrade --set service.externalHost=NAME",
        )
    # First, or the same user would be somebody else to policies the next time.
    issuers = authorities.with_users(issuers.teamspace, [user for user, _ in wanted])
    given: list[AccessView] = []
    for user, file in wanted:
        device = issuers.new_device(user)
        found = issuers.access(
            user, device, host=entry.host, port=entry.port, roots=roots, lifetime=lifetime, organization=issuers.name
        )
        private_files.write(file, msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n", replace=force)
        until = datetime.now(UTC).replace(microsecond=0) + lifetime
        given.append(AccessView(user, issuers.users[user], str(file), until.isoformat().replace("+00:00", "Z")))
    return given


def not_installed(namespace: str) -> CodezeroError:
    """What to say where there is no Teamspace."""
    return CodezeroError(
        problems.NOT_INSTALLED,
        f"there is no Teamspace in namespace {namespace}",
        fix="czctl teamspace install --name NAME, or name its namespace with --namespace",
    )
