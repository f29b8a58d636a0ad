"""A lab before a real Kubernetes: the sandbox's laptops, LAN and internet, and a cluster that is none of the sandbox's.

What every such lab answers alike is here. How the place `cluster` and the laptops come to the cluster differs: `lab.py` for the Kubernetes that
these tests start themselves, `outside.py` for any other.
"""

import json
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from codezero.deploy import identity
from codezero.sandbox import layout
from codezero.sandbox.control import PodView, Sandbox, Status
from codezero.testing.waiting import eventually


class KubernetesLab(Sandbox):
    """The laptops of `network`, a sandbox without a cluster, before a real one. Ends the sandbox when closed."""

    def __init__(self, network: Sandbox) -> None:
        super().__init__(network.name, network.folder)
        self.network = network

    @abstractmethod
    def balance(self, service: str, namespace: str) -> None:
        """See to it that a Service of type LoadBalancer gets an address, where the cluster can."""

    def install_options(self) -> Sequence[str]:
        """What `czctl teamspace install` has to be told about this cluster."""
        return ()

    def issued_file(self, user: str) -> str:
        """Where the administrator's czctl writes a developer's access file."""
        return self.access_file(user)

    def hand_over(self, user: str) -> None:
        """Bring that file to where `access_file` says it is; here it is there."""

    def write(self, path: Path, content: str) -> None:
        """Write a file inside the sandbox, for its owner alone."""
        script = 'umask 077; mkdir -p "$(dirname "$1")"; cat > "$1"'
        self.run(layout.INTERNET, ["sh", "-c", script, "sh", str(path)], input=content)

    def down(self) -> bool:
        """Stop the sandbox."""
        return self.network.down()

    def access_file(self, user: str = "dev1") -> str:
        """Where a developer's access file is."""
        return str(layout.ACCESS_FOLDER / f"{user}.json")

    def authorities(self) -> str:
        """The keys that sign for laptops, as czctl keeps them."""
        return self.run(layout.CLUSTER, ["sh", "-c", "cat ~/.config/codezero/authorities/*.json"]).stdout

    def token(self, user: str = "dev1") -> str:
        """A fresh token of a developer for the CONNECT door, signed as a Hub would by what the administrator's machine keeps."""
        issuers = identity.decode(self.authorities().encode())
        return issuers.token(issuers.with_user(user).new_device(user), now=time.time())

    def kubectl(self, *arguments: str, **options: Any) -> str:
        """What kubectl prints, run as the cluster's administrator."""
        return self.run(layout.CLUSTER, ["kubectl", *arguments], **options).stdout

    def get(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds."""
        return json.loads(self.kubectl("get", *arguments, "-o", "json"))["items"]

    def status(self) -> Status:
        """How the sandbox is, with the pods of the real cluster."""
        return msgspec.structs.replace(super().status(), pods=tuple(map(_view, self.get("pods", "-A"))))

    def wait_for_pods(self, namespace: str, *, within: float = 120.0) -> None:
        """Return when every Deployment and StatefulSet of a namespace is as it should be."""

        def complete() -> bool:
            found = self.get("deployments,statefulsets", "-n", namespace)
            return bool(found) and all(
                one["status"].get("observedGeneration", 0) >= one["metadata"]["generation"]
                and one["status"].get("readyReplicas", 0) == one["spec"]["replicas"] == one["status"].get("replicas")
                for one in found
            )

        eventually(complete, within=within)


def _view(pod: dict[str, Any]) -> PodView:
    status = pod["status"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))
    return PodView(
        namespace=pod["metadata"]["namespace"],
        name=pod["metadata"]["name"],
        ready=ready,
        phase=status.get("phase", ""),
        address=status.get("podIP", ""),
        restarts=sum(one["restartCount"] for one in status.get("containerStatuses", ())),
    )
