"""The registry of capabilities against what there is: both APIs, czctl, the GUI's router, what the pages ask, and the tests. A hole in any of them fails here."""

import ast
import importlib
import itertools
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

from codezero.cli.loopback import agent_passage
from codezero.cli.main import COMMANDS, czctl
from codezero.cli.ui.console_api import ConsoleApi
from codezero.hub.api import document
from codezero.hub.api.app import application
from codezero.hub.pages import routes as hub_pages
from codezero.local.daemon import api as daemon_api
from codezero.model import capabilities
from codezero.model.capabilities import ALL, HUB_PAGES, MACHINE_OPERATIONS, TERMINAL_COMMANDS, Capability
from codezero.wire.paired import ALLOWED

TESTS: Final = Path(__file__).parent.parent
GUI: Final = TESTS.parent / "gui" / "src"
ROUTER: Final = GUI / "app" / "router.tsx"
AGENT_CLIENT: Final = GUI / "api" / "agent.ts"
NOT_YET: Final = "not yet: "
MARKER: Final = "pytest.mark.capability"

_COMMENT: Final = re.compile(r"/\*.*?\*/|^\s*//[^\n]*", re.DOTALL | re.MULTILINE)
_ROUTE: Final = re.compile(r"(?:const (\w+) = )?createRoute\(\{(.*?)\n?\s*\}\)(?=[,;])", re.DOTALL)
_HUB_CALL: Final = re.compile(r"\bhub\s*\.\s*(GET|POST|PUT|PATCH|DELETE)\(\s*([\"`])(.+?)\2", re.DOTALL)
# Addresses that a link or a download leads to, with values in place of names.
_ADDRESS: Final = re.compile(r"`(/api/v1/[^`]+)`")
_AGENT_CALL: Final = re.compile(
    r"^  (\w+): \((?:(?!^  \w+:).)*?=>\s*(?:ask<[^(]*>\(\s*\"(\w+)\",\s*|lines<[^(]*>\(\s*)\"(?:/agent)?(/[^\"]+)\"",
    re.DOTALL | re.MULTILINE,
)


def pages_of_router(text: str) -> dict[str, str]:
    """All paths of the router that show a page, from the root down, and the source of each; `` for those of the router's own frame."""
    shared = dict(re.findall(r"const (\w+) = lazyRouteComponent\(\(\) => import\(\"([^\"]+)\"\)", text))
    parents: dict[str, tuple[str, str]] = {}
    found: list[tuple[tuple[str, str], str]] = []
    for name, content in _ROUTE.findall(text):
        parent, path = (
            re.search(pattern, content) for pattern in (r"getParentRoute: \(\) => (\w+)", r"path: \"([^\"]+)\"")
        )
        assert parent is not None, content
        assert path is not None, content
        here = (parent[1], path[1])
        if name:
            parents[name] = here
        imported = re.search(r"import\(\"([^\"]+)\"\)", content)
        component = re.search(r"\bcomponent(?:: (\w+))?,", content)
        source = shared.get((component[1] or "") if component is not None else "", "")
        found.append((here, imported[1] if imported is not None else source))
    holders = {one for name, one in parents.items() if f"getParentRoute: () => {name}," in text}

    def whole(parent: str, path: str) -> str:
        own = path.rstrip("/")
        return own if parent == "root" else whole(*parents[parent]) + own

    return {whole(*here) or "/": source for here, source in found if here not in holders}


def without_comments(text: str) -> str:
    return _COMMENT.sub("", text)


def spelled_out(path: str, text: str) -> Iterator[str]:
    """A path with each `${name}` replaced by the values of all types that the file gives something of that name; by `{name}` where it is any text."""
    parts = re.split(r"\$\{(\w+)\}", path)
    choices: list[list[str]] = []
    for index, part in enumerate(parts):
        if index % 2 == 0:
            choices.append([part])
            continue
        kinds: list[str] = re.findall(rf"\b{part}\??: ([^,;)=\n}}]+)", text)
        aliases = [re.search(rf"\btype {re.escape(kind.strip())} =([^;]+);", text) for kind in kinds]
        written = itertools.chain(kinds, (alias[1] for alias in aliases if alias is not None))
        values = sorted({value for one in written for value in re.findall(r"\"([^\"]+)\"", one)})
        choices.append(values or [f"{{{part}}}"])
    return ("".join(chosen) for chosen in itertools.product(*choices))


def asked_by(folder: Path, known: Iterable[str]) -> dict[Path, set[str]]:
    """The operations that each source in `folder` asks. Which ones an address with values in it may be is told by `known`."""
    texts = {
        path: without_comments(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.ts*"))
        if ".generated." not in path.name
    }
    patterns = {one: re.compile(re.sub(r"\\\{\w+\\\}", r"[^/?]+", re.escape(one))) for one in known}
    of_agent = agent_calls(texts.pop(folder / AGENT_CLIENT.relative_to(GUI)))
    found: dict[Path, set[str]] = {}
    for path, text in texts.items():
        asked = found[path] = set()
        for method, _, called in _HUB_CALL.findall(text):
            spelled = {f"{method} {one}" for one in spelled_out(called, text)}
            asked |= spelled & set(patterns) if "${" in called else spelled
        for address in _ADDRESS.findall(text):
            if not re.search(rf"hub\s*\.\s*\w+\(\s*`{re.escape(address)}", text):
                plain = "GET " + re.sub(r"\$\{[^}]*\}", "x", address).partition("?")[0]
                asked |= {one for one, pattern in patterns.items() if pattern.fullmatch(plain)}
        if re.search(r"import \{[^}]*\b(?:agent|localConsole)\b[^}]*\} from \"[./]*api/agent\"", text):
            called = set(re.findall(r"(?<!\.)\b(?:agent|localConsole)\.(\w+)\b(?!\?)", text))
            asked |= {one for name, one in of_agent if name in called}
    return found


def reached_from(path: Path, found: set[Path]) -> set[Path]:
    """A source and all that it imports, and what these do, added to `found`."""
    if path in found:
        return found
    found.add(path)
    text = path.read_text(encoding="utf-8")
    for imported in re.findall(r"(?:from|import)\s*\(?\s*\"(\.[^\"]+)\"", text):
        for end in (".ts", ".tsx", "/index.ts", "/index.tsx"):
            candidate = path.parent / f"{imported}{end}"
            if candidate.is_file():
                reached_from(candidate.resolve(), found)
    return found


def agent_calls(text: str) -> list[tuple[str, str]]:
    """The methods of the GUI's client of agent and console, with their operations."""
    return [(name, f"{method or 'GET'} {path}") for name, method, path in _AGENT_CALL.findall(text)]


def marked(text: str) -> list[tuple[str, str]]:
    """Kind and capability of all markers in the source of some tests. One that is not on a test, or not spelled out, is a mistake."""
    tree = ast.parse(text)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    decorators = [one for test in functions if test.name.startswith("test_") for one in test.decorator_list]
    found: list[tuple[str, str]] = []
    for decorator in decorators:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == MARKER:
            kind, *names = [ast.literal_eval(argument) for argument in decorator.args]
            assert names, "names no capability"
            found += [(kind, name) for name in names]
    markers = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "capability"]
    on_tests = [one for one in decorators if isinstance(one, ast.Call) and one.func in markers]
    assert len(markers) == len(on_tests), "a marker that is not on a test"
    return found


@pytest.fixture(scope="module")
def tested() -> dict[Path, list[tuple[str, str]]]:
    """What the tests of each file say to be tests of."""
    return {path: marked(path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("test_*.py"))}


@pytest.fixture(scope="module")
def hub_operations() -> set[str]:
    return {f"{one.method} {one.path}" for one in document.operations(application().openapi())}


@pytest.fixture
def agent_operations(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    found: set[str] = set()
    make: Callable[..., Any] = daemon_api._route  # pyright: ignore[reportPrivateUsage]

    def recorded(path: str, **methods: Any) -> Any:
        found.update(f"{method} {path}" for method in methods)
        return make(path, **methods)

    monkeypatch.setattr(daemon_api, "_route", recorded)
    nobody: Any = None
    daemon_api.application(nobody, owner=0)
    return found


@pytest.fixture(scope="module")
def console_operations() -> set[str]:
    """Those of the user's own processes: the local console's, and what they answer to paired pages about pairings."""
    nobody: Any = None
    own = {f"{method} {path}" for method, path in ConsoleApi(nobody, nobody, nobody)._routes}  # pyright: ignore[reportPrivateUsage]
    return own | {f"{method} {path}" for method, path in ALLOWED if path.startswith("/paired/")}


@pytest.fixture(scope="module")
def commands() -> set[str]:
    """All commands that do something, without `czctl` before them."""
    for module, _attribute, _help in COMMANDS.values():
        importlib.import_module(f"codezero.cli.commands.{module}")

    def below(group: click.Group, before: str) -> Iterator[str]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            if command.hidden:
                continue
            # `serve SERVICE PORT` does something besides being the group of `serve end` and `serve list`.
            if not isinstance(command, click.Group) or command.params:
                yield f"{before}{name}"
            if isinstance(command, click.Group):
                yield from below(command, f"{before}{name} ")

    return set(below(czctl, ""))


def test_names_are_those_of_one_capability_each() -> None:
    repeated = [name for name, count in Counter(one.name for one in ALL).items() if count > 1]

    assert not repeated
    assert all(re.fullmatch(r"[a-z-]+(\.[a-z-]+)+", one.name) for one in ALL)
    assert all(one.does.endswith(".") and one.does[0].isupper() for one in ALL)


def test_every_operation_is_a_capability_or_says_why_not(
    hub_operations: set[str], agent_operations: set[str], console_operations: set[str]
) -> None:
    there = hub_operations | agent_operations | console_operations
    named = Counter(itertools.chain(MACHINE_OPERATIONS, *(one.operations for one in ALL)))

    assert sorted(there - set(named)) == [], "in no capability"
    assert sorted(set(named) - there) == [], "there is no such operation"
    assert [one for one, count in named.items() if count > 1] == [], "in several capabilities"


def test_every_command_is_of_a_capability_or_says_why_not(commands: set[str]) -> None:
    named = set(itertools.chain.from_iterable(one.commands for one in ALL))

    assert sorted(commands - named - set(TERMINAL_COMMANDS)) == [], "in no capability"
    assert sorted((named | set(TERMINAL_COMMANDS)) - commands) == [], "there is no such command"
    assert sorted(named & set(TERMINAL_COMMANDS)) == [], "in a capability, and said to be in none"


def test_every_page_is_of_a_capability() -> None:
    there = set(pages_of_router(ROUTER.read_text(encoding="utf-8")))
    named = set(itertools.chain.from_iterable(one.pages for one in ALL)) - set(HUB_PAGES)

    assert sorted(there - named) == [], "in no capability"
    assert sorted(named - there) == [], "the router has no such page"


def test_the_hub_has_the_pages_that_need_no_gui() -> None:
    there = {getattr(route, "path", "") for route in hub_pages.router.routes}

    assert set(HUB_PAGES) <= there
    assert all(any(page in one.pages for one in ALL) for page in HUB_PAGES)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_capability_has_all_three_or_says_why_not(one: Capability) -> None:
    for there, missing in (
        (one.operations, one.no_operation),
        (one.commands, one.no_command),
        (one.pages, one.no_page),
    ):
        assert bool(there) != bool(missing), "either it is there, or the reason why not"


def test_the_pages_ask_what_they_are_said_to_ask(
    hub_operations: set[str], agent_operations: set[str], console_operations: set[str]
) -> None:
    """`unasked` is no way out for long: an operation that a page does ask must not be in it."""
    asked = set[str]().union(*asked_by(GUI, hub_operations | agent_operations | console_operations).values())
    expected = {operation for one in ALL if one.pages for operation in one.operations if operation not in one.unasked}
    excused = {operation: reason for one in ALL for operation, reason in one.unasked.items()}
    waiting = sorted(operation for operation, reason in excused.items() if reason.startswith(NOT_YET))
    print(f"{len(waiting)} operations have no part in a page yet:", *waiting, sep="\n  ")

    assert sorted(expected - asked) == [], "said to be asked by a page, and asked by none"
    assert sorted(asked & set(excused)) == [], "said to be asked by no page, and asked by one"
    assert sorted(asked - set(MACHINE_OPERATIONS) - expected) == [], "asked by a page, and in no capability with a page"


def test_each_page_reaches_what_it_is_named_for(
    hub_operations: set[str], agent_operations: set[str], console_operations: set[str]
) -> None:
    """By what its source imports: a call in another page is not enough."""
    asked = asked_by(GUI, hub_operations | agent_operations | console_operations)
    frame = reached_from(ROUTER.with_name("Root.tsx"), set())
    reach: dict[str, set[str]] = {}
    for page, source in pages_of_router(ROUTER.read_text(encoding="utf-8")).items():
        sources = reached_from((ROUTER.parent / f"{source}.tsx").resolve(), set()) if source else frame
        reach[page] = set[str]().union(*(asked.get(one, set()) for one in sources))
    holes: list[str] = []
    for one in ALL:
        wanted = set(one.operations) - set(one.unasked)
        pages = [page for page in one.pages if page in reach]
        holes += [f"{one.name}: {page} asks none of it" for page in pages if wanted and not wanted & reach[page]]
        together = set[str]().union(*(reach[page] for page in pages))
        holes += [f"{one.name}: none of its pages asks {operation}" for operation in sorted(wanted - together)]

    assert holes == []


def test_excuses_are_about_what_is_there() -> None:
    assert all(set(one.unasked) <= set(one.operations) for one in ALL)
    assert all(itertools.chain.from_iterable(one.unasked.values() for one in ALL))
    assert all(MACHINE_OPERATIONS.values())
    assert all(TERMINAL_COMMANDS.values())


def test_the_console_passes_on_what_its_pages_ask_of_the_agent(agent_operations: set[str]) -> None:
    passed = {f"{method} {path}" for method, path in agent_passage.ROUTES}

    assert set[str]().union(*asked_by(GUI, ()).values()) & agent_operations <= passed


@pytest.mark.parametrize("kind", ["operation", "command", "page"])
def test_each_of_the_three_is_tested(tested: dict[Path, list[tuple[str, str]]], kind: str) -> None:
    """By a test that does it and looks at what came of it (CONTRIBUTING.md), which is marked so."""
    there = {one.name for one in ALL if {"operation": one.operations, "command": one.commands, "page": one.pages}[kind]}
    named = {name for marks in tested.values() for of, name in marks if of == kind}

    untested, unknown = sorted(there - named), sorted(named - there)

    assert not untested, f'no test is marked {MARKER}("{kind}", ...) of {untested}'
    assert not unknown, f"tests are marked as tests of a {kind} that there is not: {unknown}"


def test_pages_are_tested_in_a_browser(tested: dict[Path, list[tuple[str, str]]]) -> None:
    kinds = {(kind, path.parent.name) for path, marks in tested.items() for kind, _ in marks}

    assert {kind for kind, _ in kinds} == {"operation", "command", "page"}
    assert {folder for kind, folder in kinds if kind == "page"} == {"browser"}


def test_groups_hold_all() -> None:
    assert [one for group in capabilities.GROUPS.values() for one in group] == list(ALL)


class TestReadingTheSources:
    """Of what the tests above rest on: what reads the GUI's sources finds what is there, and nothing else."""

    def test_paths_come_from_the_root_down(self) -> None:
        found = pages_of_router(ROUTER.read_text(encoding="utf-8"))

        assert found["/"] == ""
        assert found["/account"] == "../pages/account/AccountPage"
        assert found["/machine"] == "../pages/machine/MachinePage"
        assert found["/machine/catalog"] == "../pages/catalog/CatalogPage"
        assert {"/o/$org/spaces/$space", "/o/$org/spaces/$space/policy"} <= set(found)
        assert "/o/$org" not in found, "holds pages and is none"

    @pytest.mark.parametrize(
        ("source", "expected"),
        [
            ('await told(hub.GET("/api/v1/devices"))', {"GET /api/v1/devices"}),
            ('hub.DELETE(\n  "/api/v1/devices/{device}",\n {})', {"DELETE /api/v1/devices/{device}"}),
            ('// hub.GET("/api/v1/devices")', set[str]()),
            ('/** `hub.GET("/api/v1/devices")` */', set[str]()),
            (
                'type Kind = "one" | "two";\nlet other: { kind: "hub" };\nfunction f(kind: Kind) { hub.GET(`/api/v1/${kind}` as const) }',
                {"GET /api/v1/one", "GET /api/v1/two"},
            ),
            ('(verb: "stop" | "go") => hub.POST(`/api/v1/${verb}`)', {"POST /api/v1/stop", "POST /api/v1/go"}),
            (
                "<a href={`/api/v1/organizations/${id}/audit/export?${query.toString()}`}>",
                {"GET /api/v1/organizations/{organization}/audit/export"},
            ),
            ('import { agent } from "../api/agent";\nuseQuery({ queryFn: agent.status })', {"GET /v1/status"}),
            ('import { agent } from "../../api/agent";\nawait agent.reset()', {"POST /v1/reset"}),
            ("const agent = useAgent(); agent.status", set[str]()),
        ],
    )
    def test_calls_are_found(self, source: str, expected: set[str], tmp_path: Path) -> None:
        (tmp_path / "api").mkdir()
        (tmp_path / "api" / "agent.ts").write_text(AGENT_CLIENT.read_text(encoding="utf-8"))
        (tmp_path / "Page.tsx").write_text(source)

        known = [
            "GET /api/v1/organizations/{organization}/audit/export",
            *(f"{method} /api/v1/{name}" for method in ("GET", "POST") for name in ("one", "two", "stop", "go")),
        ]

        assert asked_by(tmp_path, known) == {tmp_path / "Page.tsx": expected}

    def test_markers_are_found(self) -> None:
        source = f"""
            class TestAll:
                @{MARKER}("page", "one.do", "two.do")
                @pytest.mark.browser
                async def test_it(self): ...

            @{MARKER}("command", "one.do")
            def test_the_other(): ...
        """

        assert marked(textwrap.dedent(source)) == [("command", "one.do"), ("page", "one.do"), ("page", "two.do")]

    @pytest.mark.parametrize(
        "source",
        [
            f'pytestmark = [{MARKER}("page", "one.do")]',
            f'@{MARKER}("page", "one.do")\ndef helper(): ...',
            f'@{MARKER}("page")\ndef test_it(): ...',
            f"mark = {MARKER}\n@mark(1, 2)\ndef test_it(): ...",
        ],
    )
    def test_markers_that_would_be_read_as_none_are_mistakes(self, source: str) -> None:
        with pytest.raises(AssertionError):
            marked(source)

    def test_the_client_of_the_agent_is_read_whole(self) -> None:
        text = AGENT_CLIENT.read_text(encoding="utf-8")

        assert len(agent_calls(text)) == len(re.findall(r"\"(?:/agent/v1|/console|/paired/v1)/", text))
