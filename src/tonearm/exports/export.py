"""``tonearm export``: the rows of a destination in the forms that other programs read.

One row for each listed track, streamed batch by batch; a file appears whole or not at all, locally and on object
storage alike. CSV and JSON Lines hold every track, the failed ones too; labels and playlists only those that are ok.
"""

from __future__ import annotations

import dataclasses
import difflib
import posixpath
from collections.abc import Callable

from tonearm.errors import UsageError
from tonearm.exports.audacity import write_labels
from tonearm.exports.csv_and_json import write_csv, write_jsonl
from tonearm.exports.embeddings import write_embeddings
from tonearm.exports.m3u import write_playlists
from tonearm.exports.output import ExportRequest, check_output
from tonearm.heads import PUBLISHED
from tonearm.runs.rows import track_rows
from tonearm.wording import counted

WRITERS: dict[str, Callable[[ExportRequest], tuple[int, int]]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "audacity": write_labels,
    "m3u": write_playlists,
    "embeddings": write_embeddings,
}
ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "embeddings"}
FOLDER_KINDS = ("audacity", "m3u")


@dataclasses.dataclass(frozen=True)
class ExportCounts:
    """What one export wrote: ``num_tracks`` tracks into ``num_files`` files at ``output``.

    Attributes:
        num_unlisted: tracks that were left out because they are no longer listed.
    """

    kind: str
    output: str
    num_tracks: int
    num_files: int
    num_unlisted: int = 0


def kind_of(output: str) -> str:
    """Return the kind that an output's ending stands for.

    Raises:
        UsageError: it stands for none.
    """
    ending = posixpath.splitext(output)[1].lower()
    if ending not in ENDINGS:
        raise UsageError(
            f"got {output}, whose ending is that of no export ({', '.join(ENDINGS)}); "
            f"give --format, one of {', '.join(WRITERS)}"
        )
    return ENDINGS[ending]


def export(
    destination: str,
    kind: str,
    output: str,
    *,
    by: str = "genre",
    min_score: float | None = None,
    include_embeddings: bool = False,
    dim: int | None = None,
    all_versions: bool = False,
    overwrite: bool = False,
) -> ExportCounts:
    """Write the tracks of ``destination`` to ``output`` as ``kind``.

    Args:
        kind: ``csv`` (one line a track, best tags joined as ``label:score; ...``), ``jsonl`` (whole rows),
            ``audacity`` (a folder with one label file a track), ``m3u`` (a folder with one playlist a genre or tag) or
            ``embeddings`` (Parquet, a row a track).
        output: a path or object-store URL; a folder for ``audacity`` and ``m3u``.
        by: what a playlist is of; for ``m3u``: ``genre``, ``tag`` or the name of another head.
        min_score: leave out tags (and, for playlists by genre, tracks) that score less; without it 0.5 for the tags of
            ``audacity`` and ``m3u``, and 0 for everything else.
        include_embeddings: for ``jsonl``.
        dim: for ``embeddings``: project them to so many numbers by PCA fitted on these tracks.
        all_versions: also tracks that are no longer listed: deleted and renamed files, and changed ones as they were.
        overwrite: replace what is there; other files of a folder stay.

    Raises:
        UsageError: an unknown kind or ``by``, or a score out of range.
        DestinationError: no tracks, or the output is taken or cannot be written.
    """
    if kind not in WRITERS:
        near = difflib.get_close_matches(kind, WRITERS, n=1)
        advice = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"got export kind {kind!r}; {advice}expected one of {', '.join(WRITERS)}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"got a minimum score of {min_score:g}, expected one between 0 and 1")
    if dim is not None and kind != "embeddings":
        raise UsageError(
            f"got a projection to {counted(dim, 'number')} for {kind}, which has none; it goes with embeddings"
        )
    check_output(output, is_folder=kind in FOLDER_KINDS, overwrite=overwrite)
    rows = track_rows.listed_rows(destination, unlisted=all_versions)
    others = [head.name for head in rows.heads if head.activation != "embedding"]
    if by not in (known := [*(head.prefix for head in PUBLISHED.values()), *others]):
        raise UsageError(f"got by = {by!r}, expected {' or '.join(map(repr, known))}")
    request = ExportRequest(destination, output, by, min_score, include_embeddings, dim, rows)
    return ExportCounts(kind, output, *WRITERS[kind](request), rows.num_unlisted)
