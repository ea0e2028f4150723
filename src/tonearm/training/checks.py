"""Checks of a collection before a model is trained on it: errors that stop the training, and notes for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tonearm.errors import SourceError, TooManyFailures, TrackError
from tonearm.settings import LabelSettings
from tonearm.training.data.collection import ClipId, Collection, place_of
from tonearm.training.data.splits import Split, straddling_groups
from tonearm.wording import counted

NUM_NAMED = 3


def check_broken(collection: Collection, errors: Mapping[ClipId, TrackError], max_error_rate: float) -> list[str]:
    """Return a line that names the clips which could not be decoded.

    Raises:
        TooManyFailures: there are too many.
    """
    if not errors:
        return []
    lines = [f"{place_of(collection.clips[clip])}: {error.message} ({error.code})" for clip, error in errors.items()]
    if len(lines) / len(collection.clips) > max_error_rate:
        raise TooManyFailures(
            f"{len(lines)} of {counted(len(collection.clips), 'clip')} cannot be used (the first: {lines[0]}), more "
            f"than max_error_rate {max_error_rate:g} allows; repair them or allow more"
        )
    more = f", and {len(lines) - NUM_NAMED} more" if len(lines) > NUM_NAMED else ""
    return [f"left out, cannot be decoded: {'; '.join(lines[:NUM_NAMED])}{more}"]


def describe_straddling(collection: Collection, split: Split, settings: LabelSettings) -> list[str]:
    """Return a line about groups that a given split divides."""
    straddling = straddling_groups(collection.clips, split)
    if not straddling:
        return []
    named = ", ".join(straddling[:NUM_NAMED]) + (" ..." if len(straddling) > NUM_NAMED else "")
    stand = counted(len(straddling), "group", f"by {settings.group_by} stands", f"by {settings.group_by} stand")
    return [f"{stand} on both sides of the given split ({named})"]


def check_classes(collection: Collection, split: Split, labels: Sequence[str]) -> list[str]:
    """Return lines about labels that a side has no clip of.

    Raises:
        SourceError: there is nothing to learn from, or a class that none is learnt from.
    """
    clips, is_multi = collection.clips, collection.is_multi
    counts = Counter(label for clip in split.train for label in clips[clip].labels or ())
    absent = [label for label in labels if not counts[label]]
    if not split.train:
        raise SourceError("no clip is left to learn from; see what was left out above, or change the split")
    # One of several tags may be missing; a class without a clip can never be predicted.
    if absent and not is_multi:
        raise SourceError(
            f"no clip to learn from has the label {', '.join(absent[:NUM_NAMED])}; add some, or change the split"
        )
    notes = [f"no clip to learn from has the tag {', '.join(absent[:NUM_NAMED])}"] if absent else []
    for name, of_side in () if is_multi else split.sides().items():
        seen = {label for clip in of_side for label in clips[clip].labels or ()}
        absent = [label for label in labels if label not in seen]
        if absent:
            more = f" ... ({len(absent)} of {counted(len(labels), 'label')})" if len(absent) > NUM_NAMED else ""
            notes.append(f"no clip of {name} has the label {', '.join(absent[:NUM_NAMED])}{more}")
    return notes
