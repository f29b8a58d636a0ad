"""What `teamspace install --hub` reads: which Hub, whom to believe that it is the Hub, and the token by which the cluster joins. The token is in no argument, value or output."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click

from codezero.model import problems
from codezero.model.problems import CodezeroError

if TYPE_CHECKING:
    from codezero.system.kubernetes.client import ApiClient

Json = dict[str, Any]

_MOST_TOKEN: Final = 500
_MOST_CA: Final = 64 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class Joining:
    """A Hub, as `--hub` and its companions say; `token` is None for a cluster that has joined before."""

    url: str
    ca: str = ""
    token: str | None = None

    def values(self, before: Json) -> Json:
        """The values, with that Hub in them."""
        known = before.get("hub")
        hub = cast("Json", known) if isinstance(known, dict) else {}
        return {**before, "hub": {**hub, "url": self.url, **({"caBundle": self.ca} if self.ca else {})}}


def read(url: str | None, ca: Path | None, token_file: str | None) -> Joining | None:
    """What the options say; None without `--hub`. Raises `CodezeroError` where they do not fit together, or a file cannot be read."""
    if url is None:
        if ca is not None or token_file is not None:
            raise CodezeroError(
                problems.BAD_REQUEST, "--hub-ca and --join-token-file say something about a Hub", fix="add --hub URL"
            )
        return None
    return Joining(url.rstrip("/"), _certificates(ca), None if token_file is None else _token(token_file))


def url_of(values: Json) -> str:
    """The Hub that values name; empty where they name none."""
    hub = values.get("hub")
    url = cast("Json", hub).get("url") if isinstance(hub, dict) else None
    return url if isinstance(url, str) else ""


async def leave(api: "ApiClient", namespace: str) -> "Leaving | None":
    """How the Teamspace in `namespace` says to its Hub that it goes, before its identity is gone; None where it belongs to none."""
    from codezero.deploy import identity, objects
    from codezero.system.kubernetes.documents import at, texts
    from codezero.system.serving.observing import find

    home = f"/api/v1/namespaces/{namespace}"
    state = identity.hub_state(await find(api, f"{home}/configmaps/{objects.POLICY}"))
    secret = await find(api, f"{home}/secrets/{objects.IDENTITY}")
    if state is None or secret is None or not state.joined:
        return None
    record = await find(api, f"{home}/configmaps/codezero-install")
    import msgspec

    try:
        values = msgspec.json.decode(texts(at(record, "data")).get("values.json", "{}"), type=Json)
    except msgspec.DecodeError:
        values = {}
    hub = values.get("hub")
    ca = cast("Json", hub).get("caBundle") if isinstance(hub, dict) else None
    return Leaving(state.url, ca if isinstance(ca, str) else "", identity.secret_content(secret))


@dataclass(frozen=True, slots=True, repr=False)
class Leaving:
    """A Teamspace that goes."""

    url: str
    ca: str
    content: dict[str, str]

    async def tell(self) -> str:
        """Tell the Hub; what became of it, a line for people. A Hub that is away keeps nobody from anything."""
        from codezero.system import joining
        from codezero.transport.hub import address_of

        try:
            await joining.leave(address_of(self.url, self.ca), self.content)
        except CodezeroError as error:
            return f"the Hub at {self.url} was not told: {error.detail}; remove the Teamspace there: czctl space remove"
        return f"the Hub at {self.url} knows that the Teamspace is gone"


def _certificates(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_CA + 1)
        text = content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not PEM"
        raise CodezeroError(problems.BAD_REQUEST, f"{file} cannot be read: {reason}") from None
    if len(content) > _MOST_CA or not text.startswith("-----BEGIN CERTIFICATE-----"):
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{file} holds no certificates in PEM",
            fix="name the authority of the Hub's certificate",
        )
    return text + "\n"


def _token(file: str) -> str:
    """The token of a file, of standard input (-), or as it is typed there."""
    if file == "-" and sys.stdin.isatty():
        text = click.prompt("Join token", hide_input=True, err=True)
    else:
        try:
            with click.open_file(file, "r", encoding="ascii", errors="strict") as opened:
                text = opened.read(_MOST_TOKEN + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no token"
            raise CodezeroError(problems.BAD_REQUEST, f"{file} cannot be read: {reason}") from None
    token = text.strip()
    if not 0 < len(token) <= _MOST_TOKEN or not token.isprintable() or " " in token:
        raise CodezeroError(
            problems.BAD_REQUEST,
            f"{'standard input' if file == '-' else file} holds no join token",
            fix="czctl space join-token NAME",
        )
    return token
