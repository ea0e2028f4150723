"""The import path of 0.1.0, which deploy files name: ``tonearm.distributed.serve:build``."""

from tonearm.distributed.serving.app import build

__all__ = ["build"]
