"""Ray Data's checkpoint marks in two phases, without its filter and without its clean-up."""

from __future__ import annotations

from pyarrow.fs import FileSystem
from ray.data.checkpoint import CheckpointConfig
from ray.data.checkpoint.checkpoint_filter import IdColumnCheckpointManager

from tonearm.runs.places import KEY


class MarksOnly(IdColumnCheckpointManager):
    """Filters nothing, removes nothing."""

    # Ray's resume loads every finished id and filters the source with an actor that holds a whole CPU and at least
    # 1 GiB. ``todo.write_todo`` has already left the finished tracks out of the source.
    # Ray would also remove the files whose mark is pending, before each execution. If another run holds the lock by
    # then, they may be that run's; ``compaction.recover`` removes them at a run's start.
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
