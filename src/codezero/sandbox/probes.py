"""Probes of containers: HTTP, TCP and commands, from the node, with the thresholds of Kubernetes."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from codezero.sandbox.api import JsonObject
from codezero.sandbox.api.documents import as_object, as_objects, at

# Runs a command in the container; the exit code and what it printed.
RunInside = Callable[[list[str]], Awaitable[tuple[int, str]]]
_LARGEST_ANSWER = 10 * 1024
# While a container comes up it is asked more often than its probe says, because people wait for it; failures count once a period all the same.
_SOON = 0.2


@dataclass(frozen=True, slots=True)
class Probing:
    """One probe of one container. Times are seconds."""

    kind: str
    spec: JsonObject
    address: str
    ports: dict[str, int]
    run_inside: RunInside

    @property
    def delay(self) -> float:
        """How long to wait before the first try."""
        return float(self.spec.get("initialDelaySeconds", 0))

    @property
    def period(self) -> float:
        """How long to wait between tries."""
        return float(self.spec.get("periodSeconds", 10))

    @property
    def successes(self) -> int:
        """How many successes in a row make it well."""
        return int(self.spec.get("successThreshold", 1))

    @property
    def failures(self) -> int:
        """How many failures in a row make it fail."""
        return int(self.spec.get("failureThreshold", 3))

    async def attempt(self) -> str | None:
        """One try: `None` for a success, else what was wrong."""
        seconds = float(self.spec.get("timeoutSeconds", 1))
        try:
            async with asyncio.timeout(seconds):
                return await self._attempt()
        except TimeoutError:
            return f"no answer within {seconds:g} s"
        except (OSError, EOFError, ValueError) as error:
            return str(error) or type(error).__name__

    async def _attempt(self) -> str | None:
        if "httpGet" in self.spec:
            return await self._get(self.spec["httpGet"])
        if "tcpSocket" in self.spec:
            host = self.spec["tcpSocket"].get("host") or self.address
            _, writer = await asyncio.open_connection(host, self._port(self.spec["tcpSocket"]["port"]))
            writer.close()
            return None
        command = at(self.spec, "exec", "command")
        if command:
            code, printed = await self.run_inside(command)
            return None if code == 0 else f"exit code {code}: {printed.strip()[-300:]}"
        return "the sandbox knows probes of kind httpGet, tcpSocket and exec"

    async def _get(self, wanted: JsonObject) -> str | None:
        host = wanted.get("host") or self.address
        port = self._port(wanted["port"])
        encrypted = wanted.get("scheme") == "HTTPS"
        reader, writer = await asyncio.open_connection(host, port, ssl=_unverified() if encrypted else None)
        try:
            headers = {"host": f"{host}:{port}", "user-agent": "kube-probe/sandbox", "accept": "*/*"}
            headers |= {str(one["name"]).lower(): str(one["value"]) for one in as_objects(wanted.get("httpHeaders"))}
            lines = [
                f"GET {wanted.get('path') or '/'} HTTP/1.1",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            writer.write(("\r\n".join([*lines, "connection: close"]) + "\r\n\r\n").encode())
            first = (await reader.readline())[:_LARGEST_ANSWER].decode(errors="replace")
            status = first.split()[1:2]
            if status and status[0].isdigit() and 200 <= int(status[0]) < 400:
                return None
            return f"HTTP probe failed with statuscode: {status[0] if status else first.strip()[:100]}"
        finally:
            writer.close()

    def _port(self, port: int | str) -> int:
        if isinstance(port, int):
            return port
        if port not in self.ports:
            raise ValueError(f"the container has no port named {port}")
        return self.ports[port]


def probing(kind: str, container: JsonObject, address: str, run_inside: RunInside) -> Probing | None:
    """The container's probe of that kind (`startup`, `liveness`, `readiness`), if it has one."""
    spec = as_object(container.get(f"{kind}Probe"))
    if not spec:
        return None
    ports = {port["name"]: port["containerPort"] for port in as_objects(container.get("ports")) if "name" in port}
    return Probing(kind, spec, address, ports, run_inside)


async def follow(probe: Probing, tell: Callable[[bool, str], None]) -> None:
    """Try for ever, and tell each time the thresholds are reached: well or not, with the last reason."""
    await asyncio.sleep(probe.delay)
    in_a_row = 0
    was_well: bool | None = None
    coming_up = probe.kind != "liveness" and "exec" not in probe.spec
    while True:
        wrong = await probe.attempt()
        well = wrong is None
        in_a_row = in_a_row + 1 if well == was_well else 1
        was_well = well
        if in_a_row >= (probe.successes if well else probe.failures):
            tell(well, wrong or "")
        coming_up = coming_up and not well
        await (_until_well(probe) if coming_up else asyncio.sleep(probe.period))


async def _until_well(probe: Probing) -> None:
    """The probe's period, cut short when it succeeds."""
    end = asyncio.get_running_loop().time() + probe.period
    while (rest := end - asyncio.get_running_loop().time()) > 0:
        await asyncio.sleep(min(_SOON, rest))
        if rest > _SOON and await probe.attempt() is None:
            return


def _unverified() -> ssl.SSLContext:
    """As the kubelet does it: probes check that something answers, not who."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
