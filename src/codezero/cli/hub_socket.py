"""WebSockets to the Hub, as czctl asks it otherwise: believed by the same authorities, by the same proxy, and where nobody redirects to."""

import asyncio
import ssl
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidStatus, WebSocketException

from codezero import __version__
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.transport.hub_http import HubEndpoint, environment_proxy
from codezero.transport.hub_messages import Connect
from codezero.wire import problem_json

CONNECT_SECONDS: Final = 15.0
PING_SECONDS: Final = 20.0


async def connected(
    endpoint: HubEndpoint, path: str, *, max_size: int, max_queue: int, pings: bool = True
) -> ClientConnection:
    """A connection to `path`; raises `CodezeroError`: the Hub's refusal, HUB_NOT_BELIEVED or HUB_UNREACHABLE. Without `pings` the two ends show each other otherwise that they are there."""
    is_tls = endpoint.url.startswith("https:")
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            return await Connect(
                f"ws{endpoint.url.removeprefix('http')}{path}",
                ssl=_context(endpoint.ca) if is_tls else None,
                user_agent_header=f"codezero/{__version__}",
                max_size=max_size,
                max_queue=max_queue,
                compression=None,
                proxy=environment_proxy(endpoint.url),
                ping_interval=PING_SECONDS if pings else None,
                close_timeout=2.0,
            )
    except InvalidStatus as error:
        raise problem_json.decode(bytes(error.response.body or b""), status=error.response.status_code) from None
    except ssl.SSLError as error:
        why = getattr(error, "verify_message", None) or error.reason or "TLS failed"
        raise CodezeroError(
            problems.HUB_NOT_BELIEVED,
            f"what answers at {endpoint.url} could not prove to be the Hub, so nothing was sent: {why}",
            fix="open the network's sign-in page if it has one; where the Hub has an authority of its own, sign in with --hub-ca FILE",
        ) from None
    except (OSError, WebSocketException, ValueError) as error:
        why = "it does not answer" if isinstance(error, TimeoutError) else str(error)[:200]
        raise CodezeroError(
            problems.HUB_UNREACHABLE,
            f"the Hub at {endpoint.url} cannot be reached: {why}",
            fix=f"check the address and the network, for example: curl {endpoint.url}/healthz",
        ) from None


def _context(ca: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
