"""The plans of the demo's heads, which estimates and samples are made for."""

from __future__ import annotations

import pytest

from tonearm import demo
from tonearm.settings import ModelSettings
from tonearm.tagging import HeadPlan, plan_heads


@pytest.fixture(scope="module")
def plans() -> dict[str, HeadPlan]:
    return plan_heads(ModelSettings(**demo.models()), max_windows=None, max_scored_s=14400.0)  # type: ignore[arg-type]
