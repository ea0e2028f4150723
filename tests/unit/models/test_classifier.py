"""Windows of different lengths are scored together as each is alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.checkpoints import clips, save_small
from tests.efficientat import FAMILY
from tonearm.models.classifier import Classifier


def test_windows_of_any_length_up_to_its_own(tmp_path: Path) -> None:
    folder = save_small(tmp_path / "mn", FAMILY)
    classifier = Classifier.load(str(folder), runtime="torch", precision="fp32")
    (window,) = clips(7, num_clips=1, length_s=4.0)
    alone = classifier.score([window[:32000]]).logits
    together = classifier.score([window, window[:32000], window[:1024]])
    np.testing.assert_allclose(together.logits[1], alone[0], atol=1e-5)
    assert np.isfinite(together.logits).all()
    assert Classifier.load(str(folder), runtime="torch", window_s=60.0).window_s == classifier.info.native_window_s
