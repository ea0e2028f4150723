"""Errors as answers: one JSON form for all of them, and one place that knows which status and hint each has."""

from __future__ import annotations

import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tonearm import error_codes
from tonearm.errors import RequestError, TonearmError, causes
from tonearm.storage.content_coding import supported
from tonearm.web.messages import ErrorBody
from tonearm.web.requests.admission import retry_after

TRACK_HINTS = {code: entry.hint for code, entry in error_codes.TRACK.items() if entry.hint is not None}
MEANINGS = {
    400: "Malformed request",
    401: "No known API key",
    403: "Asked by the page of another site",
    404: "Unknown route or model",
    408: "The body, or decoding it, took too long",
    413: "The body, or the audio in it, is too large",
    415: "Not audio, or a content coding that is not known",
    422: "Audio that is too short or damaged",
    429: "Too many requests",
    431: "Header lines that are too many or too long",
    500: "A bug",
    503: "Full, starting or stopping",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of these statuses."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        responses[status] = {"model": ErrorBody, "description": MEANINGS[status]}
        if status in (429, 503):
            responses[status]["headers"] = {
                "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}
            }
    return responses


def error_response(request: Request, error: TonearmError) -> JSONResponse:
    """Return the answer that says why a request failed."""
    hint = error.hint if isinstance(error, RequestError) else TRACK_HINTS.get(error.code, "try again later")
    _forget_frames(error)
    headers = {}
    if error.code == "unknown_coding":
        headers["Accept-Encoding"] = ", ".join(supported())
    if error.http_status in (429, 503):
        seconds = getattr(error, "retry_after_s", None)
        headers["Retry-After"] = retry_after(5.0 if seconds is None else seconds)
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = ErrorBody(error=error.message, code=error.code, hint=hint, request_id=request.state.request_id)
    request.state.error_code = error.code
    return JSONResponse(body.model_dump(), error.http_status, headers)


def add_handlers(app: FastAPI) -> None:
    """Have every error of ``app`` answered in the one form."""

    @app.exception_handler(TonearmError)
    async def known(request: Request, error: TonearmError) -> JSONResponse:
        return error_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        # The first only: the form of errors has one message.
        where = ".".join(map(str, first["loc"]))
        return error_response(request, RequestError(f"{where}: {first['msg']}", code="malformed"))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "no_route", 405: "no_method"}.get(error.status_code, "malformed")
        # It is anybody's text, and may hold what steers a terminal that shows the answer.
        path = request.scope["path"].encode("unicode_escape").decode()[:200]
        answer = error_response(request, RequestError(f"{request.method} {path}: {error.detail}", code=code))
        answer.status_code = error.status_code
        answer.headers.update(error.headers or {})
        if error.status_code == 405:
            allowed = answer.headers.get("allow", "GET").split(", ")  # StaticFiles names none
            answer.headers["Allow"] = ", ".join([*allowed, "HEAD"] if allowed == ["GET"] else allowed)
        return answer


def _forget_frames(error: BaseException) -> None:
    """Let go of what the frames that an error has passed still hold: uploads, while a slow client reads why."""
    for cause in causes(error):
        traceback.clear_frames(cause.__traceback__)
