"""A policy's text in words with their places: Cedar's library says what is wrong, and this says where."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_WORD: Final = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>//[^\n]*)
  | (?P<text>"(?:[^"\\]|\\.)*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[0-9]+)
  | (?P<sign>::|&&|\|\||==|!=|<=|>=|\?(?:principal|resource)|[-+*(){}\[\],;.@:<>!])
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, both from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Word:
    """A piece of the text; `kind` is `text`, `name`, `number`, `sign`, `comment`, or `unknown` for what Cedar has no words with."""

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where the next one may begin."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Statement:
    """One policy: its words up to and with the semicolon, or all that is left without one."""

    words: tuple[Word, ...]

    @property
    def start(self) -> int:
        """Where it begins."""
        return self.words[0].start

    @property
    def is_ended(self) -> bool:
        """Whether it has its semicolon."""
        return self.words[-1].text == ";"

    def depth(self) -> tuple[int, Word]:
        """How deep brackets and choices are nested at most, and where."""
        deepest, at, depth = 0, self.words[0], 0
        for word in self.words:
            if word.kind == "sign" and word.text in "([{":
                depth += 1
            elif word.kind == "sign" and word.text in ")]}":
                depth -= 1
            elif word.kind == "name" and word.text == "if":
                # Its end cannot be seen; a policy has few of them.
                depth += 1
            if depth > deepest:
                deepest, at = depth, word
        return deepest, at


class Text:
    """The text of a document, and its places."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words = tuple(_words(text))
        self._lines = [0, *(match.end() for match in re.finditer(r"\n", text))]

    def place(self, offset: int) -> Place:
        """The place of a character."""
        line = bisect_right(self._lines, offset)
        return Place(line, offset - self._lines[line - 1] + 1)

    def comments(self) -> Iterator[Word]:
        """All comments."""
        return (word for word in self.words if word.kind == "comment")

    def statements(self) -> Iterator[Statement]:
        """All policies: Cedar has semicolons nowhere else."""
        words: list[Word] = []
        for word in self.words:
            if word.kind == "comment":
                continue
            words.append(word)
            if word.text == ";":
                yield Statement(tuple(words))
                words = []
        if words:
            yield Statement(tuple(words))


def _words(text: str) -> Iterator[Word]:
    at = 0
    while at < len(text):
        match = _WORD.match(text, at)
        if match is None:
            yield Word("unknown", text[at], at)
            at += 1
            continue
        if match.lastgroup != "space":
            yield Word(match.lastgroup or "", match[0], at)
        at = match.end()
