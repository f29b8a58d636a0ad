"""Bodies in Kubernetes' protobuf form, which `kubectl create` and `kubectl auth` send; read into the same documents as JSON.

Only the kinds those commands make are known. The field numbers are those of the API's published `generated.proto` files. Answers are always JSON.
"""

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache

from codezero.sandbox.api.documents import DocumentError, JsonObject, JsonValue

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\x00"

# "number name type" each. Types: s text, y bytes, i whole number, b yes or no; I and B the same where 0 and false mean something; a message by
# its name; [x] many; {x} a map from text; - is left out.
_MESSAGES = {
    "TypeMeta": "1 apiVersion s, 2 kind s",
    "Unknown": "1 typeMeta TypeMeta, 2 raw raw, 3 contentEncoding s, 4 contentType s",
    "ObjectMeta": (
        "1 name s, 2 generateName s, 3 namespace s, 4 selfLink s, 5 uid s, 6 resourceVersion s, 7 generation i, 8 creationTimestamp Time, "
        "9 deletionTimestamp Time, 10 deletionGracePeriodSeconds I, 11 labels {s}, 12 annotations {s}, 13 ownerReferences [OwnerReference], "
        "14 finalizers [s], 17 managedFields -"
    ),
    "OwnerReference": "1 kind s, 3 name s, 4 uid s, 5 apiVersion s, 6 controller B, 7 blockOwnerDeletion B",
    "LabelSelector": "1 matchLabels {s}, 2 matchExpressions [LabelSelectorRequirement]",
    "LabelSelectorRequirement": "1 key s, 2 operator s, 3 values [s]",
    "DeleteOptions": (
        "1 gracePeriodSeconds I, 2 preconditions Preconditions, 3 orphanDependents B, 4 propagationPolicy s, 5 dryRun [s], "
        "6 ignoreStoreReadErrorWithClusterBreakingPotential b"
    ),
    "Preconditions": "1 uid s, 2 resourceVersion s",
    "Namespace": "1 metadata ObjectMeta, 2 spec -, 3 status -",
    "ConfigMap": "1 metadata ObjectMeta, 2 data {s}, 3 binaryData {y}, 4 immutable B",
    "Secret": "1 metadata ObjectMeta, 2 data {y}, 3 type s, 4 stringData {s}, 5 immutable B",
    "ServiceAccount": (
        "1 metadata ObjectMeta, 2 secrets [ObjectReference], 3 imagePullSecrets [LocalObjectReference], 4 automountServiceAccountToken B"
    ),
    "ObjectReference": "1 kind s, 2 namespace s, 3 name s, 4 uid s, 5 apiVersion s, 6 resourceVersion s, 7 fieldPath s",
    "LocalObjectReference": "1 name s",
    "Service": "1 metadata ObjectMeta, 2 spec ServiceSpec, 3 status -",
    "ServiceSpec": (
        "1 ports [ServicePort], 2 selector {s}, 3 clusterIP s, 4 type s, 5 externalIPs [s], 7 sessionAffinity s, 8 loadBalancerIP s, "
        "9 loadBalancerSourceRanges [s], 10 externalName s, 11 externalTrafficPolicy s, 12 healthCheckNodePort i, 13 publishNotReadyAddresses b, "
        "17 ipFamilyPolicy s, 18 clusterIPs [s], 19 ipFamilies [s], 20 allocateLoadBalancerNodePorts B, 21 loadBalancerClass s, "
        "22 internalTrafficPolicy s, 23 trafficDistribution s"
    ),
    "ServicePort": "1 name s, 2 protocol s, 3 port i, 4 targetPort IntOrString, 5 nodePort i, 6 appProtocol s",
    "Deployment": "1 metadata ObjectMeta, 2 spec DeploymentSpec, 3 status -",
    "DeploymentSpec": (
        "1 replicas I, 2 selector LabelSelector, 3 template PodTemplateSpec, 4 strategy DeploymentStrategy, 5 minReadySeconds i, "
        "6 revisionHistoryLimit I, 7 paused b, 9 progressDeadlineSeconds I"
    ),
    "DeploymentStrategy": "1 type s",
    "PodTemplateSpec": "1 metadata ObjectMeta, 2 spec PodSpec",
    "PodSpec": "2 containers [Container], 3 restartPolicy s, 6 dnsPolicy s, 8 serviceAccountName s, 9 serviceAccount s, 19 schedulerName s",
    "Container": (
        "1 name s, 2 image s, 3 command [s], 4 args [s], 5 workingDir s, 6 ports [ContainerPort], 7 env [EnvVar], 8 resources -, "
        "13 terminationMessagePath s, 14 imagePullPolicy s, 20 terminationMessagePolicy s"
    ),
    "ContainerPort": "1 name s, 2 hostPort i, 3 containerPort i, 4 protocol s, 5 hostIP s",
    "EnvVar": "1 name s, 2 value s",
    "PolicyRule": "1 verbs [s], 2 apiGroups [s], 3 resources [s], 4 resourceNames [s], 5 nonResourceURLs [s]",
    "Role": "1 metadata ObjectMeta, 2 rules [PolicyRule]",
    "ClusterRole": "1 metadata ObjectMeta, 2 rules [PolicyRule], 3 aggregationRule AggregationRule",
    "AggregationRule": "1 clusterRoleSelectors [LabelSelector]",
    "RoleBinding": "1 metadata ObjectMeta, 2 subjects [Subject], 3 roleRef RoleRef",
    "ClusterRoleBinding": "1 metadata ObjectMeta, 2 subjects [Subject], 3 roleRef RoleRef",
    "RoleRef": "1 apiGroup s, 2 kind s, 3 name s",
    "Subject": "1 kind s, 2 apiGroup s, 3 name s, 4 namespace s",
    "PodDisruptionBudget": "1 metadata ObjectMeta, 2 spec PodDisruptionBudgetSpec, 3 status -",
    "PodDisruptionBudgetSpec": (
        "1 minAvailable IntOrString, 2 selector LabelSelector, 3 maxUnavailable IntOrString, 4 unhealthyPodEvictionPolicy s"
    ),
    "Ingress": "1 metadata ObjectMeta, 2 spec IngressSpec, 3 status -",
    "IngressSpec": "1 defaultBackend IngressBackend, 2 tls [IngressTLS], 3 rules [IngressRule], 4 ingressClassName s",
    "IngressBackend": "4 service IngressServiceBackend",
    "IngressServiceBackend": "1 name s, 2 port ServiceBackendPort",
    "ServiceBackendPort": "1 name s, 2 number i",
    "IngressTLS": "1 hosts [s], 2 secretName s",
    "IngressRule": "1 host s, 2 ingressRuleValue IngressRuleValue",
    "IngressRuleValue": "1 http HTTPIngressRuleValue",
    "HTTPIngressRuleValue": "1 paths [HTTPIngressPath]",
    "HTTPIngressPath": "1 path s, 2 backend IngressBackend, 3 pathType s",
    "TokenRequest": "1 metadata ObjectMeta, 2 spec TokenRequestSpec, 3 status -",
    "TokenRequestSpec": "1 audiences [s], 3 boundObjectRef BoundObjectReference, 4 expirationSeconds I",
    "BoundObjectReference": "1 kind s, 2 apiVersion s, 3 name s, 4 uid s",
    "TokenReview": "1 metadata ObjectMeta, 2 spec TokenReviewSpec, 3 status -",
    "TokenReviewSpec": "1 token s, 2 audiences [s]",
    "SelfSubjectReview": "1 metadata ObjectMeta, 2 status -",
    "SelfSubjectAccessReview": "1 metadata ObjectMeta, 2 spec SelfSubjectAccessReviewSpec, 3 status -",
    "SelfSubjectAccessReviewSpec": "1 resourceAttributes ResourceAttributes, 2 nonResourceAttributes NonResourceAttributes",
    "ResourceAttributes": "1 namespace s, 2 verb s, 3 group s, 4 version s, 5 resource s, 6 subresource s, 7 name s",
    "NonResourceAttributes": "1 path s, 2 verb s",
    "SelfSubjectRulesReview": "1 metadata ObjectMeta, 2 spec SelfSubjectRulesReviewSpec, 3 status -",
    "SelfSubjectRulesReviewSpec": "1 namespace s",
    "Time": "1 seconds I, 2 nanos i",
    "IntOrString": "1 type i, 2 intVal i, 3 strVal s",
}  # fmt: skip


def decode(content: bytes) -> JsonObject:
    """The document in a protobuf body; raises `DocumentError` for what is broken, or says something we would lose."""
    if not content.startswith(_MAGIC):
        raise DocumentError("not a Kubernetes protobuf body")
    try:
        envelope = _message(content[len(_MAGIC) :], "Unknown")
        kind = str(envelope.get("typeMeta", {}).get("kind", ""))
        if kind not in _MESSAGES:
            raise DocumentError(f"a protobuf body of kind {kind!r} is not understood; send JSON")
        return {**envelope["typeMeta"], **_message(envelope.get("raw", b""), kind)}
    except (IndexError, UnicodeDecodeError, OverflowError, OSError, KeyError):
        raise DocumentError("broken protobuf") from None


@cache
def _fields(message: str) -> dict[int, tuple[str, str]]:
    entries = (entry.split() for entry in _MESSAGES[message].split(", "))
    return {int(number): (name, kind) for number, name, kind in entries}


def _message(content: bytes, message: str) -> JsonObject:
    result: JsonObject = {}
    fields = _fields(message)
    for number, value in _parts(content):
        if number not in fields:
            if value:
                raise DocumentError(f"field {number} of {message} is not understood in protobuf; send JSON")
            continue
        name, kind = fields[number]
        if kind.startswith("["):
            result.setdefault(name, []).append(_value(value, kind[1:-1]))
        elif kind.startswith("{"):
            entry = dict(_parts(_bytes(value)))
            result.setdefault(name, {})[_bytes(entry.get(1, b"")).decode()] = _value(entry.get(2, b""), kind[1:-1])
        elif kind != "-" and _says_something(found := _value(value, kind), kind):
            result[name] = found
    # In JSON the parts of this one stand in the object around it.
    return result | result.pop("ingressRuleValue", {})


def _says_something(value: JsonValue, kind: str) -> bool:
    """Whether a field would stand in the JSON form too, which leaves out empty ones."""
    return kind in {"I", "B"} or value not in (None, "", 0)


def _value(value: int | bytes, kind: str) -> JsonValue:
    match kind:
        case "s":
            return _bytes(value).decode()
        case "y":
            return base64.b64encode(_bytes(value)).decode()
        case "raw":
            return _bytes(value)
        case "i" | "I":
            number = _number(value)
            return number - (1 << 64) if number >> 63 else number
        case "b" | "B":
            return bool(_number(value))
        case "Time":
            time = _message(_bytes(value), "Time")
            return (
                datetime.fromtimestamp(time["seconds"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                if "seconds" in time
                else None
            )
        case "IntOrString":
            either = _message(_bytes(value), "IntOrString")
            return either.get("strVal", "") if either.get("type") else either.get("intVal", 0)
        case message:
            return _message(_bytes(value), message)


def _parts(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(content):
        tag, position = _varint(content, position)
        if tag & 7 == 0:
            value, position = _varint(content, position)
            yield tag >> 3, value
        elif tag & 7 == 2:
            length, position = _varint(content, position)
            if position + length > len(content):
                raise DocumentError("broken protobuf: a field is longer than the body")
            yield tag >> 3, content[position : position + length]
            position += length
        else:
            raise DocumentError("broken protobuf: a field of a kind the API does not have")


def _varint(content: bytes, position: int) -> tuple[int, int]:
    result = 0
    for shift in range(0, 64, 7):
        byte = content[position]
        position += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result & (1 << 64) - 1, position
    raise DocumentError("broken protobuf: a number is too long")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise DocumentError("broken protobuf: a number where text belongs")


def _number(value: int | bytes) -> int:
    if isinstance(value, int):
        return value
    raise DocumentError("broken protobuf: text where a number belongs")
