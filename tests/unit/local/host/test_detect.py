"""Which ways a machine gets, as a table: one row per oddity."""

import pytest

from codezero.local.host.detect import Capture, Facts, Names, choose, hosts_sources
from codezero.model import problems
from codezero.model.problems import CodezeroError


@pytest.mark.parametrize(
    ("facts", "capture", "names"),
    [
        (Facts(), Capture.NFTABLES, Names.RESOLV_CONF),
        (Facts(nftables_obstacle="nft is not installed"), Capture.LISTENERS, Names.RESOLV_CONF),
        (Facts(resolv_conf_obstacle="immutable"), Capture.NFTABLES, Names.HOSTS),
        (Facts(resolv_conf_obstacle="immutable", hosts_obstacle="read-only"), Capture.NFTABLES, Names.NONE),
        # Alpine: musl asks all servers at once.
        (Facts(is_musl=True), Capture.NFTABLES, Names.HOSTS),
        # Fedora, Arch: glibc asks systemd-resolved over its own protocol.
        (
            Facts(hosts_sources=("files", "myhostname", "resolve", "dns"), resolved_runs=True),
            Capture.NFTABLES,
            Names.HOSTS,
        ),
        # The same with resolved switched off: `resolve` is unavailable, DNS comes next.
        (Facts(hosts_sources=("files", "resolve", "dns")), Capture.NFTABLES, Names.RESOLV_CONF),
        # Ubuntu, Debian with resolved: glibc speaks DNS to its stub.
        (
            Facts(hosts_sources=("files", "mdns4_minimal", "dns"), resolved_runs=True),
            Capture.NFTABLES,
            Names.RESOLV_CONF,
        ),
        # `resolve` behind `dns` is asked last.
        (Facts(hosts_sources=("files", "dns", "resolve"), resolved_runs=True), Capture.NFTABLES, Names.RESOLV_CONF),
        (Facts(hosts_sources=("files", "resolve"), resolved_runs=True), Capture.NFTABLES, Names.HOSTS),
        (Facts(hosts_sources=("files",)), Capture.NFTABLES, Names.HOSTS),
        # Bypassed and no hosts file to fall back to: nothing is better than a file nobody reads.
        (Facts(is_musl=True, hosts_obstacle="read-only"), Capture.NFTABLES, Names.NONE),
    ],
)
def test_each_machine_gets_the_best_way_that_works_there(facts: Facts, capture: Capture, names: Names) -> None:
    setup = choose(facts)
    assert (setup.capture, setup.names) == (capture, names)
    passed_over = (capture is Capture.LISTENERS) + {Names.RESOLV_CONF: 0, Names.HOSTS: 1, Names.NONE: 2}[names]
    assert len(setup.remarks) == passed_over


@pytest.mark.parametrize(
    ("facts", "wish"),
    [
        (Facts(nftables_obstacle="nft is not installed"), {"capture": "nftables"}),
        (Facts(resolv_conf_obstacle="immutable"), {"names": "resolv.conf"}),
        (Facts(hosts_obstacle="read-only"), {"names": "hosts"}),
    ],
)
def test_an_impossible_wish_is_refused_with_its_reason(facts: Facts, wish: dict[str, str]) -> None:
    """Who asks for a way gets it or an error, never silently another."""
    with pytest.raises(CodezeroError) as caught:
        choose(facts, **wish)
    assert caught.value.problem is problems.HOST_CHANGE_FAILED
    assert next(iter(wish.values())) in caught.value.detail
    assert caught.value.fix


@pytest.mark.parametrize("names", list(Names))
def test_a_possible_wish_is_followed_even_where_auto_would_not(names: Names) -> None:
    setup = choose(Facts(is_musl=True), capture="listeners", names=names)
    assert (setup.capture, setup.names, setup.remarks) == (Capture.LISTENERS, names, ())


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("", ("files", "dns")),
        ("passwd: files\n# hosts: nothing\n", ("files", "dns")),
        ("hosts:          files dns\n", ("files", "dns")),
        ("hosts: files mdns4_minimal [NOTFOUND=return] dns # why\n", ("files", "mdns4_minimal", "dns")),
        ("hosts: mymachines resolve [!UNAVAIL=return] files myhostname dns", ("mymachines", "resolve", "files", "myhostname", "dns")),
        ("hosts:files [ SUCCESS=return  NOTFOUND=continue ]dns", ("files", "dns")),
    ],
)  # fmt: skip
def test_the_sources_of_nsswitch_are_read_as_glibc_does(text: str, sources: tuple[str, ...]) -> None:
    assert hosts_sources(text) == sources
