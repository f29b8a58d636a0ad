"""The command line: `start` runs a slab until it is interrupted or stopped, the others ask one that runs.

python -m tests.cluster.slab start --binaries BIN --images IMAGES --state STATE [--control-plane] [--proxy-mode iptables]
python -m tests.cluster.slab kubectl --state STATE -- get pods -A
python -m tests.cluster.slab run|containerd|load|restart|stop-component|start-component|stop --state STATE -- ...
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from tests.cluster import binaries
from tests.cluster.slab.slab import Slab, SlabError


def main() -> int:
    """Run the command line; the exit status."""
    arguments = _parser().parse_args()
    try:
        if arguments.command == "start":
            _start(arguments)
        else:
            _ask(Slab.find(arguments.state), arguments.command, arguments.arguments)
    except (SlabError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _start(arguments: argparse.Namespace) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        with Slab.start(
            binaries=arguments.binaries,
            images=arguments.images,
            state=arguments.state,
            control_plane=arguments.control_plane,
            proxy_mode=arguments.proxy_mode,
            apiserver_arguments=arguments.apiserver_argument,
            progress=lambda step: print(step, flush=True),
        ) as slab:
            print(f"up until this is interrupted; kubeconfig: {slab.kubeconfig}", flush=True)
            slab.wait()
    except KeyboardInterrupt:
        pass
    print("stopped", flush=True)


def _ask(slab: Slab, command: str, rest: list[str]) -> None:
    given = rest[1:] if rest[:1] == ["--"] else rest
    match command:
        case "kubectl":
            _become(slab.kubectl_command(*given))
        case "run":
            _become(slab.command(given))
        case "containerd":
            print(slab.containerd(*given), end="")
        case "load":
            for archive in given:
                slab.load(Path(archive))
        case "restart":
            for component in given:
                slab.restart(component)
        case "stop-component":
            for component in given:
                slab.stop_component(component)
        case "start-component":
            for component in given:
                slab.start_component(component)
        case _:
            slab.stop()


def _become(command: list[str]) -> None:
    os.execvp(command[0], command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.slab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start")
    start.add_argument("--state", type=Path, required=True)
    start.add_argument("--binaries", type=Path, default=binaries.programs())
    start.add_argument("--images", type=Path, default=binaries.archives())
    start.add_argument("--control-plane", action="store_true")
    start.add_argument("--proxy-mode", default="nftables", choices=("nftables", "iptables"))
    start.add_argument("--apiserver-argument", action="append", default=[])
    for name in ("kubectl", "run", "containerd", "load", "restart", "stop-component", "start-component", "stop"):
        asking = commands.add_parser(name)
        asking.add_argument("--state", type=Path, required=True)
        asking.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
