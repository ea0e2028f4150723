"""Heads on a card that fails its check score in fp32, though they were planned in half precision, and tell so.

The card is the processor (``tests.processor_card``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest
from torch import Tensor

from tests.checkpoints import clips
from tests.processor_card import ProcessorCard
from tonearm import demo
from tonearm.cli import run_end
from tonearm.distributed.tagging.counters import _Totals
from tonearm.distributed.tagging.plans import as_described
from tonearm.distributed.tagging.stages import ScoreTracks
from tonearm.errors import CheckpointError
from tonearm.models.cuda.runtime import CudaRuntime
from tonearm.models.torch_runtime import Outputs
from tonearm.planning import adoption
from tonearm.planning.preparation import settle
from tonearm.planning.summary import _model_facts
from tonearm.runs.run_summary import RunSummary
from tonearm.settings import ModelSettings
from tonearm.tagging import RunFacts, Tagger, TagPlan


@pytest.fixture(autouse=True)
def card() -> Iterator[None]:
    """A machine with one card, which is right."""
    with (
        mock.patch("tonearm.models.runtimes.count_gpus", lambda: 1),
        mock.patch("tonearm.models.classifier.CudaCard", lambda device: ProcessorCard()),
    ):
        yield


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every half precision gives other labels on this card."""
    eager = CudaRuntime._eager_pass

    def faulty(self: CudaRuntime, windows: Tensor) -> Outputs:
        logits, embedding = eager(self, windows)
        return Outputs(logits if self.dtype is None else 5 - logits, embedding)

    monkeypatch.setattr(CudaRuntime, "_eager_pass", faulty)


def planned(**models: Any) -> TagPlan:
    values = {**demo.models(), "tag_model": None, "genre_window_s": 2.0, "batch_size": 2, **models}
    return settle(adoption.planned(ModelSettings(**values), None, 14400.0), "cuda")


def test_a_sound_card_runs_what_was_planned() -> None:
    described = Tagger.of(planned()).describe()["genre"]
    assert (described["precision"], described["passes"], described["note"]) == ("fp16", "graphs", "")


def test_fp32_may_score_where_half_precision_was_planned(wrong: None) -> None:
    plan = planned(precision="bf16")
    assert plan.heads["genre"].is_settled
    tagger = Tagger.of(plan)
    described = tagger.describe()["genre"]
    assert (described["precision"], described["passes"]) == ("fp32", "eager")
    assert described["note"].startswith("not bf16: ")
    exact = Tagger.of(planned(precision="fp32"))
    windows = clips(3, num_clips=3, length_s=2.0)
    scores, wanted = (each.classifiers["genre"].score(windows) for each in (tagger, exact))
    np.testing.assert_allclose(scores.logits, wanted.logits, atol=1e-5)


def test_a_forced_precision_stays(wrong: None) -> None:
    described = Tagger.of(planned(precision="bf16", force_precision=True)).describe()["genre"]
    assert described["precision"] == "bf16" and described["note"].startswith("bf16 as it is forced, though ")


def test_another_precision_for_another_reason_is_refused_as_ever() -> None:
    plan = planned()
    with (
        mock.patch("tonearm.models.runtimes.count_gpus", lambda: 0),
        mock.patch("tonearm.models.runtimes.choose", lambda *asked: ("torch", "fp32", "cpu")),
        pytest.raises(CheckpointError, match=r"a worker runs genre.* in fp32 .* planned in fp16"),
    ):
        Tagger.of(plan)


def test_a_new_destination_settles_what_its_cards_can_do(wrong: None) -> None:
    """Facts that say fp16 of rows that are all fp32's would be wrong for good."""
    plan, said = planned(), []
    found = as_described(plan, Tagger.of(plan).describe(), said.append)
    assert found.heads["genre"].precision == "fp32" == adoption.settled(found, {})["genre"].facts["precision"]
    (line,) = said
    assert line.startswith("genre runs in fp32 on this GPU (not fp16: ")
    again = Tagger.of(found).describe()["genre"]
    assert (again["passes"], again["note"]) == ("graphs", found.heads["genre"].note)
    assert as_described(plan, {"genre": {"precision": "fp16", "note": ""}}, said.append) == plan


class Told:
    """Run counters in this process."""

    def __init__(self) -> None:
        self.totals, self.num_notes = _Totals(), 0

    def enlist(self) -> None:
        pass

    def note(self, head: str, described: dict[str, str]) -> None:
        self.num_notes += 1
        self.totals.note(head, "worker", described)

    def add(self, *figures: Any) -> None:
        pass


def test_a_worker_tells_once_and_again_when_a_graph_is_found_wrong() -> None:
    told = Told()
    scorer = ScoreTracks(planned(), RunFacts("", ""), 1, told)  # type: ignore[arg-type]
    scorer._tell()
    assert told.num_notes == 1
    runtime = scorer.tagger.classifiers["genre"]._runtime
    assert isinstance(runtime, CudaRuntime)
    runtime.end_graphs("a replay answers for the windows before its own")
    scorer._tell()
    assert told.num_notes == 2
    facts = told.totals.read().facts["genre"]
    assert facts["note"] == "without graphs: a replay answers for the windows before its own"


def run_of(described: list[dict[str, str]], plan: TagPlan) -> RunSummary:
    totals = _Totals()
    for number, each in enumerate(described):
        totals.note("genre", f"worker {number}", each)
    outcome = mock.Mock(plans=plan.heads, counts=totals.read())
    summary = RunSummary.from_json(
        '{"run_id": "r", "started": "2026-01-01T00:00:00Z", "finished": "2026-01-01T00:00:00Z", "wall_s": 1, '
        '"command": "", "version": ""}'
    )
    return RunSummary(**{**vars(summary), "genre_model": _model_facts(outcome, "genre")})


def test_the_summary_of_a_run_has_one_line_of_it(wrong: None) -> None:
    plan = planned()
    described = Tagger.of(plan).describe()["genre"]
    sound = {**described, "precision": "fp16", "passes": "graphs", "note": ""}
    summary = RunSummary.from_json(run_of([sound, described], plan).to_json())
    assert summary.genre_model is not None
    assert (summary.genre_model.precision, summary.genre_model.passes) == ("fp32", "eager")
    (line,) = run_end.how_lines(summary, mock.Mock(spilled_bytes=0))
    begins = "genre ran on torch fp32 on cpu without graphs (1 of 2 workers, 1 in fp16 graphs; not fp16: "
    assert line.startswith(begins), line
    (line,) = run_end.how_lines(run_of([sound], plan), mock.Mock(spilled_bytes=0))
    assert line == "genre ran on torch fp16 on cpu with graphs"
