"""Which proofs are good: the right one, and none of many that are wrong in one thing."""

import time

import pytest

from codezero.cli.paired.proving import Proof, pairing_id
from codezero.model.problems import CodezeroError
from codezero.testing.forged_proofs import Forged, forged
from codezero.testing.paired_page import PairedPage
from codezero.wire.paired import LEEWAY_SECONDS, SCHEME, PageKey

PAGE = PairedPage("https://hub.example.org", "01JZ0000000000000000000001", 4711)
BODY = b'{"rules":["*.shop"]}'
WRONG_TIMES = {
    *("too old", "of tomorrow", "of no time", "of a time below zero"),
    *("of a time that is huge", "of a time that is beyond all"),
}
REQUEST = ("PUT", "/agent/v1/consume", BODY)


def check(method: str, target: str, body: bytes, proof: str, *, now: float | None = None) -> str:
    """The number that was used; raises as the machine does."""
    read = Proof(f"{SCHEME} {proof}")
    claims = read.check(
        PAGE.public,
        machine=PAGE.machine,
        method=method,
        target=target,
        body=body,
        now=time.time() if now is None else now,
    )
    return claims.jti


def test_the_right_one_is_good_and_says_what_is_used_once() -> None:
    used = {check(*REQUEST, PAGE.proof(*REQUEST)) for _ in range(3)}

    assert len(used) == 3
    assert pairing_id(PAGE.public) == PAGE.id


@pytest.mark.parametrize("one", list(forged(PAGE, *REQUEST)), ids=lambda one: one.why)
def test_one_that_is_wrong_in_one_thing_is_not(one: Forged) -> None:
    with pytest.raises(CodezeroError) as refused:
        check(one.method, one.target, one.body, one.proof)

    expected = "CZ-HUB-016" if one.why in WRONG_TIMES else "CZ-PAIR-001"
    assert refused.value.problem.code == expected
    assert one.proof == "" or len(one.proof) < 5 or one.proof not in refused.value.detail


def test_there_are_many_of_them_and_no_two_alike() -> None:
    made = list(forged(PAGE, *REQUEST))

    assert len(made) > 80
    assert len({(one.method, one.target, one.proof, one.body) for one in made}) == len(made)


@pytest.mark.parametrize("off", [-LEEWAY_SECONDS, 0, LEEWAY_SECONDS])
def test_clocks_may_differ_by_a_minute(off: int) -> None:
    now = 1_790_000_000.0

    assert check(*REQUEST, PAGE.proof(*REQUEST, iat=int(now) + off), now=now)


@pytest.mark.parametrize(("off", "how"), [(-LEEWAY_SECONDS - 1, "behind"), (LEEWAY_SECONDS + 1, "ahead of")])
def test_beyond_that_the_clock_is_named(off: int, how: str) -> None:
    now = 1_790_000_000.0

    with pytest.raises(CodezeroError, match=f"the page's clock is 61 s {how} this machine's"):
        check(*REQUEST, PAGE.proof(*REQUEST, iat=int(now) + off), now=now)


@pytest.mark.parametrize("scheme", ["", "Bearer", "codezero-page", "Codezero-Page", "DPoP", "Basic"])
def test_another_scheme_is_no_proof(scheme: str) -> None:
    with pytest.raises(CodezeroError, match="the request is not signed"):
        Proof(scheme if scheme == SCHEME else f"{scheme} {PAGE.proof(*REQUEST)}")


@pytest.mark.parametrize(
    "key",
    [
        PageKey("EC", "P-256", "", ""),
        PageKey("EC", "P-256", "A" * 42, "A" * 43),
        PageKey("EC", "P-384", "A" * 64, "A" * 64),
        PageKey("RSA", "P-256", "A" * 43, "A" * 43),
        PageKey("EC", "P-256", "é" * 43, "A" * 43),
    ],
)
def test_what_is_no_key_of_that_kind_is_not_paired(key: PageKey) -> None:
    with pytest.raises(CodezeroError) as refused:
        pairing_id(key)

    assert refused.value.problem.code == "CZ-GENERAL-002"
