"""Makes many Services with an endpoint each, and changes them at a rate: `python -m codezero.testing.crowd make|change ...`.

`make --namespaces 8 --each 1250` makes so many Services in each of the namespaces `crowd0` to `crowd7`, every one with an EndpointSlice of its own.
`change --namespaces 8 --each 1250 --changes 5000 --rate 500` changes what they offer: of five changes, four make an endpoint ready or not, as rolling
deploys do, and one moves a Service's port. Another `--round` makes other changes. The last change makes the first Service offer the port `--last`.

Reads `KUBECONFIG`. A few connections that are kept, requests of a line: what it measures is the API server, and not itself. Prints one line of JSON.
"""

import argparse
import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from typing import Any

from codezero.kit.tasks import task_group
from codezero.testing.churn import api_server

CONNECTIONS = 32
# Of so many in a row, it is told how long the quickest took.
BURST = 1000
PORT = 80
SERVICES = "/api/v1/namespaces/{}/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices"
_MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Order:
    """A request to the API server."""

    method: str
    path: str
    body: object
    kind: str = "application/json"


@dataclass(slots=True)
class Report:
    """What came of the orders."""

    seconds: float = 0.0
    ended_at: float = 0.0
    durations: list[float] = field(default_factory=list[float])
    # When each was answered.
    answered: list[float] = field(default_factory=list[float])

    def told(self) -> dict[str, Any]:
        """The line."""
        ordered = sorted(self.durations)
        burst = zip(self.answered, self.answered[BURST - 1 :], strict=False)
        return {
            "orders": len(ordered),
            "seconds": self.seconds,
            "ended_at": self.ended_at,
            "median": ordered[len(ordered) // 2],
            "slowest": ordered[-1],
            "burst": min((end - begin for begin, end in burst), default=0.0),
        }


def namespace(number: int) -> str:
    """The name of one of the namespaces."""
    return f"crowd{number}"


def services(namespaces: int, each: int) -> list[tuple[str, str]]:
    """Namespace and name of each Service, neighbours in different namespaces."""
    return [(namespace(space), f"s{number}") for number in range(each) for space in range(namespaces)]


def made(name: str, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Service without a selector, and its EndpointSlice: no controller has anything to do with it."""
    service = {"metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": PORT}]}}
    endpoints = {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": _endpoints(number, ready=True),
    }
    return service, endpoints


def making(namespaces: int, each: int) -> list[Order]:
    """The orders that make the Services and their endpoints."""
    found: list[Order] = []
    for number, (space, name) in enumerate(services(namespaces, each)):
        service, endpoints = made(name, number)
        found.append(Order("POST", SERVICES.format(space), service))
        found.append(Order("POST", SLICES.format(space), endpoints))
    return found


def changing(namespaces: int, each: int, changes: int, turn: int, last: int) -> list[Order]:
    """So many changes, no more than there are Services, each of another one, and each of them one that a catalog shows."""
    known = services(namespaces, each)
    found: list[Order] = []
    for number, (space, name) in enumerate(known[1:changes], 1):
        if number % 5 == 0:
            ports = [{"name": "http", "port": PORT + 1 + turn}]
            found.append(Order("PATCH", f"{SERVICES.format(space)}/{name}", {"spec": {"ports": ports}}, _MERGE))
        else:
            patch = {"endpoints": _endpoints(number, ready=turn % 2 == 1)}
            found.append(Order("PATCH", f"{SLICES.format(space)}/{name}", patch, _MERGE))
    space, name = known[0]
    patch = {"spec": {"ports": [{"name": "http", "port": last}]}}
    return [*found, Order("PATCH", f"{SERVICES.format(space)}/{name}", patch, _MERGE)]


async def give(orders: list[Order], *, rate: float) -> Report:
    """Give the orders in turn, at most `rate` a second (0: as fast as they are taken); the last one when all others are answered."""
    report = Report()
    host, port, context = api_server()
    *most, last = orders
    turns = enumerate(most)
    began = time.monotonic()
    async with task_group("crowd") as tasks:
        for number in range(CONNECTIONS):
            tasks.start(f"connection-{number}", _give(turns, report, began, rate, (host, port, context)))
    await _give(enumerate([last], len(most)), report, began, rate, (host, port, context))
    report.seconds, report.ended_at = time.monotonic() - began, time.time()
    return report


async def _give(
    turns: Iterable[tuple[int, Order]],
    report: Report,
    began: float,
    rate: float,
    server: tuple[str, int, ssl.SSLContext],
) -> None:
    host, port, context = server
    reader, writer = await asyncio.open_connection(host, port, ssl=context)
    for number, order in turns:
        if rate:
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        content = json.dumps(order.body).encode()
        head = f"{order.method} {order.path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: {order.kind}\r\n"
        asked = time.monotonic()
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        await _answer(reader, order)
        now = time.monotonic()
        report.durations.append(now - asked)
        report.answered.append(now)
    writer.close()


async def _answer(reader: asyncio.StreamReader, order: Order) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status, *lines = head[:-4].split("\r\n")
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = b"".join([chunk async for chunk in _chunks(reader)])
    if int(status.split()[1]) >= 400:
        raise RuntimeError(f"{order.method} {order.path}: {status} {body[:300]!r}")


async def _chunks(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()


def _endpoints(number: int, *, ready: bool) -> list[dict[str, Any]]:
    """One, at an address of a block for benchmarks (RFC 2544)."""
    address = f"198.18.{number // 250 % 250}.{number % 250 + 1}"
    return [{"addresses": [address], "conditions": {"ready": ready}}]


def main() -> None:
    """Do it, then tell."""
    parser = argparse.ArgumentParser(prog="python -m codezero.testing.crowd")
    parser.add_argument("what", choices=("make", "change"))
    parser.add_argument("--namespaces", type=int, required=True)
    parser.add_argument("--each", type=int, required=True, help="Services in each namespace")
    parser.add_argument("--changes", type=int, default=0)
    parser.add_argument("--round", type=int, default=0)
    parser.add_argument("--last", type=int, default=PORT, metavar="PORT")
    parser.add_argument("--rate", type=float, default=0.0, help="orders a second; 0: as fast as they are taken")
    options = parser.parse_args()
    if options.what == "make":
        orders = making(options.namespaces, options.each)
    else:
        orders = changing(options.namespaces, options.each, options.changes, options.round, options.last)
    print(json.dumps(asyncio.run(give(orders, rate=options.rate)).told()), flush=True)


if __name__ == "__main__":
    main()
