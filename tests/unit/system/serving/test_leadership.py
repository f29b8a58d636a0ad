"""One replica leads, and none leads for longer than the others believe it does."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from codezero.system.kubernetes.client import ApiError
from codezero.system.serving.leadership import LEASE_SECONDS, RENEW_WITHIN_SECONDS, Leadership
from codezero.testing.kubernetes import until

Json = dict[str, Any]


class LeaseApi:
    """The one object, with versions, as an API server keeps it. `away` makes it unreachable."""

    def __init__(self) -> None:
        self.lease: Json | None = None
        self.away = False
        self.writes = 0

    def _check(self) -> None:
        if self.away:
            raise ApiError("away")

    async def get(self, path: str, parameters: Mapping[str, str]) -> bytes:
        self._check()
        if self.lease is None:
            raise ApiError("HTTP 404", status=404)
        return msgspec.json.encode(self.lease)

    async def create(self, path: str, body: Json) -> bytes:
        self._check()
        if self.lease is not None:
            raise ApiError("HTTP 409", status=409)
        return self._write(body)

    async def replace(self, path: str, body: Json) -> bytes:
        self._check()
        assert self.lease is not None
        if body["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise ApiError("HTTP 409", status=409)
        return self._write(body)

    def _write(self, body: Json) -> bytes:
        self.writes += 1
        self.lease = msgspec.json.decode(msgspec.json.encode(body))
        self.lease["metadata"]["resourceVersion"] = str(self.writes)
        return msgspec.json.encode(self.lease)

    @property
    def holder(self) -> str:
        assert self.lease is not None
        return self.lease["spec"]["holderIdentity"]


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def replica(api: LeaseApi, time: Time, name: str) -> Leadership:
    return Leadership(api, namespace="codezero", identity=name, steady=time, wall_clock=time)  # type: ignore[arg-type]


async def test_the_first_leads_and_others_wait() -> None:
    api, time = LeaseApi(), Time()
    first, second = replica(api, time, "a"), replica(api, time, "b")

    assert await first.try_once()
    assert not await second.try_once()
    assert api.holder == "a"


async def test_a_holder_that_renews_keeps_the_lease() -> None:
    api, time = LeaseApi(), Time()
    first, second = replica(api, time, "a"), replica(api, time, "b")
    for _ in range(30):
        assert await first.try_once()
        assert not await second.try_once()
        time.now += 2


async def test_a_silent_holder_loses_the_lease_after_fifteen_seconds() -> None:
    """Counted by the clock of the one who waits, from when it first saw the last renewal."""
    api, time = LeaseApi(), Time()
    first, second = replica(api, time, "a"), replica(api, time, "b")
    await first.try_once()
    time.now += 1000  # as long as it likes: nobody looked
    assert not await second.try_once()
    time.now += LEASE_SECONDS - 1
    assert not await second.try_once()
    time.now += 1

    assert await second.try_once()
    assert not await first.try_once()
    assert api.lease is not None
    assert api.lease["spec"]["leaseTransitions"] == 1


async def test_a_holder_that_cannot_renew_gives_up_before_others_take_over() -> None:
    """Between the two nobody leads; never two."""
    api, time = LeaseApi(), Time()
    first = replica(api, time, "a")
    await first.try_once()
    api.away = True
    time.now += RENEW_WITHIN_SECONDS - 1
    assert await first.try_once()
    time.now += 1

    assert not await first.try_once()
    assert RENEW_WITHIN_SECONDS < LEASE_SECONDS


async def test_of_two_that_take_it_at_once_one_gets_it() -> None:
    api, time = LeaseApi(), Time()
    first, second = replica(api, time, "a"), replica(api, time, "b")
    results = await asyncio.gather(first.try_once(), second.try_once())

    assert sorted(results) == [False, True]


async def test_a_restarted_holder_goes_on_at_once() -> None:
    api, time = LeaseApi(), Time()
    await replica(api, time, "a").try_once()

    assert await replica(api, time, "a").try_once()


async def test_work_runs_while_leading_and_the_lease_is_given_up_at_the_end() -> None:
    """A rolling update must not wait 15 s for the next leader."""
    api, time = LeaseApi(), Time()
    first = replica(api, time, "a")
    working: list[str] = []

    async def work() -> None:
        working.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            working.append("ended")

    task = asyncio.create_task(first.run(work))
    await until(lambda: working == ["begun"])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert working == ["begun", "ended"]
    assert api.holder == ""
    assert await replica(api, time, "b").try_once()


async def test_a_leader_that_was_paused_is_not_sure_before_it_has_asked() -> None:
    """Nothing of it ran meanwhile, so nobody could tell it; another leads by now."""
    api, time = LeaseApi(), Time()
    first, second = replica(api, time, "first"), replica(api, time, "second")
    assert not first.is_sure
    assert await first.try_once()
    assert first.is_sure
    assert not await second.try_once()

    time.now += LEASE_SECONDS

    assert first.leading
    assert not first.is_sure
    assert await second.try_once()
    assert second.is_sure
    assert not await first.try_once()
    assert not first.is_sure
