"""The GUI at the Hub: its files for anybody, because there is nothing secret in them; what it shows comes from the API, which asks who one is."""

from typing import Final, cast

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from codezero.gui.files import PREFIX, Site
from codezero.hub.pages.markup import Markup, page

_NOT_BUILT: Final = Markup(
    """<p>This installation has no GUI: it runs from a source tree in which none was built.</p>
<p><code>make gui</code> builds it; then start the Hub again.</p>
<p>Until then, <code>czctl</code> does all of it, and you can <a href="/sign-in">sign in</a> here.</p>"""
)

router = APIRouter(include_in_schema=False)


def site_of(request: Request) -> Site:
    """The GUI of the Hub that is asked."""
    return cast("Site", request.app.state.gui)


@router.get("/")
async def root() -> Response:
    """Whoever knows the Hub's name alone."""
    return Response(status_code=303, headers={"Location": PREFIX, "Cache-Control": "no-store"})


@router.get("/ui")
@router.get("/ui/{path:path}")
async def gui(request: Request) -> Response:
    """A file of the GUI, or its page."""
    site, headers = site_of(request), request.headers
    answer = site.answer(
        request.scope["path"],
        encodings=headers.get("accept-encoding", ""),
        known=headers.get("if-none-match", ""),
    )
    if answer.status == 404 and not site.is_built:
        return page("The GUI is not built", _NOT_BUILT, status=503)
    return Response(answer.body, answer.status, answer.headers)
