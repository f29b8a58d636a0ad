from collections.abc import Iterator
from pathlib import Path

import pytest

from codezero.testing.sample_parts import SampleParts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[SampleParts]:
    started = SampleParts(tmp_path)
    yield started
    started.stop()
