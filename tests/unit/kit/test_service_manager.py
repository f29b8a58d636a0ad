"""What systemd hears of us."""

import socket
from pathlib import Path

import pytest

from codezero.kit.service_manager import ServiceManager


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_readiness_reaches_the_socket_systemd_named(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@codezero-test-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address if kind == "path" else "\0" + address[1:])
        manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000"})
        manager.notify("READY=1", "STATUS=running")
        assert listener.recv(100) == b"READY=1\nSTATUS=running"
    assert manager.is_present
    assert manager.watchdog_seconds == 30
    # systemd went away: nothing to be done about it.
    manager.notify("WATCHDOG=1")


def test_without_systemd_nothing_is_said() -> None:
    manager = ServiceManager({})
    manager.notify("READY=1")
    assert (manager.is_present, manager.watchdog_seconds) == (False, None)
