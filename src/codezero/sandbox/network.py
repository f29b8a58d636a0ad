"""The sandbox's networks: places joined by links, a way into the cluster that lets one port through, and a network for every pod.

laptop 203.0.113.10 ---- internet (router, DNS 192.0.2.53, web 192.0.2.80) ---- 198.51.100.10 cluster ---- pods 10.244.0.0/16
   |
192.168.77.10 ---- 192.168.77.20 lan
"""

import asyncio
from pathlib import Path

from codezero.sandbox import layout, namespaces
from codezero.sandbox.processes import run

_LINKS = f"""
netns add {layout.LAPTOP}
netns add {layout.LAN}
netns add {layout.INTERNET}
netns add {layout.CLUSTER}
link add uplink0 netns {layout.LAPTOP} type veth peer name to-laptop netns {layout.INTERNET}
link add lan0 netns {layout.LAPTOP} type veth peer name lan0 netns {layout.LAN}
link add uplink0 netns {layout.CLUSTER} type veth peer name to-cluster netns {layout.INTERNET}
"""

_ADDRESSES = {
    layout.LAPTOP: f"""
link set lo up
addr add {layout.LAPTOP_ADDRESS}/24 dev uplink0
addr add {layout.LAPTOP_LAN_ADDRESS}/24 dev lan0
link set uplink0 up
link set lan0 up
route add default via {layout.LAPTOP_GATEWAY}
""",
    layout.LAN: f"""
link set lo up
addr add {layout.LAN_PEER_ADDRESS}/24 dev lan0
link set lan0 up
""",
    layout.INTERNET: f"""
link set lo up
addr add {layout.INTERNET_DNS}/32 dev lo
addr add {layout.INTERNET_WEB}/32 dev lo
addr add {layout.LAPTOP_GATEWAY}/24 dev to-laptop
addr add {layout.NODE_GATEWAY}/24 dev to-cluster
link set to-laptop up
link set to-cluster up
""",
    layout.CLUSTER: f"""
link set lo up
addr add {layout.POD_GATEWAY}/32 dev lo
addr add {layout.NODE_ADDRESS}/24 dev uplink0
link set uplink0 up
route add default via {layout.NODE_GATEWAY} src {layout.NODE_ADDRESS}
""",
}

# Before address translation, so that "port 8800 of the node" means what the outside world asked for. What nodes and pods began may be answered.
_DOORS = f"""
table ip doors {{
  chain outside {{
    type filter hook prerouting priority mangle;
    iifname != "uplink0" accept
    ct state established,related accept
    ip daddr {layout.NODE_ADDRESS} tcp dport {layout.TUNNEL_PORT} accept
    icmp type echo-request accept
    drop
  }}
}}
"""

_CUT = """
table ip cut
delete table ip cut
table ip cut {
  chain forward {
    type filter hook forward priority filter - 10;
    iifname "to-laptop" oifname "to-cluster" drop
    iifname "to-cluster" oifname "to-laptop" drop
  }
}
"""

# Whoever sends something on a connection is told that the other end has reset it.
_RESET = """
table ip resets
delete table ip resets
table ip resets {
  chain forward {
    type filter hook forward priority filter - 20;
    iifname "to-laptop" oifname "to-cluster" ip protocol tcp reject with tcp reset
    iifname "to-cluster" oifname "to-laptop" ip protocol tcp reject with tcp reset
  }
}
"""
_NO_RESET = """
table ip resets
delete table ip resets
"""

_MEND = """
table ip cut
delete table ip cut
"""


async def make_places() -> None:
    """Make the places and their links. Needs root in the sandbox's namespaces."""
    await run(["ip", "-batch", "-"], given=_LINKS)
    for place, commands in _ADDRESSES.items():
        await run(["ip", "-n", place, "-batch", "-"], given=commands)
    for place in (layout.INTERNET, layout.CLUSTER):
        with namespaces.network(layout.network_file(place)):
            _set("net/ipv4/ip_forward", "1")
            _set("net/ipv4/conf/all/rp_filter", "0")
            _set("net/ipv4/conf/default/rp_filter", "0")
            _set("net/ipv4/conf/all/send_redirects", "0")
            _set("net/ipv4/conf/default/send_redirects", "0")
    await run(["ip", "netns", "exec", layout.CLUSTER, "nft", "-f", "-"], given=_DOORS)


async def cut() -> None:
    """Drop every packet between laptop and cluster."""
    await run(["ip", "netns", "exec", layout.INTERNET, "nft", "-f", "-"], given=_CUT)


async def mend() -> None:
    """Undo `cut`."""
    await run(["ip", "netns", "exec", layout.INTERNET, "nft", "-f", "-"], given=_MEND)


async def reset(seconds: float) -> None:
    """Reset what laptop and cluster say to each other for a while."""
    await run(["ip", "netns", "exec", layout.INTERNET, "nft", "-f", "-"], given=_RESET)
    try:
        await asyncio.sleep(seconds)
    finally:
        await run(["ip", "netns", "exec", layout.INTERNET, "nft", "-f", "-"], given=_NO_RESET)


async def attach_pod(name: str, *, link: str, address: str) -> None:
    """Make a pod's network namespace and join it to the node, in whose namespace this process is. `link` is the node's end."""
    await run(
        ["ip", "-batch", "-"],
        given=f"""
netns add {name}
link add {link} type veth peer name eth0 netns {name}
addr add {layout.POD_GATEWAY}/32 dev {link}
link set {link} up
route add {address}/32 dev {link}
""",
    )
    await run(
        ["ip", "-n", name, "-batch", "-"],
        given=f"""
link set lo up
addr add {address}/32 dev eth0
link set eth0 up
route add {layout.POD_GATEWAY} dev eth0 scope link
route add default via {layout.POD_GATEWAY}
""",
    )
    with namespaces.network(layout.network_file(name)):
        # What the default of container runtimes is.
        _set("net/ipv4/ip_unprivileged_port_start", "0")


async def detach_pod(name: str, *, link: str) -> None:
    """Take a pod's network away; its processes have ended."""
    await run(["ip", "-force", "-batch", "-"], given=f"link del {link}\nnetns del {name}\n")


def _set(name: str, value: str) -> None:
    Path("/proc/sys", name).write_text(value)
