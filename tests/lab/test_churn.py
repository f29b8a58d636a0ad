"""5,000 service changes while everything is consumed: names and rules follow, memory stays flat, nobody spins."""

import pytest

from codezero.testing.laptop import Laptop
from codezero.testing.waiting import eventually

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.nft, pytest.mark.timeout(600)]

CHANGES = 5000
LIVE = 100


def memory_of(laptop: Laptop, program: str) -> int:
    """Resident memory of what runs `program`, in KiB."""
    total = 0
    for each in laptop.processes(program):
        status = laptop.run("cat", f"/proc/{each}/status").stdout
        total += next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return total


def churn(laptop: Laptop, changes: int) -> None:
    """Create and delete services until there were that many changes; `LIVE` of them are left."""
    laptop.sandbox.run(
        "cluster",
        [
            "python",
            "-m",
            "codezero.testing.churn",
            "--namespace",
            "churn",
            "--changes",
            str(changes),
            "--live",
            str(LIVE),
        ],
        timeout=500,
    )


def test_names_and_rules_follow_five_thousand_changes(laptop: Laptop) -> None:
    laptop.start()
    laptop.sandbox.run("cluster", ["kubectl", "create", "namespace", "churn"])
    try:
        laptop.consume("*")
        churn(laptop, 500)
        eventually(lambda: sum(name.startswith("churn/") for name in laptop.consumed()) == LIVE, within=60)
        before = {program: memory_of(laptop, program) for program in ("codezero.local.daemon.main", "czsystem")}
        requests = laptop.sandbox.status().api_requests
        churn(laptop, CHANGES)
        eventually(lambda: sum(name.startswith("churn/") for name in laptop.consumed()) == LIVE, within=60)
        after = {program: memory_of(laptop, program) for program in before}
        names = [name.removeprefix("churn/") for name in laptop.consumed() if name.startswith("churn/")]
        resolved = [laptop.address_of(f"{name}.churn") for name in names[:5]]
        asked = laptop.sandbox.status().api_requests
    finally:
        laptop.sandbox.run("cluster", ["kubectl", "delete", "namespace", "churn"], check=False)

    assert all(resolved)
    for program, size in before.items():
        assert after[program] < size * 1.15 + 4096, (program, before, after)
    watches = {name: asked[name] - requests.get(name, 0) for name in asked if name.startswith(("watch", "list"))}
    assert all(count < 50 for count in watches.values()), watches
