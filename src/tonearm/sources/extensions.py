"""Which names are audio.

Below a folder, a prefix or a glob only names with a known audio extension are tracks; the others are counted by
extension, and so is a name without one. What a person names singly (a file, an object, a row of a table) is a track
whatever its name, unless its extension says that it is something else, such as the cover that a shell's ``*`` brings
along. A dot in front hides nothing: `...Baby One More Time.mp3` is music. What operating systems, file servers and
version control write for themselves is counted and not looked into.
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
_SYSTEM_NAMES = (
    # Synology, macOS' zip, Windows, Linux; QNAP, NetApp and ZFS
    *("@eaDir", "#recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN", "RECYCLER", "System Volume Information"),
    *("lost+found", "@Recycle", "@Recently-Snapshot", ".@__thumb", ".@__qini", ".snapshot", ".snapshots", ".zfs"),
    # macOS, netatalk
    *(
        ".DS_Store",
        ".Trashes",
        ".Trash",
        ".Spotlight-V100",
        ".fseventsd",
        ".TemporaryItems",
        ".apdisk",
        ".VolumeIcon.icns",
    ),
    *(
        ".DocumentRevisions-V100",
        ".MobileBackups",
        ".AppleDouble",
        ".AppleDB",
        ".AppleDesktop",
        ".com.apple.timemachine.donotpresent",
    ),
    # desktops, version control, programs that keep folders the same
    *(
        ".thumbnails",
        ".directory",
        ".cache",
        ".git",
        ".hg",
        ".svn",
        ".bzr",
        ".dvc",
        ".ipynb_checkpoints",
        "__pycache__",
    ),
    *(
        ".stfolder",
        ".stversions",
        ".dropbox",
        ".dropbox.cache",
        ".sync",
        ".SyncArchive",
        ".rsync-partial",
        ".owncloudsync",
    ),
)
SYSTEM_NAMES = frozenset(name.casefold() for name in _SYSTEM_NAMES)
# macOS keeps what other file systems cannot in `._NAME` beside each file, the trash of user 1000 is `.Trash-1000`, and
# NFS renames what is deleted while it is open.
SYSTEM_BEGINNINGS = ("._", ".trash-", ".nfs0", ".fuse_hidden")
SYSTEM = "(written by a system)"


def extension_of(name: str) -> str:
    """Return the extension in lower case with its dot, ``""`` without one."""
    return posixpath.splitext(name)[1].lower()


def is_table(name: str) -> bool:
    """Return whether a name is that of a table of URIs."""
    return extension_of(name) in TABLE_EXTENSIONS


def is_system(name: str) -> bool:
    """Return whether a system has written a file or folder of this name: ``._a.mp3``, ``.DS_Store``, ``@eaDir``."""
    folded = name.casefold()
    return folded in SYSTEM_NAMES or folded.startswith(SYSTEM_BEGINNINGS)


def is_below_system(parts: Sequence[str]) -> bool:
    """Return whether a system has written any part of a path."""
    return any(is_system(part) for part in parts)
