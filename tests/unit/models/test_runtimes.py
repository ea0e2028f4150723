"""Runtime, precision and device are settled together, or refused."""

from __future__ import annotations

import pytest

from tonearm.errors import SettingsError
from tonearm.models import runtimes


def test_choosing_loads_neither_runtime() -> None:
    assert runtimes.choose("auto", "auto", "cpu") == ("openvino", "fp32", "cpu")
    assert runtimes.choose("auto", "int8", "cpu") == ("openvino", "int8", "cpu")
    assert runtimes.choose("auto", "auto", "cuda") == ("torch", "fp16", "cuda")
    for runtime, precision, device in (("torch", "int8", "cpu"), ("auto", "int8", "cuda"), ("auto", "fp16", "cpu")):
        with pytest.raises(SettingsError, match=f"precision {precision}"):
            runtimes.choose(runtime, precision, device)
    with pytest.raises(SettingsError, match="expected a CPU"):
        runtimes.choose("openvino", "auto", "cuda")
