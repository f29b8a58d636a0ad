"""The names a consumed service answers to, and those it must not take (T13).

A namespace named like a top-level domain (`dev`) would let anybody who may create it take over a real one (`web.dev`), so its services answer
only under `.svc` and `.svc.cluster.local`.
"""

import re

from codezero.model.services import ServiceRef

CLUSTER_DOMAIN = "cluster.local"

# Names that machines look up by themselves, and what they find they obey.
RESERVED_LABELS = frozenset({"broadcasthost", "isatap", "local", "localhost", "wpad"})

# The most used generic top-level domains, those that resolve by special rules, and those companies use inside. Country codes are two letters.
# Not the complete list of the registry: it has over a thousand words, and half of them are what teams call their namespaces.
_is_generic_top_level = re.compile(
    r"aero|app|arpa|asia|biz|blog|cat|cloud|club|com|coop|corp|dev|edu|email|example|fun|gov|google|home|host|icu|info|int|internal|invalid|jobs"
    r"|lan|life|link|live|local|localdomain|localhost|mil|mobi|mov|museum|name|net|ninja|one|onion|online|org|page|post|pro|rocks|run|site"
    r"|social|space|tech|tel|top|travel|tube|vip|website|wiki|work|world|wtf|xxx|xyz|zip|zone|xn--.*"
).fullmatch


def is_top_level_domain(namespace: str) -> bool:
    """Whether `svc.namespace` could be a real domain of the internet or of a company."""
    return (len(namespace) == 2 and namespace.isalpha()) or _is_generic_top_level(namespace) is not None


def names_of(ref: ServiceRef, *, primary_namespace: str | None = None) -> tuple[str, ...]:
    """The names of a service, shortest first."""
    full = (f"{ref.name}.{ref.namespace}.svc", f"{ref.name}.{ref.namespace}.svc.{CLUSTER_DOMAIN}")
    short = () if is_top_level_domain(ref.namespace) else (f"{ref.name}.{ref.namespace}",)
    bare = (ref.name,) if ref.namespace == primary_namespace and ref.name not in RESERVED_LABELS else ()
    return (*bare, *short, *full)


def pod_names_of(ref: ServiceRef, pod: str) -> tuple[str, ...]:
    """The names of a pod of a headless service, shortest first."""
    full = (f"{pod}.{ref.name}.{ref.namespace}.svc", f"{pod}.{ref.name}.{ref.namespace}.svc.{CLUSTER_DOMAIN}")
    # In a namespace called `svc` the short form would be the name of another service.
    ambiguous = ref.namespace == "svc" or is_top_level_domain(ref.namespace)
    return full if ambiguous else (f"{pod}.{ref.name}.{ref.namespace}", *full)
