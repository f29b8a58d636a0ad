"""What answers here: the one thing that is told to strangers."""

from codezero import __version__
from codezero.hub.api import operations
from codezero.hub.api.permissions import Need, TheHub, needs
from codezero.hub.api.shapes import Told

routes = operations.router("version")


class Version(Told):
    """A Hub, and its release."""

    product: str
    release: str
    url: str


@routes.get("/version", openapi_extra=needs(Need.NOTHING))
async def version(hub: TheHub) -> Version:
    """What answers here, and its release."""
    return Version(product="codezero-hub", release=__version__, url=hub.public_url)
