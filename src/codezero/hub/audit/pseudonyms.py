"""An audit without people: each person, machine and address has a name of its own that is always the same in one organization, and says nothing.

For those who look for what happened and need not know by whom. Only whoever has the Hub's master key can tell whose name it is.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from codezero.hub.sealing import Sealer
from codezero.model.ids import is_ulid

# What is no person, nor tells of one.
_THINGS: Final = frozenset({"organization", "space", "policy", "apikey", "service", "hub", "audit", "session", "serve"})
_PERSONAL: Final = frozenset(
    {"name", "email", "user", "device", "address", "agent", "member", "owner", "subject", "key", "value", "host"}
)
_THINGS_NAMED: Final = frozenset({"organization", "space", "policy", "apikey", "role", "service"})
# Words of ours, names of services, numbers: `developer`, `orders.shop:80`.
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9._/:-]{0,63}")
_LENGTH: Final = 12


class Pseudonyms:
    """The pseudonyms of one organization."""

    def __init__(self, sealer: Sealer, organization: str) -> None:
        self._sealer = sealer
        self._organization = organization

    def of(self, value: str, *, kind: str = "person") -> str:
        """The pseudonym of a value."""
        keyed = self._sealer.hash(f"audit pseudonym {self._organization} {value}").hex()
        return f"{kind}-{keyed[:_LENGTH]}"

    def entry(self, content: Mapping[str, Any]) -> dict[str, Any]:
        """An entry's content without what says who people are."""
        entry = {name: value for name, value in content.items() if name not in {"before", "version"}}
        address = content["address"]
        return {
            **entry,
            "actor": self._party(content["actor"]),
            "target": self._party(content["target"]),
            "details": self._details("", content["details"]),
            "address": None if address is None else self.of(address, kind="address"),
            "source": None,
            "pseudonymous": True,
        }

    def _party(self, party: Mapping[str, Any]) -> dict[str, Any]:
        kind = str(party.get("kind", "unknown"))
        if kind in _THINGS:
            return {name: self._details(name if name != "name" else "service", value) for name, value in party.items()}
        return {"kind": kind, "id": self.of(str(party.get("id", "")), kind=kind)}

    def _details(self, name: str, value: object) -> object:
        match value:
            case Mapping():
                parts = cast("Mapping[str, object]", value)
                return {own: self._details(own, part) for own, part in parts.items()}
            case list():
                return [self._details(name, part) for part in cast("list[object]", value)]
            case str():
                is_thing = name in _THINGS_NAMED or name == "id"
                if name in _PERSONAL or not (is_thing or _LABEL.fullmatch(value)) or (is_ulid(value) and not is_thing):
                    return self.of(value, kind=name if _LABEL.fullmatch(name) else "text")
                return value
            case _:
                return value
