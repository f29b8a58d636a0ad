"""Whether a policy document can be used: Cedar's own parser and schema, the part of the language that Teamspaces know, and the document's tests.

Each mistake has a code, line, column and a way out. Cedar's library names no places; they are found here. It also ends the process on deeply nested
input, so what is nested never reaches it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import cedarpy

from codezero.hub.policies import trials
from codezero.hub.policies.trials import Trial
from codezero.hub.policies.words import Place, Statement, Text, Word
from codezero.model import cedar, problems
from codezero.model.cedar import CedarError, PolicySet
from codezero.model.problems import CodezeroError, Problem

MAX_TEXT: Final = 64 * 1024
MAX_COMPILED: Final = 400 * 1024
MAX_POLICIES: Final = 500
MAX_WORDS: Final = 4000
# Each test looks at each policy; so many take less than a second.
MAX_TRIED: Final = 1_000_000
MAX_DEPTH: Final = 40
MAX_ID: Final = 100
MAX_REASON: Final = 300
MAX_MISTAKES: Final = 50

_FORM: Final = "a policy reads permit(principal, action, resource) when { ... };"
_ACTIONS: Final = "consume, serve, serve-user, serve-header, serve-default, mirror, takeover, terminate"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a place, and what to do about it."""

    problem: Problem
    place: Place
    message: str
    fix: str

    def __str__(self) -> str:
        return f"line {self.place.line}, column {self.place.column}: {self.message}"


@dataclass(frozen=True, slots=True)
class Checked:
    """A document that can be used. `compiled` is what Teamspaces get: Cedar's JSON form, each policy under its `@id` or its line."""

    text: str
    policies: PolicySet
    trials: tuple[Trial, ...]

    @property
    def compiled(self) -> dict[str, Any]:
        """Cedar's JSON form of all policies."""
        return dict(self.policies.source)


class PolicyError(CodezeroError):
    """A document that cannot be used, with all its mistakes, in the order of their places."""

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        first, *others = mistakes
        more = f" (and {len(others)} more)" if others else ""
        super().__init__(first.problem, f"{first}{more}", fix=first.fix)
        self.mistakes = mistakes


def check(text: str) -> Checked:
    """The document of that text; raises `PolicyError` where it has mistakes, tests that fail among them."""
    mistakes: list[Mistake] = []
    checked = _checked(text, mistakes)
    if mistakes or checked is None:
        ordered = sorted(mistakes, key=lambda one: (one.place.line, one.place.column))
        raise PolicyError(tuple(ordered[:MAX_MISTAKES]))
    return checked


def schema() -> str:
    """The schema that policies are checked against."""
    return _file("policy.cedarschema")


def default() -> str:
    """The policy of a new Teamspace."""
    return _file("default.cedar")


@cache
def checked_default() -> Checked:
    """The policy of a new Teamspace, checked."""
    return check(default())


@cache
def _file(name: str) -> str:
    return resources.files("codezero.hub.policies").joinpath(name).read_text()


@cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(schema())


def _checked(text: str, mistakes: list[Mistake]) -> Checked | None:
    size = len(text.encode(errors="replace"))
    if size > MAX_TEXT:
        what = f"the document has {size} bytes; at most {MAX_TEXT} can be"
        mistakes.append(Mistake(problems.POLICY_TOO_LARGE, Place(1, 1), what, "write fewer policies that say more"))
        return None
    source = Text(text)
    found = _Found(source, mistakes)
    statements = list(source.statements())
    if len(statements) > MAX_POLICIES:
        found.mistake(
            problems.POLICY_TOO_LARGE,
            statements[MAX_POLICIES].words[0],
            f"{len(statements)} policies; at most {MAX_POLICIES} can be",
            "write fewer policies that say more",
        )
        return None
    named: dict[str, Any] = {}
    for statement, content in zip(statements, found.policies(statements), strict=True):
        if content is None:
            continue
        name = found.name(statement, content)
        if name in named:
            found.mistake(
                problems.BAD_POLICY,
                found.word_of(statement, json.dumps(name)) or statement.words[0],
                f"two policies have @id({json.dumps(name)})",
                "give each policy an id of its own",
            )
        named[name] = content
    tried = trials.read(source, found.mistake)
    if mistakes:
        return None
    compiled: dict[str, Any] = {"templates": {}, "staticPolicies": named, "templateLinks": []}
    if len(json.dumps(compiled, separators=(",", ":"))) > MAX_COMPILED:
        what = f"the policies take more than {MAX_COMPILED} bytes in Cedar's JSON form"
        mistakes.append(Mistake(problems.POLICY_TOO_LARGE, Place(1, 1), what, "write fewer policies that say more"))
        return None
    words = sum(len(statement.words) for statement in statements)
    if len(tried) * words > MAX_TRIED:
        found.mistake(
            problems.POLICY_TOO_LARGE,
            tried[-1].word,
            f"{len(tried)} tests of policies of {words} words; at most {MAX_TRIED // words} can be",
            "leave some tests out, or write fewer policies that say more",
        )
        return None
    checked = Checked(text, cedar.compiled(compiled), tried)
    for trial in tried:
        decision = trial.outcome(checked.policies)
        if decision.allowed != trial.allows:
            found.mistake(
                problems.POLICY_TEST_FAILED,
                trial.word,
                f"the test expects {'allow' if trial.allows else 'deny'} and the policies say "
                f"{'allow' if decision.allowed else 'deny'}: {decision.reason}",
                "change the policies, or the test where it is what is wrong",
            )
    return checked


class _Found:
    """Looks at one policy after the other, and collects mistakes."""

    def __init__(self, source: Text, mistakes: list[Mistake]) -> None:
        self._source = source
        self._mistakes = mistakes

    def mistake(self, problem: Problem, word: Word, message: str, fix: str) -> None:
        """Note one."""
        self._mistakes.append(Mistake(problem, self._source.place(word.start), message, fix))

    def policies(self, statements: Sequence[Statement]) -> Sequence[dict[str, Any] | None]:
        """Cedar's JSON forms of all policies: at once where there is no mistake, else of each by itself, to find all of them."""
        together = self._together(statements)
        if together is None:
            return [self.policy(statement) for statement in statements]
        for statement, content in zip(statements, together, strict=True):
            self._check_annotations(statement, content)
        return together

    def _together(self, statements: Sequence[Statement]) -> list[dict[str, Any]] | None:
        for statement in statements:
            if _too_much(statement) or any(word.kind == "unknown" for word in statement.words):
                return None
        text = "\n".join(map(_text, statements))
        try:
            document = json.loads(cedarpy.policies_to_json_str(text))
            cedar.compiled(document)
        except (ValueError, RecursionError):
            return None
        named = document["staticPolicies"]
        if len(named) != len(statements) or next(_schema_errors(text), None) is not None:
            return None
        return [named[f"policy{number}"] for number in range(len(statements))]

    def policy(self, statement: Statement) -> dict[str, Any] | None:
        """Cedar's JSON form of one policy, None where it has mistakes."""
        before = len(self._mistakes)
        content = self._parsed(statement)
        if content is None:
            return None
        messages = list(dict.fromkeys(_schema_errors(_text(statement))))
        if len(messages) > 1:
            # What follows from the others.
            messages = [message for message in messages if "applicable action" not in message]
        for message in messages:
            word = self._named_in(message, statement) or statement.words[0]
            self.mistake(problems.POLICY_NOT_IN_SCHEMA, word, message, _schema_fix(message))
        try:
            cedar.compiled({"staticPolicies": {"": content}})
        except CedarError as error:
            word = self._named_in(error.detail, statement) or statement.words[0]
            self.mistake(problems.POLICY_NOT_KNOWN, word, error.detail, _KNOWN)
        self._check_annotations(statement, content)
        return content if len(self._mistakes) == before else None

    def name(self, statement: Statement, content: dict[str, Any]) -> str:
        """By what a person is told of the policy."""
        given = content.get("annotations", {}).get("id")
        return given or f"line {self._source.place(statement.start).line}"

    def word_of(self, statement: Statement, text: str) -> Word | None:
        """The first word of that text."""
        return next((word for word in statement.words if word.text == text), None)

    def _parsed(self, statement: Statement) -> dict[str, Any] | None:
        unknown = next((word for word in statement.words if word.kind == "unknown"), None)
        if unknown is not None:
            self.mistake(
                problems.BAD_POLICY, unknown, f"{unknown.text!r} begins nothing that Cedar knows", _unknown_fix(unknown)
            )
            return None
        what = _too_much(statement)
        if what:
            _, deepest = statement.depth()
            self.mistake(problems.POLICY_TOO_LARGE, deepest, what, "make several policies of it, or compare with sets")
            return None
        try:
            document = json.loads(cedarpy.policies_to_json_str(_text(statement)))
        except RecursionError:
            what = "the policy has too many operators in a row"
            self.mistake(problems.POLICY_TOO_LARGE, statement.words[0], what, "compare with a set: [..].contains(..)")
            return None
        except ValueError as error:
            self._note_parse_error(statement, str(error))
            return None
        if document["templates"]:
            word = next((word for word in statement.words if word.text.startswith("?")), statement.words[0])
            self.mistake(
                problems.POLICY_NOT_KNOWN, word, "templates are not known", "name the principal or the resource"
            )
            return None
        (content,) = document["staticPolicies"].values()
        return content

    def _note_parse_error(self, statement: Statement, message: str) -> None:
        if not statement.is_ended and _is_unfinished(message):
            last = statement.words[-1]
            end = Word("sign", "", last.end)
            self.mistake(problems.BAD_POLICY, end, "the policy has no end", "close its brackets and end it with ;")
            return
        word = self._named_in(message, statement)
        if message.startswith(("unexpected token", "unexpected end", "invalid token")) or word is None:
            word = self._first_bad(statement, message)
        self.mistake(problems.BAD_POLICY, word, message, _parse_fix(message))

    def _first_bad(self, statement: Statement, message: str) -> Word:
        """The word with which the text stops being the beginning of any policy, or the one before it that the message names."""
        good, bad = 0, len(statement.words)
        while bad - good > 1:
            middle = (good + bad) // 2
            if _is_beginning(_text(statement, middle)):
                good = middle
            else:
                bad = middle
        named = re.match(r"unexpected token `(.+)`$", message)
        before = statement.words[bad - 1 :: -1]
        # Cedar's parser tries to go on behind a word that cannot be there.
        return next((word for word in before if named is not None and word.text == named[1]), before[0])

    def _named_in(self, message: str, statement: Statement) -> Word | None:
        """The first word of the policy that the message names."""
        for quoted in re.finditer(r"`([^`]+)`|'([^']+)'|: @?([A-Za-z_]+)$", message):
            name = quoted[1] or quoted[2] or quoted[3]
            candidates = {name, name.lstrip("@"), json.dumps(name)}
            if "::" in name:
                candidates.add(name.rpartition("::")[2])
                candidates.add(name.partition("::")[0])
            word = next((word for word in statement.words if word.text in candidates), None)
            if word is not None:
                return word
        return None

    def _check_annotations(self, statement: Statement, content: dict[str, Any]) -> None:
        annotations: dict[str, str | None] = content.get("annotations", {})
        for name, most in (("id", MAX_ID), ("reason", MAX_REASON)):
            text = annotations.get(name)
            if name in annotations and (not text or len(text) > most or not text.isprintable()):
                self.mistake(
                    problems.BAD_POLICY,
                    self.word_of(statement, name) or statement.words[0],
                    f"@{name} needs a text of one line and at most {most} characters",
                    f'write @{name}("...") before the policy, or leave it out',
                )


_KNOWN: Final = "use && || ! == != < <= > >= in has like is, if-then-else, contains, containsAll, containsAny on texts, longs, booleans, sets"


def _text(statement: Statement, words: int | None = None) -> str:
    """Its first so many words, or all: without comments, of which neither places nor words are wanted."""
    return " ".join(word.text for word in statement.words[:words])


def _too_much(statement: Statement) -> str:
    """What Cedar's library is spared; empty where nothing."""
    if len(statement.words) > MAX_WORDS:
        return "the policy has too many words"
    return "the policy is nested too deep" if statement.depth()[0] > MAX_DEPTH else ""


def _schema_errors(text: str) -> Iterator[str]:
    validated = cedarpy.validate_policies(text, _schema())  # pyright: ignore[reportUnknownMemberType] - a dict of anything
    for error in validated.errors:
        yield re.sub(r"^for policy `policy0`[,:] ", "", error.error)


def _is_unfinished(message: str) -> bool:
    return message.startswith("unexpected end of input")


def _is_beginning(text: str) -> bool:
    try:
        cedarpy.policies_to_json_str(text)
    except ValueError as error:
        return _is_unfinished(str(error))
    return True


def _unknown_fix(word: Word) -> str:
    match word.text:
        case "'" | "“" | "”":
            return 'write texts in straight double quotes: "..."'
        case '"':
            return 'close the text with "'
        case "/" | "#":
            return "write comments as // to the end of the line"
        case "=":
            return "compare with =="
        case "&" | "|":
            return f"write {word.text * 2}"
        case _:
            return _FORM


def _parse_fix(message: str) -> str:
    if "effect" in message:
        return "begin with permit or forbid"
    if "policy scope" in message or "must be used" in message:
        return "name all three, in this order: (principal, action, resource)"
    if "entity uid" in message:
        return 'write Codezero::Role::"developer", Codezero::Action::"consume", Codezero::Service::"shop/orders"'
    if "invalid variable" in message:
        return "there are principal, action, resource and context; texts stand in double quotes"
    if "annotation" in message:
        return "write each annotation once"
    return _FORM


def _schema_fix(message: str) -> str:
    if "in context for" in message:
        return 'only serving has a condition: write action in Codezero::Action::"serve", or name mirror or takeover'
    if "unrecognized action" in message:
        return f'the actions are {_ACTIONS}, as Codezero::Action::"consume"'
    if "unrecognized entity type" in message:
        return "types are Codezero::Role, Codezero::User, Codezero::Namespace and Codezero::Service"
    if "not declared as a valid eid" in message:
        return "the roles are owner, admin, developer, viewer, auditor, ci"
    if "applicable action" in message:
        return 'roles and namespaces are compared with `in`: principal in Codezero::Role::"developer"'
    if "attribute" in message:
        return "users have email, name and kind, services name and namespace, serving has condition.type, .key, .value and ports"
    return "compare what is of the same type"
