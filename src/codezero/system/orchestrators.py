"""Which of several Orchestrators is the active one. Each System decides it alone, and all decide the same: it follows from the endpoints of the
Orchestrators' Service, which they mirror anyway (ADR 12). Nobody is elected, nothing is written.
"""

import ipaddress
from collections.abc import Iterable

from codezero.kit.watched import Watched
from codezero.model.services import Protocol, ServiceRef, is_label
from codezero.system.backends import Backend
from codezero.system.inventory import Inventory

Place = tuple[str, int]
"""Host or address, and port."""


def active(backends: Iterable[Backend]) -> Place | None:
    """The Orchestrator that all Systems use, of those that a connection may go to; None where there is none.

    The lowest address: one that lives keeps its own, and networks give new pods higher ones, so a rolling restart changes it rarely.
    """
    return min(((backend.address, backend.port) for backend in backends), key=_order, default=None)


def _order(place: Place) -> tuple[int, int, str, int]:
    host, port = place
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return 9, 0, host, port  # no address, hence nothing that one would rather connect to
    return address.version, int(address), host, port


def service_at(place: Place) -> ServiceRef | None:
    """The Service that has this place by its name in the cluster's DNS; None where it is no such name."""
    name, _, rest = place[0].partition(".")
    namespace, _, domain = rest.partition(".")
    if not (is_label(name) and is_label(namespace)) or name.isdecimal():
        return None
    return ServiceRef(namespace, name) if domain in {"", "svc"} or domain.startswith("svc.") else None


class Whereabouts:
    """Keeps `active` current: where the active Orchestrator is by the cluster's word; None while nobody is known to be.

    Where `configured` names no Service of the cluster, it is the one Orchestrator there is. A Service that was there and is deleted is no reason to
    leave an Orchestrator that still answers.
    """

    def __init__(self, configured: Place, inventory: Inventory) -> None:
        self.active: Watched[Place | None] = Watched(None)
        self._configured = configured
        self._inventory = inventory
        self._service = service_at(configured)
        self._was_there = False
        if self._service is not None:
            inventory.follow(self._service, self._look)
        self._look()

    def _look(self) -> None:
        self.active.set(self._found())

    def _found(self) -> Place | None:
        if self._service is None:
            return self._configured
        if not self._inventory.is_synced:
            # Its name leads to any of them.
            return None
        if self._inventory.uid_of(self._service) is None:
            return None if self._was_there else self._configured
        self._was_there = True
        return active(self._inventory.backends(self._service, self._configured[1], Protocol.TCP))
