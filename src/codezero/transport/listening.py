"""A TLS port whose certificate may change at any time: new connections get the newest, none is dropped, and the port never closes."""

import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

from codezero.kit.tasks import task_group
from codezero.kit.watched import Watched
from codezero.transport import tls
from codezero.transport.identity import Identity
from codezero.transport.tls import Gate, ProtocolFactory, TlsListener, UnprovenLimits


def bind(host: str, port: int) -> socket.socket:
    """A TCP socket bound and listening, IPv6 where `host` is such an address; raises OSError. The caller closes it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setblocking(False)
        listening.bind((host, port))
        listening.listen(1024)
    except BaseException:
        listening.close()
        raise
    return listening


@asynccontextmanager
async def serving(
    sock: socket.socket,
    identities: Watched[Identity | None],
    *,
    context: Callable[[Identity], ssl.SSLContext],
    handlers: Mapping[str, ProtocolFactory],
    limits: UnprovenLimits | None = None,
    gate: Gate | None = None,
) -> AsyncGenerator[None]:
    """Take connections of `sock` while in the block, as soon as there is an identity; owns the socket from then on.

    Connections wait in the kernel's queue until then. Leaving the block takes no more and leaves those made alone.
    """
    current: TlsListener | None = None

    async def follow() -> None:
        nonlocal current
        async for identity in identities.changes():
            if identity is not None:
                before = current
                current = await tls.listen(
                    None, 0, context(identity), handlers=handlers, limits=limits, sock=sock.dup(), gate=gate
                )
                if before is not None:
                    before.close()

    try:
        async with task_group("listening") as tasks:
            tasks.start_service("follow identity", follow())
            yield
    finally:
        if current is not None:
            current.close()
        sock.close()
