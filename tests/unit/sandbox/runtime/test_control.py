import socket
from pathlib import Path

import msgspec
import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import control, layout, support
from codezero.sandbox.control import Report, Sandbox


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "deep" / "state"))
    return tmp_path


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../x", "UPPER", "-a", "a" * 33, "a\n", "a b", "é"])
def test_names_that_are_no_names_are_refused(name: str) -> None:
    """A name becomes a folder, which `down` removes."""
    with pytest.raises(CodezeroError) as refused:
        layout.state_folder(name)
    assert refused.value.problem is problems.BAD_REQUEST


def test_without_a_sandbox_everything_says_so() -> None:
    sandbox = Sandbox("gone", layout.state_folder("gone"))
    for ask in (sandbox.status, sandbox.cut, lambda: sandbox.keeper, lambda: sandbox.run("laptop", ["true"])):
        with pytest.raises(CodezeroError) as missing:
            ask()
        assert missing.value.problem is problems.SANDBOX_NOT_RUNNING
        assert missing.value.fix == "czctl sandbox up"
    assert not sandbox.down()


def test_what_a_killed_sandbox_left_is_removed_with_the_folders_made_for_it(
    state_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = layout.state_folder("old")
    control._make_private(folder)
    (folder / "log").mkdir()
    # By its name alone: the whole path may be longer than an address of a socket can be.
    monkeypatch.chdir(folder)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind("control.sock")
    monkeypatch.chdir(state_home)

    assert Sandbox.forget("old")
    assert list(state_home.iterdir()) == []
    assert not Sandbox.forget("old")


def test_folders_that_hold_something_else_stay(state_home: Path) -> None:
    folder = layout.state_folder("old")
    control._make_private(folder)
    (state_home / "deep" / "mine").touch()
    Sandbox.forget("old")

    assert (state_home / "deep" / "mine").exists()
    assert not (state_home / "deep" / "state").exists()


def test_a_folder_is_for_its_owner_alone() -> None:
    folder = layout.state_folder("private")
    control._make_private(folder)

    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_sandbox_that_ends_while_starting_says_at_which_step(state_home: Path) -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.sendall(msgspec.json.encode(Report(step="making networks")) + b"\n")
        writer.shutdown(socket.SHUT_WR)
        steps: list[str] = []
        with pytest.raises(CodezeroError) as failed:
            control._follow(reader.fileno(), steps.append, folder=state_home, deadline=5)

    assert steps == ["making networks"]
    assert failed.value.problem is problems.SANDBOX_FAILED
    assert "making networks" in failed.value.detail


def test_a_sandbox_that_is_not_ready_in_time_says_so(state_home: Path) -> None:
    reader, writer = socket.socketpair()
    with reader, writer, pytest.raises(CodezeroError, match="not ready after"):
        control._follow(reader.fileno(), lambda _: None, folder=state_home, deadline=0.01)


def test_a_problem_of_the_start_arrives_as_it_was_raised(state_home: Path) -> None:
    reader, writer = socket.socketpair()
    with reader, writer:
        report = Report(problem=problems.SANDBOX_UNSUPPORTED.code, detail="no veth", fix="modprobe veth")
        writer.sendall(msgspec.json.encode(report) + b"\n")
        with pytest.raises(CodezeroError) as failed:
            control._follow(reader.fileno(), lambda _: None, folder=state_home, deadline=5)

    assert (failed.value.problem, failed.value.fix) == (problems.SANDBOX_UNSUPPORTED, "modprobe veth")


def test_missing_programs_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support.shutil, "which", lambda name, **_: None if name in {"nft", "ip"} else name)
    with pytest.raises(CodezeroError) as missing:
        support.isolating_command()

    assert missing.value.problem is problems.SANDBOX_UNSUPPORTED
    assert missing.value.fix == "sudo apt-get install iproute2 nftables"


@pytest.mark.parametrize(
    ("path", "value", "switch"),
    [
        ("kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone is 0"),
        ("user/max_user_namespaces", "0", "user.max_user_namespaces is 0"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "kernel.apparmor_restrict_unprivileged_userns is 1"),
    ],
)
def test_the_switch_that_forbids_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, value: str, switch: str
) -> None:
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(f"{value}\n")
    monkeypatch.setattr(support, "SWITCHES_FOLDER", tmp_path)
    error = support.unsupported("unshare failed: Operation not permitted")

    assert switch in error.detail
    assert "Operation not permitted" in error.detail
    assert (error.fix or "").startswith("sudo sysctl ")


def test_where_no_switch_forbids_the_refusal_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(support, "SWITCHES_FOLDER", tmp_path)
    assert "mount: denied" in support.unsupported("mount: denied").detail


def test_commands_see_nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in the caller's environment must not end up in a pod; a proxy variable must not lead out."""
    monkeypatch.setenv("SECRET_TOKEN", "x")
    monkeypatch.setenv("https_proxy", "http://proxy")
    monkeypatch.setenv("KUBECONFIG", "/home/me/.kube/config")
    found = Sandbox("any", layout.state_folder("any")).environment("cluster")

    assert found.keys().isdisjoint({"SECRET_TOKEN", "https_proxy"})
    assert found["KUBECONFIG"] == str(layout.KUBECONFIG)
