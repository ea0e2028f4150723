"""An export format: a line per track with its name and its genre."""

import dataclasses
from typing import ClassVar

from tonearm.errors import UsageError
from tonearm.exports.exporter import ExportRequest, Written
from tonearm.exports.output import whole_file
from tonearm.storage.filenames import track_name


@dataclasses.dataclass(frozen=True)
class Toy:
    endings: ClassVar[tuple[str, ...]] = (".toy",)
    is_folder: ClassVar[bool] = False

    separator: str = ": "  # an option: tonearm export RUN songs.toy --option separator=,

    def __post_init__(self) -> None:
        if not self.separator:
            raise UsageError("got an empty separator, expected some text")

    def write(self, request: ExportRequest) -> Written:
        num_tracks = 0
        with whole_file(request.output) as file:
            for batch in request.batches(["uri", "genre"], only_ok=True):
                for row in batch.to_pylist():
                    file.write(f"{track_name(row['uri'])}{self.separator}{row['genre']}\n")
                num_tracks += batch.num_rows
        return Written(num_tracks, num_files=1)
