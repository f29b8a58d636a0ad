"""Who wants to be told of requests, and which. A laptop is told of requests to its own user's variants and of no others (T38)."""

from collections import defaultdict
from collections.abc import Callable

from codezero.orchestrator.board import Placed
from codezero.orchestrator.fanout import Subscriber
from codezero.wire.coordination import TraceReport
from codezero.wire.tracing import TraceRecord


class Traces:
    """The laptops that want traces. `placed` finds a variant by its id."""

    def __init__(self, placed: Callable[[str], Placed | None]) -> None:
        self._placed = placed
        self._wanting: set[Subscriber] = set()

    def __len__(self) -> int:
        return len(self._wanting)

    @property
    def are_wanted(self) -> bool:
        """Whether any laptop wants traces."""
        return bool(self._wanting)

    def want(self, subscriber: Subscriber, *, on: bool) -> None:
        """A laptop wants traces from now on, or none any longer."""
        if on:
            self._wanting.add(subscriber)
        else:
            self._wanting.discard(subscriber)
            subscriber.forget_traces()

    def reported(self, report: TraceReport) -> None:
        """Tell of each request those who want to know and own the variant; of what was left out, all who may miss something."""
        if not self._wanting:
            return
        records: dict[str, list[TraceRecord]] = defaultdict(list)
        for record in report.records:
            placed = self._placed(record.variant)
            # Whose it is and what it is of, the catalog says and not the report.
            if placed is not None and placed.service == record.service:
                records[placed.view.user].append(record)
        for subscriber in self._wanting:
            own = records.get(subscriber.device.user, [])
            if own or report.dropped:
                subscriber.trace(own, dropped=max(0, report.dropped))
