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
SECURITY = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class Observe:
    """Counts, times and logs the requests of ``app``, and gives each an id that its answer carries."""

    def __init__(self, app: ASGIApp, access_log: AccessLog) -> None:
        self.app = app
        self.access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event of ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(ID_HEADER, "")
        request_id = given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else uuid.uuid4().hex
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        seen = {"status": GONE, "num_in": 0, "num_out": 0}

        async def count_in() -> Message:
            message = await receive()
            seen["num_in"] += len(message.get("body", b""))
            return message

        async def count_out(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                if given != request_id:  # else it comes from a proxy, such as Serve's, that answers with it itself
                    headers[ID_HEADER] = request_id
                headers["content-security-policy"] = DOCS_POLICY if scope["path"] == DOCS_PATH else POLICY
                headers.update(SECURITY)
            seen["num_out"] += len(message.get("body", b""))
            await send(message)

        started = time.monotonic()
        try:
            await self.app(scope, count_in, count_out)
        except asyncio.CancelledError:
            seen["status"] = GONE  # perhaps in the middle of its answer
            raise
        except Exception:
            seen["status"] = 500  # which is answered further out
            raise
        finally:
            self._note(scope, seen, time.monotonic() - started)

    def _note(self, scope: Scope, seen: dict[str, int], elapsed_s: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        status, state = seen["status"], scope["state"]
        metrics().count(route, scope["method"], status, elapsed_s)
        client = scope.get("client")
        self.access_log.write(
            request_id=state["request_id"],
            method=scope["method"],
            route=route,
            path=scope["path"][:200] if route == "none" else None,
            status=status,
            error=state.get("error_code"),
            elapsed_ms=round(elapsed_s * 1000, 1),
            bytes_in=seen["num_in"],
            bytes_out=seen["num_out"],
            client=client[0] if client else None,
            who=state.get("who"),
        )
