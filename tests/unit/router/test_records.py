"""Lines of the access log become batches of records; what is too much goes, and is counted."""

import asyncio
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from codezero.router.records import AccessLog
from codezero.routing.plan import RoutePlan
from codezero.wire.router import MAX_RECORDS, AccessRecords
from codezero.wire.tracing import Direction, TraceRecord


def read(line: bytes, plan: RoutePlan) -> TraceRecord | None:
    """A line is the path, `-` is none of a variant's."""
    if line == b"-":
        return None
    return TraceRecord(0.0, Direction.SERVE, plan.service, 80, "HTTP/1.1", path=line.decode())


@pytest.fixture
def log(plans: Any) -> AccessLog:
    return AccessLog(plan=plans.plan, read=read, kept=300)


def paths(batch: AccessRecords) -> list[str]:
    return [record.path for record in batch.records]


async def test_lines_of_a_datagram_are_told_in_their_order(log: AccessLog) -> None:
    log.take(b"/1\n-\n/2\n")
    log.take(b"/3")

    assert paths(await log.batch()) == ["/1", "/2", "/3"]


async def test_a_batch_is_bounded(log: AccessLog) -> None:
    log.take(b"/\n" * (MAX_RECORDS + 1))

    assert len((await log.batch()).records) == MAX_RECORDS
    assert len((await log.batch()).records) == 1


async def test_the_oldest_go_when_nobody_takes_them(log: AccessLog) -> None:
    log.take(b"\n".join(b"/%d" % number for number in range(305)))

    batch = await log.batch()

    assert (batch.records[0].path, batch.dropped, log.dropped) == ("/5", 5, 5)
    assert (await log.batch()).dropped == 0


async def test_what_could_not_be_told_comes_again_in_its_order(log: AccessLog) -> None:
    log.take(b"/1\n/2")
    log.give_back(await log.batch())
    log.take(b"/3")

    assert paths(await log.batch()) == ["/1", "/2", "/3"]


async def test_lines_that_never_arrived_are_counted(log: AccessLog) -> None:
    log.take(b"#dropped 7\n/1")
    log.take(b"#dropped many\n#dropped -3\n#dropped 99999999999999999999")

    assert (await log.batch()).dropped == 7


async def test_a_record_that_the_system_could_not_read_is_dropped(log: AccessLog) -> None:
    """It would end the stream, and its routes with it."""
    log.take(b"/" + b"x" * 1000 + b"\n/1")

    batch = await log.batch()

    assert (paths(batch), batch.dropped) == (["/1"], 1)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="czr-") as folder:
        yield Path(folder)


async def test_datagrams_come_by_a_socket_that_replaces_the_one_before(log: AccessLog, short_folder: Path) -> None:
    path = short_folder / "access.sock"
    log.listen(path).close()
    receiving = log.listen(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"/1\n/2", str(path))

        async with asyncio.timeout(10):
            assert paths(await log.batch()) == ["/1", "/2"]
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        receiving.close()
