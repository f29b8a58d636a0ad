"""What strangers may have of a System's memory, however many they are (T16)."""

from codezero.deploy.values import Values
from codezero.system import routers, variant_port
from codezero.transport.tls import UnprovenLimits

# Measured: a TLS connection that waits, with nothing said and nothing read.
WAITING = 50 * 1024


def test_strangers_never_have_the_memory_of_a_system() -> None:
    """Floods at both of its ports at once: the limit of its pod is what the kernel enforces, on laptops' tunnels too."""
    limit = str(Values().system.resources.limits["memory"])
    assert limit.endswith("Gi")

    most = sum(limits.in_all * (limits.size + WAITING) for limits in (routers.LIMITS, UnprovenLimits()))

    assert most < int(limit.removesuffix("Gi")) * 1024 * 1024 * 1024 * 3 // 4
    assert routers.LIMITS.in_all > variant_port.MAX_HELD
    assert routers.LIMITS.per_address > variant_port.MAX_OF_A_ROUTER
