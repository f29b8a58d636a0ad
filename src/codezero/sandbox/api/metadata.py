"""The rules of names, labels, annotations, owner references and finalizers."""

import re
from collections.abc import Callable

from codezero.sandbox.api.documents import JsonObject, as_list, as_object, as_objects
from codezero.sandbox.api.errors import Cause

REQUIRED = "FieldValueRequired"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_QUALIFIED_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

_ANNOTATIONS_LIMIT = 256 * 1024

NameRule = Callable[[str], str | None]


def label_1123(text: str) -> str | None:
    """What is wrong with `text` as an RFC 1123 label, or None."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    if _LABEL.fullmatch(text):
        return None
    return "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character"


def label_1035(text: str) -> str | None:
    """What is wrong with `text` as an RFC 1035 label, or None."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    if _LABEL_1035.fullmatch(text):
        return None
    return "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character"


def subdomain(text: str) -> str | None:
    """What is wrong with `text` as an RFC 1123 subdomain, or None."""
    if len(text) > 253:
        return "must be no more than 253 characters"
    if _SUBDOMAIN.fullmatch(text):
        return None
    return "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"


def path_segment(text: str) -> str | None:
    """What is wrong with `text` as a part of a path (names of roles), or None."""
    if text in {".", ".."} or "/" in text or "%" in text:
        return "may not be '.' or '..' and may not contain '/' or '%'"
    return "must be no more than 253 characters" if len(text) > 253 else None


def port_name(text: str) -> str | None:
    """What is wrong with `text` as the name of a port (RFC 6335), or None."""
    if len(text) <= 15 and _PORT_NAME.fullmatch(text) and "--" not in text and any(letter.isalpha() for letter in text):
        return None
    return "must be at most 15 characters of lower case alphanumerics and '-', with a letter, and no '-' at either end"


def qualified_name(text: str) -> str | None:
    """What is wrong with `text` as `[prefix/]name`, or None."""
    prefix, slash, name = text.rpartition("/")
    if slash and (problem := subdomain(prefix)):
        return f"prefix part {problem}"
    if not name or len(name) > 63 or not _QUALIFIED_PART.fullmatch(name):
        return "name part must consist of alphanumeric characters, '-', '_' or '.', at most 63, and must start and end with an alphanumeric character"
    return None


def label_value(text: str) -> str | None:
    """What is wrong with `text` as the value of a label, or None."""
    if len(text) > 63:
        return "must be no more than 63 characters"
    if text and not _QUALIFIED_PART.fullmatch(text):
        return "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
    return None


def check_labels(labels: object, path: str) -> list[Cause]:
    """What is wrong with a map of labels."""
    found: list[Cause] = []
    for key, value in as_object(labels).items():
        if problem := qualified_name(key):
            found.append(Cause(path, f'Invalid value: "{key}": {problem}'))
        if problem := label_value(str(value)):
            found.append(Cause(path, f'Invalid value: "{value}": {problem}'))
    return found


def check(metadata: JsonObject, rule: NameRule) -> list[Cause]:
    """What is wrong with an object's metadata; `rule` is that of its kind's names."""
    found: list[Cause] = []
    name = str(metadata.get("name", ""))
    if not name:
        found.append(Cause("metadata.name", "Required value: name or generateName is required", REQUIRED))
    elif problem := rule(name):
        found.append(Cause("metadata.name", f'Invalid value: "{name}": {problem}'))
    found += check_labels(metadata.get("labels"), "metadata.labels")
    annotations = as_object(metadata.get("annotations"))
    found += [
        Cause("metadata.annotations", f'Invalid value: "{key}": {problem}')
        for key in annotations
        if (problem := qualified_name(key.lower()))
    ]
    if sum(len(key) + len(str(value)) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT:
        found.append(
            Cause(
                "metadata.annotations",
                f"Too long: may not be more than {_ANNOTATIONS_LIMIT} bytes",
                "FieldValueTooLong",
            )
        )
    found += [
        Cause("metadata.finalizers", f'Invalid value: "{finalizer}": {problem}')
        for finalizer in as_list(metadata.get("finalizers"))
        if (problem := qualified_name(str(finalizer)))
    ]
    return found + _check_owners(metadata)


def _check_owners(metadata: JsonObject) -> list[Cause]:
    owners = as_objects(metadata.get("ownerReferences"))
    found = [
        Cause(f"metadata.ownerReferences[{index}].{field}", "Invalid value: must not be empty")
        for index, owner in enumerate(owners)
        for field in ("apiVersion", "kind", "name", "uid")
        if not owner.get(field)
    ]
    if sum(owner.get("controller") is True for owner in owners) > 1:
        found.append(
            Cause("metadata.ownerReferences", "Invalid value: Only one reference can have Controller set to true")
        )
    return found
