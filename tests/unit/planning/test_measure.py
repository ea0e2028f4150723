"""Rates of decoding and scoring are measured on the sample unless they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tonearm import demo
from tonearm.audio.sandbox import DecodeSandbox
from tonearm.planning.measure import Rates, measure
from tonearm.planning.sample import list_sample, probe
from tonearm.settings import ModelSettings, TagSettings
from tonearm.tagging import HeadPlan, TagPlan

SETTINGS = TagSettings(models=ModelSettings(**demo.models()))  # type: ignore[arg-type]


@pytest.mark.processes
def test_rates_are_measured_on_the_sample(songs: Path, plans: dict[str, HeadPlan]) -> None:
    listed = list_sample([str(songs)], limit=None, done=np.empty(0, np.int64), seed=0)
    with DecodeSandbox(SETTINGS.decode) as sandbox:
        looks = probe(listed, SETTINGS, sandbox)
        plan = TagPlan(plans, SETTINGS.models, 14400.0)
        rates, whole = measure(looks, SETTINGS, plan, sandbox, num_threads=1)
        given, none = measure(looks, SETTINGS, plan, sandbox, decode=100.0, forward=3.0, num_threads=1)
        mixed, _ = measure(looks, SETTINGS, plan, sandbox, forward=3.0, num_threads=1)
    assert rates.measured == ("decode", "forward") and rates.decode > 20 and rates.forward > 1
    assert len(whole) == len(listed.sample) - sum(each.info is None for each in looks)
    assert (given, none) == (Rates(100.0, 3.0), [])
    assert mixed.measured == ("decode",) and mixed.forward == 3.0
