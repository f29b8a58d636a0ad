"""Values: what is known is understood as Helm understands it, and everything else is refused by its path."""

import pytest

from codezero import __version__
from codezero.deploy import values
from codezero.deploy.values import PullPolicy, ServiceType, Values
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.system.endpoints import parse_allowed_domains, parse_networks


def test_nothing_said_means_the_defaults() -> None:
    assert values.from_yaml("") == values.from_yaml("{}") == values.from_yaml("# nothing\n") == Values()


def test_by_default_laptops_may_consume_and_nothing_may_be_served() -> None:
    """Rights over a namespace's Services are given where somebody asks for them (L21)."""
    assert Values().serve.namespaces == ()


def test_the_default_images_are_those_of_this_version() -> None:
    assert Values().image.reference == f"codezero-teamspace:{__version__}"
    assert Values().router.image.reference == f"codezero-router:{__version__}"


def test_what_is_said_is_understood() -> None:
    found = values.from_yaml(
        "image: {repository: registry.example:5000/tools/teamspace, tag: '1.2', pullPolicy: Always}\n"
        "service: {type: NodePort, nodePort: 30880}\n"
        "serve: {namespaces: [shop]}\n"
    )

    assert found.image.reference == "registry.example:5000/tools/teamspace:1.2"
    assert found.image.pull_policy is PullPolicy.ALWAYS
    assert (found.service.type, found.service.node_port) == (ServiceType.NODE_PORT, 30880)
    assert found.serve.namespaces == ("shop",)
    assert found.system == Values().system


def test_an_image_may_be_pinned_by_its_digest() -> None:
    digest = "sha256:" + "0" * 64

    assert values.from_yaml(f"image: {{tag: '1.0@{digest}'}}").image.reference == f"codezero-teamspace:1.0@{digest}"


def test_maps_merge_and_lists_replace() -> None:
    """As Helm has it, so that a file of values means the same to both."""
    found = values.from_yaml("system: {resources: {requests: {cpu: 1}, limits: {cpu: '2'}}}")

    assert found.system.resources.requests == {"cpu": 1, "memory": "128Mi"}
    assert found.system.resources.limits == {"cpu": "2", "memory": "1Gi"}


def test_null_takes_an_amount_away() -> None:
    found = values.from_yaml("system: {resources: {limits: {memory: null}}}")

    assert found.system.resources.limits == {}


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("imagge: {}", "imagge"),
        ("image: {tagg: x}", "$.image"),
        ("system: {resources: {request: {}}}", "$.system.resources"),
        ("opa: {enabled: true}", "opa"),
        ("system: {replicas: 0}", "$.system.replicas"),
        ("system: {replicas: '2'}", "$.system.replicas"),
        ("system: {replicas: 21}", "$.system.replicas"),
        ("system: null", "$.system"),
        ("system: {logLevel: loud}", "$.system.logLevel"),
        ("system: {resources: {limits: {memory: lots}}}", "$.system.resources.limits"),
        ("system: {resources: {limits: {cpu: -1}}}", "$.system.resources.limits"),
        ("system: {resources: {limits: {cpu: .nan}}}", "$.system.resources.limits"),
        ("system: {resources: {limits: {cpu: .inf}}}", "$.system.resources.limits"),
        ("image: {repository: ''}", "$.image.repository"),
        ("image: {repository: 'a b'}", "$.image.repository"),
        ("image: {tag: '../x'}", "$.image.tag"),
        ("image: {pullPolicy: Sometimes}", "$.image.pullPolicy"),
        ("router: {linger: -1}", "$.router.linger"),
        ("service: {type: ExternalName}", "$.service.type"),
        ("service: {type: NodePort, nodePort: 65536}", "$.service.nodePort"),
        ("service: {nodePort: 30880}", "$.service"),
        ("service: {annotations: {a: 1}}", "$.service.annotations"),
        ("service: {annotations: {codezero.io/external-host: x}}", "$.service"),
        ("service: {externalHost: 'https://x'}", "$.service.externalHost"),
        ("serve: {namespaces: shop}", "$.serve.namespaces"),
        ("serve: {namespaces: [Shop]}", "$.serve.namespaces"),
        ("serve: {namespaces: ['*', shop]}", "$.serve"),
        ("serve: {namespaces: [shop, shop]}", "$.serve"),
        ("allowedDomains: ['exa mple.com']", "$.allowedDomains"),
        ("allowedNetworks: [nodes]", "$.allowedNetworks"),
        ("allowedNetworks: [10.0.0.1/24]", "allowedNetworks"),
        ("imagePullSecrets: [registry]", "$.imagePullSecrets"),
        ("tolerations: [{keys: x}]", "$.tolerations"),
        ("affinity: {nodeAfinity: {}}", "$.affinity"),
        ("- a", "a map"),
        ("a: [", "a: ["),
    ],
)
def test_a_mistake_is_named_by_its_path(text: str, where: str) -> None:
    """One that is ignored would be believed to do something (L18)."""
    with pytest.raises(CodezeroError) as refused:
        values.from_yaml(text)

    assert refused.value.problem is problems.BAD_REQUEST
    assert where in refused.value.detail
    assert refused.value.fix


def test_values_that_never_end_are_refused() -> None:
    with pytest.raises(CodezeroError) as refused:
        values.from_yaml("#" * (values.MAX_SIZE + 1))

    assert refused.value.problem is problems.TOO_LARGE


def test_what_is_accepted_here_is_accepted_by_the_system() -> None:
    """It would not start otherwise."""
    domains = ["example.com", "*.example.com", "db.corp=private", "*.a-b.c1=private", "_srv.example.com", "localhost"]
    networks = ["10.0.0.0/24", "192.0.2.1", "fd00::/8", "::1"]
    found = values.from_json({"allowedDomains": domains, "allowedNetworks": networks})

    assert len(parse_allowed_domains(",".join(found.allowed_domains))) == len(domains)
    assert len(parse_networks(",".join(found.allowed_networks))) == len(networks)
