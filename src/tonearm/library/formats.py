"""Which names are audio.

Below a folder, a prefix or a glob only names with a known audio extension are tracks; the others are counted by
extension, and so is a name without one. What a person names singly (a file, an object, a row of a table) is a track
whatever its name, unless its extension says that it is something else, such as the cover that a shell's ``*`` brings
along. Hidden names, and what operating systems and file servers leave behind, are passed over in silence.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

# Audio, and the video containers that music is often kept in, as FFmpeg's demuxers know them.
_AUDIO = """
    3g2 3ga 3gp aa aa3 aac aax ac3 ac4 adts adx aif aifc aiff alac amr ape aptx asf au avr awb caf dff dsf dss dts dtshd
    eac3 ec3 f4a f4b flac g722 g729 gsm m4a m4b m4p m4r mka mlp mogg mp1 mp2 mp3 mp4 mpa mpc mpga mpp nist oga ogg ogm
    ogx oma omg opus qcp ra ram rf64 rm shn snd sox sph spx tak thd truehd tta voc vox vqf w64 wav wave weba webm wma wv
"""
_OTHER = """
    7z accurip asd asc avif bak bmp bz2 cfg conf cue db doc docx epub ffp gif gz heic htm html ico ini jpe jpeg jpg json
    lock log lrc m3u m3u8 md md5 mid midi musicxml nfo npy npz par2 part partial pdf pkl pls png ps1 psd py rar rtf sfk
    sfv sh sha256 srt svg tar tif tiff tmp toml torrent tsv txt url vtt webp wpl xls xlsx xml xspf yaml yml zip
"""
AUDIO_EXTENSIONS = frozenset(f".{name}" for name in _AUDIO.split())
OTHER_EXTENSIONS = frozenset(f".{name}" for name in _OTHER.split())
TABLE_EXTENSIONS = (".parquet", ".csv", ".jsonl")
SYSTEM_FOLDERS = frozenset(
    {"@eaDir", "__MACOSX", "$RECYCLE.BIN", "#recycle", "System Volume Information", "lost+found"}
)


def extension_of(name: str) -> str:
    """Return the extension in lower case with its dot, ``""`` without one."""
    return posixpath.splitext(name)[1].lower()


def is_table(name: str) -> bool:
    """Return whether a name is that of a table of URIs."""
    return extension_of(name) in TABLE_EXTENSIONS


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is passed over: ``.git``, ``._a.mp3``, ``@eaDir``."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def has_hidden(parts: Sequence[str]) -> bool:
    """Return whether any part of a path is hidden."""
    return any(is_hidden(part) for part in parts)
