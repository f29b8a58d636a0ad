"""A way into a cluster from a network that has none: sockets in that network, and whatever comes in on them is handed on outside it."""

import contextlib
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

_CHUNK = 256 * 1024
_DIALLING = 3.0
_FORWARDER_START = 20.0
_AT_ONCE = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class Relay:
    """Takes the connections of `listener`, and joins each to one that `dial` makes; where it cannot, it resets them. Until closed."""

    def __init__(self, listener: socket.socket, dial: Callable[[], socket.socket]) -> None:
        self._listener = listener
        self._dial = dial
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more connections. Those that are there end with their ends."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(accepted,), daemon=True).start()

    def _join(self, accepted: socket.socket) -> None:
        with accepted:
            try:
                dialled = self._dial()
            except (OSError, subprocess.SubprocessError):
                _reset(accepted)
                return
            with dialled:
                for end in (accepted, dialled):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                back = threading.Thread(target=_pump, args=(dialled, accepted), daemon=True)
                back.start()
                _pump(accepted, dialled)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Hand on all that comes, its end, and its breaking off."""
    try:
        while content := source.recv(_CHUNK):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        _reset(source)
        _reset(sink)


def _reset(end: socket.socket) -> None:
    """Have closing it reset it, and wake whoever reads."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        end.shutdown(socket.SHUT_RD)


class Entry:
    """A port of a Service as it can be dialled from outside its cluster.

    That is by its load balancer, by a port of a node, or where neither answers by `kubectl port-forward`, which is started again when it has ended.
    `get` finds objects, as `kubectl get` does.
    """

    def __init__(
        self,
        service: str,
        namespace: str,
        port: int,
        *,
        get: Callable[..., list[dict[str, Any]]],
        environment: Mapping[str, str],
    ) -> None:
        self._service = service
        self._namespace = namespace
        self._port = port
        self._get = get
        self._environment = environment
        self._choosing = threading.Lock()
        self._found: Address | None = None
        self._forwarder: subprocess.Popen[str] | None = None

    def dial(self) -> socket.socket:
        """A new connection. Raises OSError where there is no way."""
        with self._choosing:
            if self._found is not None:
                with contextlib.suppress(OSError):
                    return _connected(self._found)
            self._found = None
            for address in self._published():
                with contextlib.suppress(OSError):
                    connection = _connected(address)
                    self._found = address
                    return connection
            self._found = self._forwarded()
            return _connected(self._found)

    def close(self) -> None:
        """End what was started for it."""
        if self._forwarder is not None:
            self._forwarder.kill()
            self._forwarder.communicate()
            self._forwarder = None

    def _published(self) -> Iterator[Address]:
        """Where the cluster says the Service can be reached from outside."""
        found = self._get("services", "-n", self._namespace, "--field-selector", f"metadata.name={self._service}")
        for service in found:
            for one in service["status"].get("loadBalancer", {}).get("ingress", ()):
                yield one.get("ip") or one["hostname"], self._port
            ports = [one.get("nodePort") for one in service["spec"]["ports"] if one["port"] == self._port]
            if ports and ports[0]:
                addresses = [one for node in self._get("nodes") for one in node["status"].get("addresses", ())]
                for kind in ("ExternalIP", "InternalIP"):
                    yield from ((one["address"], ports[0]) for one in addresses if one["type"] == kind)

    def _forwarded(self) -> Address:
        self.close()
        command = ["kubectl", "port-forward", "-n", self._namespace, f"service/{self._service}", f":{self._port}"]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stderr": subprocess.STDOUT, "text": True}
        self._forwarder = subprocess.Popen(command, stdout=subprocess.PIPE, env=self._environment, **options)
        deadline = threading.Timer(_FORWARDER_START, self._forwarder.kill)
        deadline.start()
        try:
            assert self._forwarder.stdout is not None
            # Forwarding from 127.0.0.1:40123 -> 8800
            line = self._forwarder.stdout.readline()
        finally:
            deadline.cancel()
        local = line.partition(" -> ")[0].rpartition(":")[2]
        if not local.isdecimal():
            raise OSError(f"kubectl port-forward: {line}")
        # It tells of each connection, to nobody.
        threading.Thread(target=self._forwarder.stdout.read, daemon=True).start()
        return "127.0.0.1", int(local)


def listening(run: Callable[[Sequence[str], int], object], address: str, port: int) -> socket.socket:
    """A socket that listens where `run` runs a command: the command makes it there, and hands it over by the descriptor it is given."""
    ours, theirs = socket.socketpair()
    script = (
        "import socket, sys; end, address, port = sys.argv[1:]; made = socket.create_server((address, int(port)), backlog=1024); "
        "socket.send_fds(socket.socket(fileno=int(end)), [b'!'], [made.fileno()])"
    )
    with ours, theirs:
        run(["python", "-c", script, str(theirs.fileno()), address, str(port)], theirs.fileno())
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(descriptors[0], False)
    return socket.socket(fileno=descriptors[0])


def _connected(address: Address) -> socket.socket:
    connection = socket.create_connection(address, timeout=_DIALLING)
    connection.settimeout(None)
    return connection
