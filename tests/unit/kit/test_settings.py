"""Reading the environment."""

import pytest

from codezero.kit.settings import Environment, SettingsError


@pytest.mark.parametrize(
    ("text", "address"),
    [("0.0.0.0:80", ("0.0.0.0", 80)), ("[::1]:0", ("::1", 0)), ("name.svc:65535", ("name.svc", 65535))],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    """Host and port, IPv6 in brackets."""
    assert Environment({"X_A": text}, "X_").address("A", "a:1") == address


@pytest.mark.parametrize("text", ["80", ":80", "host", "host:", "host:-1", "host:65536", "host:٨٠", "host:80x"])
def test_addresses_that_are_none(text: str) -> None:
    """Told with name and value."""
    environment = Environment({"X_A": text}, "X_")
    environment.address("A", "a:1")

    with pytest.raises(SettingsError, match="X_A"):
        environment.check()


def test_an_empty_variable_is_as_if_absent() -> None:
    """Manifests write empty values for what is not set."""
    environment = Environment({"X_A": "", "X_B": "", "X_C": ""}, "X_")

    assert environment.text("A", "default") == "default"
    assert environment.number("B", 5.0, most=10) == 5.0
    assert str(environment.path("C", "/tmp")) == "/tmp"
    environment.check()
