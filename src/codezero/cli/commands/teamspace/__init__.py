"""teamspace install, upgrade, status, access, token, identity, uninstall, repair."""

import copy

import click

from codezero.cli.commands import space
from codezero.cli.commands.teamspace.access import access
from codezero.cli.commands.teamspace.install import identity, install, upgrade
from codezero.cli.commands.teamspace.repair import repair
from codezero.cli.commands.teamspace.status import status
from codezero.cli.commands.teamspace.token import token
from codezero.cli.commands.teamspace.uninstall import uninstall


@click.group()
def teamspace() -> None:
    """Look after the cluster of a Teamspace; needs a kubeconfig with the rights for it."""


for _command in (install, upgrade, status, access, token, identity, uninstall, repair):
    teamspace.add_command(_command)

# The same nouns by their other name, where the cluster has no such verb of its own.
for _command in (space.list_, space.select, space.create, space.remove, space.rotate, space.suspend, space.resume):
    _alias = copy.copy(_command)
    _alias.hidden = True
    teamspace.add_command(_alias)
