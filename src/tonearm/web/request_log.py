"""Around every request: an id, its metrics, its line in the log."""

from __future__ import annotations

import asyncio
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tonearm.web.telemetry import AccessLog, metrics

ID_HEADER = "x-request-id"
# What nginx calls it: the client has gone before its answer.
GONE = 499
DOCS_PATH = "/docs"
# The page plays and draws the file that the person has chosen, and loads nothing from elsewhere.
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
)
DOCS_POLICY = f"{POLICY}; script-src 'self' 'unsafe-inline'"  # Swagger's start is written into its page
# Where a proxy has the server, its page names that path as its own.
BASE_POLICY = POLICY.replace("base-uri 'none'", "base-uri 'self'")
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


def route_path(scope: Scope) -> str:
    """Return a request's path as the routes have it, without what a proxy has before it."""
    path, root = scope["path"], scope.get("root_path", "")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path


class Observe:
    """Counts, times and logs the requests of ``app``, and gives each an id that its answer carries.

    Args:
        sends_ids: False where what is around it, such as Ray Serve's proxy, answers with each id that it passes on.
    """

    def __init__(self, app: ASGIApp, access_log: AccessLog, *, sends_ids: bool = True) -> None:
        self.app = app
        self.access_log = access_log
        self.sends_ids = sends_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = {**scope, "state": dict(scope.get("state", {}))}  # what is written there is this request's alone
        given = Headers(scope=scope).get(ID_HEADER, "")
        # It goes into the log and the answer, so a client's own may be neither long nor of odd characters.
        request_id = given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else uuid.uuid4().hex
        scope["state"]["request_id"] = request_id
        method = scope["method"]
        seen = {"status": GONE, "num_in": 0, "num_out": 0}

        async def count_in() -> Message:
            message = await receive()
            seen["num_in"] += len(message.get("body", b""))
            return message

        async def count_out(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                if self.sends_ids or given != request_id:
                    headers[ID_HEADER] = request_id
                headers["content-security-policy"] = _policy(scope)
                headers.update(SECURITY)
            seen["num_out"] += len(message.get("body", b""))
            await send(message)

        started = time.monotonic()
        status = 500  # of a bug, which is answered further out
        try:
            await self.app(scope, count_in, count_out)
            status = seen["status"]
        except asyncio.CancelledError:
            status = GONE  # perhaps in the middle of its answer
            raise
        finally:
            self._note(scope, method, {**seen, "status": status}, time.monotonic() - started)

    def _note(self, scope: Scope, method: str, seen: dict[str, int], elapsed_s: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        status, state = seen["status"], scope["state"]
        metrics().count(route, method, status, elapsed_s)
        client = scope.get("client")
        self.access_log.write(
            request_id=state["request_id"],
            method=method,
            route=route,
            # Of a known route the path says no more than the route.
            path=scope["path"][:200] if route == "none" else None,
            status=status,
            error=state.get("error_code"),
            elapsed_ms=round(elapsed_s * 1000, 1),
            bytes_in=seen["num_in"],
            bytes_out=seen["num_out"],
            client=client[0] if client else None,
            who=state.get("who"),
        )


def _policy(scope: Scope) -> str:
    path = route_path(scope)
    if path == DOCS_PATH:
        return DOCS_POLICY
    return BASE_POLICY if path == "/" and scope.get("root_path") else POLICY
