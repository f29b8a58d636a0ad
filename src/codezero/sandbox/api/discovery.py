"""What the server says it serves: versions, groups, and the resources of each."""

from codezero.sandbox.api.documents import JsonObject
from codezero.sandbox.api.kinds import VERBS, ResourceType, TypeTable

# The API level we stand in for.
VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0+codezero-sandbox",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-04-22T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "python",
}
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

# Requests in the form of objects: created, answered, never stored. (group, plural, kind)
REVIEWS = (
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
)
_SUBRESOURCE_KINDS = {
    "scale": ("autoscaling", "v1", "Scale", ["get", "patch", "update"]),
    "token": ("authentication.k8s.io", "v1", "TokenRequest", ["create"]),
}


def groups(types: TypeTable) -> dict[str, list[str]]:
    """Versions by group name; the core group is not among them."""
    found: dict[str, list[str]] = {}
    for kind in types.all():
        versions = found.setdefault(kind.group, [])
        if kind.version not in versions:
            versions.append(kind.version)
    for group, _, _ in REVIEWS:
        found.setdefault(group, ["v1"])
    found.pop("", None)
    return found


def _group(name: str, versions: list[str]) -> JsonObject:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def group_list(types: TypeTable) -> JsonObject:
    """The answer at /apis."""
    return {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [_group(name, versions) for name, versions in groups(types).items()],
    }


def group(types: TypeTable, name: str) -> JsonObject | None:
    """The answer at /apis/`name`."""
    versions = groups(types).get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def core_versions() -> JsonObject:
    """The answer at /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def resource_list(types: TypeTable, group_name: str, version: str) -> JsonObject | None:
    """The answer at /api/v1 and /apis/`group`/`version`."""
    resources = [
        entry for kind in types.all() if (kind.group, kind.version) == (group_name, version) for entry in _entries(kind)
    ]
    if version == "v1":
        resources += [
            {"name": plural, "singularName": "", "namespaced": False, "kind": kind, "verbs": ["create"]}
            for review_group, plural, kind in REVIEWS
            if review_group == group_name
        ]
    if not resources:
        return None
    name = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def _entries(kind: ResourceType) -> list[JsonObject]:
    main: JsonObject = {
        "name": kind.plural,
        "singularName": kind.singular or kind.kind.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(VERBS),
    }
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    below: list[JsonObject] = []
    for name in sorted(kind.subresources):
        group_name, version, kind_name, verbs = _SUBRESOURCE_KINDS.get(
            name, ("", "", kind.kind, ["get", "patch", "update"])
        )
        entry: JsonObject = {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": kind_name,
            "verbs": ["get"] if name == "log" else verbs,
        }
        below.append(entry | ({"group": group_name, "version": version} if group_name else {}))
    return [main, *below]


def aggregated(types: TypeTable, *, core: bool) -> JsonObject:
    """Everything at once, as newer clients ask for it, at /api (`core`) or /apis."""
    listed = {"": ["v1"]} if core else groups(types)
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": name} if name else {},
                "versions": [
                    {
                        "version": version,
                        "freshness": "Current",
                        "resources": _aggregated_resources(types, name, version),
                    }
                    for version in versions
                ],
            }
            for name, versions in listed.items()
        ],
    }


def _aggregated_resources(types: TypeTable, group_name: str, version: str) -> list[JsonObject]:
    found: list[JsonObject] = []
    for kind in types.all():
        if (kind.group, kind.version) == (group_name, version):
            main, *below = _entries(kind)
            found.append(
                {
                    "resource": kind.plural,
                    "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
                    "scope": "Namespaced" if kind.namespaced else "Cluster",
                    "singularResource": main["singularName"],
                    "verbs": main["verbs"],
                    "shortNames": list(kind.short_names),
                    "categories": list(kind.categories),
                    "subresources": [_aggregated_subresource(kind, entry) for entry in below],
                }
            )
    if version == "v1":
        found += [
            {
                "resource": plural,
                "responseKind": {"group": review_group, "version": "v1", "kind": kind},
                "scope": "Cluster",
                "singularResource": kind.lower(),
                "verbs": ["create"],
            }
            for review_group, plural, kind in REVIEWS
            if review_group == group_name
        ]
    return found


def _aggregated_subresource(kind: ResourceType, entry: JsonObject) -> JsonObject:
    return {
        "subresource": entry["name"].partition("/")[2],
        "responseKind": {
            "group": entry.get("group", kind.group),
            "version": entry.get("version", kind.version),
            "kind": entry["kind"],
        },
        "verbs": entry["verbs"],
    }
