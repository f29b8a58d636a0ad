"""Writes the parts of the Helm chart that come from the code: values and their schema, the definition of Serve, rights and fence.

Usage: python tools/chart.py [--check] [FOLDER]   (with --check it only says whether the files of FOLDER are up to date)

The other templates are written by hand, and a test compares all of them with the objects of `codezero.deploy`. Rights and the fence are long, and a
mistake in them is a hole; so they are the code's own objects, of values that are placeholders, with what the chart knows in the placeholders' stead.
"""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import made_files
import yaml

from codezero import __version__
from codezero.deploy import access, fence
from codezero.deploy.manifest import selected_by
from codezero.deploy.values import EVERY_NAMESPACE, Hub, Image, PullSecret, Router, Serving, Values
from codezero.deploy.values_schema import schema

Json = dict[str, Any]

FOLDER: Final = Path(__file__).parent.parent / "deploy" / "helm" / "codezero"
_NAMESPACE: Final = "placeholder-namespace"
_SERVED: Final = "placeholder-served"
_SECRET: Final = "placeholder-secret"  # noqa: S105 - the name of one
_IMAGE: Final = Image("placeholder-router", "tag")
_REPLACED: Final = {
    _NAMESPACE: "{{ $.Release.Namespace }}",
    _SERVED: "{{ $namespace }}",
    f"['{_SECRET}']": '[{{ include "codezero.pullSecretNames" $ }}]',
    _IMAGE.reference: '{{ include "codezero.routerImage" $ }}',
}
_NOTE: Final = "Made by tools/chart.py from {}; do not edit."


def chart() -> str:
    """What the chart is. Its version is the package's: both say which images fit."""
    return (
        f"# {_NOTE.format('the package')}\n"
        "apiVersion: v2\n"
        "name: codezero\n"
        "description: A Codezero Teamspace, so that laptops consume the services of this cluster and serve into it.\n"
        "type: application\n"
        f"version: {__version__}\n"
        f'appVersion: "{__version__}"\n'
        'kubeVersion: ">=1.30.0-0"\n'
        "keywords: [development, tunnel, kubernetes]\n"
    )


def values() -> str:
    """Every value with its default, and what it is for in the line above."""
    head = f"# {_NOTE.format('codezero.deploy.values')}\n# Unknown values are refused; docs/reference/values.md has them all in a table.\n"
    return head + "\n".join(_commented(schema(), ""))


def values_schema() -> str:
    """The schema by which Helm refuses what is not known."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def definition() -> str:
    """The definition of Serve, which outlives the release."""
    content = yaml.safe_load((files("codezero.deploy") / "serves.yaml").read_text(encoding="utf-8"))
    metadata: Json = {**content["metadata"], "annotations": {"helm.sh/resource-policy": "keep"}}
    metadata["labels"] = selected_by("codezero")
    return _template(
        "codezero/deploy/serves.yaml",
        [
            "{{- /* It is kept when the release goes. Deleting it would delete all Serve objects with it, also those that still lead a Service to a",
            "       Router, while the System that puts the Service back goes too. Delete it by hand when nothing is served any more. */}}",
            *_document({**content, "metadata": metadata}),
        ],
    )


def rights() -> str:
    """Accounts and roles."""
    return _template("codezero.deploy.access", _documents(lambda chosen: access.objects(chosen, _NAMESPACE)))


def fences() -> str:
    """The admission policy."""
    return _template("codezero.deploy.fence", _documents(lambda chosen: fence.objects(chosen, _NAMESPACE)))


def repair_rights() -> str:
    """The rights of the job that puts everything back; they come and go with it."""
    return _template(
        "codezero.deploy.access",
        _documents(lambda chosen: [_hooked(one) for one in access.repair(chosen, _NAMESPACE)]),
    )


def _hooked(content: Json) -> Json:
    policy = "before-hook-creation,hook-succeeded"
    weight = "-10" if content["kind"] == "ServiceAccount" else "-5"
    hook = {
        "helm.sh/hook": "pre-delete,post-delete",
        "helm.sh/hook-weight": weight,
        "helm.sh/hook-delete-policy": policy,
    }
    return {**content, "metadata": {**content["metadata"], "annotations": hook}}


def _documents(made: Callable[[Values], list[Json]]) -> Iterator[str]:
    """The objects as templates: with what differs where all namespaces are served, or where there is a Hub, told apart, and what is made for each
    served namespace in a loop.
    """
    variants = {
        (is_everywhere, has_hub): made(_placeholders(EVERY_NAMESPACE if is_everywhere else _SERVED, has_hub=has_hub))
        for is_everywhere in (False, True)
        for has_hub in (False, True)
    }
    some, keyed = variants[False, False], {at: {_key(one): one for one in made} for at, made in variants.items()}
    looped = [one for one in some if one["metadata"].get("namespace") == _SERVED]
    if [one for one in variants[False, True] if one["metadata"].get("namespace") == _SERVED] != looped:
        sys.exit("tools/chart.py does not know how to say that a Hub changes what is made for each served namespace")
    for one in some:
        if one not in looped:
            yield from _told_apart({at: found.pop(_key(one)) for at, found in keyed.items()})
    left = {key for found in keyed.values() for key in found} - {_key(one) for one in looped}
    if left:
        sys.exit(f"tools/chart.py does not know how to say that {', '.join(left)} are made for some values alone")
    if looped:
        yield '{{- range $namespace := without $.Values.serve.namespaces "*" $.Release.Namespace }}'
        for one in looped:
            yield from _document(one)
        yield "{{- end }}"


def _told_apart(forms: Mapping[tuple[bool, bool], Json]) -> Iterator[str]:
    """One object that may differ by either of two choices."""
    by_hub = {has_hub: (forms[False, has_hub], forms[True, has_hub]) for has_hub in (False, True)}
    if by_hub[False] == by_hub[True]:
        yield from _by_namespaces(*by_hub[False])
        return
    yield "{{- if $.Values.hub.url }}"
    yield from _by_namespaces(*by_hub[True])
    yield "{{- else }}"
    yield from _by_namespaces(*by_hub[False])
    yield "{{- end }}"


def _by_namespaces(some: Json, everywhere: Json) -> Iterator[str]:
    if some == everywhere:
        yield from _document(some)
        return
    yield '{{- if has "*" $.Values.serve.namespaces }}'
    yield from _document(everywhere)
    yield "{{- else }}"
    yield from _document(some)
    yield "{{- end }}"


def _placeholders(namespace: str, *, has_hub: bool) -> Values:
    return Values(
        image_pull_secrets=(PullSecret(_SECRET),),
        router=Router(image=_IMAGE),
        serve=Serving((namespace,)),
        # What is made of it is the same for each Hub.
        hub=Hub("https://hub" if has_hub else ""),
    )


def _key(content: Json) -> str:
    return f"{content['kind']} {content['metadata'].get('namespace', '')}/{content['metadata']['name']}"


def _document(content: Json) -> Iterator[str]:
    """One object, its labels by the chart's helper."""
    metadata: Json = dict(content["metadata"])
    name = metadata["labels"]["app.kubernetes.io/name"]
    if metadata["labels"] != selected_by(name):
        sys.exit(f"tools/chart.py does not know the labels of {_key(content)}")
    metadata["labels"] = "LABELS"
    text = yaml.dump(
        {**content, "metadata": metadata}, Dumper=_Dumper, sort_keys=False, width=sys.maxsize, allow_unicode=True
    )
    # A brace of CEL is none of the template's.
    text = text.replace("{{", '{{ "{{" }}')
    for placeholder, expression in _REPLACED.items():
        text = text.replace(placeholder, expression)
    if "placeholder" in text:
        sys.exit(f"a placeholder is left in {_key(content)}")
    labels = f'labels:\n    {{{{- include "codezero.labels" (list $ "{name}") | nindent 4 }}}}'
    yield "---"
    yield text.replace("labels: LABELS", labels).rstrip()


class _Dumper(yaml.SafeDumper):
    """Expressions as they are: quoted, their own quotes would be doubled."""


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "'" in text else None)


_Dumper.add_representer(str, _represented)


def _template(source: str, lines: Iterator[str] | Sequence[str]) -> str:
    return "\n".join([f"{{{{- /* {_NOTE.format(source)} */}}}}", *lines]) + "\n"


def _commented(part: Json, indent: str) -> Iterator[str]:
    for name, below in part["properties"].items():
        if not indent:
            yield ""
        yield f"{indent}# {below['description']}"
        default = below.get("default")
        if "default" not in below:
            yield f"{indent}{name}:"
            yield from _commented(below, indent + "  ")
        elif isinstance(default, dict) and default:
            yield f"{indent}{name}:"
            yield from (f"{indent}  {key}: {json.dumps(value)}" for key, value in default.items())
        else:
            yield f"{indent}{name}: {json.dumps(default) if default is None or not isinstance(default, str) else _text(default)}"
    if not indent:
        yield ""


def _text(value: str) -> str:
    return value if value.replace("-", "").isalpha() else json.dumps(value)


FILES: Final[Mapping[str, Callable[[], str]]] = {
    "Chart.yaml": chart,
    "values.yaml": values,
    "values.schema.json": values_schema,
    "templates/serves.yaml": definition,
    "templates/access.yaml": rights,
    "templates/fence.yaml": fences,
    "templates/repair-access.yaml": repair_rights,
}


if __name__ == "__main__":
    made_files.run(FILES, FOLDER, sys.argv[1:])
