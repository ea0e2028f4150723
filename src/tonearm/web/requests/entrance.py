"""What every request passes before the routes: where a proxy has the server, whose page asks, HEAD, and bugs."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tonearm.errors import RequestError, TonearmError
from tonearm.web.error_responses import error_response
from tonearm.web.request_log import DOCS_PATH, route_path
from tonearm.web.requests.admission import Gate

PAGES = ("/", DOCS_PATH)
PAGE_FILES = "/page/"
# What a browser's script may send and read of another origin's server.
CORS: dict[str, Any] = {
    "allow_methods": ["GET", "HEAD", "POST", "OPTIONS"],
    "allow_headers": ["Authorization", "X-API-Key", "Content-Type", "Content-Encoding", "X-Request-ID"],
    "expose_headers": ["X-Request-ID", "Retry-After", "Allow", "Accept-Encoding"],
    "max_age": 3600,
    "allow_private_network": True,
}


class RootPath:
    """Gives ``app`` the path as a client has it, with ``root_path`` before it, whether or not a proxy cut that off.

    Mounts find their files only in such paths.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path.removesuffix("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of ASGI."""
        root = self.root_path
        if root and scope["type"] == "http":
            path = scope["path"]
            # The page's relative links would lead beside it without the slash.
            if path == root:
                path = f"{root}/"
            scope = {**scope, "root_path": root, "path": path if path.startswith(f"{root}/") else root + path}
        await self.app(scope, receive, send)


class Entrance:
    """Refuses what no route should see, answers ``HEAD`` as ``GET`` without its body, and answers for bugs."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self.app = app
        self.gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, is_head, has_begun = Request(scope), scope["method"] == "HEAD", False

        async def answer(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send({**message, "body": b""} if is_head and message["type"] == "http.response.body" else message)

        try:
            self._check(request)
            if is_head:
                scope["method"] = "GET"  # the scope is this request's own: ``Observe`` has copied it
            await self.app(scope, receive, answer)
        except RequestError as error:
            await error_response(request, error)(scope, receive, answer)
        # No answer would reach it; the request log has it as 499.
        except ClientDisconnect:
            raise
        except Exception as error:  # the HTTP boundary: a bug in one request is that request's answer
            logging.getLogger("tonearm").error("a bug while answering %s", scope["path"], exc_info=error)
            # A second answer cannot follow the first; cut off, the client sees that it is not whole.
            if has_begun:
                raise
            bug = error_response(request, TonearmError("Internal Server Error", code="internal"))
            await bug(scope, receive, answer)

    def _check(self, request: Request) -> None:
        # A proxy and this server might each believe another one of them.
        if len(request.headers.getlist("host")) > 1:
            raise RequestError("got several Host headers, expected one", code="malformed")
        path = route_path(request.scope)
        self.gate.check_origin(request, is_page=path in PAGES or path.startswith(PAGE_FILES))


class Cors(CORSMiddleware):
    """Starlette's, whose refusal of a preflight has the form that all errors have."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        super().__init__(app, allow_origins=sorted(gate.allowed_origins), **CORS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of ASGI."""
        if scope["type"] == "http" and scope["method"] == "OPTIONS":
            headers = Headers(scope=scope)
            if "origin" in headers and "access-control-request-method" in headers:
                await self._preflight(Request(scope), headers)(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    def _preflight(self, request: Request, headers: Headers) -> Response:
        answer = self.preflight_response(headers)
        if answer.status_code == 200:
            return answer
        if self.is_allowed_origin(headers["origin"]):
            expected = " and ".join(", ".join(CORS[name]) for name in ("allow_methods", "allow_headers"))
            message = f"a browser asked whether it may send what no route takes, expected {expected} at most"
            error = RequestError(message, code="malformed")
        else:
            error = RequestError(f"got a request of the page {headers['origin'][:100]!r}", code="foreign_origin")
        refusal = error_response(request, error)
        refusal.headers["Vary"] = answer.headers["Vary"]
        return refusal
