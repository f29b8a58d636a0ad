"""Who may do what in a Teamspace: the question, the answer, and the policies that give it. Closed when unsure.

There are two forms. `Policy` is the short one, of Teamspaces without a Hub: rules that are tried in no order; a matching `deny` wins, then a
matching `allow`; without either the answer is no. `Bundle` is what a Hub gives a Teamspace: its members, what was taken away from whom, and
policies in Cedar, which decide the same way.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import translate
from functools import lru_cache
from typing import Final, Protocol

from codezero.model import cedar, roles
from codezero.model.cedar import CedarPolicy, Entity, Facts, PolicySet, Record, Request, Speaking
from codezero.model.ids import Device
from codezero.model.roles import Role
from codezero.model.serve import ConditionKind
from codezero.model.services import ServiceRef
from codezero.model.variants import ConditionPart, VariantView

NAMESPACE: Final = "Codezero"
REMEMBERED_SERVICES: Final = 20_000
# What laptops may see, of all of them together: about 40 MB.
REMEMBERED_SIGHTS: Final = 200_000
_REMEMBERED_PEOPLE: Final = 4000
_ANYTHING = ("*",)


class Operation(StrEnum):
    """What a policy is asked about.

    Serving is asked about by what the condition takes: the server's own requests (`serve-user`), those that carry a name for it (`serve-header`: a
    header, baggage, cookie, query or percentage), those of everybody (`serve-default`; also a path or method alone). `mirror` is to get copies,
    whatever the condition, `takeover` to replace another user's variant, `terminate` to end it. `serve` is all serving and mirroring in a short
    rule, and the group of the three in Cedar; nothing else is asked about it.
    """

    CONSUME = "consume"
    SERVE = "serve"
    SERVE_USER = "serve-user"
    SERVE_HEADER = "serve-header"
    SERVE_DEFAULT = "serve-default"
    MIRROR = "mirror"
    TAKEOVER = "takeover"
    TERMINATE = "terminate"


SERVES: Final = (Operation.SERVE_USER, Operation.SERVE_HEADER, Operation.SERVE_DEFAULT)
_SHORT_SERVE: Final = frozenset({*SERVES, Operation.MIRROR})
_NAMING: Final = frozenset(
    {
        ConditionKind.HEADER,
        ConditionKind.BAGGAGE,
        ConditionKind.COOKIE,
        ConditionKind.QUERY,
        ConditionKind.PERCENT,
    }
)


@dataclass(frozen=True, slots=True)
class Act:
    """An operation with what a policy may ask about it: for serving, one part of the condition, and the service's ports."""

    operation: Operation
    condition: ConditionPart | None = None
    ports: tuple[int, ...] = ()


CONSUME: Final = Act(Operation.CONSUME)
TERMINATE: Final = Act(Operation.TERMINATE)


@lru_cache(maxsize=8192)
def serve_acts(
    condition: tuple[ConditionPart, ...], ports: tuple[int, ...], *, mirror: bool = False
) -> tuple[Act, ...]:
    """What has to be allowed for serving by `condition`: each part of its strongest kind, so that no part hides behind another."""
    parts = [part for part in condition if part.kind in _NAMING]
    operation = Operation.SERVE_HEADER
    if not parts:
        parts, operation = [part for part in condition if part.kind == ConditionKind.USER], Operation.SERVE_USER
    if not parts:
        parts, operation = list(condition), Operation.SERVE_DEFAULT
    operation = Operation.MIRROR if mirror else operation
    found = parts or [ConditionPart(ConditionKind.DEFAULT)]
    return tuple(Act(operation, part, ports) for part in dict.fromkeys(found))


def acts_of(view: VariantView) -> tuple[Act, ...]:
    """What has to be allowed for a variant to be there."""
    return serve_acts(view.condition, tuple(pair.remote for pair in view.ports), mirror=view.mirror is not None)


def takeover_of(acts: Iterable[Act]) -> tuple[Act, ...]:
    """What has to be allowed besides `acts` to take that over from somebody."""
    return tuple(replace(act, operation=Operation.TAKEOVER) for act in acts)


Wanted = Operation | Act


def act_of(wanted: Wanted) -> Act:
    """An operation alone is one without condition."""
    return wanted if isinstance(wanted, Act) else Act(wanted)


class Effect(StrEnum):
    """What a matching rule does."""

    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the reason a person is told. `knows_device` is no where the user or device is refused, whatever it wants."""

    allowed: bool
    reason: str
    knows_device: bool = True


class Sight(Protocol):
    """What decides which services a laptop may consume, hence see. Those of laptops for which the same policies can speak are equal."""

    def sees(self, service: ServiceRef) -> bool:
        """Whether it may consume the service."""
        ...

    def decide(self, service: ServiceRef) -> Decision:
        """The same, with the reason."""
        ...

    def __hash__(self) -> int: ...


# --- the short form -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """Lets users do operations on services, or forbids it. Fields are shell-style globs over whole values; `users` are user ULIDs."""

    effect: Effect
    operations: tuple[Operation, ...]
    users: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ("*",)
    services: tuple[str, ...] = ("*",)
    name: str = ""

    def matches(self, device: Device, operation: Operation, service: ServiceRef) -> bool:
        """Whether this rule speaks about the case."""
        return (
            self.speaks_of_operation(operation) and self.speaks_of_user(device.user) and self.speaks_of_service(service)
        )

    def speaks_of_operation(self, operation: Operation) -> bool:
        """Whether this rule is about that operation; `serve` is about all serving."""
        return operation in self.operations or (operation in _SHORT_SERVE and Operation.SERVE in self.operations)

    def speaks_of_user(self, user: str) -> bool:
        """Whether this rule is about the user of that ULID."""
        return _matches(self.users, user)

    def speaks_of_service(self, service: ServiceRef) -> bool:
        """Whether this rule is about that service."""
        return _matches(self.namespaces, service.namespace) and _matches(self.services, service.name)


@dataclass(frozen=True, slots=True)
class RuleSight:
    """The rules about consuming that speak of a laptop's user."""

    rules: tuple[PolicyRule, ...] = ()

    def sees(self, service: ServiceRef) -> bool:
        """Whether the laptop may consume, hence see, the service."""
        allowed = False
        for rule in self.rules:
            if rule.speaks_of_service(service):
                if rule.effect is Effect.DENY:
                    return False
                allowed = True
        return allowed

    def decide(self, service: ServiceRef) -> Decision:
        """As `Policy.decide` for consuming."""
        matching = [rule for rule in self.rules if rule.speaks_of_service(service)]
        return _by_rules(matching, Operation.CONSUME, service)


@dataclass(frozen=True, slots=True)
class Policy:
    """A Teamspace's policy for one organization's devices."""

    organization: str
    rules: tuple[PolicyRule, ...]

    def refusal(self, device: Device) -> Decision | None:
        """Why `device` may do nothing at all; None where it depends."""
        if device.organization != self.organization:
            return Decision(False, "the device belongs to another organization")
        return None

    def decide(self, device: Device, wanted: Wanted, service: ServiceRef) -> Decision:
        """Whether `device` may do that on `service`, and why."""
        operation = act_of(wanted).operation
        refusal = self.refusal(device)
        if refusal is not None:
            return refusal
        return _by_rules([rule for rule in self.rules if rule.matches(device, operation, service)], operation, service)

    def sight(self, device: Device) -> Sight:
        """What decides about consuming for a device that is not refused altogether."""
        return RuleSight(
            tuple(
                rule
                for rule in self.rules
                if rule.speaks_of_operation(Operation.CONSUME) and rule.speaks_of_user(device.user)
            )
        )

    def closed(self, now: float) -> str | None:
        """Why nobody may do anything at the moment; None where a policy is in force."""
        return None


def _by_rules(matching: Sequence[PolicyRule], operation: Operation, service: ServiceRef) -> Decision:
    for rule in matching:
        if rule.effect is Effect.DENY:
            return Decision(False, f"rule {rule.name or 'without a name'} denies {operation} of {service}")
    if matching:
        return Decision(True, f"rule {matching[0].name or 'without a name'} allows it")
    return Decision(False, f"no rule allows {operation} of {service}")


def _matches(patterns: tuple[str, ...], value: str) -> bool:
    return patterns == _ANYTHING or _compiled(patterns).match(value) is not None


# A laptop's picture asks about each service of the cluster and each rule: one expression for all patterns is ten times faster than a loop.
@lru_cache(maxsize=30_000)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    # No pattern at all matches nothing.
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


# --- a Hub's form ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Member:
    """A user as policies see one. `kind` is `person` or `service`."""

    name: str
    email: str
    kind: str
    role: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a Hub tells a Teamspace about access. Times are UNIX seconds; `revoked` are ULIDs of devices and API keys.

    Of two bundles of a space the one with the greater `serial` is newer, whatever the order in which they come. Those that say the same are equal,
    also when one holds for longer.
    """

    organization: str
    space: str
    serial: int = field(compare=False)
    issued_at: float = field(compare=False)
    expires_at: float = field(compare=False)
    members: Mapping[str, Member]
    policies: PolicySet
    revoked: frozenset[str] = frozenset()
    suspended: bool = False
    # Of another's opinion, asked for after ours.
    opa_url: str | None = None
    _people: dict[Entity, Facts] = field(init=False, compare=False, repr=False)
    _speaking: dict[tuple[str, Operation], Speaking] = field(init=False, compare=False, repr=False)
    _sights: dict[object, int] = field(init=False, compare=False, repr=False)
    _seen: dict[tuple[int, ServiceRef], bool] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        people = {user_entity(user): _facts_of(member) for user, member in self.members.items()}
        object.__setattr__(self, "_people", people)
        for name in ("_speaking", "_sights", "_seen"):
            object.__setattr__(self, name, {})

    def is_older_than(self, other: "Bundle") -> bool:
        """Whether it is of the same space, and may not take the place of `other`."""
        same = (self.organization, self.space) == (other.organization, other.space)
        return same and (self.serial, self.issued_at) < (other.serial, other.issued_at)

    def closed(self, now: float) -> str | None:
        """Why nobody may do anything at the moment; None where a policy is in force."""
        if self.suspended:
            return "the Teamspace is suspended: an administrator of its Hub can resume it"
        if now >= self.expires_at:
            moment = datetime.fromtimestamp(self.expires_at, UTC)
            return f"what the Hub said about access expired at {moment:%Y-%m-%d %H:%M} UTC, and the Teamspace has not heard of its Hub since"
        return None

    def refusal(self, device: Device) -> Decision | None:
        """Why `device` may do nothing at all; None where it depends."""
        if device.organization != self.organization:
            return Decision(False, "the device belongs to another organization", knows_device=False)
        if device.device in self.revoked:
            return Decision(False, "the device or key has been revoked", knows_device=False)
        if device.user not in self.members:
            return Decision(False, "the user is no member of the Teamspace's organization", knows_device=False)
        return None

    def decide(self, device: Device, wanted: Wanted, service: ServiceRef) -> Decision:
        """Whether `device` may do that on `service`, and why."""
        refusal = self.refusal(device)
        if refusal is not None:
            return refusal
        act = act_of(wanted)
        request = self.request(device.user, act, service)
        return _by_cedar(cedar.decide(self._policies_for(device.user, act.operation, request), request), act, service)

    def sight(self, device: Device) -> Sight:
        """What decides about consuming for a device that is not refused altogether."""
        request = self.request(device.user, CONSUME, ServiceRef("any", "any"))
        speaking = self._policies_for(device.user, Operation.CONSUME, request)
        policies = tuple((policy, policy.traits(request)) for policy in speaking.policies)
        number = self._sights.setdefault(policies, len(self._sights))
        return CedarSight(policies, number, speaking, request, self._seen)

    def request(self, user: str, act: Act, service: ServiceRef) -> Request:
        """The question as Cedar asks it."""
        return Request(user_entity(user), _ACTIONS[act.operation], _service_entity(service), self.facts, _context(act))

    def facts(self, entity: Entity) -> Facts | None:
        """What policies may know of a user, a service or an action."""
        match entity.type:
            case "Codezero::User":
                return self._people.get(entity)
            case "Codezero::Service":
                return _service_facts(entity)
            case _:
                return _ACTION_FACTS.get(entity)

    def _policies_for(self, user: str, operation: Operation, request: Request) -> Speaking:
        known = self._speaking.get((user, operation))
        if known is None:
            if len(self._speaking) >= _REMEMBERED_PEOPLE:
                self._speaking.clear()
            known = self._speaking[user, operation] = self.policies.speaking(request)
        return known


@dataclass(frozen=True, slots=True)
class CedarSight:
    """The policies about consuming that speak of a laptop's user, each with what it asks about the user; `_example` is one such user's request."""

    policies: tuple[tuple[CedarPolicy, tuple[object, ...]], ...]
    _number: int = field(compare=False, repr=False)
    _speaking: Speaking = field(compare=False, repr=False)
    _example: Request = field(compare=False, repr=False)
    _seen: dict[tuple[int, ServiceRef], bool] = field(compare=False, repr=False)

    def sees(self, service: ServiceRef) -> bool:
        """Whether the laptop may consume, hence see, the service."""
        key = self._number, service
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= REMEMBERED_SIGHTS:
                self._seen.clear()
            seen = self._seen[key] = self._ask(service).allowed
        return seen

    def decide(self, service: ServiceRef) -> Decision:
        """As `Bundle.decide` for consuming."""
        return _by_cedar(self._ask(service), CONSUME, service)

    def _ask(self, service: ServiceRef) -> cedar.Answer:
        one = self._example
        request = Request(one.principal, one.action, _service_entity(service), one.facts, one.context)
        return cedar.decide(self._speaking, request)


def user_entity(user: str) -> Entity:
    """A user, as policies name one."""
    return Entity("Codezero::User", user)


def _service_entity(service: ServiceRef) -> Entity:
    return Entity("Codezero::Service", str(service))


@lru_cache(maxsize=REMEMBERED_SERVICES)
def _service_facts(entity: Entity) -> Facts:
    namespace, _, name = entity.id.partition("/")
    group = Entity("Codezero::Namespace", namespace)
    return Facts({"name": name, "namespace": namespace}, frozenset({group}))


_ACTIONS: Final = {operation: Entity("Codezero::Action", operation) for operation in Operation}
_ACTION_FACTS: Final = {_ACTIONS[operation]: Facts({}, frozenset({_ACTIONS[Operation.SERVE]})) for operation in SERVES}


def _facts_of(member: Member) -> Facts:
    try:
        held: tuple[str, ...] = roles.IMPLIED[Role(member.role)]
    except ValueError:
        held = (member.role,)  # of a newer Hub
    return Facts(
        {"name": member.name, "email": member.email, "kind": member.kind},
        frozenset(Entity("Codezero::Role", role) for role in held),
    )


@lru_cache(maxsize=8192)
def _context(act: Act) -> Record:
    if act.condition is None:
        return cedar.EMPTY
    condition = {"type": act.condition.kind, "key": act.condition.key or "", "value": act.condition.value or ""}
    return Record({"condition": Record(condition), "ports": cedar.set_of(act.ports)})


def _by_cedar(answer: cedar.Answer, act: Act, service: ServiceRef) -> Decision:
    if not answer.determining:
        return Decision(False, f"no policy allows {act.operation} of {service}")
    policy = answer.determining[0]
    if answer.allowed:
        return Decision(True, f"policy {policy.name!r} allows it")
    reason = policy.annotations.get("reason")
    return Decision(
        False, f"policy {policy.name!r} forbids {act.operation} of {service}{f': {reason}' if reason else ''}"
    )


AnyPolicy = Policy | Bundle


def decide(policy: AnyPolicy | None, device: Device, wanted: Wanted, service: ServiceRef) -> Decision:
    """`Policy.decide`, and no where there is no policy at all."""
    if policy is None:
        return Decision(False, "the Teamspace has no valid policy")
    return policy.decide(device, wanted, service)


def decide_where_seen(policy: AnyPolicy, device: Device, wanted: Wanted, service: ServiceRef) -> Decision:
    """`decide`, where nobody does anything to a service that he does not see."""
    seen = policy.decide(device, CONSUME, service)
    return policy.decide(device, wanted, service) if seen.allowed else seen


def allow_all(organization: str, operations: Sequence[Operation] = tuple(Operation)) -> Policy:
    """A policy that lets every device of `organization` do `operations` everywhere."""
    return Policy(organization, (PolicyRule(Effect.ALLOW, tuple(operations), name="everything"),))
