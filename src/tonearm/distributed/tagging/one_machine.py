"""Executions of Ray Data on one machine, without the processes that only clusters need.

Ray Data starts three actors of its own beside those that compute: one for the figures of a dashboard, one that asks an
autoscaler for nodes and lets nothing run before its first answer, and one that knows which actor is on which machine.
Together they take six core-seconds to start. Before it reads Parquet it waits for a worker that looks into the files,
to guess how large their rows become in memory; those of a manifest are small. As in ``cluster.fewer_processes``,
private names are replaced, and nothing depends on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import ray
from ray.data._internal.cluster_autoscaler import ClusterAutoscaler
from ray.data._internal.datasource import parquet_datasource
from ray.data._internal.execution import streaming_executor
from ray.data._internal.execution.interfaces import ExecutionResources
from ray.data._internal.execution.operators import actor_pool_map_operator
from ray.data._internal.stats import _StatsManager

from tonearm.distributed.cluster.fewer_processes import replaced


@contextlib.contextmanager
def executing() -> Iterator[None]:
    """Have executions start no actors but those that compute; the Ray that is joined must be one machine."""
    resources: dict[str, float] = ray.cluster_resources()
    with (
        replaced(_StatsManager, "update_execution_metrics", staticmethod(_ignore)),
        replaced(_StatsManager, "update_iteration_metrics", staticmethod(_ignore)),
        replaced(_StatsManager, "register_dataset_to_stats_actor", staticmethod(_ignore)),
        replaced(streaming_executor, "create_cluster_autoscaler", lambda *_, **__: _FixedSize(resources)),
        replaced(actor_pool_map_operator, "get_or_create_actor_location_tracker", _NoTracker),
        replaced(actor_pool_map_operator, "get_actor_locations", lambda _: {}),
        replaced(parquet_datasource, "_fetch_file_infos", lambda fragments, **_: [None for _ in fragments]),
    ):
        yield


class _FixedSize(ClusterAutoscaler):  # type: ignore[misc]  # of an untyped module
    """What an execution asks for nodes, and how much there is to compute on: what there is already."""

    def __init__(self, resources: dict[str, float]) -> None:
        self.resources = ExecutionResources.from_resource_dict(resources)

    def try_trigger_scaling(self) -> None:
        """Do nothing."""

    def on_executor_shutdown(self) -> None:
        """Do nothing."""

    def get_total_resources(self) -> ExecutionResources:
        """Return what the machine has."""
        return self.resources


def _ignore(*_: object, **__: object) -> None:
    pass


class _NoTracker:
    """Takes the place of the handle of Ray Data's ``ActorLocationTracker``; travels to workers, which call it."""

    class update_actor_location:  # as Ray names the method
        """A method that is called for nothing."""

        remote = staticmethod(_ignore)
