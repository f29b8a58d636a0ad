"""UDP: datagrams of all sizes come back whole, with their borders; a lost one is sent again."""

import argparse
import asyncio
import os
import socket
import time
from typing import cast

from codezero.testing.peers.verdict import BrokenError, Facts, Options, endpoint, forever, main, run

Address = tuple[str | object, int]


class _Echo(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # In Python 3.11 it is one without saying so.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self._transport.sendto(data, addr)


def serve(options: Options) -> None:
    """Echo every datagram."""
    run(_serve(options))


async def _serve(options: Options) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(_Echo, local_addr=(options.address, options.port))
    await forever()


def check(options: Options) -> Facts:
    """Every datagram is echoed, after at most `--tries` attempts."""
    host, port = endpoint(options.target)
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    again = 0
    with socket.socket(family, kind, protocol) as client:
        client.settimeout(options.wait)
        client.connect(address)
        for number in range(options.datagrams):
            length = 8 + number * (options.largest - 8) // max(1, options.datagrams - 1)
            again += _exchange(client, number.to_bytes(8, "big") + os.urandom(length - 8), options.tries)
    return {"datagrams": options.datagrams, "sent_again": again}


def _exchange(client: socket.socket, datagram: bytes, tries: int) -> int:
    """Send `datagram` until its echo comes; how often it had to be sent again."""
    for attempt in range(tries):
        try:
            client.send(datagram)
            while (echo := client.recv(65536)) != datagram:
                if echo[:8] == datagram[:8]:
                    raise BrokenError(f"a datagram of {len(datagram)} bytes came back changed, with {len(echo)}")
        except TimeoutError:
            continue
        except ConnectionRefusedError:
            # Nobody listens yet: as good as lost.
            time.sleep(client.gettimeout() or 0)
            continue
        return attempt
    raise BrokenError(f"no echo of a datagram of {len(datagram)} bytes after {tries} tries")


def _client_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--datagrams", type=int, default=50)
    parser.add_argument("--largest", type=int, default=1200, help="bytes of the largest datagram")
    parser.add_argument("--tries", type=int, default=5)
    parser.add_argument("--wait", type=float, default=2.0, help="seconds to wait for an echo before sending again")


if __name__ == "__main__":
    main("udp", serve=serve, check=check, client_options=_client_options)
