from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox import workloads
from codezero.sandbox.api import JsonObject, Store, Stored
from codezero.sandbox.workloads import DEPLOYMENTS, PODS, REPLICA_SETS, STATEFUL_SETS, Workloads


class Play:
    """Runs the controllers to rest, as many rounds as it takes."""

    def __init__(self, store: Store, make_ready: Callable[..., Stored]) -> None:
        self.store = store
        self.make_ready = make_ready
        self.controllers = Workloads(store)

    def settle(self, *, ready: bool = True, most: int = 60) -> None:
        for _ in range(most):
            before = self.store.storage.revision
            for resource in (DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS):
                for found in self.store.list(resource):
                    self.controllers.look_at((resource, found.namespace, found.name))
            if ready:
                for pod in self.pods():
                    if not workloads.is_ready(pod.content):
                        self.make_ready(pod)
            self.finish_deletions()
            if self.store.storage.revision == before:
                return
        raise AssertionError("the controllers never rest")

    def finish_deletions(self) -> None:
        for pod in self.store.list(PODS):
            if "deletionTimestamp" in pod.content["metadata"]:
                self.store.delete(PODS, pod.namespace, pod.name, grace_seconds=0)

    def pods(self) -> list[Stored]:
        return self.store.list(PODS, "default")

    def names(self) -> set[str]:
        return {pod.name for pod in self.pods()}


@pytest.fixture
def play(store: Store, make_ready: Callable[..., Stored]) -> Play:
    return Play(store, make_ready)


def deployment(template: JsonObject, *, replicas: int = 2, **spec: object) -> JsonObject:
    return {
        "metadata": {"name": "web"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template, **spec},
    }


def stateful_set(template: JsonObject, **spec: object) -> JsonObject:
    selector = {"matchLabels": {"app": "web"}}
    base = {"replicas": 3, "serviceName": "web", "selector": selector, "template": template}
    return {"metadata": {"name": "db"}, "spec": base | spec}


def change_image(store: Store, resource: str, name: str, image: str) -> None:
    content = store.get(resource, "default", name).copy()
    content["spec"]["template"]["spec"]["containers"][0]["image"] = image
    store.update(resource, "default", content)


def test_a_deployment_gets_its_pods_and_says_that_it_has_them(store: Store, play: Play, template: JsonObject) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template))
    play.settle()

    status = store.get(DEPLOYMENTS, "default", "web").content["status"]
    assert len(play.pods()) == 2
    assert (status["readyReplicas"], status["updatedReplicas"], status["observedGeneration"]) == (2, 2, 1)
    assert {condition["type"]: condition["reason"] for condition in status["conditions"]} == {
        "Available": "MinimumReplicasAvailable",
        "Progressing": "NewReplicaSetAvailable",
    }


def test_a_lost_pod_is_replaced_and_surplus_goes(store: Store, play: Play, template: JsonObject) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template, replicas=3))
    play.settle()
    lost = play.pods()[0]
    store.delete(PODS, "default", lost.name, grace_seconds=0)
    play.settle()
    assert len(play.names() - {lost.name}) == 3

    store.set_scale(DEPLOYMENTS, "default", "web", {"spec": {"replicas": 1}})
    play.settle()
    assert len(play.names()) == 1


def test_scaling_down_takes_the_pod_that_is_not_ready(store: Store, play: Play, template: JsonObject) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template, replicas=3))
    play.settle()
    broken = play.pods()[1]
    play.make_ready(broken, ready=False)
    store.set_scale(DEPLOYMENTS, "default", "web", {"spec": {"replicas": 2}})
    play.settle(ready=False)

    assert broken.name not in play.names()


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), ("25%", "25%"), ("100%", 0), (0, 0)])
def test_a_rolling_update_keeps_enough_pods_and_never_too_many(
    store: Store, play: Play, template: JsonObject, surge: int | str, unavailable: int | str
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}
    store.create(DEPLOYMENTS, "default", deployment(template, replicas=4, strategy=strategy))
    play.settle()
    old = play.names()
    least = 4 - max(workloads.resolved(unavailable, 4, up=False), 1 if surge == 0 == unavailable else 0)
    most = 4 + workloads.resolved(surge, 4, up=True)
    change_image(store, DEPLOYMENTS, "web", "none:2")

    for _ in range(40):
        play.settle(ready=False)
        ready = [pod for pod in play.pods() if workloads.is_ready(pod.content)]
        assert len(ready) >= least
        assert len(play.pods()) <= most
        waiting = [pod for pod in play.pods() if not workloads.is_ready(pod.content)]
        if not waiting:
            break
        play.make_ready(waiting[0])

    assert play.names().isdisjoint(old)
    assert len(play.names()) == 4


def test_recreate_never_runs_two_versions(store: Store, play: Play, template: JsonObject) -> None:
    """For software that must not run twice, such as our Orchestrator."""
    store.create(DEPLOYMENTS, "default", deployment(template, replicas=1, strategy={"type": "Recreate"}))
    play.settle()
    (old,) = play.pods()
    change_image(store, DEPLOYMENTS, "web", "none:2")
    for found in (*store.list(DEPLOYMENTS), *store.list(REPLICA_SETS)):
        resource = DEPLOYMENTS if found.content["kind"] == "Deployment" else REPLICA_SETS
        play.controllers.look_at((resource, "default", found.name))
        play.controllers.look_at((DEPLOYMENTS, "default", "web"))

    assert play.names() == {old.name}
    play.settle()
    assert len(play.names()) == 1
    assert old.name not in play.names()


def test_going_back_to_an_earlier_template_uses_its_replica_set_again(
    store: Store, play: Play, template: JsonObject
) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template))
    play.settle()
    change_image(store, DEPLOYMENTS, "web", "none:2")
    play.settle()
    change_image(store, DEPLOYMENTS, "web", "none:1")
    play.settle()

    assert len(store.list(REPLICA_SETS)) == 2
    assert {pod.content["spec"]["containers"][0]["image"] for pod in play.pods()} == {"none:1"}


def test_old_replica_sets_go_beyond_the_history_limit(store: Store, play: Play, template: JsonObject) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template, revisionHistoryLimit=1))
    for number in range(4):
        play.settle()
        change_image(store, DEPLOYMENTS, "web", f"none:{number + 10}")
    play.settle()

    assert len(store.list(REPLICA_SETS)) == 2


def test_a_paused_deployment_does_nothing(store: Store, play: Play, template: JsonObject) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template, paused=True))
    play.settle()

    assert play.pods() == []


def test_deleting_a_deployment_takes_its_pods_with_it(store: Store, play: Play, template: JsonObject) -> None:
    store.create(DEPLOYMENTS, "default", deployment(template))
    play.settle()
    store.delete(DEPLOYMENTS, "default", "web")
    play.settle()

    assert play.pods() == []
    assert store.list(REPLICA_SETS) == []


def test_pods_of_a_stateful_set_have_names_and_come_one_by_one(store: Store, play: Play, template: JsonObject) -> None:
    store.create(STATEFUL_SETS, "default", stateful_set(template))
    play.settle(ready=False)
    assert play.names() == {"db-0"}

    play.settle()
    first = store.get(PODS, "default", "db-0").content
    assert play.names() == {"db-0", "db-1", "db-2"}
    assert (first["spec"]["hostname"], first["spec"]["subdomain"]) == ("db-0", "web")


def test_pods_of_a_parallel_stateful_set_come_at_once(store: Store, play: Play, template: JsonObject) -> None:
    store.create(STATEFUL_SETS, "default", stateful_set(template, podManagementPolicy="Parallel"))
    play.settle(ready=False)

    assert play.names() == {"db-0", "db-1", "db-2"}


def test_a_stateful_set_shrinks_from_its_end(store: Store, play: Play, template: JsonObject) -> None:
    store.create(STATEFUL_SETS, "default", stateful_set(template))
    play.settle()
    store.set_scale(STATEFUL_SETS, "default", "db", {"spec": {"replicas": 1}})
    play.settle()

    assert play.names() == {"db-0"}


def test_a_stateful_set_updates_one_pod_at_a_time_from_its_end(store: Store, play: Play, template: JsonObject) -> None:
    store.create(STATEFUL_SETS, "default", stateful_set(template))
    play.settle()
    before = {pod.name: pod.uid for pod in play.pods()}
    change_image(store, STATEFUL_SETS, "db", "none:2")
    play.settle(ready=False)
    replaced = [pod.name for pod in play.pods() if pod.uid != before[pod.name]]
    assert replaced == ["db-2"]

    play.settle()
    status = store.get(STATEFUL_SETS, "default", "db").content["status"]
    assert all(pod.uid != before[pod.name] for pod in play.pods())
    assert status["currentRevision"] == status["updateRevision"]
    assert status["readyReplicas"] == 3


def test_rest_is_rest(store: Store, play: Play, template: JsonObject) -> None:
    """A controller that writes although nothing changed wakes itself for ever."""
    store.create(DEPLOYMENTS, "default", deployment(template))
    store.create(STATEFUL_SETS, "default", stateful_set(template))
    play.settle()
    before = store.storage.revision
    play.settle()

    assert store.storage.revision == before


@given(total=st.integers(0, 1000), percent=st.integers(0, 100))
def test_percentages_round_up_for_surge_and_down_for_missing(total: int, percent: int) -> None:
    up = workloads.resolved(f"{percent}%", total, up=True)
    down = workloads.resolved(f"{percent}%", total, up=False)

    assert down <= up <= down + 1
    assert up * 100 >= percent * total >= down * 100


def test_equal_templates_have_equal_hashes_whatever_their_order() -> None:
    assert workloads.template_hash({"a": 1, "b": {"c": 2, "d": 3}}) == workloads.template_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert workloads.template_hash({"a": 1}) != workloads.template_hash({"a": 2})
