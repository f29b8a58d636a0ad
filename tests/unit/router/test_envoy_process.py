"""How Envoy is started. The running of it is in the process tests."""

from codezero.router import envoy_process, settings


def test_each_envoy_is_its_own(variables: dict[str, str]) -> None:
    """A killed one leaves no shared memory, and many run on one machine."""
    wanted = settings.from_environment({**variables, "CODEZERO_ENVOY": "/opt/envoy", "CODEZERO_ENVOY_THREADS": "4"})
    command = envoy_process.command(wanted)

    assert command[0] == "/opt/envoy"
    assert "--disable-hot-restart" in command
    assert command[command.index("--concurrency") + 1] == "4"


def test_the_program_itself_is_started_not_a_script_before_it() -> None:
    assert envoy_process.program().read_bytes()[:4] == b"\x7fELF"
