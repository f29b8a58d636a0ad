"""`czctl pair` as tests run it: a person who waits for their page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codezero.testing.czctl import PageProcess
from codezero.testing.paired_page import PairedPage


@dataclass
class PairProcess(PageProcess):
    """Waits until its page is paired. The process in the background that it starts goes on: it ends with its last pairing, or by `czctl stop`."""

    command = "pair"

    def page(self, **fields: Any) -> PairedPage:
        """The page that is opened at its address."""
        return PairedPage.at(self.address, **fields)


def paired(environment: Mapping[str, str], *options: str, **fields: Any) -> PairedPage:
    """A page that is paired with the machine of `environment` directly, by `czctl pair --no-open` and `options`."""
    with PairProcess(environment, options=("--no-open", *options)) as waiting:
        page = waiting.page(**fields)
        answered = page.pair()
        assert answered.status == 200, answered.content
        code, said = waiting.ended()
        assert code == 0, said
    return page
