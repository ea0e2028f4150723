"""What a file says of itself, read from its first and last bytes, as FFmpeg's own probing does with a seekable file."""

from __future__ import annotations

from typing import Any, BinaryIO

import av
import av.error

from tonearm.audio.readers.container import AudioInfo
from tonearm.audio.readers.ffmpeg import OPTIONS, audio_stream, duration_of, format_of
from tonearm.errors import DecodeError

# FFmpeg looks at the start for the format, and in Ogg at the last 64 KiB for the length; the index of an MP4 stands at
# either end, with some 10 KB a minute.
HEAD_BYTES, TAIL_BYTES = 256 * 1024, 128 * 1024


def read_header(file: BinaryIO, name: str = "") -> AudioInfo:
    """Return what the header of an open file says; nothing is decoded, and the duration is the declared one.

    Args:
        file: seekable, of the size of the whole file; the bytes between head and tail may be zeros.
        name: of the file, for the few formats that nothing else tells.

    Raises:
        DecodeError: not_audio or no_audio; corrupt where the header does not tell a duration.
    """
    try:
        container: Any = av.open(file, format=format_of(name), metadata_errors="replace", options=dict(OPTIONS))
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise DecodeError(f"no header that FFmpeg can read ({error.strerror})", code="not_audio") from None
    with container:
        stream = audio_stream(container)
        context = stream.codec_context
        duration_s = duration_of(container, stream)
        if duration_s is None:
            raise DecodeError("the header tells no duration", code="corrupt")
        return AudioInfo(duration_s, context.sample_rate or 0, context.channels, context.codec.canonical_name)
