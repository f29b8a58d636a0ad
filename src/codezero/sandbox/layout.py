"""Where everything is: addresses of the sandbox's networks, folders inside its namespaces and outside. All addresses are from documentation ranges."""

import os
import re
from pathlib import Path

from codezero.model import problems
from codezero.model.problems import CodezeroError

# Networks. The laptops reach the cluster through the internet, and not each other; the LAN peer reaches the first laptop alone.
LAPTOP_ADDRESS = "203.0.113.10"
LAPTOP2_ADDRESS = "203.0.113.20"
LAPTOP_GATEWAY = "203.0.113.1"
LAN_NETWORK = "192.168.77.0/24"
LAPTOP_LAN_ADDRESS = "192.168.77.10"
LAN_PEER_ADDRESS = "192.168.77.20"
NODE_ADDRESS = "198.51.100.10"
NODE_GATEWAY = "198.51.100.1"
# Where a way to a node that is none of the sandbox's begins.
FORWARDER_ADDRESS = "198.51.100.2"
INTERNET_DNS = "192.0.2.53"
INTERNET_WEB = "192.0.2.80"
HUB_ADDRESS = "192.0.2.87"

# The cluster.
NODE_NAME = "sandbox-node"
DOMAIN = "cluster.local"
POD_NETWORK = "10.244.0.0/16"
POD_GATEWAY = "10.244.0.1"
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
API_PORT = 6443
TUNNEL_PORT = 8800

HUB_NAME = "hub.example"
HUB_URL = f"https://{HUB_NAME}"

TEAMSPACE_NAME = "sandbox"
TEAMSPACE_NAMESPACE = "codezero"
SAMPLE_NAMESPACE = "sample-project"

LAPTOP = "laptop"
LAPTOP2 = "laptop2"
LAN = "lan"
INTERNET = "internet"
CLUSTER = "cluster"
PLACES = (LAPTOP, LAPTOP2, LAN, INTERNET, CLUSTER)
# Places with files of their own, and the developer each belongs to.
OWNERS = {LAPTOP: "dev1", LAPTOP2: "dev2"}
LAPTOPS = tuple(OWNERS)

# Inside: on a memory file system of the sandbox's own, so that secrets never reach a disk and go with the keeper.
INSIDE = Path("/run/codezero-sandbox")
ACCESS_FOLDER = INSIDE / "access"
# What laptops believe the Hub by.
HUB_CA = ACCESS_FOLDER / "hub-ca.pem"
HUB_FOLDER = INSIDE / "hub"
KUBECONFIG = INSIDE / "cluster" / "kubeconfig"
PODS_FOLDER = INSIDE / "pods"
PLACES_FOLDER = INSIDE / "places"

PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


def mounts_file(place: str) -> Path:
    """The file that stands for the mount namespace of a laptop."""
    return PLACES_FOLDER / f"{place}.mnt"


def host_name_file(place: str) -> Path:
    """The file that stands for the host-name namespace of a laptop."""
    return PLACES_FOLDER / f"{place}.uts"


def network_file(name: str) -> Path:
    """The file that stands for a network namespace, as `ip netns` has it."""
    return Path("/run/netns") / name


def state_folder(name: str) -> Path:
    """Outside: where the sandbox of that name keeps its control socket and its logs; raises `CodezeroError` for names that are none."""
    if _NAME.fullmatch(name) is None:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{name[:40]!r} is no name for a sandbox: lower-case letters, digits and dashes, at most 32",
            fix="czctl sandbox up --name demo",
        )
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "codezero" / "sandbox" / name
