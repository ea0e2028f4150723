"""What the OpenAPI document says beyond what FastAPI reads from the routes: bodies that are read by hand, and HEAD."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tonearm.web import messages

PACKED = "It may be packed: `Content-Encoding: gzip` or `deflate`."
BINARY = {"type": "string", "format": "binary"}


def _form() -> dict[str, Any]:
    schema = messages.FormFields.model_json_schema()
    file = {**BINARY, "description": "The first field with a file name, whatever its name."}
    return {"type": "object", "required": ["file"], "properties": {"file": file, **schema["properties"]}}


AUDIO_CONTENT: dict[str, Any] = {
    "application/octet-stream": {"schema": BINARY},
    "audio/*": {"schema": BINARY},
    "multipart/form-data": {"schema": _form()},
}
AUDIO_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"A file's bytes, in any format that FFmpeg reads, or a form with a file. {PACKED}",
        "content": AUDIO_CONTENT,
    },
}
CLASSIFY_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": f"A file's bytes, in any format that FFmpeg reads, a form with a file, or base64. {PACKED}",
        "content": {
            **AUDIO_CONTENT,
            "application/json": {"schema": messages.ClassifyRequest.model_json_schema()},
        },
    },
}
BULK_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": PACKED,
        "content": {"application/json": {"schema": messages.BulkRequest.model_json_schema()}},
    }
}


def described(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the document that ``make`` gives, with ``HEAD`` beside each ``GET``, which the server answers alike."""
    document = make()
    for operations in document["paths"].values():
        if "get" in operations and "head" not in operations:
            head = copy.deepcopy(operations["get"])
            # Generated clients make a function of each, so no two may be alike.
            head["operationId"] = f"{head['operationId'].removesuffix('_get')}_head"
            head["summary"] = f"{head['summary']}, without its body"
            for response in head["responses"].values():
                response.pop("content", None)
            operations["head"] = head
    return document
