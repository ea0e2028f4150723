"""The graph of Ray Data operators that tags and evaluates; imported inside a session, see ``session.session``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import pyarrow as pa
import ray
import ray.data
from ray import ObjectRef

from tonearm.distributed.tagging import one_machine
from tonearm.distributed.tagging.counters import RunCounters
from tonearm.distributed.tagging.marks import checkpoint_config
from tonearm.distributed.tagging.run import Run, run_facts
from tonearm.distributed.tagging.stages import ScoreTracks, ScoreWindows, TracksSink, decode_tracks
from tonearm.models.openvino import cache
from tonearm.planning.layout import Layout
from tonearm.runs.todo import TodoPart
from tonearm.settings import TagSettings
from tonearm.tagging import RunFacts, TagPlan


@dataclasses.dataclass(frozen=True)
class Operators:
    """What the operators of a run are made with.

    Attributes:
        plan: settled for the workers of ``layout``.
        quantized: models that a scoring worker's machine may not have, see ``stages.ScoreTracks``.
    """

    plan: TagPlan
    settings: TagSettings
    layout: Layout
    counters: RunCounters
    quantized: Mapping[str, ObjectRef[dict[str, bytes]]]

    @classmethod
    def of(cls, plan: TagPlan, settings: TagSettings, layout: Layout, counters: RunCounters) -> Operators:
        """Return them with what this machine has made for the others."""
        return cls(plan, settings, layout, counters, quantized_models(plan, layout))

    def score(self, listed: ray.data.Dataset, scorer: type[ScoreTracks], facts: RunFacts) -> ray.data.Dataset:
        """Return the data set of the rows that ``scorer`` makes of the listed tracks, one row per track.

        Args:
            listed: a data set of manifest rows, its blocks as large as files are to be.
        """
        decoded = listed.map_batches(
            decode_tracks,  # type: ignore[arg-type]  # of tables, and Ray's type says a table or any other batch
            fn_kwargs={
                "request": self.plan.decode_request(),
                "fetch": self.settings.fetch,
                "decode": self.settings.decode,
                "counters": self.counters,
            },
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=1,
        )
        # Blocks as they come, on a GPU too: map_batches demands a number of rows there, and would wait for as many.
        scored: ray.data.Dataset = decoded.map_batches_internal(
            scorer,
            fn_constructor_kwargs={
                "plan": self.plan,
                "facts": facts,
                "num_threads": self.layout.scorer_threads,
                "counters": self.counters,
                **({"quantized": self.quantized} if self.quantized else {}),
            },
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
            num_cpus=self.layout.scorer_cpus,
            num_gpus=self.layout.scorer_gpus or None,
            compute=ray.data.ActorPoolStrategy(size=self.layout.num_scorers),
        )
        return scored


def quantized_models(plan: TagPlan, layout: Layout) -> dict[str, ObjectRef[dict[str, bytes]]]:
    """Return the quantized models that this machine has made, where scoring workers elsewhere need them."""
    if layout.is_local or layout.scorer_gpus:
        return {}
    packed = {}
    for head in plan.unfolded().heads.values():
        converted = cache.find_cached(head.checkpoint.revision) if head.precision == "int8" else None
        if converted is not None:
            packed[head.checkpoint.revision] = ray.put(cache.pack(converted))
    return packed


@contextmanager
def context(settings: TagSettings, layout: Layout) -> Iterator[ray.data.DataContext]:
    """Yield a context of Ray Data that holds for the block alone."""
    data_context = ray.data.DataContext.get_current().copy()
    data_context.enable_progress_bars = settings.verbose
    with (
        ray.data.DataContext.current(data_context),
        one_machine.executing() if layout.is_local else nullcontext(),
    ):
        yield data_context


def score_windows(listed: pa.Table, operators: Operators, per_block: int) -> Iterator[pa.Table]:
    """Yield rows of ``stages.LOGITS`` for the tracks of a manifest, in blocks as they come."""
    tracks = ray.data.from_arrow(listed).repartition(target_num_rows_per_block=per_block)
    scored = operators.score(tracks, ScoreWindows, RunFacts("", ""))
    yield from scored.iter_batches(batch_size=None, batch_format="pyarrow")


def execute_once(run: Run, parts: Sequence[TodoPart], operators: Operators, per_block: int, marks: str) -> None:
    """Tag the tracks of one execution, with its marks in the folder of the given name."""
    destination = run.destination
    root, below = destination.rooted(), destination.below
    with context(run.settings, operators.layout) as data_context:
        data_context.checkpoint_config = checkpoint_config(root, below(destination.checkpoint(marks)))
        data_context.max_errored_blocks = 0
        # The second reader of Parquet starts four more processes to read footers.
        data_context.use_datasource_v2 = False
        root.create_dir(below(destination.tracks), recursive=True)
        paths = [below(part.url) for part in parts]
        # One block per part: by itself Ray's reader cuts a small library into more blocks than files of rows should be.
        listed = ray.data.read_parquet(paths, filesystem=root, override_num_blocks=len(paths))
        listed = listed.repartition(target_num_rows_per_block=per_block)
        plan = run.plan.only(parts[0].heads) if parts[0].heads else run.plan
        rows = dataclasses.replace(operators, plan=plan).score(listed, ScoreTracks, run_facts(run))
        rows.write_datasink(TracksSink(below(destination.tracks), operators.counters, root))
    # Before the next execution starts actors that need the same CPUs.
    operators.counters.end_scorers()
