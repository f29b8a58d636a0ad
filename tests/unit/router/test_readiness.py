"""A Router is ready once Envoy listens, and stays so while Envoy is started again. Envoy is a value here, time too."""

from dataclasses import dataclass

import pytest

from codezero.router.admin import Admin, EnvoyAbsentError, EnvoyState
from codezero.router.readiness import GRACE_SECONDS, Readiness


class ValueEnvoy(Admin):
    def __init__(self) -> None:
        self.is_absent = False
        self.is_live = True
        self.names = frozenset({"port:8080", "port:9090"})

    async def state(self) -> EnvoyState:
        if self.is_absent:
            raise EnvoyAbsentError
        return EnvoyState(run=1, is_live=self.is_live, versions={}, refused=0, is_warming=False)

    async def listeners(self) -> frozenset[str]:
        return self.names


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def envoy() -> ValueEnvoy:
    return ValueEnvoy()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def readiness(envoy: ValueEnvoy, clock: Clock) -> Readiness:
    return Readiness(envoy, listeners=frozenset({"port:8080", "port:9090"}), clock=clock)


async def test_it_is_not_ready_before_envoy_has_all_listeners(envoy: ValueEnvoy, readiness: Readiness) -> None:
    assert readiness.reason == "waiting for Envoy"
    envoy.is_absent = True
    await readiness.look()
    assert readiness.reason == "Envoy does not answer"
    envoy.is_absent, envoy.is_live = False, False
    await readiness.look()
    assert readiness.reason == "Envoy is starting"
    envoy.is_live, envoy.names = True, frozenset({"port:8080"})
    await readiness.look()
    assert readiness.reason == "Envoy does not listen on port:9090 yet"

    envoy.names = frozenset({"port:8080", "port:9090", "port:7070"})
    await readiness.look()

    assert readiness.reason is None


async def test_it_stays_ready_while_envoy_is_started_again_and_not_longer(
    envoy: ValueEnvoy, readiness: Readiness, clock: Clock
) -> None:
    """A pod that left the endpoints would leave the service with none for longer than Envoy is away."""
    await readiness.look()
    envoy.is_absent = True
    clock.now += GRACE_SECONDS
    await readiness.look()
    assert readiness.reason is None

    clock.now += 0.1
    assert readiness.reason == "Envoy does not answer"

    envoy.is_absent = False
    await readiness.look()
    assert readiness.reason is None


async def test_an_envoy_that_hangs_is_noticed_while_it_is_being_asked(readiness: Readiness, clock: Clock) -> None:
    await readiness.look()
    clock.now += GRACE_SECONDS + 0.1

    assert readiness.reason == "Envoy does not answer"
