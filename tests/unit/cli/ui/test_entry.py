"""The one-time code and the cookie it is worth."""

import pytest

from codezero.cli.ui.entry import CODE_SECONDS, TRIES, Entry
from codezero.model import problems
from codezero.model.problems import CodezeroError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def refusal(entry: Entry, *, code: str | None = None, cookies: str | None = None) -> CodezeroError:
    with pytest.raises(CodezeroError) as refused:
        if code is not None:
            entry.use(code)
        else:
            entry.check(cookies or "")
    assert refused.value.problem is problems.CONSOLE_CLOSED
    assert refused.value.fix == "czctl ui"
    return refused.value


def test_the_code_is_good_once_and_the_cookie_for_as_long_as_the_console() -> None:
    clock = Clock()
    entry = Entry(8123, clock=clock)

    pair, *attributes = entry.use(entry.code).split("; ")

    assert set(attributes) == {"HttpOnly", "SameSite=Strict", "Path=/"}
    assert pair.startswith("codezero-console-8123=")
    assert entry.code not in pair
    assert entry.spent.is_set()
    refusal(entry, code=entry.code)
    clock.now += 100 * CODE_SECONDS
    entry.check(pair)


def test_an_old_code_is_worth_nothing() -> None:
    clock = Clock()
    entry = Entry(1, clock=clock)
    clock.now += CODE_SECONDS

    refusal(entry, code=entry.code)


def test_the_last_try_may_be_the_right_one_and_there_is_none_after_it() -> None:
    lucky, unlucky = Entry(1), Entry(1)
    for number in range(TRIES - 1):
        refusal(lucky, code=f"{number}")
        refusal(unlucky, code=f"{number}")
    refusal(unlucky, code="")

    assert lucky.use(lucky.code)
    assert unlucky.spent.is_set()
    refusal(unlucky, code=unlucky.code)


@pytest.mark.parametrize("code", ["", "\ud800", "é", "x" * 100])
def test_whatever_else_is_no_code(code: str) -> None:
    refusal(Entry(1), code=code)


def test_the_cookie_is_found_among_others_and_nothing_else_is_taken_for_it() -> None:
    entry, other = Entry(1), Entry(1)
    pair = entry.use(entry.code).partition(";")[0]
    name, _, value = pair.partition("=")

    for good in (pair, f"a=b; {pair}", f"{name}=tossed; {pair}", f"{pair};c=d"):
        entry.check(good)
    for bad in ("", name, f"{name}=", f"{name}={value}x", f"{name}={value[:-1]}", f"x{pair}", f"a={pair}", value):
        refusal(entry, cookies=bad)
    refusal(other, cookies=pair)
