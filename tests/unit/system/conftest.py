"""What most tests here begin with."""

import pytest

from codezero.testing.kubernetes import FilledInventory


@pytest.fixture
def inventory() -> FilledInventory:
    return FilledInventory().synced()
