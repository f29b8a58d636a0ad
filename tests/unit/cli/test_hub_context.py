"""What is remembered of a Hub: secrets apart from the rest, for their owner's eyes alone, and nothing of it in what is shown."""

import threading
from pathlib import Path

import pytest

from codezero.cli import hub_context
from codezero.cli.hub_context import Credentials, HubContext, Named, Names
from codezero.model import problems
from codezero.model.problems import CodezeroError

URL = "https://hub.test"
SECRET = Credentials(URL, "device", "canary-key", "canary-access", 1.0, "canary-refresh")


def test_context_and_credentials_come_back() -> None:
    context = HubContext(URL, None, Named("1", "ann"), "ann@x", Named("2", "acme"), Named("3", "shop"))
    hub_context.save(context)
    hub_context.save_credentials(SECRET)

    assert hub_context.load() == context
    assert hub_context.load_credentials() == SECRET


def test_without_a_sign_in_there_is_neither() -> None:
    assert hub_context.load() is None
    assert hub_context.load_credentials() is None
    assert hub_context.load_names() == Names()


def test_secrets_are_for_their_owner_alone_and_not_in_the_context() -> None:
    hub_context.save(HubContext(URL))
    hub_context.save_credentials(SECRET)
    file = hub_context.folder() / hub_context.CREDENTIALS_FILE

    assert file.stat().st_mode & 0o777 == 0o600
    assert hub_context.folder().stat().st_mode & 0o777 == 0o700
    assert "canary" not in (hub_context.folder() / hub_context.CONTEXT_FILE).read_text()
    assert "canary" not in repr(SECRET)


def test_forgetting_leaves_the_address_alone() -> None:
    hub_context.save(HubContext(URL, "ca", Named("1", "ann"), "ann@x", Named("2", "acme"), Named("3", "shop")))
    hub_context.save_credentials(SECRET)
    hub_context.save_names(Names(URL, ("acme",)))

    hub_context.forget()

    assert hub_context.load() == HubContext(URL, "ca")
    assert hub_context.load_credentials() is None
    assert hub_context.load_names() == Names()


def test_a_refresh_under_way_brings_nothing_back_after_a_logout() -> None:
    """It ends first, and what it got is dropped, too."""
    hub_context.save(HubContext(URL))
    thread = threading.Thread(target=hub_context.forget)
    with hub_context.locked():
        thread.start()
        thread.join(0.3)
        hub_context.save_credentials(SECRET)
    thread.join(30)

    assert hub_context.load_credentials() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"url": 1, "key": "canary"}', b"\xff", b"[" * 10000])
def test_a_file_that_cannot_be_used_is_named_and_not_quoted(content: bytes) -> None:
    hub_context.save_credentials(SECRET)
    (hub_context.folder() / hub_context.CREDENTIALS_FILE).write_bytes(content)

    with pytest.raises(CodezeroError, match=hub_context.CREDENTIALS_FILE) as refused:
        hub_context.load_credentials()

    assert "canary" not in refused.value.detail


def test_names_that_cannot_be_read_are_none() -> None:
    """Completion must not complain."""
    hub_context.save_names(Names(URL, ("acme",)))
    (hub_context.folder() / hub_context.NAMES_FILE).write_bytes(b"{")

    assert hub_context.load_names() == Names()


def test_only_one_is_inside_at_a_time() -> None:
    """R28: the others wait."""
    entered: list[str] = []

    def enter() -> None:
        with hub_context.locked():
            entered.append("second")

    thread = threading.Thread(target=enter)
    with hub_context.locked():
        thread.start()
        entered.append("first")
    thread.join(30)

    assert entered == ["first", "second"]


def test_an_authority_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("subject=hub\n-----BEGIN CERTIFICATE-----\nx\n")

    assert hub_context.read_ca(file) == "-----BEGIN CERTIFICATE-----\nx\n"


@pytest.mark.parametrize(
    ("content", "problem"), [(b"nothing", problems.BAD_REQUEST), (b"x" * 20_000, problems.TOO_LARGE)]
)
def test_a_file_without_one_is_refused(tmp_path: Path, content: bytes, problem: object) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(content)

    with pytest.raises(CodezeroError) as refused:
        hub_context.read_ca(file)

    assert refused.value.problem is problem


def test_an_authority_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CodezeroError, match=r"ca\.pem"):
        hub_context.read_ca(tmp_path / "ca.pem")
