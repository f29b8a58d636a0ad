import stat
from pathlib import Path

import pytest

from codezero.cli import authorities
from codezero.deploy.identity import Issuers
from codezero.model import problems
from codezero.model.problems import CodezeroError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def issuers() -> Issuers:
    return Issuers.create("shop")


@pytest.mark.parametrize(("given", "expected"), [("", ".config"), ("relative", ".config")])
def test_they_are_in_the_users_configuration(
    home: Path, monkeypatch: pytest.MonkeyPatch, given: str, expected: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", given)

    assert authorities.folder() == home / expected / "codezero/authorities"
    monkeypatch.setenv("XDG_CONFIG_HOME", "/elsewhere")
    assert authorities.folder() == Path("/elsewhere/codezero/authorities")


def test_what_was_saved_is_found_until_it_is_removed(issuers: Issuers) -> None:
    authorities.save(issuers)
    authorities.save(issuers.with_user("dev1"))

    found = authorities.required(issuers.teamspace)
    assert found.root.certificate == issuers.root.certificate
    assert list(found.users) == ["dev1"]
    assert stat.S_IMODE(authorities.path(issuers.teamspace).stat().st_mode) == 0o600
    assert stat.S_IMODE(authorities.folder().stat().st_mode) == 0o700
    assert authorities.remove(issuers.teamspace)
    assert not authorities.remove(issuers.teamspace)
    assert authorities.find(issuers.teamspace) is None


def test_without_them_it_is_said_where_to_look(issuers: Issuers) -> None:
    with pytest.raises(CodezeroError) as missing:
        authorities.required(issuers.teamspace)

    assert missing.value.problem is problems.NO_ISSUER
    assert str(authorities.path(issuers.teamspace)) in missing.value.detail


def test_a_damaged_file_and_one_of_another_teamspace_are_refused(issuers: Issuers) -> None:
    other = Issuers.create("other")
    authorities.save(other)
    authorities.path(other.teamspace).rename(authorities.path(issuers.teamspace))
    with pytest.raises(CodezeroError, match="of another Teamspace"):
        authorities.find(issuers.teamspace)

    authorities.path(issuers.teamspace).write_text("{")
    with pytest.raises(CodezeroError, match="not the authorities") as damaged:
        authorities.find(issuers.teamspace)
    assert damaged.value.problem is problems.NO_ISSUER


def test_whoever_is_given_access_meanwhile_stays_known(issuers: Issuers) -> None:
    """Two processes have read the file; the second to write must not make the first one's user a stranger."""
    authorities.save(issuers)

    first = authorities.with_users(issuers.teamspace, ["dev1"])
    second = authorities.with_users(issuers.teamspace, ["dev2", "dev1"])

    assert second.users == {**first.users, "dev2": second.users["dev2"]}
    assert authorities.required(issuers.teamspace).users == second.users


def test_users_are_not_known_without_the_keys(issuers: Issuers) -> None:
    with pytest.raises(CodezeroError) as missing:
        authorities.with_users(issuers.teamspace, ["dev1"])

    assert missing.value.problem is problems.NO_ISSUER
