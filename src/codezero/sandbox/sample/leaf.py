"""`leaf`: the last hop; says who and where it is. Listens with TLS as well when a certificate is mounted."""

import ssl
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from codezero.sandbox.sample.serving import Listener, health_routes, main, plain_listener
from codezero.sandbox.sample.settings import Settings


def make(settings: Settings) -> tuple[Starlette, Sequence[Listener]]:
    """The application and where it listens."""

    async def api(_request: Request) -> JSONResponse:
        return JSONResponse({"who": "leaf", "where": settings.where})

    app = Starlette(routes=[Route("/api", api), *health_routes()])
    return app, [plain_listener(settings), *_tls_listener(settings)]


def _tls_listener(settings: Settings) -> list[Listener]:
    certificate, key = settings.tls_folder / "tls.crt", settings.tls_folder / "tls.key"
    if not certificate.exists():
        return []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return [Listener(settings.address, settings.tls_port, context)]


if __name__ == "__main__":
    main("leaf", make)
