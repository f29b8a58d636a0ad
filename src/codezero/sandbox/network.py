"""The sandbox's networks: places joined by links, a way into the cluster that lets one port through, and a network for every pod.

laptop  203.0.113.10 -+- internet (router, DNS 192.0.2.53, web 192.0.2.80, Hub 192.0.2.87) -- 198.51.100.10 cluster -- pods 10.244.0.0/16
laptop2 203.0.113.20 -+
laptop  192.168.77.10 ---- 192.168.77.20 lan

The cluster's one door for laptops is port 8800. From the internet itself (the place) one may also enter by what Services open to the outside, their
node ports and load balancers: as the users of a cluster's applications do, whom the tunnel's door has nothing to do with.
"""

import asyncio
from collections.abc import Collection, Mapping
from pathlib import Path

from codezero.sandbox import layout, namespaces
from codezero.sandbox.processes import run

_LINKS = f"""
netns add {layout.LAPTOP}
netns add {layout.LAPTOP2}
netns add {layout.LAN}
netns add {layout.INTERNET}
netns add {layout.CLUSTER}
link add uplink0 netns {layout.LAPTOP} type veth peer name to-laptop netns {layout.INTERNET}
link add uplink0 netns {layout.LAPTOP2} type veth peer name to-laptop2 netns {layout.INTERNET}
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
    layout.LAPTOP2: f"""
link set lo up
addr add {layout.LAPTOP2_ADDRESS}/24 dev uplink0
link set uplink0 up
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
addr add {layout.HUB_ADDRESS}/32 dev lo
addr add {layout.LAPTOP_GATEWAY}/24 dev to-laptop
addr add {layout.NODE_GATEWAY}/24 dev to-cluster
addr add {layout.LAPTOP_GATEWAY}/32 dev to-laptop2
link set to-laptop up
link set to-laptop2 up
link set to-cluster up
route add {layout.LAPTOP2_ADDRESS}/32 dev to-laptop2
""",
    layout.CLUSTER: f"""
link set lo up
addr add {layout.POD_GATEWAY}/32 dev lo
addr add {layout.NODE_ADDRESS}/24 dev uplink0
link set uplink0 up
route add default via {layout.NODE_GATEWAY} src {layout.NODE_ADDRESS}
""",
}

# The cluster stands elsewhere: whoever brings it joins its node to this place, and adds the routes.
_FORWARDING = {
    layout.CLUSTER: f"""
link set lo up
addr add {layout.FORWARDER_ADDRESS}/24 dev uplink0
link set uplink0 up
route add default via {layout.NODE_GATEWAY}
""",
    layout.INTERNET: _ADDRESSES[layout.INTERNET]
    + f"route add {layout.NODE_ADDRESS}/32 via {layout.FORWARDER_ADDRESS}\n",
}

# Before address translation, so that "port 8800 of the node" means what the outside world asked for. What nodes and pods began may be answered.
# From the internet comes more, and of that only what a Service has translated gets any further: nothing of the node's own.
_DOORS = f"""
table ip doors {{
  chain outside {{
    type filter hook prerouting priority mangle;
    iifname != "uplink0" accept
    ct state established,related accept
    ip daddr {layout.NODE_ADDRESS} tcp dport {layout.TUNNEL_PORT} accept
    icmp type echo-request accept
    ip saddr {{ {layout.NODE_GATEWAY}, {layout.INTERNET_WEB} }} ip daddr {layout.NODE_ADDRESS} accept
    drop
  }}
  chain node {{
    type filter hook input priority filter;
    iifname != "uplink0" accept
    ct state established,related accept
    ct status dnat accept
    tcp dport {layout.TUNNEL_PORT} accept
    icmp type echo-request accept
    drop
  }}
}}
"""


def _between(table: str, places: Collection[str], *, priority: int, verdict: str) -> str:
    """A table of that name that does `verdict` with what each of `places` and the cluster send each other; none where there are no places."""
    rules = [
        f"iifname {first} oifname {second} {verdict}"
        for place in places
        for first, second in ((f"to-{place}", "to-cluster"), ("to-cluster", f"to-{place}"))
    ]
    lines = [f"table ip {table}", f"delete table ip {table}"]
    if rules:
        head = f"type filter hook forward priority {priority};"
        lines += [f"table ip {table} {{", "chain forward {", head, *rules, "}", "}"]
    return "\n".join(lines) + "\n"


async def make_places(*, node: bool = True) -> None:
    """Make the places and their links. Needs root in the sandbox's namespaces.

    Without `node` nothing stands at the node's address: the place `cluster` forwards what goes there, to whatever somebody joins to it.
    """
    await run(["ip", "-batch", "-"], given=_LINKS)
    for place, commands in (_ADDRESSES if node else _ADDRESSES | _FORWARDING).items():
        await run(["ip", "-n", place, "-batch", "-"], given=commands)
    for place in (layout.INTERNET, layout.CLUSTER):
        with namespaces.network(layout.network_file(place)):
            _set("net/ipv4/ip_forward", "1")
            _set("net/ipv4/conf/all/rp_filter", "0")
            _set("net/ipv4/conf/default/rp_filter", "0")
            _set("net/ipv4/conf/all/send_redirects", "0")
            _set("net/ipv4/conf/default/send_redirects", "0")
    await run(["ip", "netns", "exec", layout.CLUSTER, "nft", "-f", "-"], given=_DOORS)


async def cut(places: Collection[str]) -> None:
    """Drop every packet between the cluster and each of these laptops, and let those of others through."""
    await _filter(_between("cut", places, priority=-10, verdict="drop"))


async def reset(places: Collection[str], seconds: float) -> None:
    """Reset what these laptops and the cluster say to each other for a while: whoever sends something is told that the other end has reset it."""
    verdict = "ip protocol tcp reject with tcp reset"
    await _filter(_between("resets", places, priority=-20, verdict=verdict))
    try:
        await asyncio.sleep(seconds)
    finally:
        await _filter(_between("resets", (), priority=-20, verdict=verdict))


async def _filter(rules: str) -> None:
    await run(["ip", "netns", "exec", layout.INTERNET, "nft", "-f", "-"], given=rules)


async def attach_pod(name: str, *, link: str, address: str, settings: Mapping[str, str]) -> None:
    """Make a pod's network namespace and join it to the node, in whose namespace this process is. `link` is the node's end.

    `settings` are sysctls of that namespace; raises OSError for one that cannot be set.
    """
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
        for setting, value in settings.items():
            _set(setting.replace(".", "/"), value)


async def detach_pod(name: str, *, link: str) -> None:
    """Take a pod's network away; its processes have ended."""
    await run(["ip", "-force", "-batch", "-"], given=f"link del {link}\nnetns del {name}\n")


def _set(name: str, value: str) -> None:
    file = Path("/proc/sys", name)
    if file.read_text().split() != value.split():
        file.write_text(value)
