"""A reflector converges to the truth through every fault of a watch, tells each difference once, and never loops hot (R11, R12)."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec
import pytest

from codezero.kit.tasks import task_group
from codezero.system.kubernetes.client import ApiError
from codezero.system.kubernetes.objects import SERVES, SERVICES, ServeResource, ServiceObject
from codezero.system.kubernetes.reflector import Reflector, Timing
from codezero.testing.kubernetes import Json, ScriptedApi, service_json, until

QUICK = Timing(page=3, settled=0.02, first_delay=0.005, most_delay=0.05, silence=0.5, initial=0.2)


class Recorder:
    """A reflector at work, and what it told."""

    def __init__(self, api: ScriptedApi, *, timing: Timing = QUICK, streamed: bool = True, **options: object) -> None:
        self.told: list[tuple[str | None, str | None]] = []
        self.names: dict[str, int] = {}
        self.reflector = Reflector(
            api, SERVICES, self._changed, timing=timing, streamed_list=streamed, source=random.Random(7), **options
        )

    def _changed(self, old: ServiceObject | None, new: ServiceObject | None) -> None:
        self.told.append((old and old.metadata.name, new and new.metadata.name))
        if new is not None:
            self.names[new.metadata.name] = (new.spec.ports or ())[0].port
        elif old is not None:
            del self.names[old.metadata.name]

    @property
    def is_following(self) -> bool:
        status = self.reflector.status.value
        return status.synced and status.stale_since is None


@asynccontextmanager
async def running(recorder: Recorder) -> AsyncIterator[Recorder]:
    async with task_group("test") as tasks:
        tasks.start_service("reflector", recorder.reflector.run())
        yield recorder


def numbered(count: int) -> list[Json]:
    return [service_json(f"s{number}") for number in range(count)]


@pytest.mark.parametrize("offered", [True, False])
async def test_lists_in_pages_or_as_a_stream_and_then_follows(offered: bool) -> None:
    """Both ways to begin must end in the same picture; the server decides which it is."""
    api = ScriptedApi(numbered(8), offers_streamed_lists=offered)
    async with running(Recorder(api)) as recorder:
        await until(lambda: len(recorder.names) == 8 and api.watchers == 1)
        api.put(service_json("s3", ports=[{"port": 81}]))
        api.put(service_json("new"))
        api.delete("s0")
        await until(lambda: "s0" not in recorder.names)

        assert recorder.names == {**{f"s{n}": 80 for n in range(1, 8)}, "s3": 81, "new": 80}
        assert len(recorder.told) == 11
    pages = [request for request in api.requests if "limit" in request]
    assert len(pages) == (0 if offered else 3)


async def test_a_watch_asks_for_bookmarks_and_an_end() -> None:
    """Without bookmarks a quiet resource's version grows too old; without an end a dead connection stays for ever."""
    api = ScriptedApi(numbered(1))
    async with running(Recorder(api, timing=Timing())):
        await until(lambda: api.watchers == 1)

    watch = api.requests[-1]
    assert watch["allowWatchBookmarks"] == "true"
    assert 240 <= int(watch["timeoutSeconds"]) <= 300
    assert watch["resourceVersion"] == str(api.version)


async def test_an_ended_watch_resumes_from_the_last_version_without_a_list() -> None:
    """Watches end every few minutes; listing ten thousand objects each time would be a waste."""
    api = ScriptedApi(numbered(2))
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.is_following and api.watchers == 1)
        await until(lambda: recorder.reflector._settled)
        api.put(service_json("late"))
        api.bookmark()
        seen = len(api.requests)
        await until(lambda: "late" in recorder.names)
        api.end_watches()
        await until(lambda: len(api.requests) > seen)

        assert api.requests[seen]["resourceVersion"] == str(api.version)
        assert recorder.reflector.counters.failures == {}
        assert recorder.is_following


@pytest.mark.parametrize("in_stream", [True, False])
async def test_a_forgotten_version_is_listed_anew_and_only_differences_are_told(in_stream: bool) -> None:
    """410 comes in two forms; either must lead to a list, and a list must not look like ten thousand changes."""
    api = ScriptedApi(numbered(5))
    async with running(Recorder(api)) as recorder:
        await until(lambda: api.watchers == 1)
        told = len(recorder.told)
        api.on_watch = _refuse(ApiError("down", status=503))
        api.end_watches()
        await until(lambda: api.watchers == 0)
        api.put(service_json("s1", ports=[{"port": 99}]))
        api.put(service_json("new"))
        api.delete("s4")
        if in_stream:
            api.on_watch = lambda _: None
            await until(lambda: api.watchers == 1)
            api.say(b'{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n')
        else:
            api.forget_history()
            api.on_watch = lambda _: None
        await until(lambda: recorder.is_following and "new" in recorder.names and "s4" not in recorder.names)

        assert recorder.names == {"s0": 80, "s1": 99, "s2": 80, "s3": 80, "new": 80}
        assert len(recorder.told) - told == 3


async def test_a_line_that_was_cut_is_counted_and_listed_anew() -> None:
    """Half a JSON line is a change we have lost."""
    api = ScriptedApi(numbered(2))
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.is_following)
        lists = recorder.reflector.counters.lists
        api.say(b'{"type":"MODIFIED","object":{"metada')
        api.end_watches()
        await until(lambda: recorder.reflector.counters.lists > lists and recorder.is_following)

        assert recorder.reflector.counters.undecodable == 1
        assert recorder.reflector.counters.failures == {"undecodable": 1}


async def test_an_object_of_an_unexpected_form_hides_only_itself() -> None:
    """One odd object must not blind the System to the rest of the cluster."""
    api = ScriptedApi([*numbered(3), {"metadata": {"name": "odd", "namespace": "shop"}, "spec": {"ports": "none"}}])
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.is_following)

        assert sorted(recorder.names) == ["s0", "s1", "s2"]
        assert recorder.reflector.counters.undecodable >= 1


async def test_a_mute_watch_is_noticed_and_the_picture_is_fetched_anew() -> None:
    """A server that keeps the connection and says nothing must not look like a quiet cluster."""
    api = ScriptedApi(numbered(2))
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.is_following and api.watchers == 1)
        api.bookmark()
        await until(lambda: recorder.reflector.counters.events == 1 and recorder.reflector._settled)
        api.end_watches()
        before = recorder.reflector.counters.lists
        await until(lambda: recorder.reflector.counters.lists > before)

        assert recorder.reflector.counters.failures.get("silence", 0) >= 1


async def test_following_is_stale_from_the_break_until_a_watch_stands() -> None:
    """People must see that the catalog may be old, since when, and when that is over."""
    wall = [1000.0]
    api = ScriptedApi(numbered(1))
    async with running(Recorder(api, wall_clock=lambda: wall[0])) as recorder:
        await until(lambda: recorder.reflector._settled)
        wall[0] = 1060.0
        api.on_watch = _refuse(ApiError("connection refused"))
        api.end_watches()
        await until(lambda: recorder.reflector.status.value.stale_since is not None)
        wall[0] = 1600.0
        await until(lambda: recorder.reflector.counters.failures.get("connection", 0) > 3)

        assert recorder.reflector.status.value.stale_since == 1000.0
        assert recorder.names == {"s0": 80}
        api.on_watch = lambda _: None
        await until(lambda: recorder.is_following)


def _refuse(error: ApiError) -> Callable[[Mapping[str, str]], None]:
    def refuse(_: Mapping[str, str]) -> None:
        raise error

    return refuse


FAULTS = {
    "410": ApiError("gone", status=410, reason="Expired"),
    "429": ApiError("slow down", status=429, retry_after=7.0),
    "500": ApiError("oops", status=500),
    "403": ApiError("forbidden", status=403),
    "refused": ApiError("ConnectError"),
    "silence": ApiError("silent", silent=True),
}


@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        *((fault, phase) for fault in FAULTS for phase in ("list", "watch")),
        ("EOF", "watch"),
        ("in-stream 410", "watch"),
    ],
)
async def test_no_fault_makes_a_hot_loop(fault: str, phase: str) -> None:
    """Libraries asked 320 to 530 times a second here; a cluster in trouble must not get more trouble from us."""
    api = ScriptedApi(numbered(2))
    minute = asyncio.Event()
    slept = [0.0]

    async def sleep(seconds: float) -> None:
        slept[0] += seconds
        if slept[0] >= 60:
            minute.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)

    if fault in FAULTS:
        setattr(api, f"on_{phase}", _refuse(FAULTS[fault]))
    else:
        line = b'{"type":"ERROR","object":{"code":410,"reason":"Expired","message":"too old"}}\n'

        def break_soon(_: Mapping[str, str]) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, api.end_watches if fault == "EOF" else lambda: api.say(line))

        api.on_watch = break_soon
    recorder = Recorder(api, timing=Timing(), streamed=False, sleep=sleep)
    async with running(recorder):
        async with asyncio.timeout(20):
            await minute.wait()

        assert len(api.requests) <= 25
        assert recorder.reflector.status.value.stale_since is not None
        assert recorder.reflector.status.value.synced == (phase == "watch")


async def test_a_server_that_asks_for_patience_gets_it() -> None:
    """Retry-After is honoured, within reason: a wrong answer must not stop us for a day."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    api = ScriptedApi(numbered(1))
    api.on_list = _refuse(ApiError("slow down", status=429, retry_after=20))
    async with running(Recorder(api, streamed=False, sleep=sleep)):
        await until(lambda: len(pauses) > 2)
        api.on_list = _refuse(ApiError("slow down", status=429, retry_after=1e9))
        polite = len(pauses)
        await until(lambda: len(pauses) > polite + 1)

    assert all(20 <= pause <= 22 for pause in pauses[:polite])
    assert pauses[-1] <= 330


async def test_a_server_that_declines_streamed_lists_is_asked_once() -> None:
    """The switch is off on many clusters; that is no failure."""
    api = ScriptedApi(numbered(1), offers_streamed_lists=False)
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.is_following)
        for _ in range(3):
            api.forget_history()
            api.say(b'{"type":"ERROR","object":{"code":410}}\n')
            await until(lambda before=recorder.reflector.counters.lists: recorder.reflector.counters.lists > before)
            await until(lambda: api.watchers == 1)

        assert sum("sendInitialEvents" in request for request in api.requests) == 1
        assert "HTTP 422" not in recorder.reflector.counters.failures


async def test_changes_in_the_middle_of_a_streamed_list_count() -> None:
    """A busy cluster does not wait until the list is over."""
    api = ScriptedApi(numbered(3), offers_streamed_lists=True)
    changed, gone = service_json("s1", ports=[{"port": 81}], version=900), service_json("s2", version=901)
    api.while_listing = [
        msgspec.json.encode({"type": kind, "object": item}) + b"\n"
        for kind, item in (("MODIFIED", changed), ("DELETED", gone))
    ]
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.reflector.status.value.synced)

        assert recorder.names == {"s0": 80, "s1": 81}


async def test_a_streamed_list_that_never_ends_is_given_up_for_pages() -> None:
    """A server that ignores the question must not keep the catalog empty."""

    class Ignorant(ScriptedApi):
        def _bookmark(self, *, ends_initial_events: bool = False) -> bytes:
            return super()._bookmark(ends_initial_events=False)

    api = Ignorant(numbered(2), offers_streamed_lists=True)
    async with running(Recorder(api)) as recorder:
        await until(lambda: recorder.is_following)

        assert sorted(recorder.names) == ["s0", "s1"]


async def test_five_thousand_changes_leave_only_the_last_state() -> None:
    """Nothing of the past may stay in memory."""
    api = ScriptedApi(numbered(20), offers_streamed_lists=True)
    async with running(Recorder(api)) as recorder:
        await until(lambda: api.watchers == 1)
        for number in range(5000):
            api.put(service_json(f"s{number % 20}", ports=[{"port": 1 + number % 60000}]))
            if number % 100 == 0:
                await asyncio.sleep(0)
        await until(lambda: recorder.reflector.counters.events == 5000)

        assert recorder.names == {f"s{n % 20}": 1 + n for n in range(4980, 5000)}
        assert len(recorder.reflector.objects) == 20


async def test_a_kind_that_the_cluster_does_not_know_has_no_objects() -> None:
    """A cluster without Serve objects is not one that cannot be seen; and asking again is no hot loop."""
    api = ScriptedApi([])

    def refuse(_: Mapping[str, str]) -> None:
        raise ApiError("the server could not find the requested resource", status=404, reason="NotFound")

    api.on_list = api.on_watch = refuse
    told: list[object] = []
    reflector = Reflector(api, SERVES, lambda old, new: told.append((old, new)), timing=QUICK, source=random.Random(7))
    async with task_group("test") as tasks:
        tasks.start_service("reflector", reflector.run())
        await until(lambda: reflector.counters.failures.get("absent", 0) > 3)
        status = reflector.status.value

    assert (status.synced, status.stale_since) == (True, None)
    assert told == []


async def test_a_kind_that_goes_takes_its_objects_along_and_one_that_comes_is_followed() -> None:
    api = ScriptedApi([serve_json("a")])
    names: set[str] = set()

    def changed(old: ServeResource | None, new: ServeResource | None) -> None:
        names.discard(old.metadata.name if old else "")
        if new:
            names.add(new.metadata.name)

    def refuse(_: Mapping[str, str]) -> None:
        raise ApiError("the server could not find the requested resource", status=404, reason="NotFound")

    reflector = Reflector(api, SERVES, changed, timing=QUICK, source=random.Random(7))
    accept = api.on_watch
    async with task_group("test") as tasks:
        tasks.start_service("reflector", reflector.run())
        await until(lambda: names == {"a"})
        api.on_list = api.on_watch = refuse
        api.end_watches()
        await until(lambda: not names)
        api.on_list = api.on_watch = accept
        await until(lambda: names == {"a"})


def serve_json(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"}, "spec": "garbage"}
