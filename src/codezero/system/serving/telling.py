"""What the status of a Serve object says of its rewiring: written when it changes, and only then; pure."""

from datetime import UTC, datetime
from typing import Final

import msgspec

from codezero.model.variants import ServingState
from codezero.system.serving.seen import Seen, has_routes
from codezero.system.serving.serves import ServeObject, path_of
from codezero.system.serving.steps import LOOK_AGAIN_SECONDS, Circumstances, Step, Wait, Write
from codezero.wire.serve_resource import Condition, RouteStatus, ServeStatus

VALID: Final = "Valid"
SWITCHED: Final = "Switched"
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


def wait(seen: Seen, serve: ServeObject, about: Circumstances, message: str) -> Step:
    """Wait and say what for; the first of the two that is not done yet."""
    return tell(seen, serve, about, ServingState.PREPARING, message)


def tell(
    seen: Seen,
    serve: ServeObject,
    about: Circumstances,
    state: ServingState,
    message: str,
    *,
    status: ServeStatus | None = None,
    switched: bool | None = None,
) -> Step:
    """Say it, with these changes of the status where they are given, or wait where that has been done."""
    step = told(seen, serve, about, state, message, status=status, switched=switched)
    # Not all that is waited for is followed: the state of a Deployment is only read.
    return step or Wait(message, about.now + LOOK_AGAIN_SECONDS)


def told(
    seen: Seen,
    serve: ServeObject,
    about: Circumstances,
    state: ServingState,
    message: str,
    *,
    status: ServeStatus | None = None,
    switched: bool | None = None,
    forget_switch: bool = False,
) -> Write | None:
    """The write that makes the status say so; None when it does."""
    fresh = msgspec.structs.replace(
        serve.status if status is None else status,
        state=state,
        message=message,
        observed_generation=serve.generation,
        routes=_route_statuses(serve),
    )
    if has_routes(serve, about.now):
        fresh = msgspec.structs.replace(fresh, unserved_since=None)
    problem = next((one.problem for one in serve.routes if one.problem), "")
    fresh = _with_condition(
        fresh, serve, about.now, VALID, value=not problem, reason="Problem" if problem else "AllRoutes", message=problem
    )
    if switched is not None:
        reason = "Router" if switched else "OwnPods"
        fresh = _with_condition(fresh, serve, about.now, SWITCHED, value=switched, reason=reason)
    if forget_switch:
        kept = tuple(one for one in fresh.conditions if one.type != SWITCHED)
        fresh = msgspec.structs.replace(fresh, conditions=kept)
    if fresh == serve.status:
        return None
    body = {**seen.content, "status": msgspec.to_builtins(fresh)}
    return Write(f"say {state}", "replace", f"{path_of(serve.ref)}/status", body)


def _route_statuses(serve: ServeObject) -> tuple[RouteStatus, ...]:
    found: dict[str, RouteStatus] = {}
    for one in serve.routes:
        known = any(status.id == one.name for status in serve.status.routes)
        # Of two entries with one id the first may be good.
        if (one.problem or known) and one.name not in found:
            found[one.name] = msgspec.structs.replace(serve.route_status(one.name), problem=one.problem)
    return tuple(found.values())


def _with_condition(
    status: ServeStatus, serve: ServeObject, now: float, kind: str, *, value: bool, reason: str, message: str = ""
) -> ServeStatus:
    before = condition_of(status, kind)
    text = "True" if value else "False"
    if before is not None and (before.status, before.reason, before.message) == (text, reason, message):
        return status
    since = before.last_transition_time if before is not None and before.status == text else timestamp(now)
    fresh = Condition(kind, text, reason, message, since, serve.generation)
    others = tuple(one for one in status.conditions if one.type != kind)
    return msgspec.structs.replace(status, conditions=tuple(sorted((*others, fresh), key=lambda one: one.type)))


def timestamp(moment: float) -> str:
    """UNIX seconds as Kubernetes writes times."""
    return datetime.fromtimestamp(moment, UTC).strftime(_TIME)


def condition_of(status: ServeStatus, kind: str) -> Condition | None:
    """The condition of that type."""
    return next((one for one in status.conditions if one.type == kind), None)


def is_so(status: ServeStatus, kind: str) -> bool:
    """Whether the condition of that type is true."""
    condition = condition_of(status, kind)
    return condition is not None and condition.status == "True"


def lasts(status: ServeStatus, kind: str, now: float) -> float:
    """For how many seconds the condition of that type has been as it is; 0 where nobody can tell."""
    condition = condition_of(status, kind)
    if condition is None:
        return 0.0
    try:
        since = datetime.strptime(condition.last_transition_time, _TIME).replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return max(0.0, now - since.timestamp())
