"""SMTP, where the server speaks first: a real mail server, and a real client that sends a mail."""

# aiosmtpd has no types of its own.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import asyncio
import hashlib
import secrets
import smtplib
from typing import Any

from codezero.testing.peers.verdict import BrokenError, Facts, Options, endpoint, forever, main, must_equal, run, where


class _Mailbox:
    """Takes every mail and answers with its digest."""

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - the library's own
        return f"250 {hashlib.sha256(envelope.content).hexdigest()}"


def serve(options: Options) -> None:
    """Take mail and forget it."""
    run(_serve(options))


async def _serve(options: Options) -> None:
    from aiosmtpd.smtp import SMTP

    def session() -> asyncio.Protocol:
        return SMTP(_Mailbox(), hostname=where())

    server = await asyncio.get_running_loop().create_server(session, options.address, options.port)
    async with server:
        await forever()


def check(options: Options) -> Facts:
    """The greeting comes unasked, and a mail arrives as it was sent."""
    host, port = endpoint(options.target)
    lines = ["Subject: hello", "", ".a line with a dot", *(secrets.token_hex(30) for _ in range(2000)), ""]
    mail = "\r\n".join(lines).encode()
    with smtplib.SMTP(timeout=options.timeout) as client:
        code, greeting = client.connect(host, port)
        must_equal("greeting", code, 220)
        client.ehlo("peer.test")
        must_equal("sender", client.mail("me@peer.test")[0], 250)
        must_equal("recipient", client.rcpt("you@peer.test")[0], 250)
        code, digest = client.data(mail)
        if code != 250:
            raise BrokenError(f"the mail was refused: {code} {digest!r}")
        must_equal("digest of the mail", digest.decode(), hashlib.sha256(mail).hexdigest())
    return {"greeting": greeting.decode(), "bytes": len(mail)}


if __name__ == "__main__":
    main("greeting", serve=serve, check=check)
