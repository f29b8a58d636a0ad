"""A store with a bootstrapped cluster in it, and helpers to play the node."""

from collections.abc import Callable

import pytest

from codezero.sandbox.api import JsonObject, Store, Stored, bootstrap


@pytest.fixture
def store() -> Store:
    made = Store()
    bootstrap(made)
    return made


@pytest.fixture
def make_ready(store: Store) -> Callable[..., Stored]:
    """Plays the kubelet: give a pod an address and a readiness."""

    def make(pod: Stored, *, ready: bool = True, address: str = "10.244.0.9", phase: str = "Running") -> Stored:
        content = store.get("pods", pod.namespace, pod.name).copy()
        content["spec"]["nodeName"] = "sandbox-node"
        content = store.update("pods", pod.namespace, content).copy()
        content["status"] = {
            "phase": phase,
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        return store.update("pods", pod.namespace, content, subresource="status")

    return make


@pytest.fixture
def template() -> JsonObject:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "containers": [
                {"name": "main", "image": "none:1", "command": ["x"], "ports": [{"name": "web", "containerPort": 8080}]}
            ]
        },
    }
