"""The examples in the documentation are documents that can be saved, and their tests pass."""

import json
import re
from pathlib import Path

import pytest

from codezero.hub.policies import checking, trials
from codezero.model.access import CONSUME, serve_acts
from codezero.model.ids import Device
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart
from codezero.testing.bundles import bundle
from codezero.transport.opinion import Question

PAGE = (Path(__file__).parents[4] / "docs" / "explanation" / "policies.md").read_text()
EXAMPLES = re.findall(r"```cedar\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_can_be_saved(text: str) -> None:
    """Each says by tests what it is for."""
    assert checking.check(text).trials


def test_the_page_shows_examples_and_the_form_of_tests() -> None:
    """As the code has it."""
    assert len(EXAMPLES) == 5
    assert trials.FORM in PAGE


def test_who_is_refused_reads_the_reason() -> None:
    """The words of the page's freeze."""
    user = "01J0000000000000000000000A"
    anna = Device("hub", user, user, user)
    held = bundle([anna], checking.check(EXAMPLES[-1]).compiled["staticPolicies"])
    orders = ServiceRef("shop", "orders")
    (act,) = serve_acts((ConditionPart("user"),), (80,))

    assert held.decide(anna, CONSUME, orders).allowed
    assert held.decide(anna, act, orders).reason.endswith("shop/orders: release freeze until Monday 9:00")


def test_the_question_to_opa_is_the_pages() -> None:
    """People write their rules by it."""
    (shown,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    asked = Question(
        "serve", ("header", "x-team", "blue"), "01J0000000000000000000000A", "anna@example.com", "shop", "orders"
    )

    assert json.loads(shown) == json.loads(asked.encode())
