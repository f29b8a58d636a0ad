from codezero.sandbox import happenings
from codezero.sandbox.api import Store
from codezero.sandbox.happenings import Recorder


def test_the_same_event_again_is_counted(store: Store) -> None:
    about = store.create("configmaps", "default", {"metadata": {"name": "c"}})
    recorder = Recorder(store, "tests")
    for _ in range(3):
        recorder.record(about, "Tested", "well", warning=True)

    (event,) = store.list("events")
    assert (event.content["count"], event.content["type"]) == (3, "Warning")
    assert event.content["involvedObject"]["name"] == "c"


def test_only_the_newest_of_very_many_events_are_kept(store: Store) -> None:
    about = store.create("configmaps", "default", {"metadata": {"name": "c"}})
    recorder = Recorder(store, "tests")
    for number in range(happenings.MOST_EVENTS + 10):
        recorder.record(about, "Tested", str(number))

    kept = {event.content["message"] for event in store.list("events")}
    assert len(kept) == happenings.MOST_EVENTS
    assert "9" not in kept


def test_events_of_a_namespace_that_goes_are_lost_quietly(store: Store) -> None:
    store.create("namespaces", "", {"metadata": {"name": "n"}})
    about = store.create("configmaps", "n", {"metadata": {"name": "c"}})
    store.delete("namespaces", "", "n")

    Recorder(store, "tests").record(about, "Tested", "too late")
