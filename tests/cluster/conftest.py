"""These tests need a real Kubernetes; `make test-k8s` runs them, and `make test` leaves them out."""

from pathlib import Path

import pytest

# What a laptop does is told in one place.
from tests.lab.conftest import both, consuming, laptop, laptop2, peers, sandbox, serving1, serving2, with_peers

__all__ = ["both", "consuming", "laptop", "laptop2", "peers", "sandbox", "serving1", "serving2", "with_peers"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Only with the plugin that brings the cluster."""
    return None if config.pluginmanager.hasplugin("tests.cluster.plugin") else True
