"""Pods and what makes them (Deployments, ReplicaSets, StatefulSets, DaemonSets): defaults and rules."""

from collections.abc import Iterator

from codezero.sandbox.api import metadata, selectors
from codezero.sandbox.api.documents import JsonObject, as_list, as_object, as_objects, at, copy
from codezero.sandbox.api.errors import Cause

_REQUIRED = "FieldValueRequired"
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "grpc", "httpGet", "tcpSocket")


def lasting_containers(pod: JsonObject) -> list[JsonObject]:
    """The specifications of those containers that run as long as the pod: sidecars, then the others."""
    sidecars = [one for one in as_objects(at(pod, "spec", "initContainers")) if one.get("restartPolicy") == "Always"]
    return [*sidecars, *as_objects(at(pod, "spec", "containers"))]


def lasting_statuses(pod: JsonObject) -> list[JsonObject]:
    """What a pod's status says about `lasting_containers`."""
    names = {one.get("name") for one in lasting_containers(pod)}
    sidecars = [one for one in as_objects(at(pod, "status", "initContainerStatuses")) if one.get("name") in names]
    return [*sidecars, *as_objects(at(pod, "status", "containerStatuses"))]


def set_pod_spec_defaults(spec: JsonObject) -> None:
    """Fill in what the specification of a pod leaves out."""
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("securityContext", {})
    spec.setdefault("schedulerName", "default-scheduler")
    if account := spec.get("serviceAccountName") or spec.get("serviceAccount"):
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in (*as_objects(spec.get("containers")), *as_objects(spec.get("initContainers"))):
        _set_container_defaults(container)
    for volume in as_objects(spec.get("volumes")):
        for kind in ("configMap", "secret", "projected", "downwardAPI"):
            if kind in volume:
                volume[kind].setdefault("defaultMode", 420)
        for source in as_objects(at(volume, "projected", "sources")):
            if "serviceAccountToken" in source:
                source["serviceAccountToken"].setdefault("expirationSeconds", 3600)
            _set_field_reference_defaults(as_objects(at(source, "downwardAPI", "items")))
        _set_field_reference_defaults(as_objects(at(volume, "downwardAPI", "items")))
        if "hostPath" in volume:
            volume["hostPath"].setdefault("type", "")


def _set_container_defaults(container: JsonObject) -> None:
    image = str(container.get("image", ""))
    _, _, tag = image.rpartition("/")[2].partition(":")
    always = "@" not in image and tag in {"", "latest"}
    container.setdefault("imagePullPolicy", "Always" if always else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    container.setdefault("resources", {})
    resources = container["resources"]
    for name, limit in as_object(resources.get("limits")).items():
        resources.setdefault("requests", {}).setdefault(name, limit)
    for port in as_objects(container.get("ports")):
        port.setdefault("protocol", "TCP")
    _set_field_reference_defaults([as_object(entry.get("valueFrom")) for entry in as_objects(container.get("env"))])
    for name in _PROBES:
        if name in container:
            _set_probe_defaults(container[name])


def _set_field_reference_defaults(holders: list[JsonObject]) -> None:
    for holder in holders:
        if "fieldRef" in holder:
            holder["fieldRef"].setdefault("apiVersion", "v1")


def _set_probe_defaults(probe: JsonObject) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        probe.setdefault(field, value)
    if "httpGet" in probe:
        probe["httpGet"].setdefault("path", "/")
        probe["httpGet"].setdefault("scheme", "HTTP")
    if "grpc" in probe:
        probe["grpc"].setdefault("service", "")


def set_pod_defaults(content: JsonObject) -> None:
    """Fill in what a Pod leaves out."""
    spec = content.setdefault("spec", {})
    spec.setdefault("serviceAccountName", spec.get("serviceAccount") or "default")
    set_pod_spec_defaults(spec)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    spec.setdefault("priority", 0)
    status = content.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", "BestEffort")


def _set_template_defaults(spec: JsonObject) -> None:
    template = spec.setdefault("template", {})
    template.setdefault("metadata", {})
    set_pod_spec_defaults(template.setdefault("spec", {}))


def set_deployment_defaults(content: JsonObject) -> None:
    """Fill in what a Deployment leaves out."""
    spec = content.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxSurge", "25%")
        rolling.setdefault("maxUnavailable", "25%")
    _set_template_defaults(spec)


def set_replica_set_defaults(content: JsonObject) -> None:
    """Fill in what a ReplicaSet leaves out."""
    spec = content.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _set_template_defaults(spec)


def set_stateful_set_defaults(content: JsonObject) -> None:
    """Fill in what a StatefulSet leaves out."""
    spec = content.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    spec.setdefault("persistentVolumeClaimRetentionPolicy", {"whenDeleted": "Retain", "whenScaled": "Retain"})
    _set_template_defaults(spec)


def set_daemon_set_defaults(content: JsonObject) -> None:
    """Fill in what a DaemonSet leaves out."""
    spec = content.setdefault("spec", {})
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = spec.setdefault("updateStrategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {"maxSurge": 0, "maxUnavailable": 1})
    _set_template_defaults(spec)


def check_workload(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    """What is wrong with an object that makes pods."""
    spec = as_object(content.get("spec"))
    found = list(_selector_causes(spec))
    replicas = spec.get("replicas", 0)
    if isinstance(replicas, int) and replicas < 0:
        found.append(Cause("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0"))
    if before is not None and spec.get("selector") != at(before, "spec", "selector"):
        found.append(Cause("spec.selector", "Invalid value: field is immutable"))
    template = as_object(spec.get("template"))
    found += metadata.check_labels(at(template, "metadata", "labels"), "spec.template.metadata.labels")
    found += pod_spec_causes(as_object(template.get("spec")), "spec.template.spec")
    policy = at(template, "spec", "restartPolicy")
    if policy != "Always":
        found.append(
            Cause(
                "spec.template.spec.restartPolicy",
                f'Unsupported value: "{policy}": supported values: "Always"',
                "FieldValueNotSupported",
            )
        )
    return found


def _selector_causes(spec: JsonObject) -> Iterator[Cause]:
    selector = as_object(spec.get("selector"))
    if not selector:
        yield Cause("spec.selector", "Required value", _REQUIRED)
        return
    yield from metadata.check_labels(selector.get("matchLabels"), "spec.selector.matchLabels")
    for index, expression in enumerate(as_objects(selector.get("matchExpressions"))):
        if expression.get("operator") not in {"In", "NotIn", "Exists", "DoesNotExist"}:
            path = f"spec.selector.matchExpressions[{index}].operator"
            yield Cause(path, f'Invalid value: "{expression.get("operator")}": not a valid selector operator')
    labels = as_object(at(spec, "template", "metadata", "labels"))
    if not selectors.from_object(selector).matches(labels):
        yield Cause("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`")


def check_pod(content: JsonObject, before: JsonObject | None) -> list[Cause]:
    """What is wrong with a Pod."""
    spec = as_object(content.get("spec"))
    found = list(pod_spec_causes(spec, "spec"))
    if before is not None and _fixed_part(spec) != _fixed_part(as_object(before["spec"])):
        message = (
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
        )
        found.append(Cause("spec", message, "FieldValueForbidden"))
    if before is not None and at(before, "spec", "nodeName") not in {None, "", spec.get("nodeName")}:
        found.append(Cause("spec.nodeName", "Forbidden: a pod stays on its node", "FieldValueForbidden"))
    return found


def _fixed_part(spec: JsonObject) -> JsonObject:
    fixed = copy(
        {key: value for key, value in spec.items() if key not in {"activeDeadlineSeconds", "tolerations", "nodeName"}}
    )
    for container in (*as_objects(fixed.get("containers")), *as_objects(fixed.get("initContainers"))):
        container.pop("image", None)
    return fixed


def pod_spec_causes(spec: JsonObject, path: str) -> Iterator[Cause]:
    """What is wrong with the specification of a pod."""
    if not as_list(spec.get("containers")):
        yield Cause(f"{path}.containers", "Required value", _REQUIRED)
    volumes = {str(volume.get("name")) for volume in as_objects(spec.get("volumes"))}
    names: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(as_objects(spec.get(group))):
            where = f"{path}.{group}[{index}]"
            name = str(container.get("name", ""))
            if problem := metadata.label_1123(name):
                yield Cause(f"{where}.name", f'Invalid value: "{name}": {problem}')
            if name in names:
                yield Cause(f"{where}.name", f'Duplicate value: "{name}"', "FieldValueDuplicate")
            names.add(name)
            yield from _container_causes(container, where, volumes)


def _container_causes(container: JsonObject, path: str, volumes: set[str]) -> Iterator[Cause]:
    if not container.get("image"):
        yield Cause(f"{path}.image", "Required value", _REQUIRED)
    for index, port in enumerate(as_objects(container.get("ports"))):
        number = port.get("containerPort")
        if not isinstance(number, int) or not 1 <= number <= 65535:
            yield Cause(
                f"{path}.ports[{index}].containerPort",
                f"Invalid value: {number}: must be between 1 and 65535, inclusive",
            )
        name = port.get("name")
        if name and (problem := metadata.port_name(str(name))):
            yield Cause(f"{path}.ports[{index}].name", f'Invalid value: "{name}": {problem}')
    for index, entry in enumerate(as_objects(container.get("env"))):
        if not entry.get("name"):
            yield Cause(f"{path}.env[{index}].name", "Required value", _REQUIRED)
    for index, mount in enumerate(as_objects(container.get("volumeMounts"))):
        if str(mount.get("name")) not in volumes:
            yield Cause(f"{path}.volumeMounts[{index}].name", f'Not found: "{mount.get("name")}"', "FieldValueNotFound")
    for name in _PROBES:
        if name in container and sum(handler in container[name] for handler in _HANDLERS) != 1:
            yield Cause(f"{path}.{name}", "Required value: must specify exactly one handler type", _REQUIRED)
