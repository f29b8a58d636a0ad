"""The line a System writes ahead of a laptop's bytes when it forwards an `orchestrator` stream to the Orchestrator.

On the mTLS connection from a System the first message is `SystemHello` (the System speaks for itself) or `Forwarded` (what follows are the
messages of this laptop). Only a peer whose certificate is the Teamspace's System is believed.
"""

from codezero.model.ids import SessionId
from codezero.wire.coordination import FromSystem, Message, Name

# The application protocol (TLS ALPN) of connections to the Orchestrator, so that no other connection of ours can be taken for one.
ALPN = "codezero-coordination/1"


class Forwarded(Message, frozen=True):
    """The laptop behind this connection: its device id (SPIFFE) from the tunnel's certificate, and the session of that tunnel."""

    device: Name
    session: SessionId


FirstMessage = FromSystem | Forwarded
