import pytest

from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import demo
from codezero.sandbox.demo import StepFailedError, step


def test_a_step_that_holds_shows_its_evidence(capsys: pytest.CaptureFixture[str]) -> None:
    with step("it works") as told:
        told("seen")

    assert capsys.readouterr().out == "ok        it works\n          seen\n"


@pytest.mark.parametrize(
    "error", [StepFailedError("why"), CodezeroError(problems.INTERNAL, "why"), ValueError("why"), KeyError("why")]
)
def test_a_step_that_fails_says_so_and_ends_the_demo(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """A demo that claims success although a step failed is worse than none."""
    with pytest.raises(StepFailedError), step("it works"):
        raise error

    assert "failed    it works" in capsys.readouterr().out
    assert "why" in str(error)


def test_waiting_ends_with_the_reason() -> None:
    with pytest.raises(StepFailedError, match="never came"):
        demo.until(lambda: False, "never came", seconds=0)


def test_a_demo_whose_step_failed_exits_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_demonstrate", lambda *, check: not check)
    with pytest.raises(SystemExit) as ended:
        demo.main(["--check"])
    assert ended.value.code == 1


def test_a_machine_that_cannot_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*, check: bool) -> bool:
        raise CodezeroError(problems.SANDBOX_UNSUPPORTED, f"no namespaces {check}", fix="sudo sysctl x=1")

    monkeypatch.setattr(demo, "_demonstrate", refuse)
    with pytest.raises(SystemExit) as ended:
        demo.main([])

    assert ended.value.code == problems.SANDBOX_UNSUPPORTED.exit_code
    assert "sudo sysctl x=1" in capsys.readouterr().out
