"""The fault switch and the request counter: how tests make this server misbehave, and see how its clients take it."""

import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from codezero.sandbox.api import errors
from codezero.sandbox.api.documents import JsonObject

FaultKind = Literal["http-410", "stream-410", "eof", "rst", "silence", "cut-json", "429", "500"]
Phase = Literal["list", "watch", "any"]

# How long the counter remembers.
REMEMBERED_SECONDS = 600


_Number = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to misbehave: for lists or watches of `resource` (its plural, `*`: all), `times` times (0: until cleared).

    http-410, 429 (with `retry_after` seconds) and 500 refuse a request. stream-410 (an ERROR event), eof (a clean end), cut-json (half a line, then
    the end) and rst (an aborted connection) end a watch that runs or begins; for lists, eof and cut-json send half the body, then end. silence
    keeps the connection open and sends nothing.
    """

    kind: FaultKind
    resource: str = "*"
    phase: Phase = "watch"
    times: _Number = 1
    retry_after: _Number = 1

    def concerns(self, resource: str, phase: str) -> bool:
        """Whether a request is struck."""
        return self.resource in {"*", resource} and self.phase in {"any", phase}


class Faults:
    """The faults in force."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._wakers: dict[object, Callable[[], None]] = {}

    def add(self, fault: Fault) -> None:
        """Put a fault in force; watches that run are struck at once."""
        self._faults.append(fault)
        for wake in tuple(self._wakers.values()):
            wake()

    def clear(self) -> None:
        """Behave again. Requests held in silence stay so until they end."""
        self._faults.clear()

    def all(self) -> list[Fault]:
        """The faults in force, with how often each will still strike."""
        return list(self._faults)

    def strike(self, resource: str, phase: str) -> Fault | None:
        """The fault for a request, used up by one; None to behave."""
        for index, fault in enumerate(self._faults):
            if fault.concerns(resource, phase):
                if fault.times == 1:
                    del self._faults[index]
                elif fault.times > 1:
                    self._faults[index] = msgspec.structs.replace(fault, times=fault.times - 1)
                return fault
        return None

    def wake_on_change(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` when a fault comes; the result ends it."""
        key = object()
        self._wakers[key] = wake

        def end() -> None:
            self._wakers.pop(key, None)

        return end


def parse(body: object) -> Fault:
    """The fault a request describes; raises `ApiError` 400."""
    try:
        return msgspec.convert(body, Fault)
    except msgspec.ValidationError as error:
        raise errors.bad_request(f"not a fault: {error}") from None


def describe(fault: Fault) -> JsonObject:
    """The fault as the API shows it."""
    return msgspec.to_builtins(fault)


class Requests:
    """How many requests came, by second, resource and verb."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, Counter[tuple[str, str]]]] = deque(maxlen=REMEMBERED_SECONDS)

    def count(self, resource: str, verb: str) -> None:
        """Note one request."""
        now = int(self._clock())
        if not self._seconds or self._seconds[-1][0] != now:
            self._seconds.append((now, Counter()))
        self._seconds[-1][1][resource, verb] += 1

    def counts(self, *, since: float = 0) -> list[JsonObject]:
        """One entry for each second, resource and verb with requests since a time, oldest first."""
        return [
            {"at": second, "resource": resource, "verb": verb, "count": count}
            for second, counter in self._seconds
            if second >= since
            for (resource, verb), count in sorted(counter.items())
        ]
