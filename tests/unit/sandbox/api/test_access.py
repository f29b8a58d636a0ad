"""Who somebody is, and what they may do."""

import time
from typing import Any

import pytest

from codezero.sandbox.api import MASTERS, Store, User
from codezero.sandbox.api.authentication import Tokens
from codezero.sandbox.api.rbac import Action, is_allowed

Json = dict[str, Any]
RBAC = "rbac.authorization.k8s.io"
ROBOT = User("system:serviceaccount:shop:robot", frozenset({"system:serviceaccounts"}))


def role(*rules: Json, name: str = "r") -> Json:
    return {"metadata": {"name": name}, "rules": list(rules)}


def binding(kind: str = "ClusterRole", *, subject: Json | None = None) -> Json:
    chosen = subject or {"kind": "ServiceAccount", "name": "robot", "namespace": "shop"}
    return {"metadata": {"name": "b"}, "roleRef": {"kind": kind, "name": "r"}, "subjects": [chosen]}


def test_masters_may_do_everything(store: Store) -> None:
    assert is_allowed(
        store, User("admin", frozenset({MASTERS})), Action("delete", resource="secrets", namespace="kube-system")
    )


def test_without_a_binding_nothing_is_allowed(store: Store) -> None:
    assert not is_allowed(store, ROBOT, Action("get", resource="pods", namespace="shop"))


def test_cluster_binding_holds_everywhere(store: Store) -> None:
    store.create(
        f"clusterroles.{RBAC}", "", role({"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]})
    )
    store.create(f"clusterrolebindings.{RBAC}", "", binding())

    assert is_allowed(store, ROBOT, Action("list", resource="services", namespace="default"))
    assert is_allowed(store, ROBOT, Action("list", resource="services"))
    assert not is_allowed(store, ROBOT, Action("delete", resource="services", namespace="shop"))
    assert not is_allowed(store, ROBOT, Action("list", resource="services", subresource="status"))
    assert not is_allowed(store, ROBOT, Action("list", group="apps", resource="services"))


def test_role_binding_holds_in_its_namespace(store: Store) -> None:
    store.create(
        f"roles.{RBAC}",
        "shop",
        role({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["codezero-identity"], "verbs": ["get"]}),
    )
    store.create(f"rolebindings.{RBAC}", "shop", binding("Role"))

    assert is_allowed(store, ROBOT, Action("get", resource="secrets", namespace="shop", name="codezero-identity"))
    assert not is_allowed(store, ROBOT, Action("get", resource="secrets", namespace="shop", name="other"))
    assert not is_allowed(
        store, ROBOT, Action("get", resource="secrets", namespace="default", name="codezero-identity")
    )
    assert not is_allowed(store, ROBOT, Action("list", resource="secrets", namespace="shop"))


@pytest.mark.parametrize(
    ("user", "subject"),
    [
        (User("ann"), {"kind": "User", "name": "ann"}),
        (User("x", frozenset({"devs"})), {"kind": "Group", "name": "devs"}),
    ],
)
def test_users_and_groups_are_subjects(store: Store, user: User, subject: dict[str, str]) -> None:
    store.create(f"clusterroles.{RBAC}", "", role({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}))
    store.create(f"clusterrolebindings.{RBAC}", "", binding(subject=subject))

    assert is_allowed(store, user, Action("create", group="apps", resource="deployments", namespace="shop"))
    assert not is_allowed(store, User("eve"), Action("create", group="apps", resource="deployments", namespace="shop"))


def test_paths_are_allowed_by_their_own_rules(store: Store) -> None:
    anyone = User("x", frozenset({"system:authenticated"}))

    assert is_allowed(store, anyone, Action("get", path="/apis/apps/v1"))
    assert not is_allowed(store, anyone, Action("get", path="/metrics"))


@pytest.fixture
def tokens(store: Store) -> Tokens:
    store.create("serviceaccounts", "shop", {"metadata": {"name": "robot"}})
    return Tokens(store, {"given-token": User("ci", frozenset({"bots"}))})


def test_token_stands_for_its_service_account(tokens: Tokens) -> None:
    token, expires = tokens.issue("shop", "robot")
    found = tokens.user(token)

    assert expires > time.time()
    assert found is not None
    assert found[0].name == "system:serviceaccount:shop:robot"
    assert "system:serviceaccounts:shop" in found[0].groups


def test_token_is_for_its_audience_alone(tokens: Tokens) -> None:
    """A token given to the Router must not open the API."""
    token, _ = tokens.issue("shop", "robot", audiences=["codezero"])

    assert tokens.user(token) is None
    assert tokens.user(token, audiences=["codezero", "other"]) is not None


def test_token_dies_with_its_account_and_its_pod(store: Store, tokens: Tokens) -> None:
    pod = store.create(
        "pods", "shop", {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    )
    bound, _ = tokens.issue("shop", "robot", pod={"name": "p", "uid": pod.uid})
    plain, _ = tokens.issue("shop", "robot")
    found = tokens.user(bound)
    store.delete("pods", "shop", "p")
    after_pod = tokens.user(bound), tokens.user(plain)
    store.delete("serviceaccounts", "shop", "robot")
    store.create("serviceaccounts", "shop", {"metadata": {"name": "robot"}})

    assert found is not None
    assert found[0].extra["authentication.kubernetes.io/pod-name"] == ["p"]
    assert after_pod[0] is None
    assert after_pod[1] is not None
    assert tokens.user(plain) is None


def test_expired_and_foreign_tokens_are_refused(store: Store, tokens: Tokens) -> None:
    expired, _ = tokens.issue("shop", "robot", seconds=-60)
    foreign, _ = Tokens(store, {}).issue("shop", "robot")
    good, _ = tokens.issue("shop", "robot")
    head, body, _ = good.split(".")

    for token in (
        expired,
        foreign,
        f"{head}.{body}.",
        f"{head}.{body}.AAAA",
        "a.b.c",
        "x",
        "é",
        "eyJhbGciOiJub25lIn0.e30.",
    ):
        assert tokens.user(token) is None


def test_given_tokens_stand_for_whom_they_were_given(tokens: Tokens) -> None:
    found = tokens.user("given-token")

    assert found is not None
    assert found[0].name == "ci"
