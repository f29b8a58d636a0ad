"""The namespaces whose Services may be served: administrators name them, and the System has rights to write in these alone."""

from dataclasses import dataclass
from typing import Final

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.model.services import ServiceRef, is_label

EVERYWHERE: Final = "*"


@dataclass(frozen=True, slots=True)
class EnabledNamespaces:
    """Names, or `*` for all. None by default: whoever installs a Teamspace says where it may change something."""

    names: frozenset[str] = frozenset()

    def __contains__(self, namespace: str) -> bool:
        return EVERYWHERE in self.names or namespace in self.names

    def refuse(self, service: ServiceRef) -> None:
        """Raise `CodezeroError` (NOT_ENABLED) unless the service is in one of them."""
        if service.namespace in self:
            return
        enabled = ", ".join(sorted(self.names)) or "none"
        raise CodezeroError(
            problems.NOT_ENABLED,
            f"services of namespace {service.namespace} may not be served in this Teamspace (enabled: {enabled})",
            fix=f"an administrator runs: czctl teamspace upgrade --serve-namespace {service.namespace}",
        )


def parse_namespaces(text: str) -> EnabledNamespaces:
    """The namespaces of a list by commas or spaces, or `*`; raises `CodezeroError` (BAD_REQUEST) naming what is no namespace."""
    names = frozenset(text.replace(",", " ").split())
    for name in names - {EVERYWHERE}:
        if not is_label(name):
            raise CodezeroError(problems.BAD_REQUEST, f"{name[:100]!r} is not the name of a namespace")
    return EnabledNamespaces(names)
