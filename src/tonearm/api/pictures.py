"""What a track sounds like, as pictures, and what the heads say of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Unpack

from tonearm.api import flags as flags_
from tonearm.api.flags import ModelFlags, Source, place_of
from tonearm.audio import plots
from tonearm.audio.decode import DecodedTrack, DecodeRequest
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.audio.windows import WindowPlan
from tonearm.errors import DestinationError
from tonearm.heads import PUBLISHED
from tonearm.runs.rows.telling_tags import weight
from tonearm.settings import TagSettings
from tonearm.sources.listing import list_tracks
from tonearm.sources.reader import ObjectReader
from tonearm.storage.filenames import file_name, track_name
from tonearm.tagging import Tagger, tag_bytes, window_row

# Pictures of more say less, and three hours at 96 kHz would take gigabytes.
MAX_SHOWN_S = 600.0


@dataclasses.dataclass(frozen=True)
class Pictures:
    """What was drawn.

    Attributes:
        duration_s, shown_s: of the track, and of what the pictures show: all of it, or its middle.
    """

    paths: tuple[Path, ...]
    duration_s: float
    shown_s: float


def plot(source: Source, *, out: Source = "", timeline: bool = False, **flags: Unpack[ModelFlags]) -> Pictures:
    """Write pictures of one track: waveform, spectrum, spectrogram and mel spectrogram as PNG.

    Args:
        source: a path or URL.
        out: a folder; the current one by default.
        timeline: also score the track and draw its timeline.
        flags: the heads for that; see ``api.flags.ModelFlags``.

    Raises:
        SourceError: there is no such track.
        TrackError: it cannot be read, decoded or scored.
        DestinationError: the folder cannot be written.
    """
    settings, folder = flags_.tag_settings(flags, ModelFlags, verb="plot"), Path(out)
    ref = next(list_tracks([place_of(source, "the file")], limit=1))
    data = ObjectReader(settings.fetch).read(ref)
    stem = file_name(track_name(ref.uri))
    with DecodeSandbox(settings.decode) as sandbox:
        excerpt = _excerpt(data, ref.uri, sandbox)
        info, stream = excerpt.info, excerpt.streams[0]
        start, stop = stream.spans[0][0], stream.spans[-1][1]
        name = " – ".join(part for part in (info.artist, info.title) if part) or stem
        title = f"{name}   ({info.codec}, {info.sample_rate / 1000:g} kHz, {info.channels} ch, {info.duration_s:.1f} s)"
        waveform = stream.window(start, stop - start)
        shown_s = MAX_SHOWN_S if len(waveform) < stream.num_samples else info.duration_s
        try:
            paths = plots.write_pictures(
                waveform, stream.sample_rate, folder, stem, title=title, start_s=start / stream.sample_rate
            )
            if timeline:
                windows, tags = _timeline(data, ref.uri, sandbox, settings)
                paths.append(plots.write_timeline(windows, tags, folder, stem, title=title))
        except OSError as error:
            reason = error.strerror or error
            raise DestinationError(f"{folder} cannot be written ({reason}); give another --out") from None
    return Pictures(tuple(paths), info.duration_s, shown_s)


def _excerpt(data: bytes, uri: str, sandbox: DecodeSandbox) -> DecodedTrack:
    """Return the track, or its middle, at its own rate."""
    short = WindowPlan(16000, 16000, 16000, 1, 1)
    native = sandbox.decode(data, DecodeRequest((short,), 1.0), uri).info.sample_rate
    plan = WindowPlan(native, int(MAX_SHOWN_S * native), int(MAX_SHOWN_S * native), 1, 1)
    return sandbox.decode(data, DecodeRequest((plan,), MAX_SHOWN_S), uri)


def _timeline(
    data: bytes, uri: str, sandbox: DecodeSandbox, settings: TagSettings
) -> tuple[list[dict[str, Any]], list[str]]:
    # A row keeps the best few tags of a window; a picture has room for more, but not for other heads.
    models = dataclasses.replace(settings.models, top_window_tags=settings.models.top_tags, heads={})
    fallback = {name: asked for name, asked in settings.fallback.items() if name in PUBLISHED}
    max_scored_s = settings.decode.max_scored_s
    tagger = Tagger.load(models, max_windows=settings.max_windows, max_scored_s=max_scored_s, fallback=fallback)
    result = tag_bytes(data, sandbox, tagger, uri, max_scored_s=max_scored_s)
    scored = result.tags.tags if result.tags is not None else ()
    tags = [tag.label for tag in sorted(scored, key=lambda tag: -tag.score * weight(tag.label))]
    return [window_row(entry) for entry in result.timeline], tags
