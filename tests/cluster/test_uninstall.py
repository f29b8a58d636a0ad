"""The last story: the Teamspace goes, in the middle of its use, and the cluster is as it was."""

import pytest
from tests.cluster.base import KubernetesLab
from tests.cluster.snapshot import Snapshot, snapshot

from codezero.testing.laptop import Laptop
from codezero.testing.serve_stories import address_of, application, ask, nobody_notices, selector
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(600)]

CORE = "sample-project/sample-project-core"
# What other tests made beside it.
_OF_TESTS = ("peers",)


def test_uninstall_puts_everything_back_while_somebody_serves(cluster_lab: KubernetesLab, before: Snapshot) -> None:
    """Whoever uninstalls did not wait for the last developer; nobody's request may fail for it, and nothing may be left."""
    laptop = Laptop(cluster_lab)
    laptop.stop()
    laptop.start()
    url = f"http://{address_of(cluster_lab, 'sample-project-core', 'sample-project')}:3000/api"
    own = selector(cluster_lab, "sample-project-core", "sample-project")
    with application(laptop, "http", 9001):
        laptop.serve(CORE, "9001:3000", "--condition-type", "header", "--condition", "x-team:blue")
        # The node's own proxy learns of the switch a moment after the System.
        served = eventually(lambda: ask(cluster_lab, url, "-H", "x-team: blue").where == "laptop")
        with nobody_notices(cluster_lab, url):
            ended = cluster_lab.run("cluster", ["czctl", "teamspace", "uninstall", "--yes"], timeout=300)
    laptop.stop()

    assert served
    assert selector(cluster_lab, "sample-project-core", "sample-project") == own, ended.stderr
    after = snapshot(cluster_lab, but=_OF_TESTS)
    assert after.keys() == before.keys()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}
