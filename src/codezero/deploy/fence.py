"""What the API server refuses our accounts although roles allow it: a ValidatingAdmissionPolicy, because roles know no names, labels or fields.

Roles cannot say "only Deployments of ours" or "only the selector of a Service"; so whoever takes the System over would run any program in a served
namespace and read its Secrets. The fence says so, in CEL, at each write of the System and of repair. It sees one object, before and after, and
nothing else; therefore it does not know

- which Service a hash in a name belongs to (CEL has no SHA-256): a Service may be led to the Router of another one of its namespace;
- what a team's own selector was: where a Service leads to a Router, any values may be put back under its own keys;
- whether an owner reference names a Service that exists, or a NetworkPolicy of ours selects pods that others guard already: one for pods that
  nobody guards would keep all but Routers from them;
- what a Router is told: its plan says where requests go, as do the streams that the System holds.

All of these stay within the namespace of the Service, where the System has to be trusted with the traffic anyway.
"""

from typing import Final

from codezero.deploy.access import IDENTITY, JOIN, LEASE, POLICY, REPAIR, SYSTEM
from codezero.deploy.manifest import Json, manifest
from codezero.deploy.values import Values
from codezero.wire.router import AUDIENCE
from codezero.wire.serve_resource import GROUP, MANAGED_BY, OURS

FENCE: Final = "codezero-system"

_ADMISSION: Final = "admissionregistration.k8s.io/v1"
_SERVICE: Final = f"{GROUP}/service"
_RESTARTED: Final = "kubectl.kubernetes.io/restartedAt"
_HASH: Final = "[0-9a-f]{10}"
_OUR_VALUE: Final = f"^cz-{_HASH}$"
_MOST_REPLICAS: Final = 20

# What the API server changes in metadata at each write by itself.
_BOOKKEEPING: Final = ("generation", "managedFields", "resourceVersion")
# Everything that roles grant, as group/resource/subresource. What is not here is refused, whatever roles say.
_WRITTEN: Final = {
    "apps/deployments/": ("CREATE", "UPDATE", "DELETE"),
    "/services/": ("CREATE", "UPDATE", "DELETE"),
    "/serviceaccounts/": ("CREATE", "DELETE"),
    "networking.k8s.io/networkpolicies/": ("CREATE", "UPDATE", "DELETE"),
    "policy/poddisruptionbudgets/": ("CREATE", "UPDATE", "DELETE"),
    f"{GROUP}/serves/": ("CREATE", "UPDATE", "DELETE"),
    f"{GROUP}/serves/status": ("UPDATE",),
    "/events/": ("CREATE",),
    "coordination.k8s.io/leases/": ("CREATE", "UPDATE"),
    "/secrets/": ("UPDATE",),
    # Questions, which change nothing; everybody who is somebody may ask the last three.
    "authentication.k8s.io/tokenreviews/": ("CREATE",),
    "authentication.k8s.io/selfsubjectreviews/": ("CREATE",),
    "authorization.k8s.io/selfsubjectaccessreviews/": ("CREATE",),
    "authorization.k8s.io/selfsubjectrulesreviews/": ("CREATE",),
}
# What we make for a served Service; of two kinds others have some that we change a little.
_MADE: Final = (
    "apps/deployments/",
    "/services/",
    "/serviceaccounts/",
    "networking.k8s.io/networkpolicies/",
    "policy/poddisruptionbudgets/",
)
_TOUCHED: Final = ("apps/deployments/", "/services/")
_AT_HOME: Final = ("coordination.k8s.io/leases/", "/secrets/")
# Of Secret codezero-identity: what proves the parts to one another. Never the authority itself, the seal or whom laptops are believed by.
_RENEWED: Final = ("system.crt", "system.key", "orchestrator.crt", "orchestrator.key")
# Where a Hub signs the authority and says whom to believe, these too; and the seal once, where there is none.
_OF_HUB: Final = (
    "ca.crt",
    "ca.key",
    "root.crt",
    "device-issuer.crt",
    "jwks.json",
    "next.key",
    "joined-by",
    "rotated-for",
)
_SEAL: Final = "seal.key"
_CONFIG_MAPS: Final = "/configmaps/"

# The fields of a Router's pod that `system.serving.manifests` writes, those the API server adds, and where it may run, which policies of others
# like to say. A field that is not here may lead to other people's Secrets, programs or nodes; so a list of what is bad would always lag behind.
_POD_FIELDS: Final = (
    *("serviceAccountName", "serviceAccount", "automountServiceAccountToken", "imagePullSecrets"),
    *("containers", "volumes", "securityContext", "enableServiceLinks", "terminationGracePeriodSeconds"),
    *("restartPolicy", "dnsPolicy", "schedulerName"),
    *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints"),
)
_CONTAINER_FIELDS: Final = (
    *("name", "image", "imagePullPolicy", "command", "env", "ports", "readinessProbe", "livenessProbe"),
    *("volumeMounts", "resources", "securityContext", "terminationMessagePath", "terminationMessagePolicy"),
)
_PROBE_FIELDS: Final = (
    *("httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold", "successThreshold", "initialDelaySeconds"),
)
# Services of ours are there for the cluster alone; those of others keep them as they are.
_OUTWARD_FIELDS: Final = (
    *("externalIPs", "externalName", "loadBalancerIP", "loadBalancerClass", "loadBalancerSourceRanges"),
    *("allocateLoadBalancerNodePorts", "healthCheckNodePort", "externalTrafficPolicy"),
)


def objects(values: Values, namespace: str) -> list[Json]:
    """The policy and its binding."""
    return [
        manifest(_ADMISSION, "ValidatingAdmissionPolicy", FENCE, component=SYSTEM, spec=_policy(values, namespace)),
        manifest(
            _ADMISSION,
            "ValidatingAdmissionPolicyBinding",
            FENCE,
            component=SYSTEM,
            spec={"policyName": FENCE, "validationActions": ["Deny", "Audit"]},
        ),
    ]


def _policy(values: Values, namespace: str) -> Json:
    accounts = [f"system:serviceaccount:{namespace}:{name}" for name in (SYSTEM, REPAIR)]
    everything = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"], "scope": "*"}
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [everything]},
        # Others do not even notice it.
        "matchConditions": [{"name": "ours", "expression": f"request.userInfo.username in {_list(accounts)}"}],
        "variables": [{"name": name, "expression": expression} for name, expression in _variables(values).items()],
        "validations": [
            {"expression": expression, "message": f"codezero-system {message}", "reason": "Forbidden"}
            for message, expression in _validations(values, namespace)
        ],
    }


def _variables(values: Values) -> dict[str, str]:
    """Worked out when a validation asks for them, so those about updates may take it for granted that there are two states."""
    labels = "one.metadata.labels"
    service = f"{labels}[{_text(_SERVICE)}]"
    names = [f"'cz-router-' + {service}{_plus(suffix)}" for suffix in ("", "-callers", "-ways")]
    of_ours = " && ".join(
        (
            f"has({labels})",
            f"{_text(MANAGED_BY)} in {labels} && {labels}[{_text(MANAGED_BY)}] == {_text(OURS)}",
            f"{_text(_SERVICE)} in {labels} && {service}.matches({_text(f'^{_HASH}$')})",
            f"one.metadata.name in ['cz-origin-' + {service}, {', '.join(names)}]",
        )
    )
    kinds = {**_WRITTEN, **({_CONFIG_MAPS: ("UPDATE",)} if values.hub.url else {})}
    written = ", ".join(f"{_text(what)}: {_list(operations)}" for what, operations in kinds.items())
    return {
        "written": f"{{{written}}}",
        "what": "request.resource.group + '/' + request.resource.resource + '/' + (has(request.subResource) ? request.subResource : '')",
        "states": "[object, oldObject].filter(one, one != null)",
        "isOurs": f"variables.states.all(one, {of_ours})",
        # Which service it is for, and what that makes of labels; of ours alone.
        "hash": f"variables.states[0].metadata.labels[{_text(_SERVICE)}]",
        "router": "'cz-router-' + variables.hash",
        "selected": "'cz-' + variables.hash",
        "isWritten": "object != null && variables.isOurs",
        "isForeign": f"request.operation == 'UPDATE' && variables.what in {_list(_TOUCHED)} && !variables.isOurs",
        "pod": "object.spec.template.spec",
        "container": "object.spec.template.spec.containers[0]",
        # Of a Service of others: its selector before and after, and whether it led to a Router.
        "before": "has(oldObject.spec.selector) ? oldObject.spec.selector : {}",
        "after": "has(object.spec.selector) ? object.spec.selector : {}",
        "ledToRouter": _leads_to_router("variables.before"),
        "leadsToRouter": _leads_to_router("variables.after"),
        "hadOurs": f"variables.before.exists(key, {_is_ours('variables.before[key]')})",
        "hasOurs": f"variables.after.exists(key, {_is_ours('variables.after[key]')})",
        "hasSameKeys": "variables.before.all(key, key in variables.after) && variables.after.all(key, key in variables.before)",
    }


def _leads_to_router(selector: str) -> str:
    same = f"{selector}.all(key, {selector}.all(other, {selector}[key] == {selector}[other]))"
    return f"size({selector}) > 0 && {selector}.all(key, {_is_ours(f'{selector}[key]')}) && {same}"


def _is_ours(value: str) -> str:
    return f"{value}.matches({_text(_OUR_VALUE)})"


def _validations(values: Values, namespace: str) -> list[tuple[str, str]]:
    return [
        *_reach(values, namespace),
        *_others_things(),
        *_made_things(values),
        *_routers(values),
    ]


def _reach(values: Values, namespace: str) -> list[tuple[str, str]]:
    """What may be written at all, and where."""
    home = _text(namespace)
    # Labels, owners and finalizers as they are: who names an owner that is gone has the Secret deleted.
    otherwise = " && ".join(
        (
            _same("object.metadata", "oldObject.metadata", but=_BOOKKEEPING),
            "(has(object.immutable) && object.immutable) == (has(oldObject.immutable) && oldObject.immutable)",
        )
    )
    kept = f"has(oldObject.data) && {_same('object.data', 'oldObject.data', but=_RENEWED)} && {otherwise}"
    at_home = (*_AT_HOME, *((_CONFIG_MAPS,) if values.hub.url else ()))
    anywhere = [what for what in _WRITTEN if what.endswith(("reviews/", "events/"))]
    return [
        (
            "writes nothing of this kind",
            "variables.what in variables.written && request.operation in variables.written[variables.what]",
        ),
        (
            "serves nothing of its own namespace, and has Lease and Secret there alone",
            f"variables.what in {_list(anywhere)} || (has(request.namespace) && request.namespace == {home}) == (variables.what in {_list(at_home)})",
        ),
        (
            f"has one Lease, {LEASE}",
            f"variables.what != 'coordination.k8s.io/leases/' || object.metadata.name == {_text(LEASE)}",
        ),
        *(
            _of_hub(otherwise)
            if values.hub.url
            else [
                (
                    f"renews certificates and keys of the parts in Secret {IDENTITY}, and changes nothing else of it",
                    f"variables.what != '/secrets/' || (object.metadata.name == {_text(IDENTITY)} && has(object.data) && {kept})",
                )
            ]
        ),
    ]


def _of_hub(otherwise: str) -> list[tuple[str, str]]:
    """What the Hub's word allows besides. Both begin without data."""
    new, old = (f"(has({one}.data) ? {one}.data : {{}})" for one in ("object", "oldObject"))
    seal = _text(_SEAL)
    sealed = f"(!({seal} in {old}) || ({seal} in {new} && {new}[{seal}] == {old}[{seal}]))"
    identity = f"{_same(new, old, but=(*_RENEWED, *_OF_HUB, _SEAL))} && {sealed}"
    used = f"!('token' in {new}) && {_same(new, old, but=('token',))}"
    policy = f"!has(object.binaryData) && {_same(new, old, but=('policy.json', 'hub.json'))}"
    return [
        (
            f"keeps the identity in Secret {IDENTITY} and its seal, takes the used token out of Secret {JOIN}, and changes nothing else of Secrets",
            f"variables.what != '/secrets/' || ({otherwise} && ((object.metadata.name == {_text(IDENTITY)} && {identity}) || "
            f"(object.metadata.name == {_text(JOIN)} && {used})))",
        ),
        (
            f"keeps the Hub's policy in ConfigMap {POLICY}, and changes no other",
            f"variables.what != {_text(_CONFIG_MAPS)} || (object.metadata.name == {_text(POLICY)} && {policy} && {otherwise})",
        ),
    ]


def _others_things() -> list[tuple[str, str]]:
    """What belongs to a team: the selector of a Service, and the moment of a restart."""
    template, before = "object.spec.template", "oldObject.spec.template"
    metadata = _same("object.metadata", "oldObject.metadata", but=_BOOKKEEPING)
    restart = " && ".join(
        (
            _same("object.spec", "oldObject.spec", but=("template",)),
            _same(template, before, but=("metadata",)),
            _same(f"{template}.metadata", f"{before}.metadata", but=("annotations",)),
            _same(_annotations(template), _annotations(before), but=(_RESTARTED,)),
        )
    )
    kept = f"variables.before.all(key, {_is_ours('variables.before[key]')} || variables.after[key] == variables.before[key])"
    follows = "variables.before.all(key, variables.before[key] in variables.after.map(name, variables.after[name]))"
    to_router = (
        f"variables.leadsToRouter && (variables.ledToRouter ? {follows} : variables.hasSameKeys && !variables.hadOurs)"
    )
    all_keys = "variables.before.all(key, key in variables.after)"
    back = (
        "variables.hadOurs && !variables.hasOurs && "
        f"(variables.ledToRouter ? {all_keys} : variables.hasSameKeys && {kept})"
    )
    return [
        (
            "makes and deletes only what it has made for a served Service: by label, name and hash",
            f"!(variables.what in {_list(_MADE)}) || variables.isOurs || variables.isForeign",
        ),
        ("changes no metadata of what others have", f"!variables.isForeign || ({metadata})"),
        (
            "restarts Deployments of others, and changes nothing else of them",
            f"!variables.isForeign || variables.what != 'apps/deployments/' || ({restart})",
        ),
        (
            "changes the selector of a Service of others, and nothing else of it",
            f"!variables.isForeign || variables.what != '/services/' || ({_same('object.spec', 'oldObject.spec', but=('selector',))})",
        ),
        (
            "leads a Service to its Router under the keys of its own selector, and back",
            f"!variables.isForeign || variables.what != '/services/' || variables.before == variables.after || ({to_router}) || ({back})",
        ),
    ]


def _made_things(values: Values) -> list[tuple[str, str]]:
    """What we make beside the Router's Deployment."""
    mark = _map(_SERVICE, "variables.hash")
    selects_router = f"object.spec.podSelector == {{'matchLabels': {mark}}}"
    from_router = f"rule.from.all(peer, peer == {{'podSelector': {{'matchLabels': {mark}}}}})"
    lets_router_in = " && ".join(
        (
            "object.metadata.name == variables.router",
            "object.spec.policyTypes == ['Ingress']",
            "has(object.spec.podSelector.matchLabels) && size(object.spec.podSelector.matchLabels) > 0",
            "has(object.spec.ingress) && size(object.spec.ingress) > 0",
            f"object.spec.ingress.all(rule, !has(rule.ports) && has(rule.from) && size(rule.from) > 0 && {from_router})",
        )
    )
    owner = "owner.apiVersion == 'v1' && owner.kind == 'Service'"
    annotations = "object.metadata.annotations"
    named = (
        f"has({annotations}) && {_text(_SERVICE)} in {annotations} && owner.name == {annotations}[{_text(_SERVICE)}]"
    )
    selector = "has(object.spec.selector) && size(object.spec.selector) > 0"
    led = "object.spec.clusterIP == 'None' && object.spec.selector.all(key, object.spec.selector[key] == variables.selected)"
    return [
        (
            "makes things that go with the Service they are for",
            f"!variables.isWritten || (has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(owner, {owner} && {named}))",
        ),
        (
            "makes Services for the cluster alone",
            f"!variables.isWritten || variables.what != '/services/' || (object.spec.type == 'ClusterIP' && {selector} && "
            f"!dyn(object.spec).exists(field, field in {_list(_OUTWARD_FIELDS)}) && "
            f"object.spec.ports.all(port, !has(port.nodePort) || port.nodePort == 0))",
        ),
        (
            "makes two Services: the origin, and one that selects the Router",
            "!variables.isWritten || variables.what != '/services/' || object.metadata.name == 'cz-origin-' + variables.hash || "
            f"(object.metadata.name == variables.router && {led})",
        ),
        (
            "makes ServiceAccounts that have nothing",
            "!variables.isWritten || variables.what != '/serviceaccounts/' || (object.metadata.name == variables.router && "
            "object.automountServiceAccountToken == false && (!has(object.secrets) || size(object.secrets) == 0) && "
            f"{_pulls('object', values)})",
        ),
        (
            "makes NetworkPolicies about Routers, or that let them in",
            f"!variables.isWritten || variables.what != 'networking.k8s.io/networkpolicies/' || {selects_router} || ({lets_router_in})",
        ),
        (
            "makes PodDisruptionBudgets of Routers",
            "!variables.isWritten || variables.what != 'policy/poddisruptionbudgets/' || (object.metadata.name == variables.router && "
            f"object.spec.selector == {{'matchLabels': {mark}}})",
        ),
    ]


def _routers(values: Values) -> list[tuple[str, str]]:
    """The Deployment of a Router: one program, with nothing to read and nobody to be."""
    mark = _map(_SERVICE, "variables.hash")
    template = "object.spec.template.metadata"
    label = f"{template}.labels[name]"
    labels = (
        f"has({template}.labels) && {template}.labels.all(name, "
        f"{label} == (name == {_text(_SERVICE)} ? variables.hash : variables.selected) || "
        f"(name == {_text(MANAGED_BY)} && {label} == {_text(OURS)}))"
    )
    annotations = f"!has({template}.annotations) || {template}.annotations.all(name, name == {_text(_SERVICE)})"
    token = f"has(source.serviceAccountToken.audience) && source.serviceAccountToken.audience == {_text(AUDIENCE)}"
    volume = (
        f"{_only('volume', ('name', 'emptyDir', 'projected'))} && (!has(volume.projected) || volume.projected.sources.all(source, "
        f"{_only('source', ('serviceAccountToken',))} && {token}))"
    )
    variable = (
        "variable.name.startsWith('CODEZERO_') && (!has(variable.valueFrom) || "
        f"({_only('variable.valueFrom', ('fieldRef',))} && variable.valueFrom.fieldRef.fieldPath == 'metadata.name'))"
    )
    probe = f"{_only('probe', _PROBE_FIELDS)} && has(probe.httpGet) && !has(probe.httpGet.host)"
    probes = "[variables.container.?readinessProbe, variables.container.?livenessProbe]"
    security = "variables.container.securityContext"
    whole = "variables.pod.securityContext"
    sysctls = f"!has({whole}.sysctls) || {whole}.sysctls.all(one, one.name == 'net.ipv4.ip_unprivileged_port_start')"
    rules = [
        (
            "makes Deployments of Routers",
            f"object.metadata.name == variables.router && object.spec.selector == {{'matchLabels': {mark}}} && "
            f"object.spec.replicas <= {_MOST_REPLICAS}",
        ),
        ("makes pods with the labels of its Router alone", f"{labels} && ({annotations})"),
        (
            "runs the Router's program and image, nothing beside it",
            f"{_only('variables.pod', _POD_FIELDS)} && size(variables.pod.containers) == 1 && "
            f"{_only('variables.container', _CONTAINER_FIELDS)} && variables.container.command == ['czrouter', 'run'] && "
            f"variables.container.image == {_text(values.router.image.reference)}",
        ),
        (
            "runs it as the Router's own ServiceAccount, without a token for the API",
            "variables.pod.serviceAccountName == variables.router && variables.pod.automountServiceAccountToken == false && "
            f"(!has(variables.pod.serviceAccount) || variables.pod.serviceAccount == variables.router) && {_pulls('variables.pod', values)}",
        ),
        (
            "gives it memory and a token for the System, no other volume",
            f"variables.pod.volumes.all(volume, {volume})",
        ),
        ("tells it by settings, nothing out of Secrets", f"variables.container.env.all(variable, {variable})"),
        (
            "asks it by HTTP how it is, and opens no port of a node",
            f"{probes}.all(one, one.hasValue() && [one.value()].all(probe, {probe})) && "
            "(!has(variables.container.ports) || variables.container.ports.all(port, !has(port.hostPort) && !has(port.hostIP)))",
        ),
        (
            "runs it without privileges",
            f"{whole}.runAsNonRoot == true && {whole}.runAsUser > 0 && {whole}.seccompProfile.type == 'RuntimeDefault' && ({sysctls}) && "
            f"{_only(whole, ('runAsNonRoot', 'runAsUser', 'runAsGroup', 'fsGroup', 'seccompProfile', 'sysctls'))} && "
            f"{security}.allowPrivilegeEscalation == false && {security}.readOnlyRootFilesystem == true && "
            f"{security}.capabilities == {{'drop': ['ALL']}} && "
            f"{_only(security, ('allowPrivilegeEscalation', 'readOnlyRootFilesystem', 'capabilities'))}",
        ),
    ]
    return [
        (message, f"!variables.isWritten || variables.what != 'apps/deployments/' || ({expression})")
        for message, expression in rules
    ]


# --- CEL --------------------------------------------------------------------------------------------------------------------------------------


def _pulls(holder: str, values: Values) -> str:
    """Only the Secrets by which images are pulled anyway."""
    names = _list([one.name for one in values.image_pull_secrets])
    return f"(!has({holder}.imagePullSecrets) || {holder}.imagePullSecrets.all(one, one.name in {names}))"


def _same(new: str, old: str, *, but: tuple[str, ...]) -> str:
    """Whether two maps are equal but for these keys."""
    left = _list(but)
    kept = f"dyn({new}).all(key, key in {left} || (key in dyn({old}) && dyn({new})[key] == dyn({old})[key]))"
    return f"{kept} && dyn({old}).all(key, key in {left} || key in dyn({new}))"


def _only(holder: str, fields: tuple[str, ...]) -> str:
    return f"dyn({holder}).all(field, field in {_list(fields)})"


def _annotations(template: str) -> str:
    return f"(has({template}.metadata.annotations) ? {template}.metadata.annotations : {{}})"


def _plus(suffix: str) -> str:
    return f" + {_text(suffix)}" if suffix else ""


def _map(key: str, value: str) -> str:
    return f"{{{_text(key)}: {value}}}"


def _list(texts: list[str] | tuple[str, ...]) -> str:
    return f"[{', '.join(map(_text, texts))}]"


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
