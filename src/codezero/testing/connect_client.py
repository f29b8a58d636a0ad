"""A simple client of the CONNECT door: `python -m codezero.testing.connect_client ACCESS_FILE SERVICE.NAMESPACE:PORT PATH`, token on stdin.

Prints the body of the service's answer; where the door refuses, its status line goes to stderr and the exit code is 1.
"""

import http.client
import socket
import sys
from pathlib import Path

from codezero.kit.certificates import client_context
from codezero.wire import access_file


def main() -> None:
    """Connect, ask, print."""
    file, target, path = sys.argv[1:4]
    access = access_file.decode(Path(file).read_bytes())
    token = sys.stdin.read().strip()
    with socket.create_connection((access.host, access.port), timeout=10) as plain:
        context = client_context(roots=access.roots, protocols=["http/1.1"])
        door = context.wrap_socket(plain, server_hostname=access.server_name)
        door.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: {token}\r\n\r\n".encode())
        answer = http.client.HTTPResponse(door, method="CONNECT")
        answer.begin()
        if answer.status != 200:
            sys.exit(f"{answer.status} {answer.reason} {answer.read().decode(errors='replace')}")
        service = http.client.HTTPConnection(target)
        service.sock = door
        service.request("GET", path)
        print(service.getresponse().read().decode())


if __name__ == "__main__":
    main()
