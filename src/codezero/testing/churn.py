"""Changes services as fast as the API server lets it: `python -m codezero.testing.churn --namespace N --changes C --live L`.

Reads `KUBECONFIG`. Creates, changes and deletes services with a selector and no pods, keeping about L alive; ends with exactly L.
"""

import argparse
import json
import os
import ssl
import tempfile
from base64 import b64decode
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


def api_server() -> tuple[str, int, ssl.SSLContext]:
    """Where the API server of the current kubeconfig is, and how it and its user know each other."""
    config: Any = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.NamedTemporaryFile() as file:
        file.write(b64decode(user["client-certificate-data"]) + b64decode(user["client-key-data"]))
        file.flush()
        context.load_cert_chain(file.name)
    address = urlsplit(str(cluster["server"]))
    return address.hostname or "", address.port or 443, context


def main() -> None:
    """Change, then say how many changes there were."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--changes", type=int, required=True)
    parser.add_argument("--live", type=int, required=True)
    arguments = parser.parse_args()
    host, port, context = api_server()
    api = HTTPSConnection(host, port, context=context)
    folder = f"/api/v1/namespaces/{arguments.namespace}/services"

    def ask(method: str, path: str, body: object = None, kind: str = "application/json") -> Any:
        api.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": kind})
        answer = api.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:300]!r}")
        return json.loads(content)

    found = ask("GET", folder)["items"]
    alive: list[str] = [item["metadata"]["name"] for item in found]
    number = 0
    for change in range(arguments.changes):
        if change % 5 == 4 and alive:
            ask(
                "PATCH",
                f"{folder}/{alive[change % len(alive)]}",
                {"metadata": {"labels": {"n": str(change)}}},
                "application/merge-patch+json",
            )
        elif len(alive) < arguments.live or change % 2:
            number += 1
            name = f"s{os.getpid()}-{number}"
            ask(
                "POST",
                folder,
                {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}},
            )
            alive.append(name)
        else:
            ask("DELETE", f"{folder}/{alive.pop(0)}")
    while len(alive) > arguments.live:
        ask("DELETE", f"{folder}/{alive.pop(0)}")
    while len(alive) < arguments.live:
        number += 1
        name = f"s{os.getpid()}-{number}"
        ask("POST", folder, {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": [{"port": 80}]}})
        alive.append(name)
    print(json.dumps({"changes": arguments.changes, "live": len(alive)}))


if __name__ == "__main__":
    main()
