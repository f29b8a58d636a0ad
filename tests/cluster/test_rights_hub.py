"""What the System of a Teamspace with a Hub may do besides, asked of a real API server: keep what the Hub has signed and said, and nothing else (T24, T28)."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cluster import binaries
from tests.cluster.slab import Slab
from tests.cluster.test_rights import FENCE, GOLDEN, OTHER, OWN, SERVED, Account, apply, rights

from codezero.deploy import access, fence, identity
from codezero.deploy.objects import serves_definition
from codezero.deploy.values import Hub, Serving, Values
from codezero.testing.waiting import eventually

Json = dict[str, Any]

VALUES = Values(serve=Serving((SERVED,)), hub=Hub("https://hub.example.com"))
EMPTY: Json = {"data": None}


def named(kind: str, name: str, **content: Any) -> Json:
    metadata = {"name": name, "namespace": OWN, "labels": {"who": "made-it"}}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **content}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slab]:
    state = tmp_path_factory.mktemp("hub-rights")
    with Slab.start(binaries=binaries.programs(), images=None, state=state, control_plane=True) as running:
        yield running


@pytest.fixture(scope="module")
def installed(cluster: Slab) -> Slab:
    for name in (OWN, SERVED, OTHER):
        apply(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    apply(cluster, serves_definition(), *access.objects(VALUES, OWN), *fence.objects(VALUES, OWN))
    apply(cluster, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody", "namespace": OTHER}})
    cluster.kubectl("wait", "--for=condition=Established", "crd/serves.codezero.io", "--timeout=60s")
    return cluster


def account(installed: Slab, namespace: str, name: str) -> Account:
    token = installed.kubectl("create", "token", name, "-n", namespace).strip()
    return Account(installed, installed.kubeconfig_for(f"{namespace}-{name}", token))


@pytest.fixture(scope="module")
def system(installed: Slab) -> Account:
    """The System, with the fence in force."""
    found = account(installed, OWN, access.SYSTEM)
    installed.kubectl("create", "-f", "-", input=json.dumps(named("ConfigMap", access.POLICY)))
    probe = {"data": {"another": "x"}}
    eventually(lambda: FENCE in refusal(found, "configmap", access.POLICY, probe), within=60)
    installed.kubectl("delete", "configmap", access.POLICY, "-n", OWN)
    return found


@pytest.fixture
def made(installed: Slab, system: Account) -> Iterator[Account]:
    """As the chart makes it: empty, and a token."""
    ours = [
        named("Secret", access.IDENTITY),
        named("Secret", access.JOIN, stringData={"token": "once", "other": "thing"}),
        named("Secret", "another", stringData={"token": "x"}),
        named("ConfigMap", access.POLICY),
        named("ConfigMap", "another", data={"policy.json": "{}"}),
    ]
    for one in ours:
        installed.kubectl("create", "-f", "-", input=json.dumps(one))
    yield system
    for one in ours:
        installed.kubectl("delete", one["kind"].lower(), one["metadata"]["name"], "-n", OWN)


def refusal(who: Account, kind: str, name: str, patch: Json) -> str:
    return who.patch(kind, name, OWN, patch, kind="merge", check=False)


def data(**entries: str | None) -> Json:
    return {"data": {name.replace("_", "."): value for name, value in entries.items()}}


ALL = dict.fromkeys((*fence._RENEWED, *fence._OF_HUB, "seal.key"), "eHg=")


def test_it_has_the_rights_that_were_reviewed(installed: Slab) -> None:
    """A right more is a decision, and changes the file."""
    who, nobody = account(installed, OWN, access.SYSTEM), account(installed, OTHER, "nobody")
    common = rights(nobody, OWN)
    found = "".join(f"{one}\n" for one in rights(who, OWN) if one not in common)

    assert found == (GOLDEN / "system-hub.txt").read_text()


def test_it_joins_keeps_what_it_got_and_takes_the_token_away(made: Account) -> None:
    made.patch("secret", access.IDENTITY, OWN, data(next_key="eHg=", seal_key="eHg="), kind="merge")
    made.patch("secret", access.IDENTITY, OWN, {"data": {**ALL, identity.NEXT_KEY: None}}, kind="merge")
    made.patch("secret", access.IDENTITY, OWN, data(ca_crt="eXk=", ca_key="eXk=", jwks_json="eXk="), kind="merge")
    made.patch("secret", access.JOIN, OWN, data(token=None), kind="merge")
    made.patch("configmap", access.POLICY, OWN, data(policy_json="{}"), kind="merge")
    made.patch("configmap", access.POLICY, OWN, data(policy_json='{"serial": 2}', hub_json="{}"), kind="merge")

    held = made.get(f"/api/v1/namespaces/{OWN}/secrets/{access.IDENTITY}")["data"]
    assert (held["ca.crt"], held["seal.key"]) == ("eXk=", "eHg=")
    assert identity.NEXT_KEY not in held
    assert made.get(f"/api/v1/namespaces/{OWN}/secrets/{access.JOIN}")["data"] == {"other": "dGhpbmc="}


ATTACKS: dict[str, Callable[[Account], str]] = {
    "another seal": lambda who: refusal(who, "secret", access.IDENTITY, data(seal_key="eXk=")),
    "no seal": lambda who: refusal(who, "secret", access.IDENTITY, data(seal_key=None)),
    "an entry of its own": lambda who: refusal(who, "secret", access.IDENTITY, data(other="eXk=")),
    "labels of the identity": lambda who: refusal(
        who, "secret", access.IDENTITY, {"metadata": {"labels": {"who": "me"}}}
    ),
    "an owner of the identity": lambda who: refusal(
        who,
        "secret",
        access.IDENTITY,
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]}},
    ),
    "an identity that stays": lambda who: refusal(who, "secret", access.IDENTITY, {"immutable": True}),
    "a token of its own": lambda who: refusal(who, "secret", access.JOIN, data(token="eXk=")),
    "more than the token": lambda who: refusal(who, "secret", access.JOIN, data(token=None, other=None)),
    "the token and a label": lambda who: refusal(
        who, "secret", access.JOIN, {"metadata": {"labels": {"who": "me"}}, **data(token=None)}
    ),
    "another entry of the policy": lambda who: refusal(who, "configmap", access.POLICY, data(other="x")),
    "labels of the policy": lambda who: refusal(who, "configmap", access.POLICY, {"metadata": {"labels": None}}),
    "bytes in the policy": lambda who: refusal(who, "configmap", access.POLICY, {"binaryData": {"x": "eHg="}}),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_whoever_has_the_token_is_kept_from(what: str, made: Account) -> None:
    made.patch("secret", access.IDENTITY, OWN, data(seal_key="eHg="), kind="merge")

    assert FENCE in ATTACKS[what](made)


@pytest.mark.parametrize(
    ("kind", "name"), [("secret", "another"), ("configmap", "another"), ("configmap", "codezero-settings")]
)
def test_whoever_has_the_token_has_no_right_to(made: Account, kind: str, name: str) -> None:
    assert "cannot " in refusal(made, kind, name, data(policy_json="{}"))
