"""What all parts of a Hub are given: one value, made when it starts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from codezero.hub.sealing import Sealer
from codezero.hub.signals import Signals
from codezero.hub.signin.attempts import Attempts
from codezero.hub.signin.passwords import Passwords
from codezero.hub.storage.database import Database

if TYPE_CHECKING:
    from codezero.hub.authorities import Authorities
    from codezero.hub.signin.providers import Provider


@dataclass(frozen=True, slots=True)
class Hub:
    """`public_url` is how people and machines reach it, without a slash at the end; `clock` gives the time in UTC.

    `providers` are the identity providers people may sign in with. `is_secure` tells whether it is reached by HTTPS (else by loopback alone).
    `has_relay` tells whether pages reach their machines through it.
    `attempts` and `passwords` bound what this process does for those who try to sign in.
    """

    database: Database
    sealer: Sealer
    signals: Signals
    authorities: "Authorities"
    public_url: str
    clock: Callable[[], datetime]
    providers: "tuple[Provider, ...]" = ()
    attempts: Attempts = field(default_factory=Attempts)
    passwords: Passwords = field(default_factory=Passwords)
    has_relay: bool = True

    @property
    def is_secure(self) -> bool:
        """Whether browsers reach it by HTTPS."""
        return self.public_url.startswith("https://")
