"""`czctl ui` as it runs: from the socket to the last word."""

import asyncio
import contextlib
import os
import signal
import socket

from codezero.cli.console import say, write_now
from codezero.cli.context import Places
from codezero.cli.loopback import serving
from codezero.cli.ui import opening
from codezero.cli.ui.application import OwnThreads, application
from codezero.cli.ui.entry import CODE_SECONDS, Entry
from codezero.cli.ui.hub_events import MAX_FROM_PAGE
from codezero.kit.tasks import task_group
from codezero.model.problems import CodezeroError


def run(places: Places, *, port: int, opens: bool) -> None:
    """Serve the console until the user ends it. Raises `CodezeroError`."""
    with serving.bind(port) as listener, asyncio.Runner() as runner:
        runner.run(_run(places, listener, opens=opens))


async def _run(places: Places, listener: socket.socket, *, opens: bool) -> None:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Whoever started us by nohup wants us to outlive the terminal.
        if signal.getsignal(number) is not signal.SIG_IGN or number != signal.SIGHUP:
            loop.add_signal_handler(number, ending.set)
    port = listener.getsockname()[1]
    entry = Entry(port)
    threads = OwnThreads()
    # Root can do all that the user can, whether it is asked or not; some forward connections as root.
    users = frozenset({os.geteuid(), 0})
    app = application(port=port, entry=entry, users=users, socket_path=places.socket, threads=threads)
    try:
        async with serving.serve(app, listener, users=users, max_message=MAX_FROM_PAGE), task_group("console") as tasks:
            address = f"http://{serving.ADDRESS}:{port}/ui/#code={entry.code}"
            write_now(f"{address}\n")
            say(
                f"the local console runs until Ctrl-C; its address is good once, within {CODE_SECONDS / 60:.0f} minutes"
            )
            if opens:
                tasks.start_service("opening", _open(address, entry))
            await ending.wait()
    finally:
        threads.close()
    say("the local console has ended")


async def _open(address: str, entry: Entry) -> None:
    try:
        with opening.leading_file(address) as file:
            say("opening the browser; if none opens, open the address yourself")
            opening.open_browser(file)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CODE_SECONDS):
                    await entry.spent.wait()
    except CodezeroError as error:
        say(f"no browser was opened: {error.detail}; open the address yourself")
    await asyncio.Event().wait()
