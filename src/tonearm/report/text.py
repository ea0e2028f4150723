"""How the report says numbers, and what it says of each error code."""

from __future__ import annotations

# error code → what happened, what to do about it
ADVICE: dict[str, tuple[str, str]] = {
    "not_found": (
        "The object was listed, but was gone when it was read.",
        "Nothing, if it was deleted on purpose; otherwise restore it and run again.",
    ),
    "access_denied": (
        "The store refused to give the bytes to these credentials.",
        "Allow the credentials to read these objects, then run `tonearm tag --retry-errors` with the same sources.",
    ),
    "fetch_failed": (
        "The store kept failing through all retries.",
        "Run `tonearm tag --retry-errors` when the store is well; raise fetch.num_attempts if it happens often.",
    ),
    "fetch_timeout": (
        "Reading the object took longer than fetch.timeout_s.",
        "Run `tonearm tag --retry-errors` from nearer to the store or with a higher fetch.timeout_s.",
    ),
    "too_large": (
        "The object has more bytes than fetch.max_bytes.",
        "Raise fetch.max_bytes if such files belong here.",
    ),
    "changed": (
        "The object changed between listing and reading.",
        "Run again: it is listed as the new version that it is.",
    ),
    "empty_file": ("The file has no bytes.", "Copy it again from where it came from, or delete it."),
    "not_audio": (
        "No container or codec that FFmpeg knows, whatever the extension says.",
        "Look at the file: it may be a text, a picture or a broken download.",
    ),
    "no_audio": ("A media file without a stream of audio.", "Nothing: there is nothing to hear in it."),
    "corrupt": (
        "It has a stream of audio, from which not one sample could be decoded.",
        "Copy or encode the file again; ffmpeg -v error -i FILE -f null - says where it breaks.",
    ),
    "too_short": (
        "It decodes, but to less than one frame of the model.",
        "Nothing: it is too short to have a genre.",
    ),
    "too_long": (
        "The track is longer than a server takes.",
        "Raise serve.max_duration_s.",
    ),
    "decode_timeout": (
        "Decoding took longer than decode.timeout_s and was ended.",
        "Raise decode.timeout_s if the file is sound and merely long.",
    ),
    "decode_crashed": (
        "The native decoder crashed; its process was replaced and the other tracks went on.",
        "Encode the file again; keep a copy, since such files are worth reporting to the decoder's authors.",
    ),
    "decode_memory": (
        "Decoding asked for more memory than decode.max_memory_bytes and was ended.",
        "Raise decode.max_memory_bytes if the file is sound and the machine has the memory.",
    ),
    "score_failed": (
        "The model could not score the track's windows.",
        "See the message; run `tonearm tag --retry-errors`, with precision fp32 if it speaks of numbers.",
    ),
}
NO_ADVICE = ("A failure that this version of the report does not know.", "See the message of each track.")


def number(value: float) -> str:
    """Return a count with thousands separated."""
    return f"{value:,.0f}"


def share(part: float, whole: float) -> str:
    """Return ``part`` of ``whole`` in percent, ``< 0.1 %`` rather than a zero that is none."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "< 0.1 %"
    if part < whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %"


def clock(seconds: float | None) -> str:
    """Return a length of time as ``M:SS`` or ``H:MM:SS``."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def amount(seconds: float) -> str:
    """Return an amount of audio: ``45 s``, ``12.5 min``, ``3.2 h``, ``1,204 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360_000 else f"{seconds / 3600:,.0f} h"


def size(num_bytes: float) -> str:
    """Return bytes in decimal units, as stores bill them."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" or num_bytes >= 100 else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:,.1f} PB"


def khz(sample_rate: int) -> str:
    """Return a rate in Hz as kHz, ``–`` when it is not known."""
    return f"{sample_rate / 1000:g} kHz" if sample_rate else "–"
