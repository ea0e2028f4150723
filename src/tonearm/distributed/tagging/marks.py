"""Ray Data's checkpoint marks, without its filter.

Ray's own resume loads every finished id and filters the source with an actor that holds a whole CPU and at least 1 GiB.
``resume.write_todo`` has already left the finished tracks out of the source, so only marks in two phases are wanted.
Nor does Ray remove the files whose mark is still pending: it would do so before each execution, and if its run has been
displaced in the meantime, those may be the successor's. ``compaction.recover`` does so at a run's start.
"""

from __future__ import annotations

from pyarrow.fs import FileSystem
from ray.data.checkpoint import CheckpointConfig
from ray.data.checkpoint.checkpoint_filter import IdColumnCheckpointManager

from tonearm.runs.places import KEY


class MarksOnly(IdColumnCheckpointManager):
    """Filters nothing, removes nothing."""

    def load_checkpoint(
        self, data_file_dir: str | None = None, data_file_filesystem: FileSystem | None = None
    ) -> tuple[None, int]:
        return None, 0


def checkpoint_config(root: FileSystem, folder: str) -> CheckpointConfig:
    """Return the configuration for marks in ``folder`` of ``root``, kept after success so that a rerun finds them."""
    root.create_dir(folder, recursive=True)
    return CheckpointConfig(
        KEY,
        folder,
        delete_checkpoint_on_success=False,
        override_filesystem=root,
        checkpoint_manager_cls=MarksOnly,
    )
