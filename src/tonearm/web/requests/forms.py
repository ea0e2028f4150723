"""Uploads in forms, as ``curl -F file=@song.mp3`` and browsers send them: read as they come, the file held once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tonearm.errors import RequestError
from tonearm.web.messages import FormFields
from tonearm.web.requests.buffers import Buffer

# It says of each form that anybody sends in a bad way what the answer says already.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
MAX_PARTS = 64
MAX_FIELD_BYTES = 1024
# What a form may have besides the file's bytes.
SLACK_BYTES = 2**16


class FormReader:
    """Reads one form, whose first file goes to ``file``; other files are passed over, other fields kept.

    Args:
        check_type: raises for the content type of a file that is not taken.

    Raises:
        RequestError: malformed.
    """

    def __init__(self, content_type: str, file: Buffer, check_type: Callable[[str], None]) -> None:
        self.file = file
        self.check_type = check_type
        self.fields: dict[str, bytearray] = {}
        self.num_parts = 0
        self.has_file = False
        self.is_whole = False
        self.write_data: Callable[[memoryview], object] | None = None
        self.headers: dict[bytes, bytes] = {}
        self.name, self.value = b"", b""
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise RequestError("got a form whose content type names no boundary", code="malformed")
        try:
            self.parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._add_name,
                    "on_header_value": self._add_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._add_data,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def write(self, part: bytes) -> None:
        """Take the next part of the body.

        Raises:
            RequestError: malformed, not_audio_type, and what ``file`` raises.
        """
        try:
            self.parser.write(part)
        except FormParserError as error:
            raise _malformed(str(error)) from None

    def finish(self) -> FormFields:
        """Return the other fields.

        Raises:
            RequestError: malformed.
        """
        if not self.is_whole:
            raise _malformed("it has no end")
        if not self.has_file:
            names = ", ".join(self.fields) or "none"
            raise _malformed(
                f"it has no file (its fields: {names[:200]}), expected one as curl -F file=@song.mp3 sends"
            )
        try:
            texts = {name: value.decode() for name, value in self.fields.items() if value}
            fields = FormFields.model_validate(texts)
        except UnicodeDecodeError:
            raise _malformed("a field is not UTF-8") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise _malformed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        try:
            return fields.with_parameters()
        except ValueError as error:
            raise _malformed(str(error)) from None

    def close(self) -> None:
        """Let go of the file at once: parser and reader hold each other, which only the collector would undo."""
        self.parser.callbacks = {}
        self.write_data = None

    def _begin_part(self) -> None:
        self.num_parts += 1
        if self.num_parts > MAX_PARTS:
            raise _malformed(f"it has more than {MAX_PARTS} parts")
        self.headers, self.write_data = {}, None

    def _add_name(self, data: bytes, start: int, end: int) -> None:
        self.name += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def _end_header(self) -> None:
        self.headers[self.name.lower()] = self.value
        self.name, self.value = b"", b""

    def _end_headers(self) -> None:
        disposition = self.headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        kind = self.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        filename = options.get(b"filename")
        if not filename and b"filename*=" in disposition.lower():  # a name in UTF-8, which the parser passes over
            filename = disposition
        # Some clients give the bytes no file name; no text field has such a type.
        if filename or (filename is None and kind.startswith(("audio/", "video/", "application/octet-stream"))):
            if not self.has_file:
                self.check_type(kind)
                self.has_file, self.write_data = True, self.file.write
        elif filename is None:
            name = options.get(b"name", b"").decode("utf-8", "replace")
            if name in FormFields.model_fields:
                field = self.fields[name] = bytearray()
                self.write_data = lambda part: self._add_to_field(name, field, part)
            else:
                self.fields.setdefault(name[:40], bytearray())

    def _add_to_field(self, name: str, field: bytearray, part: memoryview) -> None:
        if len(field) + len(part) > MAX_FIELD_BYTES:
            raise _malformed(f"{name} has more than {MAX_FIELD_BYTES:,} bytes")
        field += part

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self.write_data is not None:
            self.write_data(memoryview(data)[start:end])

    def _end(self) -> None:
        self.is_whole = True


def _malformed(why: str) -> RequestError:
    return RequestError(f"got a form that cannot be read: {why}", code="malformed")
