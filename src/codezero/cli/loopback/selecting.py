"""Selecting a Teamspace for a page, as `czctl space select` does: the page names it, and what takes keys is done here."""

from typing import Annotated

import msgspec

from codezero.cli import hub_selection, joining_teamspace
from codezero.cli.context import client as local_client
from codezero.cli.hub_client import HubClient
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import StatusView

_Ulid = Annotated[str, msgspec.Meta(pattern=r"\A[0-7][0-9A-HJKMNP-TV-Z]{25}\Z")]


class Selection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A Teamspace and its organization, by their ids."""

    organization: _Ulid
    space: _Ulid


def select(client: HubClient, wanted: Selection) -> StatusView | None:
    """Select it, and let a running agent go there; how it is then, None where none runs. Blocking; raises `CodezeroError`."""
    # Asked now, so that nothing is done by half.
    client.authorization()
    owner = hub_selection.organization(client, wanted.organization)
    space = hub_selection.space(client, owner, wanted.space)
    hub_selection.select(client, organization=owner, space=space)
    joining_teamspace.follow_selection(client, owner, space)
    try:
        return local_client().status()
    except CodezeroError as error:
        if error.problem is problems.NOT_RUNNING:
            return None
        raise
