"""Virtual addresses: one loopback address per consumed service (and per pod of a headless one), stable per Teamspace.

The address is chosen by a hash of Teamspace and name, so that it survives a lost state file; a collision takes the next free one and is
remembered. The first 256 addresses of the range are reserved for ourselves.
"""

import hashlib
import ipaddress
from collections.abc import Mapping

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef

NETWORK = ipaddress.IPv4Network("127.72.0.0/14")
RESERVED = 256
_FIRST = int(NETWORK.network_address) + RESERVED
_COUNT = NETWORK.num_addresses - RESERVED


class AddressPlan:
    """Which address each service of one Teamspace has. Not safe for threads."""

    def __init__(self, teamspace: str, known: Mapping[str, str] | None = None) -> None:
        """Begin with the addresses `known` (`namespace/service[/pod]` to address) from before; entries outside the range are ignored."""
        self._teamspace = teamspace
        self._by_name: dict[str, int] = {}
        self._by_address: dict[int, str] = {}
        for name, address in (known or {}).items():
            number = _number(address)
            if number is not None and number not in self._by_address:
                self._assign(name, number)

    def __len__(self) -> int:
        return len(self._by_name)

    def address_of(self, service: ServiceRef, pod: str | None = None) -> str:
        """The address of `service`, or of its pod; assigned now if it has none. Raises `CodezeroError` when the range is used up."""
        name = _name(service, pod)
        number = self._by_name.get(name)
        if number is None:
            number = self._free_number(name)
            self._assign(name, number)
        return str(ipaddress.IPv4Address(number))

    def forget(self, service: ServiceRef, pod: str | None = None) -> None:
        """Free the address of a service or pod that is gone; it gets the same one again unless that was taken meanwhile."""
        number = self._by_name.pop(_name(service, pod), None)
        if number is not None:
            del self._by_address[number]

    def known(self) -> dict[str, str]:
        """All names with their addresses, to be given to the next plan."""
        return {name: str(ipaddress.IPv4Address(number)) for name, number in self._by_name.items()}

    def _assign(self, name: str, number: int) -> None:
        self._by_name[name] = number
        self._by_address[number] = name

    def _free_number(self, name: str) -> int:
        if len(self._by_address) >= _COUNT:
            raise CodezeroError(
                problems.ADDRESSES_EXHAUSTED,
                f"all {_COUNT} virtual addresses of {NETWORK} are in use",
                fix="consume fewer services: `czctl consume edit`",
            )
        digest = hashlib.sha256(f"{self._teamspace}\n{name}".encode()).digest()
        start = int.from_bytes(digest[:8], "big") % _COUNT
        for step in range(_COUNT):
            number = _FIRST + (start + step) % _COUNT
            if number not in self._by_address:
                return number
        raise AssertionError("a free address was counted and not found")


def _name(service: ServiceRef, pod: str | None) -> str:
    return f"{service}/{pod}" if pod else str(service)


def _number(address: str) -> int | None:
    try:
        number = int(ipaddress.IPv4Address(address))
    except ValueError:
        return None
    return number if _FIRST <= number < _FIRST + _COUNT else None
