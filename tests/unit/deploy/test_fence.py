"""The fence is one policy about our accounts alone, and knows the names and things that the System makes. What it does is seen on a real API server
(`tests/cluster/test_rights.py`).
"""

import re
from typing import Any

import pytest

from codezero.deploy import access, fence
from codezero.deploy.values import Image, PullSecret, Router, Serving, Values
from codezero.model.services import ServiceRef
from codezero.system.serving import manifests, naming, steps
from codezero.system.serving.manifests import RouterSettings, Served, Trust
from codezero.wire.serve_resource import OURS

Json = dict[str, Any]

VALUES = Values(router=Router(Image("registry.example.com/router", "1.2")), image_pull_secrets=(PullSecret("it's"),))
POLICY, BINDING = fence.objects(VALUES, "teamspace")
SPEC = POLICY["spec"]
ORDERS = ServiceRef("shop", "orders")
READ = {"get", "list", "watch"}
OPERATIONS = {"create": "CREATE", "update": "UPDATE", "patch": "UPDATE", "delete": "DELETE"}


def variable(name: str) -> str:
    (found,) = [one["expression"] for one in SPEC["variables"] if one["name"] == name]
    return str(found)


def expressions() -> str:
    return "\n".join(one["expression"] for one in (*SPEC["variables"], *SPEC["validations"]))


def test_it_denies_and_fails_closed() -> None:
    assert SPEC["failurePolicy"] == "Fail"
    assert BINDING["spec"] == {"policyName": POLICY["metadata"]["name"], "validationActions": ["Deny", "Audit"]}
    (rule,) = SPEC["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["*/*"]
    assert rule["operations"] == ["*"]


def test_only_our_accounts_are_fenced() -> None:
    """Whatever the rest of a cluster writes costs one comparison."""
    (condition,) = SPEC["matchConditions"]

    assert condition["expression"] == (
        "request.userInfo.username in ['system:serviceaccount:teamspace:system', 'system:serviceaccount:teamspace:repair']"
    )


def test_every_refusal_says_what_is_allowed_and_is_no_conflict() -> None:
    """The System takes 422 for somebody else's write, and would try again and again."""
    messages = [one["message"] for one in SPEC["validations"]]

    assert {one["reason"] for one in SPEC["validations"]} == {"Forbidden"}
    assert len(set(messages)) == len(messages)
    assert all(one.startswith("codezero-system ") for one in messages)


def test_it_lets_through_the_kinds_that_roles_grant_and_no_other() -> None:
    """A right that is given later has to be thought of here too."""
    values = Values(serve=Serving(("*",)))
    wanted: dict[str, set[str]] = {}
    for one in [*access.objects(values, "teamspace"), *access.repair(values, "teamspace")]:
        for rule in one.get("rules", ()):
            for resource in rule["resources"]:
                kind, _, subresource = resource.partition("/")
                operations = {OPERATIONS[verb] for verb in rule["verbs"] if verb not in READ}
                if operations:
                    wanted.setdefault(f"{rule['apiGroups'][0]}/{kind}/{subresource}", set()).update(operations)
    let_through = {
        what: set(re.findall(r"[A-Z]+", operations))
        for what, operations in re.findall(r"'([^']*/[^']*)': \[([^]]*)\]", variable("written"))
        if "selfsubject" not in what
    }

    assert let_through == wanted


def test_it_knows_our_names_and_marks() -> None:
    """`naming` makes them, in a layer that this one does not know."""
    text = variable("isOurs")
    short = naming.hash_of(ORDERS)

    assert re.fullmatch(fence._HASH, short)
    assert re.fullmatch(fence._OUR_VALUE, naming.selected(ORDERS))
    assert manifests.labels_of(ORDERS) == {"app.kubernetes.io/managed-by": OURS, fence._SERVICE: short}
    assert naming.router_of(ORDERS).name == f"cz-router-{short}"
    assert naming.origin_of(ORDERS).name == f"cz-origin-{short}"
    assert text.count("'cz-router-'") == 3
    assert text.count("'cz-origin-'") == 1
    assert fence._RESTARTED == steps.RESTARTED


def test_it_knows_all_fields_of_a_router() -> None:
    """A field that is added to Routers is refused until it is thought of here."""
    spec = {"selector": {"app": "orders"}, "ports": [{"name": "http", "port": 80}]}
    router = manifests.router_deployment(
        Served(ORDERS, "uid", spec, {}),
        origin="10.96.0.1",
        settings=RouterSettings(image=VALUES.router.image.reference),
        trust=Trust("01J0000000000000000000000A", "PEM"),  # type: ignore[arg-type]
    )
    pod = router["spec"]["template"]["spec"]
    (container,) = pod["containers"]

    assert set(pod) <= set(fence._POD_FIELDS)
    assert set(container) <= set(fence._CONTAINER_FIELDS)
    assert {*container["readinessProbe"], *container["livenessProbe"]} <= set(fence._PROBE_FIELDS)
    assert not set(fence._POD_FIELDS) & {
        "initContainers",
        "ephemeralContainers",
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "nodeName",
    }
    assert not set(fence._CONTAINER_FIELDS) & {
        "args",
        "envFrom",
        "lifecycle",
        "startupProbe",
        "volumeDevices",
        "workingDir",
    }


@pytest.mark.parametrize("text", ["'registry.example.com/router:1.2'", r"['it\'s']"])
def test_values_are_quoted(text: str) -> None:
    assert text in expressions()
