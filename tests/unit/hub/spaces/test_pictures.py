"""What a Teamspace tells takes a bounded room at the Hub, however it is told."""

import msgspec
import pytest

from codezero.hub.spaces import pictures
from codezero.hub.spaces.pictures import Kind, Live
from codezero.model import problems
from codezero.model.ids import Device, SessionId, new_ulid
from codezero.model.problems import CodezeroError
from codezero.model.services import Service, ServiceKind, ServiceRef
from codezero.model.sessions import Presence, PresenceState
from codezero.wire.hub_channel import MAX_EVENTS, CatalogTold, Event, PresenceTold

ANN = Device("install.test", new_ulid(), new_ulid(), new_ulid())


def service(number: int, *, namespace: str = "shop") -> Service:
    return Service(ServiceRef(namespace, f"s{number}"), ServiceKind.CLUSTER_IP, ())


def laptop(session: str, *, name: str = "laptop") -> Presence:
    return Presence(SessionId(session), ANN, name, PresenceState.ONLINE, 1.0)


def event(number: int, **changes: object) -> Event:
    return msgspec.structs.replace(Event(new_ulid(), number, 1.0, "serve.begin"), **changes)


def items(live: Live, kind: Kind) -> list[dict[str, object]]:
    return msgspec.json.decode(live.take(kind))["items"]


def test_a_picture_is_what_was_told_last() -> None:
    live = Live()
    live.catalog(CatalogTold((service(2), service(1)), reset=True))
    live.catalog(CatalogTold((service(3),), removes=(service(2).ref, service(9).ref)))
    live.presence(PresenceTold((laptop("one"), laptop("two")), reset=True))
    live.presence(PresenceTold((laptop("one", name="other"),), removes=(SessionId("two"),)))

    assert [item["ref"] for item in items(live, Kind.CATALOG)] == [
        {"namespace": "shop", "name": "s1"},
        {"namespace": "shop", "name": "s3"},
    ]
    assert [item["name"] for item in items(live, Kind.PRESENCE)] == ["other"]
    live.catalog(CatalogTold((service(4),), reset=True, last=False))
    assert len(items(live, Kind.CATALOG)) == 2, "not before it is whole"
    live.catalog(CatalogTold())
    assert len(items(live, Kind.CATALOG)) == 1


@pytest.mark.parametrize("reset", [True, False])
def test_few_things_that_are_large_are_too_much_as_well(reset: bool) -> None:
    live, large = Live(), "x" * 1_000_000

    with pytest.raises(CodezeroError, match="bytes") as refused:
        for number in range(50):
            live.presence(PresenceTold((laptop(str(number), name=large),), reset=reset and number == 0, last=False))
    assert refused.value.problem is problems.PROTOCOL
    with pytest.raises(CodezeroError, match="bytes"):
        for number in range(50):
            live.catalog(CatalogTold((service(number, namespace=large),), reset=reset and number == 0, last=False))


def test_all_pictures_count_together() -> None:
    live, large = Live(), "x" * 1_000_000
    live.presence(PresenceTold(tuple(laptop(str(number), name=large) for number in range(20))))

    with pytest.raises(CodezeroError, match="bytes"):
        live.catalog(CatalogTold(tuple(service(number, namespace=large) for number in range(20))))


def test_what_is_told_again_takes_no_more_room() -> None:
    live, large = Live(), "x" * 1_000_000
    for number in range(100):
        live.presence(PresenceTold((laptop("same", name=large),), removes=(SessionId("none"),)))
        live.presence(PresenceTold((laptop(str(number), name=large),)))
        live.presence(PresenceTold(removes=(SessionId(str(number)),)))
        live.catalog(CatalogTold((service(number, namespace=large),), reset=True))
        live.happened((event(number, detail="x" * 1000),) * MAX_EVENTS)

    assert [len(items(live, kind)) for kind in Kind] == [1, 1, pictures.KEPT_EVENTS]
