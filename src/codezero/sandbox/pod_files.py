"""What a container finds in its environment and its volumes, out of ConfigMaps, Secrets, tokens and the pod itself."""

import base64
import itertools
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from codezero.sandbox import layout
from codezero.sandbox.api import ApiError, JsonObject, Store
from codezero.sandbox.api.documents import as_object, as_objects, at

ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
_TOKEN_SECONDS = 3600
# A token is replaced when this part of its life is over.
_TOKEN_WORN = 0.8
_REFERENCE = re.compile(r"\$(\$|\(([A-Za-z_.-][A-Za-z0-9_.-]*)\))")
_KEYED_FIELD = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")

# Namespace, account name, audiences, seconds, pod -> token and the time it expires.
IssueToken = Callable[..., tuple[str, int]]


class NotPossibleError(Exception):
    """A container cannot be started (yet): the reason as Kubernetes calls it, and a sentence."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Mount:
    """Something of ours at a place in a container."""

    source: Path
    target: str
    read_only: bool


def expanded(text: str, variables: dict[str, str]) -> str:
    """`text` with `$(NAME)` replaced; `$$` stands for a dollar, unknown names stay as they are."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return variables.get(match[2], match[0])

    return _REFERENCE.sub(replace, text)


def environment_of(container: JsonObject, pod: JsonObject, store: Store) -> dict[str, str]:
    """A container's environment; raises `NotPossibleError` while something it refers to is missing."""
    namespace = pod["metadata"]["namespace"]
    variables = dict(_service_variables(pod, store))
    for source in as_objects(container.get("envFrom")):
        prefix = source.get("prefix", "")
        for kind, reference in (("configmaps", source.get("configMapRef")), ("secrets", source.get("secretRef"))):
            if reference is not None:
                content = _content(store, kind, namespace, reference)
                variables |= {prefix + name: value.decode(errors="replace") for name, value in content.items()}
    for entry in as_objects(container.get("env")):
        if "valueFrom" in entry:
            value = _referred(as_object(entry["valueFrom"]), container, pod, store)
            if value is None:
                continue
        else:
            value = expanded(str(entry.get("value", "")), variables)
        variables[str(entry["name"])] = value
    return variables


def _service_variables(pod: JsonObject, store: Store) -> Iterator[tuple[str, str]]:
    """The addresses of Services, as every container is told them."""
    namespace = pod["metadata"]["namespace"]
    everything = at(pod, "spec", "enableServiceLinks") is not False
    services = {service.uid: service for service in (store.list("services", namespace) if everything else [])}
    # The API's address is told to all.
    api = store.find("services", "default", "kubernetes")
    if api is not None:
        services[api.uid] = api
    for service in services.values():
        address = at(service.content, "spec", "clusterIP")
        ports = as_objects(at(service.content, "spec", "ports"))
        if address in {None, "", "None"} or not ports:
            continue
        name = service.name.upper().replace("-", "_")
        yield f"{name}_SERVICE_HOST", address
        yield f"{name}_SERVICE_PORT", str(ports[0]["port"])
        for port in ports:
            if port.get("name"):
                yield f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}", str(port["port"])


def _referred(source: JsonObject, container: JsonObject, pod: JsonObject, store: Store) -> str | None:
    namespace = pod["metadata"]["namespace"]
    for field_name, kind in (("configMapKeyRef", "configmaps"), ("secretKeyRef", "secrets")):
        reference = as_object(source.get(field_name))
        if not reference:
            continue
        value = _content(store, kind, namespace, reference).get(reference["key"])
        if value is None and not reference.get("optional"):
            raise NotPossibleError(
                "CreateContainerConfigError", f"couldn't find key {reference['key']} in {kind[:-1]} {reference['name']}"
            )
        return value.decode(errors="replace") if value is not None else None
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    resource = str(at(source, "resourceFieldRef", "resource") or "")
    kind, _, name = resource.partition(".")
    return str(at(container, "resources", kind, name) or 0)


def field_of(pod: JsonObject, path: str) -> str:
    """What a `fieldRef` says about a pod; raises `NotPossibleError` for fields that cannot be referred to."""
    keyed = _KEYED_FIELD.fullmatch(path)
    if keyed is not None:
        return str(as_object(pod["metadata"].get(keyed[1])).get(keyed[2], ""))
    match path:
        case "metadata.name" | "metadata.namespace" | "metadata.uid" | "spec.nodeName" | "spec.serviceAccountName":
            return str(at(pod, *path.split(".")) or "")
        case "status.podIP" | "status.podIPs":
            return str(at(pod, "status", "podIP") or "")
        case "status.hostIP" | "status.hostIPs":
            return layout.NODE_ADDRESS
        case "metadata.labels" | "metadata.annotations":
            pairs = as_object(at(pod, *path.split(".")))
            return "\n".join(f'{name}="{value}"' for name, value in sorted(pairs.items()))
        case _:
            raise NotPossibleError("CreateContainerConfigError", f"the field {path} cannot be referred to")


def _content(store: Store, kind: str, namespace: str, reference: JsonObject) -> dict[str, bytes]:
    """The data of a ConfigMap or Secret; empty where an optional one is missing."""
    name = str(reference.get("name") or reference.get("secretName") or "")
    found = store.find(kind, namespace, name)
    if found is None:
        if reference.get("optional"):
            return {}
        raise NotPossibleError("CreateContainerConfigError", f'{kind[:-1]} "{name}" not found')
    data = as_object(found.content.get("data"))
    if kind == "secrets":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = {key: base64.b64decode(value) for key, value in as_object(found.content.get("binaryData")).items()}
    return {**{key: str(value).encode() for key, value in data.items()}, **binary}


@dataclass(slots=True)
class PodVolumes:
    """The volumes of one pod, below `folder`; `refresh` brings those made of objects up to date in place."""

    folder: Path
    store: Store
    issue_token: IssueToken
    authorities: str
    _tokens: dict[str, tuple[str, float]] = field(default_factory=dict[str, tuple[str, float]])
    _written: dict[str, dict[str, bytes]] = field(default_factory=dict[str, dict[str, bytes]])
    _versions: Iterator[int] = field(default_factory=itertools.count)

    def mounts(self, container: JsonObject, pod: JsonObject) -> list[Mount]:
        """The mounts of a container, all volumes being there; raises `NotPossibleError`."""
        self.refresh(pod)
        variables = environment_of(container, pod, self.store)
        found: list[Mount] = []
        for mount in as_objects(container.get("volumeMounts")):
            source = self.folder / mount["name"]
            part = expanded(mount.get("subPathExpr", ""), variables) or mount.get("subPath", "")
            if part:
                source = source / part
                if ".." in Path(part).parts:
                    raise NotPossibleError("CreateContainerConfigError", f"the subPath {part} leaves its volume")
                if not source.exists():
                    source.mkdir(parents=True)
            found.append(Mount(source.resolve(), mount["mountPath"], bool(mount.get("readOnly"))))
        if self._has_account(pod) and all(one.target != ACCOUNT_FOLDER for one in found):
            found.append(Mount(self.folder / _ACCOUNT_VOLUME, ACCOUNT_FOLDER, read_only=True))
        return found

    def refresh(self, pod: JsonObject) -> None:
        """Write what changed; raises `NotPossibleError` while an object is missing."""
        for volume in as_objects(at(pod, "spec", "volumes")):
            content = self._volume_content(volume, pod)
            if content is None:
                self._make_empty(volume["name"])
            else:
                self._write(volume["name"], content)
        if self._has_account(pod):
            self._write(_ACCOUNT_VOLUME, self._account_content(pod))

    def remove(self) -> None:
        """Forget all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _has_account(self, pod: JsonObject) -> bool:
        wanted = at(pod, "spec", "automountServiceAccountToken")
        if wanted is None:
            name = at(pod, "spec", "serviceAccountName") or "default"
            account = self.store.find("serviceaccounts", pod["metadata"]["namespace"], name)
            return account is not None and account.content.get("automountServiceAccountToken") is not False
        return bool(wanted)

    def _volume_content(self, volume: JsonObject, pod: JsonObject) -> dict[str, bytes] | None:
        """The files of a volume; `None` for an empty folder."""
        namespace = pod["metadata"]["namespace"]
        if "emptyDir" in volume:
            return None
        if "configMap" in volume:
            return _chosen(_content(self.store, "configmaps", namespace, volume["configMap"]), volume["configMap"])
        if "secret" in volume:
            return _chosen(_content(self.store, "secrets", namespace, volume["secret"]), volume["secret"])
        if "downwardAPI" in volume:
            return _downward(volume["downwardAPI"], pod)
        if "projected" in volume:
            files: dict[str, bytes] = {}
            for source in as_objects(at(volume, "projected", "sources")):
                files |= self._projected(source, pod)
            return files
        kind = ", ".join(sorted(volume.keys() - {"name"})) or "no kind"
        raise NotPossibleError("FailedMount", f"volume {volume['name']}: the sandbox has no volumes of kind {kind}")

    def _projected(self, source: JsonObject, pod: JsonObject) -> dict[str, bytes]:
        namespace = pod["metadata"]["namespace"]
        for name, kind in (("configMap", "configmaps"), ("secret", "secrets")):
            if name in source:
                return _chosen(_content(self.store, kind, namespace, source[name]), source[name])
        if "downwardAPI" in source:
            return _downward(source["downwardAPI"], pod)
        wanted = as_object(source.get("serviceAccountToken"))
        if not wanted:
            return {}
        token = self._token(pod, wanted.get("audience", ""), wanted.get("expirationSeconds", _TOKEN_SECONDS))
        return {wanted.get("path", "token"): token.encode()}

    def _account_content(self, pod: JsonObject) -> dict[str, bytes]:
        return {
            "token": self._token(pod, "", _TOKEN_SECONDS).encode(),
            "ca.crt": self.authorities.encode(),
            "namespace": pod["metadata"]["namespace"].encode(),
        }

    def _token(self, pod: JsonObject, audience: str, seconds: int) -> str:
        known = self._tokens.get(audience)
        if known is not None and known[1] > time.time():
            return known[0]
        metadata = pod["metadata"]
        try:
            token, expires = self.issue_token(
                metadata["namespace"],
                at(pod, "spec", "serviceAccountName") or "default",
                audiences=[audience] if audience else [],
                seconds=seconds,
                pod={"name": metadata["name"], "uid": metadata["uid"]},
            )
        except ApiError as error:
            raise NotPossibleError("FailedMount", error.message) from None
        now = time.time()
        self._tokens[audience] = (token, now + (expires - now) * _TOKEN_WORN)
        return token

    def _make_empty(self, name: str) -> None:
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o777)

    def _write(self, name: str, files: dict[str, bytes]) -> None:
        """Replace all files at once, by the swap of one link, as the kubelet does: readers see the old or the new, never a mix."""
        if self._written.get(name) == files:
            return
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        version = f"..{next(self._versions)}"
        for path, content in files.items():
            file = folder / version / path
            if ".." in Path(path).parts or Path(path).is_absolute():
                raise NotPossibleError("CreateContainerConfigError", f"the path {path} leaves its volume")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        (folder / version).mkdir(exist_ok=True)
        old = (folder / "..data").readlink() if (folder / "..data").is_symlink() else None
        (folder / "..next").symlink_to(version)
        (folder / "..next").replace(folder / "..data")
        tops = {Path(path).parts[0] for path in files}
        for top in tops:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(f"..data/{top}")
        for entry in folder.iterdir():
            if not entry.name.startswith("..") and entry.name not in tops:
                entry.unlink()
        if old is not None:
            shutil.rmtree(folder / old)
        self._written[name] = files


_ACCOUNT_VOLUME = "kube-api-access"


def _chosen(content: dict[str, bytes], source: JsonObject) -> dict[str, bytes]:
    items = as_objects(source.get("items"))
    if not items:
        return content
    missing = [item["key"] for item in items if item["key"] not in content]
    if missing and not source.get("optional"):
        name = source.get("name") or source.get("secretName")
        raise NotPossibleError("FailedMount", f"{name} has no key {', '.join(missing)}")
    return {item["path"]: content[item["key"]] for item in items if item["key"] in content}


def _downward(source: JsonObject, pod: JsonObject) -> dict[str, bytes]:
    return {
        item["path"]: field_of(pod, item["fieldRef"]["fieldPath"]).encode()
        for item in as_objects(source.get("items"))
        if "fieldRef" in item
    }
