"""A tracker that is not installed is refused with the command that installs it."""

from __future__ import annotations

import pytest

from tonearm.errors import SettingsError
from tonearm.training.publish.trackers import check_trackers


def test_a_missing_tracker_is_said_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    check_trackers(("tensorboard", "wandb", "mlflow"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"tensorboard needs the extra 'train', .*; run .* install"):
        check_trackers(("tensorboard",))
    check_trackers(())
