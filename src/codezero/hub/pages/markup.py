"""HTML that is put together safely: whatever is not markup already is escaped."""

import html
from typing import Final
from urllib.parse import urlsplit

from starlette.responses import Response

STYLE_PATH: Final = "/pages/style.css"


class Markup(str):
    """Text that is HTML; only made in this package."""

    __slots__ = ()


def markup(template: str, **values: object) -> Markup:
    """`template` with `values` in it, each escaped unless it is markup itself."""
    return Markup(template.format(**{name: escaped(value) for name, value in values.items()}))


def joined(parts: "list[Markup]") -> Markup:
    """Parts one after the other."""
    return Markup("\n".join(parts))


def escaped(value: object) -> Markup:
    """A value as HTML text, good in attributes too."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def page(title: str, body: Markup, *, status: int = 200, form_to: str | None = None) -> Response:
    """A whole page. `form_to` is the one place outside of the Hub to which the answer to its form leads the browser."""
    content = markup(
        """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} · Codezero</title>
<link rel="stylesheet" href="{style}">
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
""",
        title=title,
        body=body,
        style=STYLE_PATH,
    )
    return Response(
        content,
        status,
        {
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
                f"form-action 'self'{'' if form_to is None else ' ' + _source(form_to)}"
            ),
            "Cache-Control": "no-store",
            # With `no-referrer` browsers would not say where a form comes from, either.
            "Referrer-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cross-Origin-Opener-Policy": "same-origin",
        },
        media_type="text/html",
    )


def _source(url: str) -> str:
    """How a policy names where a form's answer may lead: Chromium asks it for redirects as well. It has no way to name an IPv6 address."""
    parts = urlsplit(url)
    return f"{parts.scheme}:" if ":" in (parts.hostname or "") else f"{parts.scheme}://{parts.netloc}"
