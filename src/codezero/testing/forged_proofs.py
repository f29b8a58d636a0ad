"""Proofs that are wrong in one thing each, for tests: what somebody sends who has seen a page's requests, and has not its key, or not for this one."""

import base64
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from codezero.testing.paired_page import PairedPage
from codezero.transport.device_proof import jwk_of
from codezero.transport.signed import encoded
from codezero.wire.paired import LEEWAY_SECONDS, body_hash

_CHARACTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
# Of the curve: the order of its group.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Forged:
    """A request with a wrong proof; `why` names the fault."""

    why: str
    method: str
    target: str
    proof: str
    body: bytes


def forged(page: PairedPage, method: str, target: str, body: bytes = b"") -> Iterator[Forged]:
    """All of them, for that request of a page that is paired. Each is refused as PAGE_NOT_PAIRED, or for its time as CLOCK_WRONG."""
    right = page.proof(method, target, body)
    head, claims, signature = right.split(".")
    for why, proof in (
        *_of_parts(head, claims, signature),
        *_of_keys(page, method, target, body),
        *_of_headers(page, method, target, body),
        *_of_claims(page, method, target, body),
    ):
        yield Forged(why, method, target, proof, body)
    yield Forged("another method", "DELETE" if method != "DELETE" else "POST", target, right, body)
    yield Forged("another target", method, "/agent/v1/reset", right, body)
    yield Forged("a target that goes on", method, f"{target}/", right, body)
    yield Forged("a query", method, f"{target}?x=1", right, body)
    yield Forged("another body", method, target, right, body + b" ")
    yield Forged("a body of another request", method, target, page.proof(method, target, b'{"rules":["*"]}'), body)
    yield Forged("no body", method, target, page.proof(method, target, b"x"), b"")


def _of_parts(head: str, claims: str, signature: str) -> Iterator[tuple[str, str]]:
    whole = f"{head}.{claims}.{signature}"
    yield "nothing", ""
    yield "a dot", "."
    yield "no signature", f"{head}.{claims}."
    yield "no claims", f"{head}..{signature}"
    yield "no header", f".{claims}.{signature}"
    yield "two parts", f"{head}.{claims}"
    yield "four parts", f"{whole}.{signature}"
    yield "white space before", f" {whole}"
    yield "white space after", f"{whole} "
    yield "a line break", f"{head}.{claims}\n.{signature}"
    yield "padding", f"{whole}=="
    yield "half a signature", f"{head}.{claims}.{signature[: len(signature) // 2]}"
    yield "a longer signature", f"{head}.{claims}.{signature}AAAA"
    yield "header and claims exchanged", f"{claims}.{head}.{signature}"
    yield "too long", f"{head}.{claims}.{signature}{'A' * 4096}"
    yield "a comma and another one", f"{whole}, {whole}"
    yield "no ASCII", f"{head}.{claims}.{signature[:-1]}é"
    for at in (0, len(signature) // 2, len(signature) - 3):
        yield f"signature changed at {at}", f"{head}.{claims}.{_changed(signature, at)}"
    for at in (2, len(head) // 2):
        yield f"header changed at {at}", f"{_changed(head, at)}.{claims}.{signature}"
    for at in (2, len(claims) // 3, len(claims) // 2, len(claims) - 3):
        yield f"claims changed at {at}", f"{head}.{_changed(claims, at)}.{signature}"
    yield "base64 of another alphabet", f"{head}.{claims}.{_other_alphabet(signature)}"
    yield "a signature of zeros", f"{head}.{claims}.{encoded(bytes(64))}"
    yield "a signature of the order", f"{head}.{claims}.{encoded(_ORDER.to_bytes(32, 'big') * 2)}"
    yield "a signature in DER", f"{head}.{claims}.{encoded(b'0' + bytes(70))}"


def _of_keys(page: PairedPage, method: str, target: str, body: bytes) -> Iterator[tuple[str, str]]:
    other = PairedPage(page.origin, page.machine, page.port)
    yield "another key of the same name", other.proof(method, target, body, header={"kid": page.id})
    yield "a key that is not paired", other.proof(method, target, body)
    yield (
        "another key in the header",
        other.proof(method, target, body, header={"kid": page.id, "jwk": jwk_of(other.key.public_key())}),
    )


def _of_headers(page: PairedPage, method: str, target: str, body: bytes) -> Iterator[tuple[str, str]]:
    changes: dict[str, dict[str, Any]] = {
        "algorithm none": {"alg": "none"},
        "algorithm HS256": {"alg": "HS256"},
        "algorithm RS256": {"alg": "RS256"},
        "algorithm in small letters": {"alg": "es256"},
        "no algorithm": {"alg": None},
        "another type": {"typ": "codezero-device-proof+jwt"},
        "type JWT": {"typ": "JWT"},
        "no type": {"typ": None},
        "no name of a key": {"kid": None},
        "a short name of a key": {"kid": page.id[:-1]},
        "a name of a key that is a path": {"kid": "../../" + page.id[6:]},
        "an address of keys": {"jku": "https://evil.example/keys"},
        "something critical": {"crit": ["b64"], "b64": False},
        "a number for the type": {"typ": 1},
    }
    for why, header in changes.items():
        yield why, page.proof(method, target, body, header=header)


def _of_claims(page: PairedPage, method: str, target: str, body: bytes) -> Iterator[tuple[str, str]]:
    now = int(time.time())
    changes: dict[str, dict[str, Any]] = {
        "another machine": {"aud": "01JZ0000000000000000000009"},
        "several machines": {"aud": [page.machine]},
        "no machine": {"aud": None},
        "a machine in small letters": {"aud": page.machine.lower()},
        "signed for another method": {"htm": "PATCH"},
        "method in small letters": {"htm": method.lower()},
        "no method": {"htm": None},
        "signed for another target": {"htu": "/agent/v1/reset"},
        "target with the host": {"htu": f"http://127.0.0.1:{page.port}{target}"},
        "target with a slash": {"htu": f"{target}/"},
        "no target": {"htu": None},
        "hash of another body": {"bsh": body_hash(body + b"x")},
        "hash in hexadecimal": {"bsh": "0" * 64},
        "no hash": {"bsh": None},
        "too old": {"iat": now - LEEWAY_SECONDS - 30},
        "of tomorrow": {"iat": now + 86400},
        "of no time": {"iat": 0},
        "of a time that is text": {"iat": str(now)},
        "of a time that is huge": {"iat": 10**40},
        "of a time that is beyond all": {"iat": 10**400},
        "of a time below zero": {"iat": -now},
        "no time": {"iat": None},
        "no number used once": {"jti": None},
        "a short number used once": {"jti": "x"},
        "a long number used once": {"jti": "x" * 65},
        "something more": {"admin": True},
        "an end of its own": {"exp": now + 10**9},
    }
    for why, claims in changes.items():
        yield why, page.proof(method, target, body, **claims)
    header = json.dumps({"typ": "codezero-page-proof+jwt", "alg": "ES256", "kid": page.id}).encode()
    yield "claims that are no JSON", page.signed(header, b"{")
    yield "claims that are a list", page.signed(header, b"[]")
    yield "claims of another encoding", page.signed(header, "{}".encode("utf-16"))
    yield "deep claims", page.signed(header, b"[" * 400)
    said = base64.urlsafe_b64decode(page.proof(method, target, body).split(".")[1] + "==")
    yield "a machine said twice", page.signed(header, b'{"aud":"' + page.machine.encode() + b'",' + said[1:])


def _changed(text: str, at: int) -> str:
    other = _CHARACTERS[(_CHARACTERS.index(text[at]) + 17) % len(_CHARACTERS)]
    return f"{text[:at]}{other}{text[at + 1 :]}"


def _other_alphabet(text: str) -> str:
    return f"+/{text[2:]}"
