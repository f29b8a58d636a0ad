import re

from hypothesis import given
from hypothesis import strategies as st

from codezero.sandbox import proxy
from codezero.sandbox.api import Store, Stored
from codezero.sandbox.endpoints import SERVICE_LABEL, SLICES, SliceIndex
from codezero.sandbox.proxy import Plan, Rule


class Table:
    """Understands the commands as nft does, and refuses what it would refuse."""

    def __init__(self) -> None:
        self.elements: dict[str, dict[str, str]] = {"cluster-addresses": {}, "node-ports": {}, "hairpins": {}}
        self.chains: dict[str, list[str]] = {}

    def apply(self, commands: list[str]) -> None:
        for command in proxy._ordered(commands):
            if found := re.fullmatch(r"(add|delete) element ip services (\S+) \{ (.+?)(?: : goto (\S+))? \}", command):
                verb, name, key, chain = found.groups()
                if verb == "add":
                    assert chain is None or chain in self.chains
                    self.elements[name][key] = chain or ""
                else:
                    del self.elements[name][key]
            elif found := re.fullmatch(r"(add|flush|delete) chain ip services (\S+)", command):
                verb, chain = found.groups()
                if verb == "delete":
                    assert all(chain not in elements.values() for elements in self.elements.values())
                    assert self.chains.pop(chain) == []
                elif verb == "flush":
                    self.chains[chain] = []
                else:
                    self.chains.setdefault(chain, [])
            else:
                _, _, _, _, chain, statement = command.split(" ", 5)
                self.chains[chain].append(statement)


RULES = st.lists(
    st.builds(
        Rule,
        chain=st.sampled_from(["port-a", "port-b"]),
        protocol=st.just("tcp"),
        cluster_address=st.just("10.96.1.1"),
        port=st.integers(1, 3),
        node_ports=st.just(()),
        backends=st.lists(
            st.tuples(st.sampled_from(["10.244.0.2", "10.244.0.3", "10.244.0.4"]), st.integers(80, 81)),
            min_size=1,
            max_size=3,
            unique=True,
        ).map(tuple),
        sticky=st.booleans(),
    ),
    max_size=2,
    unique_by=(lambda rule: rule.chain, lambda rule: rule.port),
)


@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), RULES), max_size=12))
def test_changes_lead_to_the_same_table_as_a_fresh_start(changes: list[tuple[str, list[Rule]]]) -> None:
    """Only differences are sent to the kernel; they must never add up to something else."""
    plan, table = Plan(), Table()
    wanted: dict[str, list[Rule]] = {}
    for name, rules in changes:
        # Services do not share chains and addresses.
        own = [
            Rule(
                f"{rule.chain}-{name}",
                rule.protocol,
                f"10.96.1.{ord(name)}",
                rule.port,
                rule.node_ports,
                rule.backends,
                rule.sticky,
            )
            for rule in rules
        ]
        table.apply(plan.change(("default", name), own))
        wanted[name] = own

    fresh = Table()
    for name, rules in wanted.items():
        fresh.apply(Plan().change(("default", name), rules))
    addresses = {address for rules in wanted.values() for rule in rules for address, _ in rule.backends}
    assert (table.elements["cluster-addresses"], table.chains) == (fresh.elements["cluster-addresses"], fresh.chains)
    assert table.elements["hairpins"].keys() == {f"{address} . {address}" for address in addresses}


def test_nothing_changed_sends_nothing() -> None:
    plan = Plan()
    rule = Rule("port-a", "tcp", "10.96.1.1", 80, (), (("10.244.0.2", 8080),))

    assert plan.change(("default", "a"), [rule])
    assert plan.change(("default", "a"), [rule]) == []


def make(store: Store, *, ready: bool = True, **spec: object) -> Stored:
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    created = store.create("services", "default", {"metadata": {"name": "web"}, "spec": {"ports": ports} | spec})
    content = {
        "metadata": {"name": "web-1", "labels": {SERVICE_LABEL: "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.0.2"], "conditions": {"ready": ready, "serving": ready}}],
        "ports": [{"name": "http", "port": 8080}],
    }
    store.create(SLICES, "default", content)
    return created


def rules_of(store: Store, service: Stored) -> list[Rule]:
    return proxy.rules_of(service, SliceIndex(store), proxy.balanced_ports(store.list("services")))


def test_a_load_balancer_is_reached_by_its_port_and_its_node_port(store: Store) -> None:
    service = make(store, type="LoadBalancer")
    (rule,) = rules_of(store, service)

    assert rule.node_ports == (service.content["spec"]["ports"][0]["nodePort"], 80)
    assert rule.statement() == "meta l4proto tcp dnat ip to numgen random mod 1 map { 0 : 10.244.0.2 . 8080 }"


def test_of_two_load_balancers_with_one_port_the_older_has_it(store: Store) -> None:
    """There is one node: a second rule for its port 80 would be refused by the kernel, and with it all others of that change."""
    first = make(store, type="LoadBalancer")
    created = store.create(
        "services",
        "default",
        {
            "metadata": {"name": "younger"},
            "spec": {"type": "LoadBalancer", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
        },
    )
    content = created.copy()
    content["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
    younger = Stored.of(created.revision, content)

    assert proxy.balanced_ports([younger, first]) == {("TCP", 80): first.uid, ("TCP", 81): younger.uid}
    assert proxy.balanced_ports([younger]) == {("TCP", 80): younger.uid, ("TCP", 81): younger.uid}


def test_a_load_balancer_takes_no_port_of_those_given_to_others(store: Store) -> None:
    service = make(store, type="LoadBalancer", ports=[{"name": "http", "port": 30080, "targetPort": 8080}])

    assert proxy.balanced_ports([service]) == {}


def test_a_service_without_a_ready_pod_has_no_rule_and_so_is_refused(store: Store) -> None:
    assert rules_of(store, make(store, ready=False)) == []


def test_headless_and_external_services_have_no_rule(store: Store) -> None:
    assert rules_of(store, make(store, clusterIP="None")) == []


def test_affinity_chooses_by_the_clients_address(store: Store) -> None:
    (rule,) = rules_of(store, make(store, sessionAffinity="ClientIP"))

    assert "jhash ip saddr mod 1" in rule.statement()
