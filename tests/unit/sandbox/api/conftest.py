"""A store with the namespaces every cluster has, and objects to put into it."""

from collections.abc import Callable
from typing import Any

import pytest

from codezero.sandbox.api import Store, bootstrap

Json = dict[str, Any]


@pytest.fixture
def store() -> Store:
    store = Store()
    bootstrap(store)
    store.create("namespaces", "", {"metadata": {"name": "shop"}})
    return store


@pytest.fixture
def service() -> Callable[..., Json]:
    def make(name: str = "orders", **spec: Any) -> Json:
        ports = spec.pop("ports", [{"port": 80}])
        return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports, **spec}}

    return make


@pytest.fixture
def deployment() -> Callable[..., Json]:
    def make(name: str = "orders", **spec: Any) -> Json:
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}
        return {
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template, **spec},
        }

    return make


@pytest.fixture
def pod() -> Callable[..., Json]:
    def make(name: str = "orders-1", **metadata: Any) -> Json:
        return {"metadata": {"name": name, **metadata}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}

    return make
