import pytest

from codezero.model.roles import IMPLIED, PERMISSIONS, Permission, Role, allows, may_grant


@pytest.mark.parametrize("giver", list(Role))
@pytest.mark.parametrize("role", list(Role))
def test_nobody_gives_more_than_they_hold(giver: Role, role: Role) -> None:
    if may_grant(giver, role):
        assert PERMISSIONS[role] <= PERMISSIONS[giver]
        assert allows(giver, Permission.MEMBERS_MANAGE)


def test_who_gives_what() -> None:
    assert {role for role in Role if may_grant(Role.OWNER, role)} == set(Role)
    assert {role for role in Role if may_grant(Role.ADMIN, role)} == set(Role) - {Role.OWNER}
    for role in (Role.DEVELOPER, Role.VIEWER, Role.AUDITOR, Role.CI):
        assert not any(may_grant(role, other) for other in Role)


def test_a_role_implies_itself() -> None:
    assert all(role in IMPLIED[role] for role in Role)
