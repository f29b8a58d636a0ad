"""Tells systemd how we are: sd_notify(3), one datagram per message."""

import os
import socket
from collections.abc import Mapping


class ServiceManager:
    """systemd, where it started us; does nothing elsewhere."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        microseconds = environment.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1e6 if microseconds.isdigit() else None

    @property
    def is_present(self) -> bool:
        """Whether systemd supervises us, so that we need no guard."""
        return bool(self._address)

    def notify(self, *lines: str) -> None:
        """Send `lines` such as `READY=1`; a manager that does not listen is no reason to fail."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return
