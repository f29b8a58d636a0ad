"""Passwords: argon2id, beside the loop."""

import asyncio
import threading
import time

import pytest
from argon2 import PasswordHasher

from codezero.hub.signin import passwords
from codezero.hub.signin.passwords import Passwords
from codezero.model.problems import CodezeroError

GOOD = "correct horse battery"


async def test_a_password_is_known_again_by_its_hash_alone() -> None:
    made = Passwords()
    hashed = await made.hash(GOOD)

    assert hashed.startswith("$argon2id$")
    assert GOOD not in hashed
    assert await made.matches(GOOD, hashed)
    assert not await made.matches(GOOD + " ", hashed)
    assert not await made.matches(GOOD.title(), hashed)
    assert await made.hash(GOOD) != hashed


async def test_nobody_has_no_password() -> None:
    made = Passwords()

    assert not await made.matches("", None)
    assert not await made.matches(GOOD, None)
    assert not await made.matches(GOOD, "")
    assert not await made.matches(GOOD, "plain text")


@pytest.mark.parametrize(
    "password", ["ünïcödé 日本語 パスワード", "            ", "x" * 12, "x" * 1024, "\U0001f511" * 12]
)
async def test_anything_of_the_right_length_will_do(password: str) -> None:
    made = Passwords()

    assert await made.matches(password, await made.hash(password))


@pytest.mark.parametrize("password", ["", "x" * 11, "x" * 1025])
async def test_the_length_is_bounded(password: str) -> None:
    with pytest.raises(CodezeroError, match="12 to 1024 characters"):
        await Passwords().hash(password)


async def test_a_password_that_is_too_long_costs_nothing() -> None:
    hashed = await Passwords().hash(GOOD)

    assert not await Passwords().matches("x" * 1_000_000, hashed)


def test_a_hash_of_other_parameters_is_outdated() -> None:
    assert passwords.is_outdated(PasswordHasher(time_cost=1, memory_cost=1024).hash(GOOD))
    assert not passwords.is_outdated(PasswordHasher().hash(GOOD))


async def test_two_at_most_are_worked_out_at_once_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Passwords()
    await made.matches(GOOD, None)
    running, most, guard = 0, 0, threading.Lock()

    def slow(password: str, hashed: str) -> bool:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with guard:
            running -= 1
        return False

    monkeypatch.setattr(passwords, "_verify", slow)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    await asyncio.gather(*(made.matches(GOOD, None) for _ in range(8)))
    ticking.cancel()

    assert most == 2
    assert ticks > 8
