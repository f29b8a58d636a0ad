"""Where a request of a page is answered, whichever way it came: whether it is signed, what it may ask, and who knows the answer."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from hmac import compare_digest
from typing import Final

import msgspec

from codezero.cli import hub_selection
from codezero.cli.console import printable
from codezero.cli.context import client as local_client
from codezero.cli.hub_client import connect
from codezero.cli.loopback import agent_passage, selecting
from codezero.cli.loopback.agent_passage import AgentPassage
from codezero.cli.loopback.asking import Asked
from codezero.cli.loopback.selecting import Selection
from codezero.cli.loopback.threads import Threads
from codezero.cli.paired import confirming, proving, state
from codezero.cli.paired.confirming import Known
from codezero.cli.paired.proving import Proof, not_paired
from codezero.cli.paired.state import Live, Pairing, State
from codezero.cli.paired.used import Used
from codezero.kit.logs import get_logger
from codezero.model import problems
from codezero.model.problems import CodezeroError
from codezero.wire.local_api import StatusView
from codezero.wire.paired import (
    ALLOWED,
    PAIRINGS,
    PageKey,
    PairedView,
    PairingEnd,
    PairingMade,
    PairingWanted,
    ProofClaims,
    mac_of,
)

AUTHORIZATION: Final = "authorization"
REVOKE: Final = f"{PAIRINGS}/revoke"

_log = get_logger("paired")


class Desk:
    """Answers pages. Nothing goes on that a page has asked whose pairing has ended, once `ended` is called."""

    def __init__(
        self,
        live: Live,
        used: Used,
        agent: AgentPassage,
        turn: Threads,
        *,
        port: int,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`turn` is one thread: moves of the one agent come one after the other. `changed` is called when a page has changed who is paired."""
        self._live = live
        self._used = used
        self._agent = agent
        self._turn = turn
        self._port = port
        self._changed = changed
        self._clock = clock
        self._under_way: dict[str, set[asyncio.Timeout]] = {}

    async def answer(self, asked: Asked, *, origin: str) -> None:
        """Answer what comes from a page of `origin`, as its browser or the Hub says; raises `CodezeroError`."""
        proof = Proof(asked.headers.get(AUTHORIZATION, ""))
        if (asked.method, asked.target) == ("POST", PAIRINGS):
            await self._pair(asked, proof, origin)
            return
        pairing = self._checked(asked, proof, origin)
        if (asked.method, asked.target) == ("POST", REVOKE):
            await self._revoke(asked, pairing)
            return
        async with self._until_it_ends(pairing):
            await self._confirm(asked, pairing)
            if asked.path.startswith(f"{agent_passage.PREFIX}/"):
                await self._agent.pass_on(asked)
            elif (asked.method, asked.path) == confirming.SELECT:
                await self._select(asked, pairing)
            else:
                await asked.answer_json(self._view(pairing.origin))

    def ended(self) -> None:
        """End what was asked by pages that are not paired any more."""
        try:
            present = self._live.now
        except CodezeroError:
            # Who is paired cannot be told, so nobody is.
            present = State("")
        for name, limits in self._under_way.items():
            if present.pairing(name) is None:
                for limit in limits:
                    limit.reschedule(asyncio.get_running_loop().time())

    # --- who asks, and what --------------------------------------------------------------------------------------------------------------

    def _checked(self, asked: Asked, proof: Proof, origin: str) -> Pairing:
        """Whose request it is, if it is to be done; raises `CodezeroError`."""
        present = self._live.now
        pairing = present.pairing(proof.pairing)
        if pairing is None or pairing.origin != origin:
            raise not_paired("this page is not paired with the machine, or not any more")
        claims = _checked_proof(asked, proof, pairing.key, present, self._clock())
        self._used.take(pairing.id, claims.jti, claims.iat)
        wanted = ALLOWED.get((asked.method, asked.target))
        if wanted is None:
            raise CodezeroError(
                problems.PAGE_MAY_NOT,
                f"{asked.method} {asked.target[:200]} is nothing that a page may ask of a machine",
            )
        # To be forgotten changes nothing but who may ask.
        if wanted.acts and not pairing.acts and not _ends_itself(asked, pairing):
            raise CodezeroError(
                problems.PAGE_MAY_NOT,
                "this page is paired to look, and not to change anything",
                fix="pair it anew, without --read-only: czctl pair",
            )
        self._used.count(pairing.id)
        self._note(pairing)
        return pairing

    async def _confirm(self, asked: Asked, pairing: Pairing) -> None:
        """Raise `CodezeroError` for what is to be confirmed on the machine, and is not (yet)."""
        method, target, body = asked.method, asked.target, asked.body
        need = confirming.need_of(method, target, body, known=await self._known(asked, pairing))
        if not need.lines:
            return
        refusal = state.change(lambda now: confirming.check(now, pairing.id, method, target, body, need=need))
        if refusal is not None:
            raise refusal

    async def _known(self, asked: Asked, pairing: Pairing) -> Known:
        """What is to be known to tell what is to be confirmed."""
        question = (asked.method, asked.target)
        if question == confirming.END:
            return Known(own=await self._turn.run(_own_variants))
        if question == confirming.SERVE:
            return Known(served=pairing.served, teamspace=await self._turn.run(_teamspace))
        is_asked = confirming.question_of(self._live.now, pairing.id, *question, asked.body) is not None
        # A page that waits asks again and again, and its question keeps the names.
        if question == confirming.SELECT and not is_asked:
            wanted = asked.body_as(Selection)
            return Known(names=await self._turn.run(lambda: _names(wanted, pairing.origin)))
        return Known()

    def _note(self, pairing: Pairing) -> None:
        now = self._clock()
        if pairing.used_at is not None and now - pairing.used_at < state.USED_SECONDS:
            return

        def noted(present: State) -> tuple[State, None]:
            pairings = tuple(
                msgspec.structs.replace(one, used_at=now) if one.id == pairing.id else one for one in present.pairings
            )
            return msgspec.structs.replace(present, pairings=pairings), None

        state.change(noted)

    @contextlib.asynccontextmanager
    async def _until_it_ends(self, pairing: Pairing) -> AsyncGenerator[None]:
        """A block that is cut when the pairing ends."""
        limit = asyncio.timeout(None)
        limits = self._under_way.setdefault(pairing.id, set())
        try:
            async with limit:
                limits.add(limit)
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise not_paired("the pairing of this page has ended") from None
        finally:
            limits.discard(limit)
            if not limits:
                self._under_way.pop(pairing.id, None)

    # --- pairings ------------------------------------------------------------------------------------------------------------------------

    async def _pair(self, asked: Asked, proof: Proof, origin: str) -> None:
        """Pair the page that has the code of `czctl pair`, and the key it says."""
        wanted = asked.body_as(PairingWanted)
        if proof.pairing != proving.pairing_id(wanted.key):
            raise not_paired("the proof is of another key than is to be paired")
        present, now = self._live.now, self._clock()
        if present.offer is None or present.offer.origin != origin:
            raise _nobody_waits()
        # Anybody can make a key and sign with it, so nothing of that is remembered: the code is good once, and what was signed goes with it.
        _checked_proof(asked, proof, wanted.key, present, now)
        key = Pairing(
            proof.pairing, wanted.key, wanted.name, origin, acts=False, created_at=now, expires_at=state.expiry(now)
        )
        refusal = state.change(lambda present: _paired(present, key, wanted.mac))
        if refusal is not None:
            raise refusal
        present = self._live.now
        made = present.pairing(key.id)
        if made is None:
            raise not_paired("the pairing was revoked just now")
        self._changed()
        _log.info("a page was paired", page=printable(made.name), origin=made.origin, acts=made.acts)
        await asked.answer_json(
            PairingMade(present.machine, state.machine_name(), self._port, present.relays, made.view())
        )

    def _view(self, origin: str) -> PairedView:
        present = self._live.now
        own = tuple(one.view() for one in present.pairings if one.origin == origin)
        return PairedView(present.machine, state.machine_name(), self._port, present.relays, own)

    async def _revoke(self, asked: Asked, pairing: Pairing) -> None:
        name = asked.body_as(PairingEnd).id
        there = self._live.now.pairing(name)
        # What another Hub's pages are is not for this one.
        if there is None or there.origin != pairing.origin:
            raise CodezeroError(problems.NOT_FOUND, "there is no such pairing")
        state.change(lambda present: (present.without(frozenset((name,))), None))
        self._changed()
        _log.info("a page has ended a pairing", page=printable(there.name), origin=there.origin)
        await asked.answer(204)

    # --- what czctl does ----------------------------------------------------------------------------------------------------------------

    async def _select(self, asked: Asked, pairing: Pairing) -> None:
        wanted = asked.body_as(Selection)
        status = await self._turn.run(lambda: _selected(wanted, pairing.origin))
        if status is None:
            await asked.answer(204)
        else:
            await asked.answer_json(status)


def _own_variants() -> frozenset[str]:
    return frozenset(one.variant.variant_id for one in local_client().serves().serves)


def _teamspace() -> str:
    """The id of the one that this machine is in; nothing where it is in none."""
    there = local_client().status().teamspace
    return there.id if there is not None else ""


def _names(wanted: Selection, origin: str) -> Mapping[str, str]:
    """What organization and Teamspace are called, by their ids; nothing where the page's Hub does not tell this machine."""
    try:
        client = connect()
        if client.endpoint.url != origin:
            return {}
        owner = hub_selection.organization(client, wanted.organization)
        space = hub_selection.space(client, owner, wanted.space)
    except CodezeroError:
        return {}
    return {owner.id: owner.name, space.id: space.name}


def _selected(wanted: Selection, origin: str) -> StatusView | None:
    client = connect()
    if client.endpoint.url != origin:
        raise CodezeroError(
            problems.PAGE_MAY_NOT,
            f"this machine is signed in to another Hub than this page's, {client.endpoint.url}",
            fix=f"czctl auth login --hub {origin}",
        )
    return selecting.select(client, wanted)


def _ends_itself(asked: Asked, pairing: Pairing) -> bool:
    return (asked.method, asked.target) == ("POST", REVOKE) and asked.body_as(PairingEnd).id == pairing.id


def _paired(present: State, wanted: Pairing, mac: str) -> tuple[State, CodezeroError | None]:
    """For `state.change`: with the page, where it has the code; else with one try less."""
    offer = present.offer
    if offer is None or offer.origin != wanted.origin:
        return present, _nobody_waits()
    expected = mac_of(offer.code, origin=offer.origin, machine=present.machine, pairing=wanted.id)
    if not compare_digest(mac.encode(), expected.encode()):
        left = msgspec.structs.replace(offer, tries=offer.tries - 1)
        return msgspec.structs.replace(present, offer=left if left.tries else None), _closed(
            "that is not the code of `czctl pair`"
        )
    try:
        return state.pair(
            present, msgspec.structs.replace(wanted, acts=offer.acts, name=offer.name or wanted.name)
        ), None
    except CodezeroError as error:
        return present, error


def _checked_proof(asked: Asked, proof: Proof, key: PageKey, present: State, now: float) -> ProofClaims:
    return proof.check(key, machine=present.machine, method=asked.method, target=asked.target, body=asked.body, now=now)


def _nobody_waits() -> CodezeroError:
    return _closed("no page is waited for, or one of another Hub")


def _closed(detail: str) -> CodezeroError:
    return CodezeroError(problems.PAIRING_CLOSED, detail, fix="czctl pair")
