"""Ports of ours: privileged, free, and never silently another user's."""

import errno
import os

import pytest

from codezero.local.daemon.own_ports import FIRST, LAST, at_own_port


def taken(*_: object) -> OSError:
    return OSError(errno.EADDRINUSE, "in use")


def as_user(patch: pytest.MonkeyPatch, number: int) -> None:
    patch.setattr(os, "geteuid", lambda: number)


def test_the_first_free_privileged_port_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """T15: while the Daemon restarts, an ordinary user's program must not be able to catch its connections."""
    as_user(monkeypatch, 0)
    tried: list[int] = []

    def bind(port: int) -> int:
        tried.append(port)
        if len(tried) < 5:
            raise taken()
        return port

    assert FIRST <= at_own_port(bind) <= LAST < 1024
    assert len(set(tried)) == 5


def test_when_all_are_taken_that_is_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)
    tried: list[int] = []

    def bind(port: int) -> int:
        tried.append(port)
        raise taken()

    with pytest.raises(OSError, match="in use"):
        at_own_port(bind)

    assert sorted(tried) == list(range(FIRST, LAST + 1))


def test_root_without_the_right_gets_no_unprivileged_port_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)

    def bind(port: int) -> int:
        raise PermissionError(errno.EACCES, "not allowed")

    with pytest.raises(PermissionError):
        at_own_port(bind)


def test_without_root_any_port_does(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 1000)

    assert at_own_port(lambda port: port) == 0
