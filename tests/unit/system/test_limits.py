"""What strangers may have of a System's memory, however many they are (T16)."""

from importlib.resources import files

import yaml

from codezero.system import routers, variant_port
from codezero.transport.tls import UnprovenLimits

# Measured: a TLS connection that waits, with nothing said and nothing read.
WAITING = 50 * 1024


def test_strangers_never_have_the_memory_of_a_system() -> None:
    """Floods at both of its ports at once: the limit of its pod is what the kernel enforces, on laptops' tunnels too."""
    manifest = (files("codezero.sandbox") / "teamspace" / "system.yaml").read_text()
    (deployment,) = [one for one in yaml.safe_load_all(manifest) if one["kind"] == "Deployment"]
    limit = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert limit.endswith("Mi")

    most = sum(limits.in_all * (limits.size + WAITING) for limits in (routers.LIMITS, UnprovenLimits()))

    assert most < int(limit.removesuffix("Mi")) * 1024 * 1024 * 3 // 4
    assert routers.LIMITS.in_all > variant_port.MAX_HELD
    assert routers.LIMITS.per_address > variant_port.MAX_OF_A_ROUTER
