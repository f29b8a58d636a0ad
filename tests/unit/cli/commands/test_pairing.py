"""`czctl pairing` and `czctl confirm`, without the process that answers pages: what is kept, shown, ended and answered."""

import json
import time

import msgspec
import pytest

from codezero.cli.paired import confirming, state
from codezero.cli.paired.state import Pairing
from codezero.testing.czctl import Czctl
from codezero.testing.paired_page import PairedPage

HUB = "https://hub.example.org"
SERVE = b'{"service":"shop/orders","ports":[{"remote":80,"local":3000}],"condition":[{"kind":"default"}]}'


def kept(*names: str, acts: bool = True) -> None:
    """Pairings of those ids."""
    now = time.time()
    page = PairedPage(HUB, "", 0)
    pairings = tuple(
        Pairing(one, page.public, f"Page {one[:4]}", HUB, acts, now - 7200, now + 86400 * 2.5) for one in names
    )
    state.change(lambda present: (msgspec.structs.replace(present, pairings=pairings), None))


def asked() -> str:
    """A question of the first pairing; its id."""
    present = state.load()
    assert present is not None
    page = present.pairings[0].id
    need = confirming.need_of(*confirming.SERVE, SERVE, known=confirming.Known())
    state.change(lambda now: confirming.check(now, page, *confirming.SERVE, SERVE, need=need))
    present = state.load()
    assert present is not None
    return present.questions[0].id


def test_nothing_is_paired_at_first(czctl: Czctl) -> None:
    listed = czctl("pairing", "list")
    as_json = czctl("pairing", "list", "-o", "json").json()
    ended = czctl("pairing", "revoke", "--all")
    confirmed = czctl("confirm")

    assert (listed.code, listed.out, listed.err) == (0, "", "no page is paired; next: czctl pair\n")
    assert (as_json["machine"], as_json["pairings"], as_json["port"]) == (None, [], None)
    assert (ended.code, ended.err) == (0, "no page is paired\n")
    assert (confirmed.code, confirmed.err) == (0, "nothing waits to be confirmed\n")


def test_the_list_says_what_each_may_and_that_nobody_answers(czctl: Czctl) -> None:
    kept("u7Hk2p" + "x" * 37, acts=False)

    listed = czctl("pairing", "list")

    heading, line = listed.out.splitlines()
    assert heading.split() == ["ID", "PAGE", "HUB", "MAY", "PAIRED", "ENDS", "ASKED", "LAST"]
    assert line.split("   ")[0] == "u7Hk2pxxxxxx"
    assert all(part in line for part in ("Page u7Hk", HUB, "look", "2 h", "in 2 d"))
    assert listed.err == "note: they are not answered now; next: czctl start\n"
    assert czctl("pairing", "list", "-o", "name").out == "u7Hk2p" + "x" * 37 + "\n"


def test_the_beginning_of_an_id_is_enough_where_it_is_clear(czctl: Czctl) -> None:
    kept("aaaa1" + "x" * 38, "aaaa2" + "x" * 38, "-bbb" + "x" * 39)

    unclear = czctl("pairing", "revoke", "aaaa")
    short = czctl("pairing", "revoke", "aa")
    unknown = czctl("pairing", "revoke", "cccc", "aaaa1")
    nothing = czctl("pairing", "revoke")
    both = czctl("pairing", "revoke", "aaaa1", "--all")

    assert (unclear.code, short.code, unknown.code, nothing.code, both.code) == (6, 6, 6, 2, 2)
    assert "several begin with 'aaaa'" in unclear.err
    assert len(czctl("pairing", "list", "-o", "json").json()["pairings"]) == 3, "all or nothing"
    assert czctl("pairing", "revoke", "aaaa1", "--", "-bbb").code == 0
    assert czctl("pairing", "list", "-o", "name").out == "aaaa2" + "x" * 38 + "\n"


@pytest.mark.parametrize(("answer", "said"), [("--yes", "confirmed; the page does it now\n"), ("--no", "refused\n")])
def test_a_question_is_answered_by_its_name(czctl: Czctl, answer: str, said: str) -> None:
    kept("u7Hk2p" + "x" * 37)
    name = asked()

    shown = czctl("confirm")
    nameless = czctl("confirm", answer)
    unknown = czctl("confirm", "nothing", answer)
    answered = czctl("confirm", name, answer)

    assert (
        "answer requests to shop/orders from port 3000 of this machine: whoever sent them; ports 3000:80" in shown.out
    )
    assert shown.err == "next: czctl confirm ID --yes, or --no\n"
    assert (nameless.code, unknown.code, answered.code) == (2, 6, 0)
    assert answered.err == said
    assert czctl("confirm", "-o", "json").json()["questions"] == []
    assert czctl("confirm", name, answer).code == 6, "an answer is given once"


def test_what_a_page_calls_itself_steers_no_terminal(czctl: Czctl) -> None:
    kept("u7Hk2p" + "x" * 37)

    def renamed(present: state.State) -> tuple[state.State, None]:
        evil = msgspec.structs.replace(present.pairings[0], name="\x1b[2Jevil\u202e")
        return msgspec.structs.replace(present, pairings=(evil,)), None

    state.change(renamed)
    asked()

    for shown in (czctl("pairing", "list"), czctl("confirm"), czctl("pairing", "list", "-o", "json")):
        assert "\x1b" not in shown.out + shown.err
        assert "\u202e" not in shown.out + shown.err
    assert json.loads(czctl("pairing", "list", "-o", "json").out)["pairings"][0]["name"] == "\x1b[2Jevil\u202e"


def test_without_a_hub_nothing_is_offered(czctl: Czctl) -> None:
    ended = czctl("pair", "--no-open")

    assert ended.code == 3
    assert "czctl auth login --hub" in ended.err
    assert not state.path().exists()


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_is_of_some_length(czctl: Czctl, name: str) -> None:
    ended = czctl("pair", "--no-open", "--name", name, "--hub", HUB)

    assert ended.code == 2
    assert "a name has 1 to 100 characters" in ended.err
