"""What all tests share: an asyncio backend, and no silent skips in CI."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from tests.hub_databases import (  # noqa: F401 - fixtures
    database,
    database_url,
    empty_database_url,
    hub,
    hub_clock,
    postgres_server,
    sealer,
    sqlite_template,
)

_skipped: list[str] = []


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Sandboxes of tests are not those of the person who runs them."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """A test that sets up logs does so for itself alone."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def own_umask() -> Iterator[None]:
    """A test that makes private files does not make those of the tests after it private."""
    before = _umask()
    yield
    after = _umask()
    os.umask(before)
    assert after == before, f"the test leaves the umask {after:04o}"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if "expected:" not in reason:
            _skipped.append(f"{report.nodeid}: {reason}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A test that CI did not run proves nothing: only skips whose reason begins with `expected:` are fine there."""
    if os.environ.get("CI") and _skipped and exitstatus == 0:
        print("\nskipped without being expected to be:")
        print(*_skipped, sep="\n")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
