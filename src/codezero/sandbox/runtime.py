"""The sandbox's own process: networks, internet, cluster and control, all in one event loop inside the cluster's network namespace."""

import argparse
import asyncio
import os
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import uvloop

from codezero.kit import logs
from codezero.kit.tasks import task_group
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.sandbox import cluster, internet, laptop, layout, namespaces, network
from codezero.sandbox.cluster import Cluster
from codezero.sandbox.control import Report
from codezero.sandbox.hub import HubProcess, SandboxHub
from codezero.sandbox.identities import Identities
from codezero.sandbox.operations import Operations, answering

_READY_DEADLINE = 60.0
_log = logs.get_logger("runtime")


class Reporter:
    """Tells whoever starts the sandbox how far it is; nobody may be listening any more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def step(self, text: str) -> None:
        """A step begins."""
        _log.info("step", text=text)
        self._send(Report(step=text))

    def failed(self, error: CodezeroError) -> None:
        """The sandbox does not come up, and why."""
        self._send(Report(problem=error.problem.code, detail=error.detail, fix=error.fix))

    def ready(self) -> None:
        """All is ready; the last thing told."""
        self._send(Report(ready=True))
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _send(self, report: Report) -> None:
        if self._descriptor is None:
            return
        try:
            os.write(self._descriptor, msgspec.json.encode(report) + b"\n")
        except BrokenPipeError:
            os.close(self._descriptor)
            self._descriptor = None


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="codezero.sandbox.runtime", allow_abbrev=False)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--report", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--no-sample", dest="sample", action="store_false")
    parser.add_argument("--bound", action="store_true")
    parser.add_argument("--no-cluster", dest="cluster", action="store_false")
    parser.add_argument("--no-teamspace", dest="teamspace", action="store_false")
    parser.add_argument("--hub", choices=("sqlite", "postgresql"))
    options = parser.parse_args(arguments)
    namespaces.die_with_parent()
    logs.configure()
    os.umask(0o022)
    reporter = Reporter(options.report)
    try:
        uvloop.run(_run(options, reporter))
    except CodezeroError as error:
        _log.error("sandbox failed", error=str(error))
        reporter.failed(error)
        raise SystemExit(1) from None
    except Exception as error:
        reporter.failed(CodezeroError(problems.SANDBOX_FAILED, f"{type(error).__name__}: {error}"))
        raise


async def _ready(stand_in: Cluster, namespace: str) -> None:
    try:
        async with asyncio.timeout(_READY_DEADLINE):
            await stand_in.ready(namespace)
    except TimeoutError:
        raise CodezeroError(
            problems.SANDBOX_FAILED,
            f"namespace {namespace} was not ready within {_READY_DEADLINE:.0f} s: {stand_in.unready(namespace)}",
            fix="look into the pods' logs, in the folder beside this one",
        ) from None


async def _start_cluster(
    options: argparse.Namespace, operations: Operations, reporter: Reporter, stack: AsyncExitStack
) -> None:
    identities = operations.identities
    hub = None
    if options.hub is not None:
        # While the cluster starts: the two do not need each other yet.
        tasks = await stack.enter_async_context(task_group("hub"))
        hub = tasks.start("set up", _start_hub(options, stack))
    reporter.step("starting the cluster (a stand-in for Kubernetes)")
    stand_in = await stack.enter_async_context(cluster.running(options.state / "log" / "pods"))
    operations.cluster = stand_in
    if options.teamspace:
        reporter.step("installing the Teamspace: System and Orchestrator")
    if hub is not None:
        operations.hub = await hub
    if options.teamspace and operations.hub is not None:
        cluster.install_joining_teamspace(stand_in, operations.hub)
    elif options.teamspace:
        cluster.write_access_files(identities)
        cluster.install_teamspace(stand_in, identities)
    if options.sample:
        reporter.step("installing the sample project")
        stand_in.install(cluster.sample_manifests())
    namespaces_to_be = {layout.TEAMSPACE_NAMESPACE: options.teamspace, layout.SAMPLE_NAMESPACE: options.sample}
    for namespace in (name for name, is_wanted in namespaces_to_be.items() if is_wanted):
        reporter.step(f"waiting for the pods in namespace {namespace}")
        await _ready(stand_in, namespace)


async def _start_hub(options: argparse.Namespace, stack: AsyncExitStack) -> SandboxHub:
    process = HubProcess(options.state / "log" / "hub.log", options.hub)
    process.prepare()
    stack.push_async_callback(process.close)
    await process.start()
    return await SandboxHub.set_up(process, teamspace=options.teamspace)


async def _run(options: argparse.Namespace, reporter: Reporter) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    operations = Operations(name=options.name, identities=Identities.create(), since=time.time())
    async with AsyncExitStack() as stack:
        reporter.step("making networks (stand-ins for laptops, LAN, internet and cluster)")
        await network.make_places(node=options.cluster)
        namespaces.enter_file(layout.network_file(layout.CLUSTER), namespaces.NEW_NETWORK)
        log = options.state / "log" / "sandbox.log"
        for place in layout.LAPTOPS:
            await stack.enter_async_context(laptop.laptop(place, log, bound=options.bound))
        await stack.enter_async_context(internet.serving())
        await stack.enter_async_context(answering(operations, socket.socket(fileno=options.control)))
        if options.cluster:
            await _start_cluster(options, operations, reporter, stack)
        operations.ready = True
        reporter.ready()
        await stop.wait()
        _log.info("stopping")


if __name__ == "__main__":
    main()
