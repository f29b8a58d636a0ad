"""The Hub's settings: what works without any, and what is refused because it would not be safe."""

from pathlib import Path

import pytest

from codezero.hub.settings import HubSettings, from_environment
from codezero.kit.settings import SettingsError


def read(**variables: str) -> HubSettings:
    named = {f"CODEZERO_HUB_{name}": value for name, value in variables.items()}
    return from_environment({"CODEZERO_HUB_DATA_FOLDER": "/data", **named})


def mistakes(**variables: str) -> str:
    with pytest.raises(SettingsError) as refused:
        read(**variables)
    return "\n".join(refused.value.mistakes)


def test_without_any_it_is_a_hub_for_this_machine() -> None:
    """`czhub serve` on a fresh machine is the whole set-up of somebody who wants to look."""
    settings = from_environment({"HOME": "/home/ada"})

    assert settings.listen == ("127.0.0.1", 8700)
    assert settings.public_url == "http://127.0.0.1:8700"
    assert settings.data_folder.is_absolute()
    assert settings.database_url == f"sqlite:///{settings.data_folder}/hub.db"
    assert settings.master_key_file == settings.data_folder / "master.key"
    assert settings.has_relay
    assert not settings.has_tls
    assert settings.log_json is None


def test_certificates_make_it_reachable_by_others() -> None:
    settings = read(
        LISTEN="0.0.0.0:443", TLS_CERT_FILE="/tls/crt", TLS_KEY_FILE="/tls/key", PUBLIC_URL="https://hub.example/"
    )

    assert settings.has_tls
    assert settings.public_url == "https://hub.example"


def test_without_tls_others_do_not_reach_it() -> None:
    """Passwords over plain HTTP would be everybody's."""
    assert "TRUSTED_PROXIES" in mistakes(LISTEN="0.0.0.0:8700", PUBLIC_URL="https://hub.example")
    assert "both or neither" in mistakes(TLS_CERT_FILE="/tls/crt")
    assert "by https:// alone" in mistakes(PUBLIC_URL="http://hub.example")


def test_a_trusted_proxy_may_bring_the_requests() -> None:
    settings = read(LISTEN="0.0.0.0:8700", PUBLIC_URL="https://hub.example", TRUSTED_PROXIES="10.0.0.0/8, 192.0.2.7")

    assert [str(network) for network in settings.trusted_proxies] == ["10.0.0.0/8", "192.0.2.7/32"]
    assert "neither an address nor a network" in mistakes(TRUSTED_PROXIES="proxy.example")


@pytest.mark.parametrize(
    "url",
    [
        "hub.example",
        "https://",
        "https://hub.example/codezero",
        "https://ada:secret@hub.example",
        "ftp://hub",
        "https://hub:x",
        "https://[::1",
    ],
)
def test_a_public_url_is_scheme_and_host(url: str) -> None:
    assert "PUBLIC_URL" in mistakes(PUBLIC_URL=url)


def test_the_database_url_may_be_in_a_file(tmp_path: Path) -> None:
    """It holds a password, which has no place in an environment that others look at."""
    (tmp_path / "url").write_text("postgresql://hub:secret@db/hub\n")

    assert read(DATABASE_URL_FILE=str(tmp_path / "url")).database_url == "postgresql://hub:secret@db/hub"
    assert "cannot be read" in mistakes(DATABASE_URL_FILE=str(tmp_path / "none"))
    assert "one is enough" in mistakes(DATABASE_URL_FILE=str(tmp_path / "url"), DATABASE_URL="sqlite:////x")


def test_all_mistakes_are_told_at_once() -> None:
    told = mistakes(LISTEN="nowhere", LOG_LEVEL="loud", TRUSTED_PROXIES="x", PUBLIC_URL="y")

    assert all(name in told for name in ("LISTEN", "LOG_LEVEL", "TRUSTED_PROXIES", "PUBLIC_URL"))


def test_the_relay_is_switched_off_by_a_word_and_by_no_other() -> None:
    assert read(RELAY="on").has_relay
    assert not read(RELAY="off").has_relay
    assert "RELAY must be one of on, off" in mistakes(RELAY="false")
