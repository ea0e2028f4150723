"""Mapped weights leave memory once they were repacked, and can be read again."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.converted import windows
from tonearm.models.openvino.cache import Converted
from tonearm.models.openvino.runtime import OpenVinoRuntime


@pytest.mark.processes
@pytest.mark.skipif(sys.platform != "linux", reason="only there is it known what is resident")
def test_the_weights_do_not_stay_in_memory_twice(form: Converted) -> None:
    runtime = OpenVinoRuntime(form, "fp32", num_threads=1)
    first = runtime.run(windows(1))
    assert resident_bytes(form.network_path.with_suffix(".bin")) == 0
    # What is read again comes back from the file.
    np.testing.assert_array_equal(runtime.run(windows(1, length_s=1.0)).logits, first.logits)
    mapped = np.memmap(form.network_path.with_suffix(".bin"), np.uint8, "r")
    assert int(mapped.sum()) > 0
    assert resident_bytes(form.network_path.with_suffix(".bin")) > 0


def resident_bytes(path: Path) -> int:
    """Return how much of a file this process has mapped and resident."""
    total, is_it = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_it = line.endswith(str(path.resolve()))
        elif is_it and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total
