"""Every protocol through the Router to a laptop, with real clients and servers; and the Router leaves no trace in what it only passes on."""

import json

import pytest

from codezero.sandbox.control import Sandbox
from codezero.testing.laptop import SAMPLE, Laptop
from codezero.testing.serve_stories import address_of, application, kubectl, put_back

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(300)]

DEFAULT = ("--condition-type", "default")
# Service of the peers, port, and whether its client tells which machine answered.
SERVED = {
    "http": ("http", 8080),
    "h2c": ("h2c", 8081),
    "grpc_bidi": ("grpc", 8082),
    "websocket": ("websocket", 8083),
    "bulk": ("bulk", 8084),
    "halfclose": ("halfclose", 8085),
    "many": ("many", 8086),
    "stall": ("stall", 8087),
    "greeting": ("greeting", 2525),
}
OPTIONS = {"many": ("--connections", "300"), "bulk": ("--size", "64M")}
# The password is the sample's own, published in its manifests.
SECRET = {"SP_DATABASE_PASSWORD": "sample-project-demo"}


def client(sandbox: Sandbox, name: str, target: str, *options: str, timeout: float = 120) -> dict[str, object]:
    """Run a peer's client in the cluster; its verdict, which has to be good."""
    command = ["python", "-m", f"codezero.testing.peers.{name}", "client", target, *options]
    ended = sandbox.run("cluster", command, check=False, timeout=timeout, env=SECRET)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", SERVED)
def test_a_variant_answers_every_protocol_by_default(
    sandbox: Sandbox, serving1: Laptop, peers: None, name: str
) -> None:
    service, port = SERVED[name]
    with application(serving1, name, 9100):
        served = serving1.serve(f"peers/{service}", f"9100:{port}", *DEFAULT)["served"]
        verdict = client(sandbox, name, f"{address_of(sandbox, service)}:{port}", *OPTIONS.get(name, ()))
        requests = serving1.serves()[0]["requests"]

    assert served["state"] == "active"
    assert requests > 0
    assert verdict.get("where", "laptop") == "laptop"


# Not `stall`: one of its clients says a word and closes, which is lost where connections are looked into, as the preflight says.
@pytest.mark.parametrize("name", [name for name in SERVED if name != "stall"])
def test_the_services_own_pods_answer_every_protocol_while_somebody_serves(
    sandbox: Sandbox, serving1: Laptop, peers: None, name: str
) -> None:
    """Unmatched traffic goes through the Router and must not notice."""
    service, port = SERVED[name]
    condition = ("--condition-type", "header", "--condition", "x-team:blue")
    serving1.serve(f"peers/{service}", f"9100:{port}", *condition)
    verdict = client(sandbox, name, f"{address_of(sandbox, service)}:{port}", *OPTIONS.get(name, ()))

    assert verdict.get("where", "pod") != "laptop"
    assert serving1.serves()[0]["requests"] == 0


@pytest.mark.parametrize("engine", ["psql", "mysql"])
def test_a_database_whose_server_or_client_speaks_first(
    sandbox: Sandbox, serving1: Laptop, peers: None, engine: str
) -> None:
    """MySQL's server speaks first, PostgreSQL's client does: neither may wait for the other's bytes to be looked at."""
    service, port = {"psql": (f"{SAMPLE}/sample-project-database", 5432), "mysql": ("peers/mysql", 3306)}[engine]
    namespace, name = service.split("/")
    target = f"{address_of(sandbox, name, namespace)}:{port}"
    client(sandbox, engine, target)
    with application(serving1, engine, 9200, env=SECRET):
        serving1.serve(service, f"9200:{port}", *DEFAULT)
        served = client(sandbox, engine, target)
        requests = serving1.serves()[0]["requests"]
    put_back(sandbox, name, namespace)
    client(sandbox, engine, target)

    assert requests > 0
    assert served.get("where", "laptop") == "laptop"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("direction", ["up", "down"])
def test_two_gigabytes_arrive_byte_exact(sandbox: Sandbox, serving1: Laptop, peers: None, direction: str) -> None:
    with application(serving1, "bulk", 9100):
        serving1.serve("peers/bulk", "9100:8084", *DEFAULT)
        address = address_of(sandbox, "bulk")
        client(sandbox, "bulk", f"{address}:8084", "--direction", direction, "--size", "2G", timeout=580)
        assert serving1.serves()[0]["requests"] == 1


@pytest.mark.parametrize("port", [8090, 8091])
def test_what_no_condition_meets_is_changed_in_no_byte(
    sandbox: Sandbox, serving1: Laptop, peers: None, port: int
) -> None:
    """The transparent profile, against the pod asked directly: on a port known to speak HTTP, and on one that is found out."""
    command = ("get", "pods", "-n", "peers", "-l", "app=transparent", "-o", "jsonpath={.items[0].status.podIP}")
    direct = f"{kubectl(sandbox, *command)}:{port}"
    address = address_of(sandbox, "transparent")
    serving1.serve("peers/transparent", f"9100:{port}", "--condition-type", "header", "--condition", "x-team:blue")
    before = client(sandbox, "transparent", direct, "--direct", direct)
    through = client(sandbox, "transparent", f"{address}:{port}", "--direct", direct)

    assert before["requests"] == through["requests"]
